"""How Vega draws every figure: one look, in the colors of print or in those of the page, which follow its theme."""

from __future__ import annotations

from collections.abc import Sequence

from apet.reporting.figures.figure import Spec
from apet.reporting.style import DARK, LIGHT, MethodStyle, Theme

PAGE_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
PRINT_FONT = "Liberation Sans, Arial, Helvetica, DejaVu Sans, sans-serif"
_PAGE_THEME = Theme(ink="var(--ink)", soft="var(--soft)", grid="var(--grid)", paper="var(--paper)")


def print_look(styles: Sequence[MethodStyle], legend_columns: int) -> Spec:
    """Vega-Lite's configuration for print: on white, small, with its legend.

    Args:
        styles: of the methods, in order.
        legend_columns: how many entries stand beside each other.

    Returns:
        A configuration.
    """
    look = _look(LIGHT, [s.color for s in styles], styles, PRINT_FONT, 7.5)
    look["legend"] |= {"columns": legend_columns}
    return look


def page_look(styles: Sequence[MethodStyle]) -> Spec:
    """The same for the page: its colors are variables of CSS, which change with the theme."""
    return _look(_PAGE_THEME, [f"var(--m{i})" for i in range(len(styles))], styles, PAGE_FONT, 12)


def css_variables(styles: Sequence[MethodStyle], dark: bool) -> str:
    """The variables that `page_look` names, of one theme."""
    theme = DARK if dark else LIGHT
    colors = {f"m{i}": s.dark_color if dark else s.color for i, s in enumerate(styles)}
    named = {"ink": theme.ink, "soft": theme.soft, "grid": theme.grid, "paper": theme.paper} | colors
    return "".join(f"--{name}:{color};" for name, color in named.items())


def _look(theme: Theme, colors: Sequence[str], styles: Sequence[MethodStyle], font: str, size: float) -> Spec:
    # In one file the same figure is drawn with 7.5 and with 12: lengths go with the letters.
    em = size / 12
    text = {"font": font, "fontSize": size}
    shapes = [s.shape for s in styles]
    return {
        "aria": False,  # the figure has one text alternative, instead of one for each of hundreds of marks
        "background": None,
        "font": font,
        "padding": 2,
        "view": {"stroke": None},
        "range": {"category": list(colors), "symbol": shapes},
        "axis": {
            "labelFont": font,
            "titleFont": font,
            "labelFontSize": size,
            "titleFontSize": size,
            "titleFontWeight": "normal",
            "labelColor": theme.ink,
            "titleColor": theme.ink,
            "domainColor": theme.soft,
            "tickColor": theme.soft,
            "gridColor": theme.grid,
            "titlePadding": 6 * em,
            "labelLimit": 150 * em,
        },
        "axisY": {"tickCount": 5},
        "header": {
            "labelFont": font,
            "labelFontSize": size,
            "labelFontWeight": "bold",
            "labelColor": theme.ink,
            "labelAnchor": "start",
            "labelPadding": 4 * em,
            "labelLimit": 330 * em,
        },
        "title": {
            "font": font,
            "fontSize": size + 1.5,
            "color": theme.ink,
            "anchor": "start",
            "frame": "bounds",
            "offset": 8 * em,
            "subtitleFont": font,
            "subtitleFontSize": size,
            "subtitleColor": theme.soft,
        },
        "legend": {
            "orient": "bottom",
            "layout": {"bottom": {"direction": "vertical", "anchor": "start"}},
            "labelFont": font,
            "labelFontSize": size,
            "labelColor": theme.ink,
            "titleFont": font,
            "titleFontSize": size,
            "titleColor": theme.ink,
            "symbolSize": 60 * em,
            "symbolStrokeColor": theme.ink,
            "columns": 3,
            "labelLimit": 220 * em,
            "columnPadding": 10 * em,
        },
        "facet": {"spacing": 14 * em},
        "concat": {"spacing": 14 * em},
        "text": text,
        "style": _styles(theme, em, size),
    }


def _styles(theme: Theme, em: float, size: float) -> Spec:
    """What kinds of mark there are; figures name them, and nothing else says how anything looks."""
    return {
        "curve": {"strokeWidth": 1.8 * em},
        "band": {"opacity": 0.16},
        "bar": {"opacity": 0.45},
        "hollow-bar": {"filled": False, "strokeWidth": 1.2 * em},
        "solid": {"filled": True, "size": 60 * em, "opacity": 1},
        "hollow": {"filled": False, "fill": theme.paper, "size": 60 * em, "strokeWidth": 1.5 * em, "opacity": 1},
        "cut": {"filled": True, "size": 34 * em, "opacity": 1},
        "interval": {"strokeWidth": 1.3 * em},
        "item-interval": {"strokeWidth": 1.1 * em, "strokeDash": [2 * em, 2 * em]},
        "baseline": {"color": theme.soft, "strokeDash": [2 * em, 3 * em], "strokeWidth": 1.2 * em},
        "full": {"strokeWidth": 1.4 * em},
        "range": {"strokeWidth": 5 * em, "strokeCap": "butt", "opacity": 0.85},
        "open": {"strokeWidth": 1.4 * em, "strokeDash": [4 * em, 3 * em]},
        "mark": {"color": theme.soft, "strokeDash": [5 * em, 3 * em], "strokeWidth": 1.2 * em},
        "ring": {"filled": False, "color": "#d00000", "strokeWidth": 1.8 * em, "size": 380 * em, "opacity": 1},
        "edge": {"color": theme.paper, "strokeWidth": 3 * em},
        "cell": {"fontSize": size},
        "label": {"fontSize": size, "fill": theme.soft, "align": "left", "baseline": "bottom", "dx": 4, "dy": -2},
    }
