"""The close codes of a WebSocket of this protocol (docs/protocol.md, section 6), for the server and for clients."""

from enum import IntEnum
from typing import Self


class CloseCode(IntEnum):
    """Why a connection ends. Below 4000 the codes are those of RFC 6455 and of the registry that it founded."""

    explanation: str

    def __new__(cls, value: int, explanation: str) -> Self:
        code = int.__new__(cls, value)
        code._value_ = value
        code.explanation = explanation
        return code

    NORMAL = 1000, "normal end"
    GOING_AWAY = 1001, "the page was left"
    PROTOCOL_ERROR = 1002, "RFC 6455 was broken"
    NO_CLOSE_FRAME = 1006, "the connection broke without a close frame; never sent"
    NOT_UTF8 = 1007, "not UTF-8"
    REFUSED = 1008, "authentication failed, or the server does not take this client or device"
    TOO_BIG = 1009, "a message was too big"
    INTERNAL_ERROR = 1011, "server error"
    RESTART = 1012, "the server restarts; the reason is `retry_ms=<n>`"
    OVERLOADED = 1013, "overloaded, more sessions than a client may have, or a limit was exceeded for too long"
    MISUSE = 4400, "protocol misuse, such as an ack of what was never delivered"
    REMOVED = 4403, "the device was removed or revoked, or the client was banned or erased by the operator"
    NO_SIGN_OF_LIFE = 4408, "no sign of life"
    REPLACED = 4409, "replaced by a newer session of the same device"
    TOO_SLOW = 4508, "too slow: what waited for this session was more than its outbox holds"


CLIENT_FAULTS = range(4400, 4500)
"""The client did something wrong, or is not wanted, whichever code of a newer server it is. From 4500 on the fault is
the server's.
"""

SENDABLE = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
"""Codes that may be on the wire: RFC 6455, section 7.4, and the registry that it founded at IANA, which has since added
1012 to 1014.
"""
