"""A table at which a conversation is held: a client without a network, and both sides of what is said."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import trio
from attrs import define, field
from rich.text import Text as Line

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.conversation import Conversation
from ironwire.client import (
    Accepted,
    Client,
    Event,
    GroupDetails,
    HistoryEntry,
    Refused,
    ServerAddress,
    SessionEnded,
)
from ironwire.ids import Address, ClientId, GroupId

ALICE = ClientId("a1" * 32)
BOB = ClientId("b0" * 32)
CAROL = ClientId("c0" * 32)
FRIENDS = GroupId("#" + "f0" * 16)


@define(eq=False)
class FakeGroups:
    """Knows one group, perhaps."""

    details: GroupDetails | None = None

    async def info(self, group: GroupId) -> GroupDetails:
        await trio.lowlevel.checkpoint()
        if self.details is None or self.details.group != group:
            raise Refused("not_found", "no such group")
        return self.details


@define(eq=False)
class FakeClient:
    """Accepts what it is sent, or does what `answer` says; the test puts its events."""

    answer: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    client_id: ClientId = ALICE
    kept: list[HistoryEntry] = field(factory=list)
    receipts: list[tuple[str, list[str], str]] = field(factory=list)
    groups: FakeGroups = field(factory=FakeGroups)
    sent: list[tuple[str, dict[str, Any]]] = field(factory=list)
    address: ServerAddress = field(factory=lambda: ServerAddress.parse("http://localhost:8080"))
    _events: tuple[trio.MemorySendChannel[Event], trio.MemoryReceiveChannel[Event]] = field(
        factory=lambda: trio.open_memory_channel[Event](math.inf)
    )

    async def send_text(self, to: str, text: str) -> Accepted:
        await self.answer()
        self.sent.append((text, {}))
        return Accepted(ts=0)

    async def send_file(self, to: str, url: str, **metadata: Any) -> Accepted:
        await self.answer()
        self.sent.append((url, metadata))
        return Accepted(ts=0)

    async def send_receipt(self, to: str, ids: list[str], state: str) -> Accepted:
        await self.answer()
        self.receipts.append((to, ids, state))
        return Accepted(ts=0)

    async def history(self, _: str, limit: int) -> list[HistoryEntry]:
        await trio.lowlevel.checkpoint()
        return self.kept[-limit:]

    def happen(self, event: Event) -> None:
        self._events[0].send_nowait(event)

    def end(self) -> None:
        self._events[0].close()

    def __aiter__(self) -> "FakeClient":
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._events[1].receive()
        except trio.EndOfChannel:
            raise SessionEnded(4403, "removed") from None


@define(eq=False)
class Table:
    """A conversation that is being held, and both sides of it."""

    client: FakeClient
    conversation: Conversation
    enter: Callable[[str], None]
    shown: list[str]
    said: list[str]
    book: AddressBook

    async def settled(self) -> None:
        await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def held(tmp_path: Path, client: FakeClient, to: Address = BOB) -> AsyncGenerator[Table]:
    book = AddressBook.beside(tmp_path / "key")
    book.add("bob", BOB)
    book.add("friends", FRIENDS)
    shown: list[str] = []
    said: list[str] = []

    def collect(target: list[str]) -> Callable[[Line], None]:
        return lambda text: target.append(text.plain[len("00:00 ") :])

    conversation = Conversation(to, cast("Client", client), book, collect(shown), collect(said), lambda: None)
    send, lines = trio.open_memory_channel[str](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.hold, lines)
        yield Table(client, conversation, send.send_nowait, shown, said, book)
        send.close()
