"""Distributions: how the trained entries lie in a weight. One file each; importing a file registers what it defines."""

from __future__ import annotations

from apet.masks.distributions.distribution import (
    DISTRIBUTIONS,
    Distribution,
    ScoredDistribution,
    TaskDistribution,
    draw_mask,
)

__all__ = ["DISTRIBUTIONS", "Distribution", "ScoredDistribution", "TaskDistribution", "draw_mask"]
