"""Lines from a standard input that is no terminal, for conversations that a script holds."""

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from ironwire.client.nursery import plain_nursery

_READ_BYTES = 64 * 1024


@asynccontextmanager
async def piped_lines() -> AsyncGenerator[trio.MemoryReceiveChannel[str]]:
    """Each line of standard input without its end; the last one may lack it. What is not UTF-8 is replaced."""
    send, receive = trio.open_memory_channel[str](0)
    async with plain_nursery() as nursery:
        nursery.start_soon(_read_lines, send)
        yield receive
        nursery.cancel_scope.cancel()


async def _read_lines(send: trio.MemorySendChannel[str]) -> None:
    pending = b""
    async with send:
        while data := await _read():
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                await send.send(_text(line))
        if pending:
            await send.send(_text(pending))


async def _read() -> bytes:
    # Not through the buffer of `sys.stdin`: a thread that is abandoned with its lock keeps the program from leaving.
    return await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), _READ_BYTES, abandon_on_cancel=True)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
