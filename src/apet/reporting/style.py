"""A method's color and shape, the same in every figure: told apart by the color-blind, in gray, on white and on dark.

Colors are those of Okabe and Ito, made darker where they had less than 3:1 against white (WCAG 2.2, 1.4.11), and a
second, lighter set of the same hues stands on dark.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodStyle:
    """How a method is drawn.

    Attributes:
        color: hex, on white.
        dark_color: hex, on dark.
        shape: a name that Vega knows, or a path within ±1 in both directions.
    """

    color: str
    dark_color: str
    shape: str


@dataclass(frozen=True)
class Theme:
    """Colors of everything that belongs to no method.

    Attributes:
        ink: of text.
        soft: of text that is secondary, and of baselines.
        grid: of lines behind the marks.
        paper: of the ground.
    """

    ink: str
    soft: str
    grid: str
    paper: str


LIGHT = Theme(ink="#1c2430", soft="#566070", grid="#e3e7ec", paper="#ffffff")
DARK = Theme(ink="#e8ebf0", soft="#a3adba", grid="#2c333d", paper="#14181e")

PLUS = "M-.33,-1H.33V-.33H1V.33H.33V1H-.33V.33H-1V-.33H-.33Z"
SALTIRE = "M-1,-.55L-.55,-1L0,-.45L.55,-1L1,-.55L.45,0L1,.55L.55,1L0,.45L-.55,1L-1,.55L-.45,0Z"
HEXAGON = "M0,-1L.87,-.5V.5L0,1L-.87,.5V-.5Z"
LYING_HEXAGON = "M-1,0L-.5,-.87H.5L1,0L.5,.87H-.5Z"
OCTAGON = "M-.41,-1H.41L1,-.41V.41L.41,1H-.41L-1,.41V-.41Z"
PENTAGON = "M0,-1L.95,-.31L.59,.81H-.59L-.95,-.31Z"
STAR = "M0,-1.1L.26,-.35H1.05L.41,.14L.65,.9L0,.43L-.65,.9L-.41,.14L-1.05,-.35H-.26Z"
NARROW_DIAMOND = "M0,-1.1L.6,0L0,1.1L-.6,0Z"

_PAPER_STYLES = {
    "fine-tuning": MethodStyle("#000000", "#f4f4f4", "circle"),
    "prompt": MethodStyle("#a17a00", "#e6b840", "square"),
    "bitfit": MethodStyle("#3597d6", "#7cc7f2", "triangle-up"),
    "lora": MethodStyle("#009e73", "#2cc295", "diamond"),
    "adapter": MethodStyle("#b8588f", "#e59ac4", "triangle-down"),
    "apet": MethodStyle("#d55e00", "#ff8a47", PLUS),
    "apet-adjacent": MethodStyle("#d55e00", "#ff8a47", PLUS),
    "apet-discrete": MethodStyle("#0b4fa8", "#6ba4f5", SALTIRE),
}
_DERIVED_COLORS = (
    ("#882255", "#e08bb0"),
    ("#2a8577", "#44c9b5"),
    ("#75751c", "#c9c94d"),
    ("#aa4499", "#dd7fd0"),
    ("#117733", "#5bc98a"),
    ("#332288", "#a596ff"),
)
_DERIVED_SHAPES = (HEXAGON, STAR, "triangle-left", "triangle-right", PENTAGON, NARROW_DIAMOND, OCTAGON, LYING_HEXAGON)
# 24 = lcm(6 colors, 8 shapes): walking both in step gives each pair once, so no two of the 24 look the same.
_DERIVED_STYLES = tuple(
    MethodStyle(*_DERIVED_COLORS[i % len(_DERIVED_COLORS)], _DERIVED_SHAPES[i % len(_DERIVED_SHAPES)])
    for i in range(24)
)

_assigned: dict[str, int] = {}
"""Method -> its place among the derived styles, for as long as the process lives."""


def method_style(method: str) -> MethodStyle:
    """Color and shape of any method, registered here or by a guest.

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
