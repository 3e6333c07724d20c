"""Clients that connect and authenticate by the seed protocol, many at once, and then leave their sockets to others.

One thread, one epoll, keys made beforehand: what a newcomer costs here is a signature and five short reads and writes.
"""

import json
import select
import socket
from collections.abc import Generator, Sequence

from attrs import frozen
from nacl.signing import SigningKey

HOST = "127.0.0.1"
STALL_SECONDS = 15.0

_READ_BYTES = 16 * 1024
_TEXT = 0x81
_MASK = b"\x12\x34\x56\x78"
_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Handshake = Generator[bytes, bytes, None]
"""Yields what is to be written (perhaps nothing) and is sent what was read, until the client is in."""


class Refused(Exception):
    """A server did not let a client in, or stopped answering."""


@frozen
class Identity:
    """A client and perhaps its device."""

    key: SigningKey
    client: str
    device: str | None


def identities(count: int, device: str | None = None) -> list[Identity]:
    keys = [SigningKey.generate() for _ in range(count)]
    return [Identity(key, bytes(key.verify_key).hex(), device) for key in keys]


def connect_all(port: int, newcomers: Sequence[Identity], at_once: int = 100) -> list[socket.socket]:
    """A socket for each newcomer, in their order, authenticated and with nothing left to read; those of devices have
    caught up. At most `at_once` of them are on their way at a time.

    Raises:
        Refused: somebody was not let in, or nothing happened for `STALL_SECONDS`.
    """
    sockets: list[socket.socket] = []
    arriving: dict[int, tuple[socket.socket, Handshake]] = {}
    with select.epoll() as poll:
        while arriving or len(sockets) < len(newcomers):
            while len(arriving) < at_once and len(sockets) < len(newcomers):
                connection = _dial(port)
                arriving[connection.fileno()] = connection, handshake(newcomers[len(sockets)])
                sockets.append(connection)
                poll.register(connection, select.EPOLLOUT)
            ready = poll.poll(STALL_SECONDS)
            if not ready:
                raise Refused(f"{len(arriving)} clients wait and nothing has happened for {STALL_SECONDS} s")
            for descriptor, event in ready:
                if _advance(*arriving[descriptor], event):
                    poll.unregister(descriptor)
                    del arriving[descriptor]
                elif event & select.EPOLLOUT:
                    poll.modify(descriptor, select.EPOLLIN)
    return sockets


def handshake(newcomer: Identity, deliveries: int = 0) -> Handshake:
    """A client's side from the upgrade until it is in; or, for a device, until it has caught up or has got so many
    `deliveries`.
    """
    received = yield from _more(_UPGRADE)
    while b"\r\n\r\n" not in received:
        received += yield from _more(b"")
    head, _, received = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise Refused(f"the server did not open a WebSocket: {head!r}")
    device = {} if newcomer.device is None else {"device": newcomer.device}
    to_write = text_frame({"type": "auth", "payload": {"token": newcomer.client, **device}})
    while True:
        frame = split_frame(received)
        if frame is None:
            received += yield from _more(to_write)
            to_write = b""
            continue
        text, received = frame
        match json.loads(text):
            case {"type": "auth_challenge", "challenge": challenge}:
                attempt = newcomer.key.sign(bytes.fromhex(challenge)).signature.hex()
                to_write = text_frame({"type": "verify", "payload": {"attempt": attempt}})
            case {"type": "auth_ok"} if newcomer.device is None:
                return
            case {"type": "auth_ok"}:
                pass
            case {"type": "caught_up"}:
                return
            case {"type": "text", "seq": _} if deliveries > 1:
                deliveries -= 1
            case {"type": "text", "seq": _} if deliveries == 1:
                return
            case other:
                raise Refused(f"the server answered {other}")


def disconnect(sockets: Sequence[socket.socket]) -> None:
    for connection in sockets:
        connection.close()


def text_frame(message: object) -> bytes:
    """A masked text frame. Messages here are short."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else bytes([0xFE, *len(payload).to_bytes(2, "big")])
    mask = int.from_bytes((_MASK * (len(payload) // 4 + 1))[: len(payload)], "big")
    masked = (int.from_bytes(payload, "big") ^ mask).to_bytes(len(payload), "big")
    return bytes([_TEXT]) + length + _MASK + masked


def split_frame(received: bytes) -> tuple[bytes, bytes] | None:
    """The first whole text and what follows it; None while it is not whole.

    Raises:
        Refused: it is no text: the server closed the connection.
    """
    if len(received) < 2:
        return None
    length, start = received[1], 2
    if length == 126:
        length, start = int.from_bytes(received[2:4], "big"), 4
    if len(received) < max(start, start + length):
        return None
    payload = received[start : start + length]
    if received[0] != _TEXT:
        raise Refused(f"the server ended the handshake with frame {received[0]:#x} {payload!r}")
    return payload, received[start + length :]


def _dial(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.connect_ex((HOST, port))
    return connection


def _advance(connection: socket.socket, steps: Handshake, event: int) -> bool:
    """One step of a newcomer's; True once it is in."""
    try:
        is_connected = bool(event & select.EPOLLOUT)
        to_write = next(steps) if is_connected else steps.send(connection.recv(_READ_BYTES))
    except StopIteration:
        return True
    if to_write:
        connection.send(to_write)
    return False


def _more(to_write: bytes) -> Generator[bytes, bytes, bytes]:
    received = yield to_write
    if not received:
        raise Refused("the server dropped a connection before its client was in")
    return received
