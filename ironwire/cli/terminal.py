"""Output to the terminal, and the filter that everything a peer wrote passes first.

Rule: a peer decides what its text says, never what the terminal does. `printable` takes out every character that could
move the cursor, start an escape sequence, open a second line or reorder the text around it; `safe_file_name` does as
much for a name that is saved.
"""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `printable` is part of every start: it must not cost what these do
    from rich.console import Console

    from ironwire.ids import Address

SHORT_ID_CHARS = 8
FILE_NAME_BYTES = 120
"""The longest name of a saved file, in UTF-8: below the 255 of common file systems, with room for a number behind."""

_CONTROL_PICTURES = 0x2400
_DELETE, _DELETE_PICTURE = "\x7f", "\u2421"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: format characters, but scripts and emoji need them and they move nothing."""
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Controls; formats, bidi overrides among them; surrogates; private use; line and paragraph separators (UAX 44)."""

_NOT_IN_FILE_NAMES = re.compile(r'[<>:"|?*\u2400-\u2421\ufffd]')


def printable(text: str) -> str:
    """One line of `text` that is safe on any terminal: ESC becomes ␛, a line feed ␊, a bidi override \ufffd.

    Every character of the result is one that is seen, a space or a joiner. Whoever wants several lines splits first:
    `printable_lines`.
    """
    return "".join(map(_printable_character, text))


def printable_lines(text: str) -> list[str]:
    """The lines of `text`, each `printable`. Only line feeds and CRLF separate lines; there is always at least one."""
    return [printable(line) for line in text.replace("\r\n", "\n").split("\n")]


def _printable_character(character: str) -> str:
    if character < " ":
        return chr(_CONTROL_PICTURES + ord(character))
    if character == _DELETE:
        return _DELETE_PICTURE
    if unicodedata.category(character) in _UNPRINTABLE and character not in _JOINERS:
        return _REPLACEMENT
    return character


def safe_file_name(name: str, fallback: str) -> str:
    """A name for a new file, as near to the peer's `name` as is safe; `fallback` where nothing is left of it.

    One path component, printable, not hidden, not an option of a command, no more than `FILE_NAME_BYTES` long.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    bare = _NOT_IN_FILE_NAMES.sub("_", printable(last)).lstrip(". -~").rstrip(". ")
    stem, suffix = Path(bare).stem, Path(bare).suffix
    if len(suffix.encode()) > FILE_NAME_BYTES // 2:
        stem, suffix = bare, ""
    kept = stem.encode()[: FILE_NAME_BYTES - len(suffix.encode())].decode(errors="ignore")
    return (kept + suffix).rstrip(". ") or fallback


def free_path(folder: Path, name: str) -> Path:
    """`folder/name`, or with a number in the name where that is taken: nothing that a peer sends replaces a file."""
    return next(path for path in _candidates(folder / name) if not path.exists() and not path.is_symlink())


def _candidates(path: Path) -> Iterator[Path]:
    yield path
    number = 2
    while True:
        yield path.with_stem(f"{path.stem} ({number})")
        number += 1


def short_id(address: "Address") -> str:
    """The first digits of an id: enough for people to tell their peers apart, not enough to prove who one is."""
    return f"{address[:SHORT_ID_CHARS]}…"


def counted(number: float, noun: str, plural: str = "") -> str:
    """`1 session`, `2 sessions`, `1,024 sessions`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def out() -> "Console":
    """Standard output for people. It takes markup from nobody: texts are styled by `rich.text.Text`."""
    from rich.console import Console  # noqa: PLC0415 - as above

    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


def explain(text: str, style: str = "", *, console: "Console | None" = None) -> None:
    """Tell a person something, beside the result unless a `console` is given. Lines end between words on a terminal,
    and nowhere else.
    """
    from rich.text import Text  # noqa: PLC0415 - as above

    console = console or err()
    is_wrapped = console.is_terminal
    console.print(Text(text, style), soft_wrap=not is_wrapped, overflow="fold" if is_wrapped else "ignore")


def err() -> "Console":
    """Standard error: what is said beside the result."""
    from rich.console import Console  # noqa: PLC0415 - as above

    return Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
