"""A method's colour, marker and hatch, the same everywhere: for the colour-blind (Okabe and Ito) and in grey."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How a method is drawn.

    Attributes:
        colour: hex.
        marker: of matplotlib.
        symbol: the same shape, of plotly.
        hatch: of matplotlib's bars.
        pattern: the same, of plotly.
    """

    colour: str
    marker: str
    symbol: str
    hatch: str
    pattern: str


_KNOWN = {
    "fine-tuning": Look("#000000", "o", "circle", "", ""),
    "prompt": Look("#E69F00", "s", "square", "//", "/"),
    "bitfit": Look("#56B4E9", "^", "triangle-up", "\\\\", "\\"),
    "lora": Look("#009E73", "D", "diamond", "xx", "x"),
    "adapter": Look("#CC79A7", "v", "triangle-down", "..", "."),
    "apet": Look("#D55E00", "P", "cross", "--", "-"),
    "apet-adjacent": Look("#D55E00", "P", "cross", "--", "-"),
    "apet-discrete": Look("#0072B2", "X", "x", "||", "|"),
}
_OTHERS = ("#882255", "#44AA99", "#999933", "#AA4499", "#117733", "#332288")


def look(method: str) -> Look:
    """The method's look; an unknown one always gets the same of a few spare ones."""
    spare = _OTHERS[sum(method.encode()) % len(_OTHERS)]
    return _KNOWN.get(method) or Look(spare, "h", "hexagon", "++", "+")


def colour(method: str) -> str:
    """The method's colour."""
    return look(method).colour
