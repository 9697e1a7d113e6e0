"""The picture of a recommendation: how few parameters reach what, and what a step of each costs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apet.recommendation.answer import Recommendation, Tried
from apet.recommendation.wording import method_name
from apet.reporting.figures import sheet
from apet.reporting.style import GRAY, method_style
from apet.tasks.score_text import PERCENT, ShownAs, shown_as

Panel = Literal["parameters", "time"]
"""What scores are shown over."""
TITLES: dict[Panel, str] = {"parameters": "how few parameters", "time": "what a step costs"}
_X_LABELS: dict[Panel, str] = {"parameters": "trained parameters", "time": "time of a step, of full fine-tuning's"}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""Nothing of it: neither a date, by which equal answers would differ, nor addresses of vocabularies."""


def png(r: Recommendation) -> bytes:
    """Both panels, with title and caption, for a picture that stands alone."""
    with sheet.drawing_style():
        return _bytes(_draw(r, ("parameters", "time"), f"{r.backbone} on {r.task}", caption(r)), "png")


def svg(r: Recommendation, panel: Panel) -> str:
    """One panel for the page, which has title and caption itself, and puts panels below each other where it is narrow.

    Returns:
        The element.
    """
    with sheet.drawing_style():
        text = _bytes(_draw(r, (panel,), "", ""), "svg").decode("utf-8")
    label = f'role="img" aria-label="{TITLES[panel]}: validation {r.metric} over {_X_LABELS[panel]}"'
    return text[text.index("<svg") :].replace("<svg ", f'<svg {label} style="max-width:100%;height:auto" ', 1)


def caption(r: Recommendation) -> str:
    """What is shown, and how."""
    return (
        f"Every way that had a whole run of {r.steps} steps: mean over its seeds, on {r.num_validation:,} validation"
        f" rows. Ringed: the answer; dashed: {method_name(r.reference)}; dotted: without training. Band: 95 % for the"
        " mean over seeds of the answer's method, by its budget curve."
    )


def _bytes(figure: Figure, form: str) -> bytes:
    out = io.BytesIO()
    # Without a date: the same answer gives the same bytes.
    figure.savefig(out, format=form, dpi=150, metadata=_NO_METADATA if form == "svg" else None)
    return out.getvalue()


def _draw(r: Recommendation, shown: Sequence[Panel], title: str, text: str) -> Figure:
    figure, axes = sheet.panels(1, len(shown), width=4.4, height=3.0)
    for axis, panel in zip(axes[0], shown, strict=True):
        _panel(axis, r, panel, shown_as(r.metric))
    entries = [*axes[0][0].get_legend_handles_labels()[0]]
    return sheet.finish(figure, title, text, entries, plain=False)


def _panel(axis: Axes, r: Recommendation, panel: Panel, shown: ShownAs) -> None:
    for name in dict.fromkeys(p.family for p in r.tried):
        _points(axis, [p for p in r.tried if p.family == name and _place(p, panel) is not None], panel, shown)
    if panel == "parameters":
        _band(axis, r, shown)
        axis.set_xscale("log")
    _levels(axis, r, shown)
    at = None if r.use is None else _place(r.use, panel)
    if r.use is not None and at is not None:
        # Whole also where it lies on the frame, as at 100 %.
        y = shown.factor * r.use.score
        axis.plot([at], [y], "o", markersize=15, fillstyle="none", color="#D00000", clip_on=False)
    axis.set_ylabel(f"validation {r.metric}{shown.unit}")
    axis.set_xlabel(_X_LABELS[panel])
    axis.set_title(TITLES[panel])


def _place(p: Tried, panel: Panel) -> float | None:
    return float(p.num_trainable) if panel == "parameters" else p.relative_time


def _band(axis: Axes, r: Recommendation, shown: ShownAs) -> None:
    """The budget curve of the answer's method."""
    if not r.curve or r.use is None:
        return
    color = method_style(r.use.method).color
    x = [p.num_trainable for p in r.curve]
    ends = [shown.factor * p.ci_low for p in r.curve], [shown.factor * p.ci_high for p in r.curve]
    axis.fill_between(x, *ends, color=color, alpha=0.15, linewidth=0)
    axis.plot(x, [shown.factor * p.score for p in r.curve], color=color, linewidth=1)


def _levels(axis: Axes, r: Recommendation, shown: ShownAs) -> None:
    """What is had without training, full fine-tuning, and a part of the axis that holds both and all points."""
    base = max(r.constant, r.untrained)
    axis.axhline(shown.factor * base, color=GRAY, linestyle=":", linewidth=1)
    levels = [base, *(p.score for p in r.tried)]
    if r.reference_score is not None:
        levels.append(r.reference_score)
        axis.axhline(shown.factor * r.reference_score, color="black", linestyle="--", linewidth=1)
    low, high = min(levels), max(levels)
    room = 0.03 if shown.factor == PERCENT else 0.07 * ((high - low) or 1.0)
    # Of an error less is better, and better is up.
    axis.set_ylim(shown.factor * (low - room), shown.factor * (high + room))
    if shown.factor == PERCENT:
        ends = max(0.0, 100 * (low - room)), min(101.5, 100 * (high + room))
        axis.set_ylim(*ends)
        axis.set_yticks([tick for tick in axis.get_yticks() if ends[0] <= tick <= 100])
        axis.set_ylim(*ends)  # ticks that are set move the ends


def _points(axis: Axes, points: Sequence[Tried], panel: Panel, shown: ShownAs) -> None:
    """The arms of one family."""
    if not points:
        return
    name, style = points[0].family, method_style(points[0].method)
    filled = "(" not in name  # of one method, other structures are hollow
    axis.plot(
        [_place(p, panel) or 0.0 for p in points],
        [shown.factor * p.score for p in points],
        linestyle="",
        marker=style.marker,
        color=style.color,
        fillstyle="full" if filled else "none",
        markersize=6,
        label=method_name(name),
    )
