"""Text by the cells that it takes on a terminal.

Rule: the width that is computed here, the one with which prompt-toolkit counts and the one on the screen are the same.
Terminals disagree about characters that merge into one picture, so `steady` takes such a sequence apart: a family of
emoji becomes its members, a flag its two letters.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from prompt_toolkit.utils import get_cwidth

from ironwire.cli.terminal import printable

Fragment = tuple[str, str]
"""A style class of prompt-toolkit, and text in it."""

Line = list[Fragment]

MARKS = 4
"""Combining characters that one character may carry; a stack of hundreds would cover the lines above it."""

_ZERO_WIDTH_JOINER = "\u200d"
_DOTTED_CIRCLE = "\u25cc"
_VARIATION_SELECTORS = "\ufe0e\ufe0f"
_SKIN_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
_REGIONAL_A, _REGIONAL_Z = 0x1F1E6, 0x1F1FF
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_TAB = "    "
_REMEMBERED = 512
"""Texts whose lines are remembered from one redraw to the next."""

cells = get_cwidth


@lru_cache(maxsize=_REMEMBERED)
def steady(text: str) -> str:
    """One line of `text`, `printable`, of which every character has one width on all terminals."""
    kept: list[str] = []
    marks = 0
    for character in printable(text.replace("\t", _TAB)):
        if character in _VARIATION_SELECTORS:
            continue
        if kept and _is_wide(kept[-1]) and (character == _ZERO_WIDTH_JOINER or character in _SKIN_TONES):
            continue
        shown = _one_width(character)
        if cells(shown) == 0:
            if not kept:
                kept.append(_DOTTED_CIRCLE)  # a mark without a character would join what stands before the text
            marks += 1
            if marks > MARKS:
                continue
        else:
            marks = 0
        kept.append(shown)
    return "".join(kept)


def steady_lines(text: str) -> tuple[str, ...]:
    """The lines of `text`, each `steady`. Line feeds and CRLF separate lines; there is always at least one."""
    return tuple(map(steady, text.replace("\r\n", "\n").split("\n")))


def clipped(text: str, width: int, mark: str = "…") -> str:
    """`text` if it fits into `width` cells; else its beginning and `mark`."""
    if cells(text) <= width:
        return text
    kept, room = [], width - 1
    for cluster in _clusters(text):
        room -= cells(cluster)
        if room < 0:
            break
        kept.append(cluster)
    return "".join(kept) + mark if width > 0 else ""


@lru_cache(maxsize=_REMEMBERED)
def wrapped(text: str, width: int, taken: int = 0) -> tuple[str, ...]:
    """The lines of `text`, broken between words where possible, and within a word that is longer than a line.

    Of the first line, `taken` cells are not free.
    """
    lines: list[str] = []
    line: list[str] = []
    used = taken
    breaks_at = 0
    for cluster in _clusters(text):
        size = cells(cluster)
        if used + size > width and used:
            if cluster == " ":
                lines.append("".join(line))
                line, used, breaks_at = [], 0, 0
                continue
            kept = breaks_at or len(line)
            lines.append("".join(line[:kept]).rstrip(" "))
            line = line[kept:]
            used, breaks_at = sum(map(cells, line)), 0
        line.append(cluster)
        used += size
        if (cluster == " " and "".join(line).strip(" ")) or size > 1:
            breaks_at = len(line)
    return (*lines, "".join(line))


def width_of(line: Line) -> int:
    return sum(cells(text) for _, text in line)


def padded(line: Line, width: int, style: str = "") -> Line:
    """`line`, filled up or cut to exactly `width` cells."""
    kept: Line = []
    room = width
    for fragment_style, text in line:
        part = clipped(text, room)
        if part:
            kept.append((fragment_style, part))
        room -= cells(part)
        if part != text:
            break
    return [*kept, (style, " " * room)] if room > 0 else kept


def _is_wide(character: str) -> bool:
    return cells(character) > 1


def _one_width(character: str) -> str:
    code = ord(character)
    if _REGIONAL_A <= code <= _REGIONAL_Z:
        return chr(code - _REGIONAL_A + ord("A"))
    # A character that is newer than this Python is taken for a picture if the width table knows it as one.
    if unicodedata.category(character) == "Cn" and not _is_wide(character):
        return _REPLACEMENT
    return character


def _clusters(text: str) -> Iterator[str]:
    """Each character with the marks that it carries."""
    cluster = ""
    for character in text:
        if cluster and cells(character) > 0:
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster
