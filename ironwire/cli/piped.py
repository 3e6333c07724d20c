"""Lines from a standard input that is no terminal, for conversations that a script holds."""

import os
import sys
from collections.abc import AsyncIterator

import trio

_READ_BYTES = 64 * 1024


async def piped_lines() -> AsyncIterator[str]:
    """Each line of standard input without its end; the last one may lack it. What is not UTF-8 is replaced."""
    pending = b""
    while data := await _read():
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            yield _text(line)
    if pending:
        yield _text(pending)


async def _read() -> bytes:
    # Not through `sys.stdin`: a thread that was abandoned while it held the lock of that buffer would keep the program from leaving.
    return await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), _READ_BYTES, abandon_on_cancel=True)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
