"""Entries chosen by the magnitude of the pre-trained weight: the largest, or as a control the smallest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from apet.masks.distributions.distribution import ScoredDistribution


class Magnitude(ScoredDistribution):
    """Entries with the largest absolute values, which magnitude pruning keeps (Han et al. 2015)."""

    name: ClassVar[str] = "magnitude"
    description: ClassVar[str] = "where |W| is largest (Han et al. 2015)"

    def scores(self, parameter: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Score by absolute value."""
        return np.abs(parameter)


class Smallest(ScoredDistribution):
    """The entries of a parameter with the smallest absolute values: what pruning would take away."""

    name: ClassVar[str] = "smallest"
    description: ClassVar[str] = "where |W| is smallest; the control of magnitude"
    in_comparisons: ClassVar[bool] = False

    def scores(self, parameter: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Score by minus the absolute value."""
        return -np.abs(parameter)
