"""Reactions of a client to close codes: the table of docs/protocol.md, section 6."""

import re
from typing import Literal

from ironwire.client.errors import AuthenticationRefused, ClientError, ConnectionLost, SessionEnded
from ironwire.close_codes import CLIENT_FAULTS, CloseCode

OVERLOAD_SPREAD_SECONDS = 30.0
LONGEST_SPREAD_SECONDS = 300.0
"""A server may ask for a pause, not for ever."""

Reaction = Literal["reconnect", "stop", "drop"]
"""`drop`: the message that was too big is never sent again; then reconnect."""

REACTIONS: dict[int, Reaction] = {
    CloseCode.NORMAL: "reconnect",
    CloseCode.GOING_AWAY: "reconnect",
    CloseCode.PROTOCOL_ERROR: "stop",
    CloseCode.NO_CLOSE_FRAME: "reconnect",
    CloseCode.NOT_UTF8: "stop",
    CloseCode.REFUSED: "stop",
    CloseCode.TOO_BIG: "drop",
    CloseCode.INTERNAL_ERROR: "reconnect",
    CloseCode.RESTART: "reconnect",
    CloseCode.OVERLOADED: "reconnect",
    CloseCode.MISUSE: "stop",
    CloseCode.REMOVED: "stop",
    CloseCode.NO_SIGN_OF_LIFE: "reconnect",
    CloseCode.REPLACED: "stop",
    CloseCode.TOO_SLOW: "reconnect",
}

_RETRY_MS = re.compile(r"retry_ms=([0-9]{1,12})")


def reaction_to(code: int, *, is_authenticated: bool) -> Reaction:
    """The reaction to `code`; before `auth_ok`, 1002 says that it took too long."""
    if code == CloseCode.PROTOCOL_ERROR and not is_authenticated:
        return "reconnect"
    return REACTIONS.get(code, "stop" if code in CLIENT_FAULTS else "reconnect")


def error_for_close(code: int, reason: str, *, is_authenticated: bool = True) -> ClientError:
    """The exception that says what the close means."""
    if code == CloseCode.REFUSED:
        return AuthenticationRefused(reason or "no reason given")
    if reaction_to(code, is_authenticated=is_authenticated) == "reconnect":
        return ConnectionLost(code, reason, _spread_seconds(code, reason))
    return SessionEnded(code, reason)


def _spread_seconds(code: int, reason: str) -> float | None:
    if code == CloseCode.OVERLOADED:
        return OVERLOAD_SPREAD_SECONDS
    if code == CloseCode.RESTART and (asked := _RETRY_MS.search(reason)):
        return min(int(asked[1]) / 1000, LONGEST_SPREAD_SECONDS)
    return None
