"""A method's color, marker and hatch, the same in every figure: for the color-blind (Okabe and Ito) and in gray."""

from __future__ import annotations

from dataclasses import dataclass

GRAY = "#666666"
"""Of everything that belongs to no method: baselines, axes, explanations."""


@dataclass(frozen=True)
class MethodStyle:
    """How a method is drawn.

    Attributes:
        color: hex.
        marker: of matplotlib.
        symbol: the same shape, of plotly.
        hatch: of matplotlib's bars.
        pattern: the same, of plotly.
    """

    color: str
    marker: str
    symbol: str
    hatch: str
    pattern: str


_PAPER_STYLES = {
    "fine-tuning": MethodStyle("#000000", "o", "circle", "", ""),
    "prompt": MethodStyle("#E69F00", "s", "square", "//", "/"),
    "bitfit": MethodStyle("#56B4E9", "^", "triangle-up", "\\\\", "\\"),
    "lora": MethodStyle("#009E73", "D", "diamond", "xx", "x"),
    "adapter": MethodStyle("#CC79A7", "v", "triangle-down", "..", "."),
    "apet": MethodStyle("#D55E00", "P", "cross", "--", "-"),
    "apet-adjacent": MethodStyle("#D55E00", "P", "cross", "--", "-"),
    "apet-discrete": MethodStyle("#0072B2", "X", "x", "||", "|"),
}
_DERIVED_COLORS = ("#882255", "#44AA99", "#999933", "#AA4499", "#117733", "#332288")
_DERIVED_SHAPES = (
    ("h", "hexagon", "++", "+"),
    ("*", "star", "oo", "."),
    ("<", "triangle-left", "/", "/"),
    (">", "triangle-right", "\\", "\\"),
    ("p", "pentagon", "x", "x"),
    ("d", "diamond-tall", "-", "-"),
    ("8", "octagon", "|", "|"),
    ("H", "hexagon2", "+", "+"),
)
# 24 = lcm(6 colors, 8 shapes): walking both in step gives each pair once, so no two of the 24 look the same.
_DERIVED_STYLES = tuple(
    MethodStyle(_DERIVED_COLORS[i % len(_DERIVED_COLORS)], *_DERIVED_SHAPES[i % len(_DERIVED_SHAPES)])
    for i in range(24)
)

_assigned: dict[str, int] = {}
"""Method -> its place among the derived styles, for as long as the process lives."""


def method_style(method: str) -> MethodStyle:
    """Color and shapes of any method, registered here or by a guest.

    The paper's methods have theirs; every other name leads to one of 24 derived styles, the same in every process
    unless two names lead to the same one: then the later takes the next that is free, and keeps it.

    Returns:
        The style.
    """
    if method in _PAPER_STYLES:
        return _PAPER_STYLES[method]
    if method not in _assigned:
        # a sum of bytes and not hash(), which Python salts anew in every process
        first = sum(method.encode()) % len(_DERIVED_STYLES)
        order = [(first + i) % len(_DERIVED_STYLES) for i in range(len(_DERIVED_STYLES))]
        taken = set(_assigned.values())
        _assigned[method] = next((i for i in order if i not in taken), first)
    return _DERIVED_STYLES[_assigned[method]]
