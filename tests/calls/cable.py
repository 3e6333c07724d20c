"""The way between a client and its server, which a test can cut for a while."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import define, field


@define(eq=False)
class Cable:
    """Passes on what comes to its port, until it is pulled out; then every connection breaks, and none begins."""

    _listener: socket.socket
    _server_port: int = 0
    _is_plugged: bool = True
    _ends: list[socket.socket] = field(factory=list)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def plug_into(self, server_port: int) -> None:
        """Lead to the server there, from now on or again."""
        self._server_port = server_port
        self._is_plugged = True

    def pull_out(self) -> None:
        self._is_plugged = False
        while self._ends:
            _break(self._ends.pop())

    def serve(self) -> None:
        """Until the listener is closed."""
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                if self._is_plugged:
                    theirs = socket.create_connection(("127.0.0.1", self._server_port))
                    self._ends += [ours, theirs]
                    for source, sink in ((ours, theirs), (theirs, ours)):
                        threading.Thread(target=_pump, args=(source, sink), daemon=True).start()
                else:
                    ours.close()


@contextmanager
def open_cable() -> Iterator[Cable]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cable = Cable(listener)
        thread = threading.Thread(target=cable.serve, daemon=True)
        thread.start()
        try:
            yield cable
        finally:
            cable.pull_out()
            _break(listener)  # to close it does not wake `accept`
            thread.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    _break(sink)


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
