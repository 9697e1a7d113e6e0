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
_COLOURS = ("#882255", "#44AA99", "#999933", "#AA4499", "#117733", "#332288")
_SHAPES = (
    ("h", "hexagon", "++", "+"),
    ("*", "star", "oo", "."),
    ("<", "triangle-left", "/", "/"),
    (">", "triangle-right", "\\", "\\"),
    ("p", "pentagon", "x", "x"),
    ("d", "diamond-tall", "-", "-"),
    ("8", "octagon", "|", "|"),
    ("H", "hexagon2", "+", "+"),
)
_SPARE = tuple(Look(_COLOURS[i % len(_COLOURS)], *_SHAPES[i % len(_SHAPES)]) for i in range(24))
"""Colour and shape together are different in each."""

_given: dict[str, int] = {}
"""Methods of a user's own -> their place among the spare looks, for as long as the process lives."""


def look(method: str) -> Look:
    """The method's look. One of a user's own has its own spare look, unless another one there has taken it before."""
    if method in _KNOWN:
        return _KNOWN[method]
    if method not in _given:
        first = sum(method.encode()) % len(_SPARE)
        order = [(first + i) % len(_SPARE) for i in range(len(_SPARE))]
        taken = set(_given.values())
        _given[method] = next((i for i in order if i not in taken), first)
    return _SPARE[_given[method]]


def colour(method: str) -> str:
    """The method's colour."""
    return look(method).colour
