"""A place between clients and their server where every byte is written down, and read as far as it can be read there.

A client masks what it sends over a WebSocket (RFC 6455, section 5.3), so its bytes as they are would show nothing:
frames are unmasked. The server negotiates no compression; a compressed frame is an error here, because it would hide
what is looked for.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle

from attrs import define, field

_HEAD_END = b"\r\n\r\n"
_LENGTH_BYTES = {126: 2, 127: 8}


@define(eq=False)
class Tap:
    """Passes on what comes to its port, and keeps a copy."""

    _listener: socket.socket
    _server_port: int = 0
    _recorded: list[tuple[bytearray, bytearray]] = field(factory=list)
    """What clients said and what they heard, connection by connection."""
    _ends: list[socket.socket] = field(factory=list)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lead_to(self, server_port: int) -> None:
        self._server_port = server_port

    def heard(self) -> bytes:
        """Everything that passed, as it passed and as it reads."""
        both = [(bytes(said), bytes(heard)) for said, heard in self._recorded]
        return b"\n".join(part for each in both for part in (*each, _readable(*each)))

    @property
    def sockets(self) -> int:
        """The number of WebSockets among the connections."""
        return sum(_is_socket(bytes(said)) for said, _ in self._recorded)

    def serve(self) -> None:
        """Until the listener is closed."""
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._server_port))
                self._ends += [ours, theirs]
                said, heard = bytearray(), bytearray()
                self._recorded.append((said, heard))
                for way in ((ours, theirs, said), (theirs, ours, heard)):
                    threading.Thread(target=_pump, args=way, daemon=True).start()

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def open_tap() -> Iterator[Tap]:
    tap = Tap(socket.create_server(("127.0.0.1", 0)))
    thread = threading.Thread(target=tap.serve, daemon=True)
    thread.start()
    try:
        yield tap
    finally:
        tap.close()
        thread.join()


def _pump(source: socket.socket, sink: socket.socket, record: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            record += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _is_socket(said: bytes) -> bool:
    return b"upgrade: websocket" in said.partition(_HEAD_END)[0].lower()


def _readable(said: bytes, heard: bytes) -> bytes:
    """Both sides without masks, where they are a WebSocket's."""
    if not _is_socket(said):
        return b""
    return b"\n".join(payload for side in (said, heard) for payload in frames(side.partition(_HEAD_END)[2]))


def frames(data: bytes) -> Iterator[bytes]:
    """The payloads of frames in their order, the last as far as it has come (RFC 6455, section 5.2)."""
    at = 0
    while at + 2 <= len(data):
        assert not data[at] & 0x70, "a compressed frame, which nobody can look into here"
        is_masked, length = bool(data[at + 1] & 0x80), data[at + 1] & 0x7F
        at += 2
        more = _LENGTH_BYTES.get(length, 0)
        if more:
            length = int.from_bytes(data[at : at + more], "big")
            at += more
        mask = data[at : at + 4] if is_masked else b""
        at += len(mask)
        payload, at = data[at : at + length], at + length
        yield bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False)) if is_masked else payload
