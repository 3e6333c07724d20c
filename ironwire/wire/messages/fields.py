"""The types of the fields of messages: bounds, names, numbers, and the error codes with their rules.

Bounds stand in the annotations of the fields. `strict.py` enforces them and `schema.py` publishes them, both from the
annotation alone, so that code, documentation and schema cannot disagree.

Field names are the keys on the wire, except where a key is a word of Python (`from`): there `WIRE_KEY` in the field's
metadata names it.
"""

import re
from typing import Annotated, Any, Literal

from attrs import Attribute, field, frozen

from ironwire.limits import DEVICES_PER_CLIENT

WIRE_KEY = "wire_key"


def wire_key(attribute: "Attribute[Any]") -> str:
    """The key under which a field stands on the wire."""
    return str(attribute.metadata.get(WIRE_KEY, attribute.name))


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
"""Characters that no name and no caption may have: a list of code points, so that it means the same to every version of
Unicode. Emoji, their joiners (U+200D) and variation selectors (U+FE00-FE0F) may stand in a name.
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
"""Names and captions from a server. A client takes any character here, and shows no harmful one: a refused name would
end every session in which it is delivered.
"""

_REPLACED = re.compile(rf"[\u000a{_NOT_SHOWN}]")


def as_file_name(text: str) -> str:
    """A `FileName` from the name of a file on a disk: cut, with U+FFFD for each character that cannot be in one."""
    return _REPLACED.sub("\ufffd", text)[:FILE_NAME_CHARS]


Count = Annotated[int, Between(0, SAFE_INTEGER)]
Number = Annotated[int, Between(1, SAFE_INTEGER)]
UnixMs = Annotated[int, Between(0, SAFE_INTEGER)]
"""Milliseconds since 1970-01-01T00:00:00Z."""

Sha256Hex = Annotated[str, Pattern(r"[0-9a-f]{64}", description="64 lowercase hex digits")]
SignatureHex = Annotated[str, Pattern(r"[0-9a-f]{128}", description="128 lowercase hex digits")]
CertificateHex = Annotated[str, Pattern(r"[0-9a-f]{210}", description="210 lowercase hex digits")]
LogEntryHex = Annotated[
    str, Chars(230, 166 + 64 * DEVICES_PER_CLIENT), Pattern("[0-9a-f]*", description="lowercase hex digits")
]
"""An entry of a device log that names one device, or a snapshot of as many as a client may have here."""
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

ReceiptState = Literal["delivered", "read"]
FileKind = Literal["file", "image", "voice", "circle"]
Waveform = Annotated[list[Annotated[int, Between(0, 255)]], Items(64, 64)]
ShortText = Annotated[str, Chars(0, 255)]
Milliseconds = Annotated[int, Between(0, 24 * 3_600_000)]
Pixels = Annotated[int, Between(1, 65_535)]

ErrorCode = Literal[
    "auth_required",
    "expected_verify",
    "invalid",
    "user_offline",
    "mailbox_full",
    "too_large",
    "rate_limited",
    "forbidden",
    "not_found",
    "conflict",
    "quota",
    "internal",
]
"""The closed set of section 6."""

Retry = Literal["later", "people", "no"]
"""`later`: automatically, after `retry_after_ms` or a pause of the client's choice. `people`: on request, because
something else has to change first.
"""


@frozen
class ErrorRule:
    """The reaction to one code (section 6). `same_id`: a repetition keeps its id. `keeps_copy`: the client does not
    drop the message.
    """

    retry: Retry
    same_id: bool
    keeps_copy: bool


_LATER = ErrorRule("later", same_id=True, keeps_copy=True)
_PEOPLE = ErrorRule("people", same_id=True, keeps_copy=False)
_NO = ErrorRule("no", same_id=False, keeps_copy=False)

ERROR_RULES: dict[ErrorCode, ErrorRule] = {
    "auth_required": _NO,
    "expected_verify": _NO,
    "invalid": _NO,
    "user_offline": _PEOPLE,
    "mailbox_full": _LATER,
    "too_large": _NO,
    "rate_limited": _LATER,
    "forbidden": _NO,
    "not_found": _NO,
    "conflict": _NO,
    "quota": _PEOPLE,
    "internal": _LATER,
}


def is_retryable(code: ErrorCode) -> bool:
    """Whether the client sends the same frame again automatically, and nothing behind it before that."""
    return ERROR_RULES[code].retry == "later"
