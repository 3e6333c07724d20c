"""A plot as an SVG written by hand: a panel for each measure, a bar for each figure, no library."""

from collections.abc import Sequence
from html import escape

from bench.contenders import TITLES
from bench.figures import MEASURES, Figure
from bench.table import number

PLOTTED = ("live", "durable", "fanout", "auth", "memory")

_WIDTH = 860
_BARS_X = 300
_BARS_WIDTH = 460
_BAR = 15
_STEP = 19
_GAP = 12
_HEAD = 34
_COLOURS = {
    "ironwire": "#c2410c",
    "fastapi": "#0f766e",
    "fastapi-each": "#5eead4",
    "fastapi-group": "#0f766e",
    "websockets": "#2563eb",
    "ws": "#65a30d",
    "bun": "#a16207",
}


def svg(figures: Sequence[Figure]) -> str:
    """The whole document. Bars of one panel share a scale; panels do not."""
    parts: list[str] = []
    y = 8
    for name in PLOTTED:
        same = [figure for figure in figures if figure.measure == name]
        if same:
            y = _panel(parts, name, same, y)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}"'
    style = 'font-family="system-ui, sans-serif" font-size="12"'
    return "\n".join([f"{head} {style}>", f'<rect width="{_WIDTH}" height="{y}" fill="white"/>', *parts, "</svg>", ""])


def _panel(parts: list[str], name: str, figures: Sequence[Figure], y: int) -> int:
    measure = MEASURES[name]
    better = "more is better" if measure.more_is_better else "less is better"
    parts.append(_text(10, y + 18, f"{measure.title}, {measure.unit}; {better}", weight="bold"))
    y += _HEAD
    longest = max(figure.value for figure in figures)
    for case in dict.fromkeys(figure.case for figure in figures):
        same = [figure for figure in figures if figure.case == case]
        parts.append(_text(10, y + _BAR - 3, case))
        for figure in same:
            width = _BARS_WIDTH * figure.value / longest
            colour = _COLOURS.get(figure.subject, "#525252")
            parts.append(_text(_BARS_X - 8, y + _BAR - 3, TITLES.get(figure.subject, figure.subject), anchor="end"))
            parts.append(f'<rect x="{_BARS_X}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>')
            parts.append(_text(_BARS_X + width + 6, y + _BAR - 3, number(figure.value)))
            y += _STEP
        y += _GAP
    return y


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="#1c1917"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
