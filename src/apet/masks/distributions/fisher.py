"""Entries with the most Fisher information about a task: largest squared gradients (FISH Mask, Sung et al. 2021)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from apet.masks.distributions.distribution import TaskDistribution


class Fisher(TaskDistribution):
    """Entries of a parameter with the largest squared gradients, summed over batches: signs do not cancel."""

    name: ClassVar[str] = "fisher"
    description: ClassVar[str] = "where a task's squared gradients are largest (Sung et al. 2021)"
    in_comparisons: ClassVar[bool] = False

    def of_batch(self, gradient: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Square."""
        return np.square(gradient)

    def of_sum(self, total: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Score by the sum itself."""
        return total
