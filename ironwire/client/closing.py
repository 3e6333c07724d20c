"""What a close code means to a client: stop, or come back (docs/protocol.md, section 6)."""

import re

from ironwire.client.errors import AuthenticationRefused, ClientError, ConnectionLost, SessionEnded

ABNORMAL = 1006
"""No close frame at all (RFC 6455, section 7.1.5)."""

POLICY = 1008
RESTART = 1012
OVERLOADED = 1013
STOP_CODES = frozenset({1002, 1007, 1009, 4400, 4403, 4409})
OVERLOAD_SPREAD_SECONDS = 30.0
LONGEST_SPREAD_SECONDS = 300.0
"""A server may ask for patience, not for ever."""

_RETRY_MS = re.compile(r"retry_ms=([0-9]{1,12})")


def error_for_close(code: int, reason: str) -> ClientError:
    """The exception that says what the close means."""
    if code == POLICY:
        return AuthenticationRefused(reason or "no reason given")
    if code in STOP_CODES:
        return SessionEnded(code, reason)
    return ConnectionLost(code, reason, _spread_seconds(code, reason))


def _spread_seconds(code: int, reason: str) -> float | None:
    if code == OVERLOADED:
        return OVERLOAD_SPREAD_SECONDS
    if code == RESTART and (asked := _RETRY_MS.search(reason)):
        return min(int(asked[1]) / 1000, LONGEST_SPREAD_SECONDS)
    return None
