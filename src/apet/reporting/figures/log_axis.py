"""Logarithmic axes of counts: ticks that always say where one is, counts as 1k and 1M."""

from __future__ import annotations

import math
from collections.abc import Iterable

import altair as alt
import numpy as np

MAX_TICKS = 7
DECADES_MIN_RATIO = 30
"""An axis that spans less has steps between the powers of ten."""
MARGIN = 0.04
"""Of an axis, what is left free at either end."""


def count_axis(field: str, title: str, counts: Iterable[float]) -> alt.X:
    """A logarithmic x-axis over all of these counts, the same whatever of them is shown.

    Args:
        field: that holds the counts.
        title: of the axis.
        counts: everything that is drawn.

    Returns:
        The encoding.
    """
    known = [c for c in counts if c > 0 and math.isfinite(c)] or [1.0]
    low, high = min(known), max(known)
    if high < 1.5 * low:  # one count alone has something at both sides
        low, high = low / 2, high * 2
    margin = (high / low) ** MARGIN
    low, high = low / margin, high * margin
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=log_ticks(low, high), format="~s"),
    )


def free_count_axis(field: str, title: str) -> alt.X:
    """A logarithmic x-axis over what is shown just then."""
    scale = alt.Scale(type="log", nice=False, padding=16)
    # Between 65 and 66 parameters there is nothing to count.
    whole = "datum.value < 100 && abs(datum.value - round(datum.value)) > 0.001 ? '' : datum.label"
    axis = alt.Axis(format="~s", tickCount=8, labelExpr=whole)
    return alt.X(f"{field}:Q", title=title, scale=scale, axis=axis)


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten, or steps between them where those are few; never fewer than two.

    Args:
        low: end of the axis, above 0.
        high: end of the axis.

    Returns:
        The ticks, ascending, within the ends.
    """
    powers = _multiples_of_powers(low, high, (1,))
    if len(powers) > 1 and high / low >= DECADES_MIN_RATIO:
        return powers[:: math.ceil(len(powers) / MAX_TICKS)]
    for multiples in ((1, 2, 5), range(1, 10)):
        ticks = _multiples_of_powers(low, high, multiples)
        if len(ticks) > 1:
            return ticks
    # within one step of a decade: equal steps of two digits
    step = float(f"{(high - low) / 4:.1g}")
    ticks = [float(v) for v in step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)]
    return ticks if len(ticks) > 1 else [low, high]


def _multiples_of_powers(low: float, high: float, multiples: Iterable[int]) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in multiples]
    # an end such as 1000 may come as 999.9999…: it keeps its tick
    return [v for v in ticks if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]


def side_by_side(x: float, i: int, n: int, span: float) -> float:
    """Place on a logarithmic axis of the i-th of n methods, moved a little so that they can be told apart.

    Args:
        x: where it belongs.
        i: which of the methods.
        n: how many methods.
        span: largest over smallest place of the axis.

    Returns:
        The place: n methods take about a tenth of the axis, of one place a tenth of a decade.
    """
    step = max(span, 10.0) ** (0.1 / max(n - 1, 1))
    return float(x * step ** (i - (n - 1) / 2))


def short_count(n: float) -> str:
    """``4.1k``, ``1M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.3g}"
