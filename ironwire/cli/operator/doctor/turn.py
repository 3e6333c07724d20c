"""Checks of the STUN and TURN servers for calls: each answers a request that needs no credential."""

import os
import re
from collections.abc import Sequence

import trio

from ironwire.cli.operator.doctor.findings import Finding, fail, ok
from ironwire.handlers.ice import IceUrl

ANSWER_SECONDS = 2.0
_URL = re.compile(r"(stuns?|turns?):(?:\[([^\]]+)\]|([^:?]+))(?::(\d+))?(?:\?transport=(udp|tcp))?")
_PORTS = {"stun": 3478, "turn": 3478, "stuns": 5349, "turns": 5349}
_BINDING_REQUEST = b"\x00\x01\x00\x00"
_BINDING_SUCCESS = b"\x01\x01"
_MAGIC_COOKIE = b"\x21\x12\xa4\x42"
_REQUEST_SENDS = 3
"""A datagram may get lost: it is sent again within the time for the answer (RFC 8489, section 6.2.1)."""


async def examine_turn(urls: Sequence[IceUrl]) -> list[Finding]:
    """One finding for each server; empty without configured servers."""
    return [await _examine(url) for url in urls]


async def _examine(url: IceUrl) -> Finding:
    match = _URL.fullmatch(url)
    if match is None:
        return fail("turn", f"{url} is not understood", "see turn.urls in `ironwire config example`")
    scheme, ipv6, name, port, transport = match.groups()
    place = (ipv6 or name, int(port or _PORTS[scheme]))
    is_datagram = scheme in ("stun", "turn") and transport != "tcp"
    answered = False
    try:
        with trio.move_on_after(ANSWER_SECONDS):
            answered = await (_answers_binding(*place) if is_datagram else _connects(*place))
    except OSError as error:
        return fail("turn", f"{url} cannot be reached: {error}", "start it, or correct turn.urls")
    if answered:
        return ok("turn", f"{url} answers")
    if is_datagram:
        what = f"{url} did not answer a STUN binding request within {ANSWER_SECONDS:g} s"
        return fail("turn", what, f"start it, and let UDP to port {place[1]} and back through the firewall")
    what = f"{url} did not take a connection within {ANSWER_SECONDS:g} s"
    return fail("turn", what, f"start it, and let TCP to port {place[1]} through the firewall")


async def _answers_binding(host: str, port: int) -> bool:
    """RFC 8489, section 5: 20 bytes there, and a success response with the same transaction back."""
    (family, kind, protocol, _, place), *_ = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
    transaction = _MAGIC_COOKIE + os.urandom(12)
    with trio.socket.socket(family, kind, protocol) as socket:
        await socket.connect(place)
        for _ in range(_REQUEST_SENDS):
            await socket.send(_BINDING_REQUEST + transaction)
            with trio.move_on_after(ANSWER_SECONDS / _REQUEST_SENDS):
                while True:
                    answer = await socket.recv(2048)
                    if answer.startswith(_BINDING_SUCCESS) and answer[4:20] == transaction:
                        return True
    return False


async def _connects(host: str, port: int) -> bool:
    stream = await trio.open_tcp_stream(host, port)
    await trio.aclose_forcefully(stream)
    return True
