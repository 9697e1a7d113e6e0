"""Scores as people read them: shares in percent, correlations as they are, errors as positive numbers."""

from __future__ import annotations

from dataclasses import dataclass

from apet.errors import ApetError
from apet.tasks.metrics import METRICS

PERCENT = 100.0
"""By which a share is multiplied where it is shown."""


@dataclass(frozen=True)
class ShownAs:
    """How scores of a metric are shown.

    Attributes:
        factor: by which a score is multiplied: 100 of a share, -1 of an error, else 1.
        unit: for the label of an axis.
    """

    factor: float
    unit: str


def shown_as(metric: str) -> ShownAs:
    """How scores of a metric are shown; one that is not registered here is taken for a share."""
    known = METRICS.get(metric) if metric in METRICS else None
    if known is None or known.in_percent:
        return ShownAs(PERCENT, " (%)")
    return ShownAs(float(known.sign), " (less is better)" if known.lower_is_better else "")


def require_points(metric: str) -> None:
    """Pass a metric of which a margin in points means something: a share or a correlation, a point of which is 0.01.

    Raises:
        ApetError: it is an error, in units of the data.
    """
    if shown_as(metric).factor < 0:
        raise ApetError(f"{metric} has no points, it is in units of the data; give a share of the way, such as 95 %")


def score_text(metric: str, score: float, digits: int = 1) -> str:
    """A score as people read it: ``83.4 %``, a correlation ``0.812``, an error as the positive number that it is.

    Args:
        metric: its name; one that is not registered here, as a guest's may be, is taken for a share where it may be.
        score: of it.
        digits: of a percentage, after the point.

    Returns:
        The text, with its unit.

    Examples:
        >>> score_text("accuracy", 0.834), score_text("pearson", 0.8121)
        ('83.4 %', '0.812')
    """
    known = METRICS.get(metric) if metric in METRICS else None
    if known.in_percent if known is not None else 0 <= score <= 1:
        return f"{100 * score:.{digits}f} %"
    value = score if known is None else known.sign * score + 0.0
    return f"{value:.{digits + 2}f}" if abs(value) < 100 else f"{value:,.{digits}f}"


def score_range(metric: str, low: float, high: float) -> str:
    """Both ends of an interval as people read them, the smaller number first: ``[78.0, 84.1] %``, ``[0.71, 0.83]``."""
    ends = [score_text(metric, low), score_text(metric, high)]
    if metric in METRICS and METRICS.get(metric).lower_is_better:
        ends.reverse()
    unit = " %" if ends[0].endswith(" %") else ""
    return f"[{', '.join(end.removesuffix(' %') for end in ends)}]{unit}"
