"""Entries whose first step would lower a task's loss most: the largest gradients (GPS, Zhang et al. 2024)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from apet.masks.distributions.distribution import TaskDistribution


class Gradient(TaskDistribution):
    """Entries of a parameter with the largest mean gradient: batches that pull in opposite directions cancel."""

    name: ClassVar[str] = "gradient"
    description: ClassVar[str] = "where a task's mean gradient is largest (Zhang et al. 2024)"
    in_comparisons: ClassVar[bool] = False

    def of_batch(self, gradient: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Add up with its sign."""
        return gradient

    def of_sum(self, total: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Score by absolute value."""
        return np.abs(total)
