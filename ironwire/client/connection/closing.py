"""Reactions of a client to close codes: the table of docs/protocol.md, section 6."""

import re
from typing import Literal

from ironwire.client.errors import RESTART, AuthenticationRefused, ClientError, ConnectionLost, SessionEnded

BROKEN = 1002
POLICY = 1008
TOO_BIG = 1009
OVERLOADED = 1013
OVERLOAD_SPREAD_SECONDS = 30.0
LONGEST_SPREAD_SECONDS = 300.0
"""A server may ask for patience, not for ever."""

Reaction = Literal["reconnect", "stop", "drop"]
"""`drop`: the message that was too big is never sent again; then reconnect."""

REACTIONS: dict[int, Reaction] = {
    1000: "reconnect",
    1001: "reconnect",
    BROKEN: "stop",
    1007: "stop",
    POLICY: "stop",
    TOO_BIG: "drop",
    1011: "reconnect",
    RESTART: "reconnect",
    OVERLOADED: "reconnect",
    4400: "stop",
    4403: "stop",
    4408: "reconnect",
    4409: "stop",
    4508: "reconnect",
}
STOP_RANGE = range(4400, 4500)
"""Codes of newer servers: the client did something wrong, or is not wanted. From 4500 on it is the server's side."""

_RETRY_MS = re.compile(r"retry_ms=([0-9]{1,12})")


def reaction_to(code: int, *, is_authenticated: bool) -> Reaction:
    """The reaction to `code`; before `auth_ok`, 1002 says that it took too long."""
    if code == BROKEN and not is_authenticated:
        return "reconnect"
    return REACTIONS.get(code, "stop" if code in STOP_RANGE else "reconnect")


def error_for_close(code: int, reason: str, *, is_authenticated: bool = True) -> ClientError:
    """The exception that says what the close means."""
    if code == POLICY:
        return AuthenticationRefused(reason or "no reason given")
    if reaction_to(code, is_authenticated=is_authenticated) == "reconnect":
        return ConnectionLost(code, reason, _spread_seconds(code, reason))
    return SessionEnded(code, reason)


def _spread_seconds(code: int, reason: str) -> float | None:
    if code == OVERLOADED:
        return OVERLOAD_SPREAD_SECONDS
    if code == RESTART and (asked := _RETRY_MS.search(reason)):
        return min(int(asked[1]) / 1000, LONGEST_SPREAD_SECONDS)
    return None
