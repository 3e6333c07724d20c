"""What the fields of several messages have in common.

Field names are the keys on the wire, except where a key is a word of Python (`from`): there `WIRE_KEY` in the field's
metadata names it.
"""

from typing import Annotated, Any, Literal

from attrs import Attribute

from ironwire.wire.constraints import Between, Chars, Items

WIRE_KEY = "wire_key"


def wire_key(attribute: "Attribute[Any]") -> str:
    """The key under which a field stands on the wire."""
    return str(attribute.metadata.get(WIRE_KEY, attribute.name))


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

ReceiptState = Literal["delivered", "read"]
FileKind = Literal["file", "image", "voice", "circle"]
Waveform = Annotated[list[Annotated[int, Between(0, 255)]], Items(64, 64)]
ShortText = Annotated[str, Chars(0, 255)]
Milliseconds = Annotated[int, Between(0, 24 * 3_600_000)]
Pixels = Annotated[int, Between(1, 65_535)]
