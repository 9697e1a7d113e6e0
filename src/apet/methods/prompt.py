"""Prompt: soft tokens before the input embeddings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from apet.backbones.positions import Backbone
from apet.methods.method import Method
from apet.methods.slot import Slot, tokens_slot


class Prompt(Method):
    """``f([h_in ; W̃₂])`` at the input (Lester et al. 2021; paper table 1: 100 tokens, rate 3e-2)."""

    name: ClassVar[str] = "prompt"
    about: ClassVar[str] = "soft tokens before the text (Lester et al. 2021)"
    learning_rate: ClassVar[float] = 3e-2
    identity: ClassVar[bool] = False

    prompt_length: int | None = Field(default=None, ge=1)
    """Tokens. Default: 100 (at most half of the backbone's learned positions), or with a budget as few as hold it."""

    def slots(self, backbone: Backbone) -> list[Slot]:
        """The input."""
        return [tokens_slot(backbone, self.prompt_length)]
