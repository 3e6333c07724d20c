"""QR codes on a terminal, two rows of modules in a line of text."""

import os

import segno
from rich.console import Console
from rich.style import Style
from rich.text import Text

_BORDERS = (2, 1)
"""Light modules around the code. The standard wants 4 (ISO/IEC 18004); cameras do with fewer, and a screen is small."""


def qr_lines(content: str, columns: int) -> list[str] | None:
    """The lines of a code for `content`; None if it has no room in so many columns. Light modules are blocks: so it is
    right on a dark screen without colours, and cameras take it the other way round as well.
    """
    code = segno.make_qr(content, error="l")
    for border in _BORDERS:
        if code.symbol_size(border=border)[0] <= columns:
            rows = [[*map(bool, row)] for row in code.matrix_iter(border=border)]
            rows += [[False] * len(rows[0])] * (len(rows) % 2)
            return ["".join(map(_block, upper, lower)) for upper, lower in zip(rows[::2], rows[1::2], strict=True)]
    return None


def _block(is_upper_dark: bool, is_lower_dark: bool) -> str:
    return {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}[
        is_upper_dark, is_lower_dark
    ]


def show_qr(console: Console, content: str) -> None:
    """Show the code, if a person looks at a terminal that can: else what stands beside it has to do."""
    if not console.is_terminal or os.environ.get("TERM") == "dumb" or console.encoding.lower() not in {"utf-8", "utf8"}:
        return
    lines = qr_lines(content, console.width)
    if lines is None:
        needed = segno.make_qr(content, error="l").symbol_size(border=_BORDERS[-1])[0]
        console.print(Text(f"(The QR code needs {needed} columns: widen the terminal to see it.)", "dim"))
        return
    for line in lines:
        console.print(Text(line, Style(color="white", bgcolor="black")), soft_wrap=True)
