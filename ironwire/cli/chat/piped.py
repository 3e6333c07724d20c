"""Lines from a standard input that is no terminal, for conversations that a script holds.

They come in batches, each of what one read brought, and a batch is kept with one commit before more is read: so the
disk, and not the memory, holds what waits, and an interrupt loses nothing that was read.
"""

import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio
from attrs import define, field

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.commands import as_text, is_command
from ironwire.cli.chat.conversation import LineChat
from ironwire.cli.device_news import NewsSource
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.failures import refusal
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.render import notice
from ironwire.cli.scripting.outbound import at_device, queue_valid, waiting_line
from ironwire.cli.terminal import err, out
from ironwire.client import Client, DeviceOwner, Refused, ServerAddress, Stored, new_message_id
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.store.records import Sendable
from ironwire.ids import Address, DeviceId, MessageId
from ironwire.wire.messages import Text

_READ_BYTES = 64 * 1024
_LINE_BYTES = 1024 * 1024
"""The longest line that is read: no server takes a longer text, and memory is bounded."""


async def through_pipes(
    address: ServerAddress, key_file: KeyFile, device: DeviceId, book: AddressBook, to: Address
) -> int:
    """Send every line to `to`, and print what comes; how much did not get across is returned.

    Where another program has the device, it gets the lines, and they are none of this one's concern any more.
    """
    async with piped_lines() as batches:
        handed = Handed()

        async def here(client: Client) -> int:
            err().print(notice(f"you are {client.client_id}, on {client.device}"))
            await handed.settle(client.queue)
            news = NewsSource(client, key_file.path)
            conversation = LineChat(to, client, book, out().print, err().print, lambda: None, news=news)
            await conversation.hold(batches)
            return conversation.failures + handed.refused

        async def there(owner: DeviceOwner) -> int:
            await handed.settle(partial(handed.over_to, owner))
            async for batch in batches:
                texts = [Text(to, as_text(line)) for line in map(str.strip, batch) if line and not is_command(line)]
                handed.in_doubt |= {new_message_id(): text for text in texts}
                await handed.settle(partial(handed.over_to, owner))
            handed.report()
            return handed.refused

        return await at_device(address, partial(key_file.open_device, address, device), here, there)


@define(eq=False)
class Handed:
    """Texts for the program that has the device. Those that it has not said to be kept are `in_doubt`: they are queued
    again under the same ids, by whichever program has the device next.
    """

    in_doubt: dict[MessageId, Sendable] = field(factory=dict)
    count: int = 0
    refused: int = 0
    _last: Stored = field(factory=lambda: Stored([], 0, ""))

    async def settle(self, queue: Callable[..., Awaitable[object]]) -> None:
        """Queue the texts in doubt again."""
        await queue_valid(queue, self.in_doubt, self._refuse)
        self.in_doubt = {}

    async def over_to(self, owner: DeviceOwner, *texts: Sendable, ids: Sequence[MessageId]) -> None:
        self._last = await owner.queue(*texts, ids=ids)
        self.count += len(self._last.ids)

    def _refuse(self, _: Sendable, refused: Refused) -> None:
        self.refused += 1
        err().print(notice(f"not sent: {refusal(refused)}", "red"))

    def report(self) -> None:
        err().print(notice(f"another program has this device, and sends what was handed over: {self.count} in all"))
        if self._last.reason:
            err().print(notice(waiting_line(self._last.waiting, self._last.reason), "magenta"))


@asynccontextmanager
async def piped_lines() -> AsyncGenerator[trio.MemoryReceiveChannel[list[str]]]:
    """The lines of standard input without their ends; the last one may lack it. What is not UTF-8 is replaced."""
    send, receive = trio.open_memory_channel[list[str]](0)
    async with plain_nursery() as nursery:
        nursery.start_soon(_read_lines, send)
        yield receive
        nursery.cancel_scope.cancel()


async def _read_lines(send: trio.MemorySendChannel[list[str]]) -> None:
    pending = b""
    async with send:
        while data := await _read():
            *lines, pending = (pending + data).split(b"\n")
            await send.send([_text(line) for line in lines])
            if len(pending) > _LINE_BYTES:
                raise Failure(ExitCode.USAGE, f"a line of standard input is longer than {_LINE_BYTES} bytes")
        if pending:
            await send.send([_text(pending)])


async def _read() -> bytes:
    # Not through the buffer of `sys.stdin`: a thread that is abandoned with its lock keeps the program from leaving.
    return await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), _READ_BYTES, abandon_on_cancel=True)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
