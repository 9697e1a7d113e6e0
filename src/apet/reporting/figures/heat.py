"""What heat maps share: numbers that can be read on every color of the scale."""

from __future__ import annotations

import altair as alt

DARK_SHARE = 0.48
"""Of the scale of colors, how much is so dark that a number on it is white: black and white contrast alike there."""


def numbers(cells: alt.Chart, text: alt.Text, highest: float, *, dark_is_high: bool = False) -> alt.Chart:
    """The number of each cell, in black or white by the field ``score`` on a scale of colors from 0.

    Args:
        cells: with their places encoded.
        text: what stands in a cell.
        highest: end of the scale.
        dark_is_high: whether the scale is reversed.

    Returns:
        The layer above the colors.
    """
    dark = f"datum.score > {(1 - DARK_SHARE) * highest}" if dark_is_high else f"datum.score < {DARK_SHARE * highest}"
    color = alt.condition(dark, alt.value("white"), alt.value("black"))
    return cells.mark_text(style="cell").encode(text=text, color=color)
