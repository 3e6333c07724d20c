"""The command `ironwire` in processes of its own, beside a test or on a pseudo-terminal, each with an end in time."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

SECONDS = 60
"""How long a command may take."""
SERVER_SECONDS = 600
"""How long a server may live that several tests share."""
IRONWIRE = (sys.executable, "-m", "ironwire")
ROOT = Path(__file__).parents[2]


def environment(home: Path, **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IRONWIRE_")}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"} | changes


@define(eq=False)
class Process:
    """A command that runs beside the test. It is killed when it takes too long, so that reading from it always ends."""

    popen: subprocess.Popen[str]
    _output: list[str] = field(factory=list)

    def read_until(self, pattern: str) -> str:
        """Read lines of standard output up to one that matches, and return it."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._output.append(line)
            if re.search(pattern, line):
                return line.rstrip("\n")
        raise AssertionError(f"the output ended without {pattern!r}:\n{''.join(self._output)}")

    def enter(self, line: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def finish(self) -> tuple[int, str]:
        """Wait for the end; the exit code, and the rest of what was printed."""
        rest, _ = self.popen.communicate(timeout=SECONDS)
        return self.popen.returncode, rest

    def interrupt(self) -> tuple[int, str]:
        self.popen.send_signal(signal.SIGINT)
        return self.finish()


@contextmanager
def background(
    arguments: tuple[str, ...], folder: Path, env: dict[str, str], seconds: float = SECONDS
) -> Iterator[Process]:
    """Run `ironwire` beside the test."""
    with running((*IRONWIRE, *arguments), folder, env, seconds) as process:
        yield process


@contextmanager
def running(command: Sequence[str], folder: Path, env: dict[str, str], seconds: float = SECONDS) -> Iterator[Process]:
    """Run any command beside the test."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=env,
    ) as popen:
        watchdog = threading.Timer(seconds, popen.kill)
        watchdog.start()
        try:
            yield Process(popen)
        finally:
            watchdog.cancel()
            popen.kill()


@define(eq=False)
class Screen:
    """The other side of a pseudo-terminal on which a command runs."""

    popen: subprocess.Popen[bytes]
    _descriptor: int
    _unread: str = ""
    _decoder: codecs.IncrementalDecoder = field(factory=codecs.getincrementaldecoder("utf-8"))

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, pattern: str) -> None:
        """Read what is written to the terminal until it matches; what came before is forgotten."""
        while (match := re.search(pattern, self._unread)) is None:
            written = self._read()
            assert written, f"the command ended without {pattern!r}: {self._unread!r}"
            self._unread += written
        self._unread = self._unread[match.end() :]

    def leave(self, keys: str) -> int:
        """Type `keys` until the command ends: while it writes above its prompt, the terminal is not its own to read."""
        while self.popen.poll() is None:
            self.type(keys)
            readable, _, _ = select.select([self._descriptor], [], [], 0.5)
            if readable:
                self._read()
        return self.wait()

    def wait(self) -> int:
        # A process that writes to a terminal which nobody reads does not end.
        while self._read():
            pass
        return self.popen.wait(SECONDS)

    def _read(self) -> str:
        try:
            return self._decoder.decode(os.read(self._descriptor, 65536))
        except OSError:
            # What Linux says once nobody has the terminal open any more.
            return ""


@contextmanager
def terminal(arguments: tuple[str, ...], folder: Path, env: dict[str, str]) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*IRONWIRE, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=env,
        start_new_session=True,
    ) as popen:
        os.close(theirs)
        watchdog = threading.Timer(SECONDS, popen.kill)
        watchdog.start()
        try:
            yield Screen(popen, ours)
        finally:
            watchdog.cancel()
            popen.kill()
            os.close(ours)
