"""Prompt tuning: soft tokens before the input embeddings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from apet.backbones.positions import Backbone
from apet.layers.base import Target
from apet.layers.prompt import prompt_target
from apet.methods.method import Method


class Prompt(Method):
    """Soft prompt ``f([h_in ; W̃₂])`` at the input (Lester et al. 2021; paper table 1: 100 tokens, rate 3e-2)."""

    name: ClassVar[str] = "prompt"
    description: ClassVar[str] = "soft tokens before the text (Lester et al. 2021)"
    learning_rate: ClassVar[float] = 3e-2
    identity_at_start: ClassVar[bool] = False

    prompt_length: int | None = Field(default=None, ge=1)
    """Tokens. Default: 100 (at most half of the backbone's learned positions), or with a budget as few as hold it."""

    def targets(self, backbone: Backbone) -> list[Target]:
        """The input."""
        return [prompt_target(backbone, self.prompt_length)]
