"""Logarithmic axes of printed figures: ticks that always say where one is, counts as 1k and 1M."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

MAX_TICKS = 8
DECADES_MIN_RATIO = 30
"""An axis that spans less has steps between the powers of ten."""


class CountLocator(LogLocator):
    """Ticks of a logarithmic axis: powers of ten, or steps between them where those are few; never fewer than two.

    matplotlib's own locator leaves an axis that spans less than a decade with one labeled tick or none.
    """

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Ticks between both ends."""
        low, high = sorted((vmin, vmax))
        if low <= 0:
            return super().tick_values(vmin, vmax)
        powers = _multiples_of_powers(low, high, (1,))
        if len(powers) > 1 and high / low >= DECADES_MIN_RATIO:
            return powers[:: math.ceil(len(powers) / MAX_TICKS)]
        for multiples in ((1, 2, 5), range(1, 10)):
            ticks = _multiples_of_powers(low, high, multiples)
            if len(ticks) > 1:
                return ticks
        return [v for v in MaxNLocator(4).tick_values(low, high) if low <= v <= high]


def _multiples_of_powers(low: float, high: float, multiples: Iterable[int]) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in multiples]
    # an end such as 1000 may come as 999.9999…: it keeps its tick
    return [v for v in ticks if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]


def log_count_axis(axis: Axes, label: str) -> None:
    """Make the x-axis logarithmic, with 1k, 10k, 1M."""
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short_count(v)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_locator(CountLocator())
    axis.set_xlabel(label)


def side_by_side(x: Sequence[float], i: int, n: int) -> list[float]:
    """Places on a logarithmic axis of the i-th of n methods, moved a little so that they can be told apart."""
    return [v * 1.035 ** (i - (n - 1) / 2) for v in x]


def short_count(n: float) -> str:
    """``4.1k``, ``1M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.3g}"
