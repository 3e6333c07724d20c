"""Bounds that stand in the annotations of a message's fields.

`codec.py` enforces them and `schema.py` publishes them, both from the annotation alone, so that code, documentation
and schema cannot disagree.
"""

import re
from typing import Annotated

from attrs import field, frozen

SAFE_INTEGER = 2**53 - 1
"""The largest integer that every JSON implementation reads exactly (RFC 8259, section 6)."""


@frozen
class Chars:
    """A string of `least` to `most` characters."""

    least: int
    most: int


@frozen
class Between:
    """An integer from `least` to `most`, both included."""

    least: int
    most: int


@frozen
class Pattern:
    """A string that matches `regex` as a whole; `description` is what an error says."""

    regex: str
    description: str = field(kw_only=True)


@frozen
class Items:
    """A list of `least` to `most` items."""

    least: int
    most: int


_NOT_SHOWN = (
    r"\u0000-\u0009\u000b-\u001f\u007f-\u009f"  # control characters but the line feed: C0, DEL, C1
    r"\u2028\u2029"  # separators of lines and paragraphs
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they turn the direction of what stands around them
    r"\ud800-\udfff"  # halves of pairs, which no other program could read
)
"""Characters that nothing for people to read in one place can have: a list of code points, so that it means the same to
every version of Unicode. Emoji, their joiners (U+200D) and variation selectors (U+FE00-FE0F) may stand in a name.
"""
_NAME = Pattern(rf"[^\u000a{_NOT_SHOWN}]*", description="a name without control characters or marks of direction")
_LINES = Pattern(f"[^{_NOT_SHOWN}]*", description="lines without control characters or marks of direction")

FILE_NAME_CHARS = 255
FileName = Annotated[str, Chars(0, FILE_NAME_CHARS), _NAME]
GroupName = Annotated[str, Chars(1, 128), _NAME]
Caption = Annotated[str, Chars(0, 4096), _LINES]
"""A caption may have line feeds."""

GivenFileName = Annotated[str, Chars(0, FILE_NAME_CHARS)]
GivenGroupName = Annotated[str, Chars(1, 128)]
GivenCaption = Annotated[str, Chars(0, 4096)]
"""What a server passes on. A client takes any character here, and shows none that does harm: a name of which it thought
ill would otherwise end every session in which it is delivered.
"""

_REPLACED = re.compile(rf"[\u000a{_NOT_SHOWN}]")


def as_file_name(text: str) -> str:
    """A `FileName` out of what a disk calls a file: cut, and U+FFFD for each character that cannot be in one."""
    return _REPLACED.sub("\ufffd", text)[:FILE_NAME_CHARS]


Count = Annotated[int, Between(0, SAFE_INTEGER)]
Number = Annotated[int, Between(1, SAFE_INTEGER)]
UnixMs = Annotated[int, Between(0, SAFE_INTEGER)]
"""Milliseconds since 1970-01-01T00:00:00Z."""

Sha256Hex = Annotated[str, Pattern(r"[0-9a-f]{64}", description="64 lowercase hex digits")]
MediaPath = Annotated[
    str,
    Pattern(
        r"/media/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.bin",
        description="/media/<uuid4>.bin, as POST /upload answered",
    ),
]
MimeType = Annotated[
    str,
    Pattern(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}", description="a media type such as image/jpeg"),
]
