"""The command `ironwire` as a process: to its end, beside a test, or on a pseudo-terminal; each with an end in time.

It is forked (`forked.py`), which takes a tenth of the time. A test whose subject is how a process starts or ends starts
`IRONWIRE` itself.
"""

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
import tempfile
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from tests.system.forked import Forked, fork

SECONDS = 60
"""How long a command may take."""
SERVER_SECONDS = 600
"""How long a server may live that several tests share."""
OWN = -1
"""A standard stream that goes to a file of the command's own."""
MOST_OUTPUT_BYTES = 1 << 20
IRONWIRE = (sys.executable, "-m", "ironwire")
ROOT = Path(__file__).parents[2]


def environment(home: Path, **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IRONWIRE_")}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"} | changes


@define(eq=False)
class Process:
    """A command that runs beside the test. It is killed when it takes too long, so that reading from it always ends."""

    popen: subprocess.Popen[str] | Forked
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
        """End its input and wait for its end; the exit code, and the rest of what was printed."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.close()
        rest = self.popen.stdout.read()
        return self.popen.wait(SECONDS), rest

    def interrupt(self) -> tuple[int, str]:
        self.popen.send_signal(signal.SIGINT)
        return self.finish()


def ironwire(
    arguments: Sequence[bytes | str], folder: Path, env: dict[str, str], piped: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `ironwire` to its end, with `piped` on its standard input."""
    reading, writing = os.pipe()
    try:
        os.write(writing, piped.encode())  # a pipe holds more than any test has to say
        os.close(writing)
        return ironwire_on((reading, OWN, OWN), arguments, folder, env)
    finally:
        os.close(reading)


def ironwire_on(
    streams: Sequence[int | None], arguments: Sequence[bytes | str], folder: Path, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `ironwire` to its end with these standard streams; what it wrote to those that are `OWN` is in the result."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        own = {1: out.fileno(), 2: err.fileno()}
        given = [own[number] if stream == OWN else stream for number, stream in enumerate(streams)]
        forked = fork(arguments, folder, env, given)
        with watched(forked, SECONDS):
            code = forked.wait()
        written = [os.pread(file.fileno(), MOST_OUTPUT_BYTES, 0).decode(errors="replace") for file in (out, err)]
    return subprocess.CompletedProcess(arguments, code, *written)


@contextmanager
def background(
    arguments: tuple[str, ...], folder: Path, env: dict[str, str], seconds: float = SECONDS
) -> Iterator[Process]:
    """Run `ironwire` beside the test."""
    (theirs_in, ours_in), (ours_out, theirs_out) = os.pipe(), os.pipe()
    with open(ours_in, "w", encoding="utf-8") as stdin, open(ours_out, encoding="utf-8") as stdout:
        forked = fork(arguments, folder, env, (theirs_in, theirs_out, theirs_out))
        forked.stdin, forked.stdout = stdin, stdout
        for descriptor in (theirs_in, theirs_out):
            os.close(descriptor)
        with watched(forked, seconds):
            yield Process(forked)


@contextmanager
def watched(process: subprocess.Popen[str] | subprocess.Popen[bytes] | Forked, seconds: float) -> Iterator[None]:
    """Kill the process when it takes too long, and at the end of the block, which is that of the process too."""
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


@contextmanager
def running(command: Sequence[str], folder: Path, env: dict[str, str], seconds: float = SECONDS) -> Iterator[Process]:
    """Run any command beside the test."""
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=env,
        ) as popen,
        watched(popen, seconds),
    ):
        yield Process(popen)


@define(eq=False)
class Screen:
    """The other side of a pseudo-terminal on which a command runs."""

    popen: Forked
    _descriptor: int
    _unread: str = ""
    _decoder: codecs.IncrementalDecoder = field(factory=codecs.getincrementaldecoder("utf-8"))

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, pattern: str) -> str:
        """Read what is written to the terminal until it matches; all of it up to there."""
        while (match := re.search(pattern, self._unread)) is None:
            written = self._read()
            assert written, f"the command ended without {pattern!r}: {self._unread!r}"
            self._unread += written
        read, self._unread = self._unread[: match.end()], self._unread[match.end() :]
        return read

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
    try:
        forked = fork(arguments, folder, env, (theirs, theirs, theirs), leads_session=True)
        os.close(theirs)
        with watched(forked, SECONDS):
            yield Screen(forked, ours)
    finally:
        os.close(ours)
