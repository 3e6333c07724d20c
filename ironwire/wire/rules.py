"""What an error asks of the client that gets it: the table of docs/protocol.md, section 6, for both sides."""

from typing import Literal

from attrs import frozen

from ironwire.wire.messages.fields import ErrorCode

Retry = Literal["later", "people", "no"]
"""`later`: by itself, after `retry_after_ms` or a pause of the client's choice. `people`: when somebody asks for it
again, because something else has to change first.
"""


@frozen
class ErrorRule:
    """`same_id`: what is sent again keeps its id. `keeps_copy`: the client does not throw the message away."""

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
    """Whether the client sends the same frame again by itself, and nothing that comes after it before that."""
    return ERROR_RULES[code].retry == "later"
