"""The standard streams as commands use them, whatever the shell or the locale made of them.

- A closed descriptor is opened on /dev/null, so that no other file takes its number.
- A character that the terminal's encoding lacks is written as `?`.
- What cannot be written to standard output ends the command with a `Failure`. Once that has been said, the rest goes
  to /dev/null: the flush at the end of the program fails no more. Where standard error fails, nobody can be told.

Text comes in as UTF-8: bytes that are not are refused before anything is sent.
"""

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import click

from ironwire.cli.exits import ExitCode, Failure

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_IN, _OUT, _ERR = 0, 1, 2
_MOST_TEXT_BYTES = 1024 * 1024
"""More than any server takes in one message; how much a server takes, the client library knows."""


def prepare_streams() -> None:
    """Put streams that keep these rules in the place of Python's own. To be called once, at the start."""
    for descriptor in (_IN, _OUT, _ERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
    if sys.stdin is None:
        sys.stdin = open(_IN, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the program
    sys.stdout = _text_stream(_Output(io.FileIO(_OUT, "w", closefd=False)), sys.stdout)
    sys.stderr = _text_stream(_Aside(io.FileIO(_ERR, "w", closefd=False)), sys.stderr)


def check_arguments(arguments: Sequence[str]) -> None:
    """Raises:
    UsageError: one is not text: Python keeps bytes that the locale's encoding does not know as lone surrogates.
    """
    for number, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = argument.encode(errors="replace").decode()
            encoding = sys.getfilesystemencoding()
            raise click.UsageError(
                f"Argument {number}, {shown!r}, holds bytes that are not text in this locale's encoding ({encoding})."
            ) from None


def read_text(name: str) -> str:
    """All of standard input as one text, without its last line feed. `name` is the argument that asks for it.

    Raises:
        UsageError: it is not UTF-8, it is empty, or more than a text can hold.
    """
    data = sys.stdin.buffer.read(_MOST_TEXT_BYTES + 1)
    if len(data) > _MOST_TEXT_BYTES:
        raise click.UsageError(f"{name}: standard input is longer than any text may be; send it with --file -.")
    try:
        text = data.decode().replace("\r\n", "\n").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"{name}: standard input is not UTF-8 (byte {error.start + 1}); send it with --file -."
        ) from None
    if not text:
        raise click.UsageError(f"{name}: standard input is empty or closed; there is nothing to send.")
    return text


class _Output(io.BufferedWriter):
    """Standard output, as bytes.

    The buffer is where errors are caught, not the raw file below it: a Ctrl-C in Python code below the buffer would make
    it write again what was written.
    """

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise self._failure(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> Failure:
        _discard_from_now_on(self.fileno())
        return Failure(ExitCode.FILE, f"standard output cannot be written: {error.strerror}")


class _Aside(io.BufferedWriter):
    """Standard error, as bytes."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            _discard_from_now_on(self.fileno())
            return super().write(data)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _discard_from_now_on(self.fileno())
            super().flush()


def _discard_from_now_on(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def _text_stream(buffer: io.BufferedWriter, former: TextIO | None) -> io.TextIOWrapper:
    encoding = "utf-8" if former is None else former.encoding
    return io.TextIOWrapper(buffer, encoding=encoding, errors="replace", line_buffering=buffer.isatty())
