"""A table at which a conversation is held: a client without a network, and both sides of what is said."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import trio
from attrs import asdict, define, field
from rich.text import Text as Line

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.conversation import LineChat
from ironwire.client import (
    Accepted,
    Client,
    Connection,
    Error,
    Event,
    FileBody,
    FileTerms,
    GroupDetails,
    GroupSummary,
    HistoryEntry,
    Queued,
    Refused,
    ServerAddress,
    SessionEnded,
    Settled,
    new_message_id,
)
from ironwire.client.store.records import Sendable
from ironwire.ids import Address, ClientId, GroupId, MessageId
from ironwire.wire.messages import File, Receipt, Text

Sent = tuple[MessageId, Sendable]

ALICE = ClientId("a1" * 32)
BOB = ClientId("b0" * 32)
CAROL = ClientId("c0" * 32)
FRIENDS = GroupId("#" + "f0" * 16)


@define(eq=False)
class FakeGroups:
    """Knows one group, perhaps, and the names of some."""

    details: GroupDetails | None = None
    names: dict[GroupId, str] = field(factory=dict)
    asked: int = 0

    async def all(self) -> list[GroupSummary]:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        return [GroupSummary(group, 1, "member", 2, name) for group, name in self.names.items()]

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
    addressees: list[Address] = field(factory=list)
    """Of texts."""
    read: list[tuple[Address, int]] = field(factory=list)
    address: ServerAddress = field(factory=lambda: ServerAddress.parse("http://localhost:8080"))
    _events: tuple[trio.MemorySendChannel[Event], trio.MemoryReceiveChannel[Event]] = field(
        factory=lambda: trio.open_memory_channel[Event](math.inf)
    )

    connection: Connection = field(factory=lambda: Connection("connected"))
    waiting: int = 0
    poison: str | None = None
    hold_until: float = 0.0
    is_holding: bool = False
    _moved: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _queue: tuple[trio.MemorySendChannel[Sent], trio.MemoryReceiveChannel[Sent]] = field(
        factory=lambda: trio.open_memory_channel[Sent](math.inf)
    )

    blocked: list[ClientId] = field(factory=list)
    kept_names: dict[GroupId, str] = field(factory=dict)
    reconnects: int = 0
    is_encrypted: bool = False
    bodies: list[FileBody] = field(factory=list)
    """Of files that go encrypted."""
    code: str | None = None

    @property
    def connected(self) -> bool:
        return self.connection.state == "connected"

    async def epoch_code(self, to: Address) -> str | None:
        await trio.lowlevel.checkpoint()
        return self.code

    def reconnect_now(self) -> None:
        self.reconnects += 1

    async def block(self, client: ClientId) -> None:
        await self.answer()
        self.blocked.append(client)

    async def unblock(self, client: ClientId) -> None:
        await self.answer()
        self.blocked.remove(client)

    async def group_names(self) -> dict[GroupId, str]:
        await trio.lowlevel.checkpoint()
        return self.kept_names

    async def will_encrypt(self, _: Address) -> bool:
        await trio.lowlevel.checkpoint()
        return self.is_encrypted

    async def file_terms(self, to: Address) -> FileTerms:
        return FileTerms(await self.will_encrypt(to), 1_000_000)

    async def queue(
        self, *messages: Sendable, ids: list[MessageId] | None = None, body: FileBody | None = None
    ) -> list[MessageId]:
        await trio.lowlevel.checkpoint()
        if any(isinstance(message, Text) and message.text == self.poison for message in messages):
            raise Refused("invalid", "poison")
        self.bodies += [] if body is None else [body]
        ids = ids or [new_message_id() for _ in messages]
        for message_id, message in zip(ids, messages, strict=True):
            self.waiting += 1
            if not isinstance(message, Receipt):
                self.happen(Queued(message_id, message, 0))
            self._queue[0].send_nowait((message_id, message))
        return ids

    async def send(self) -> None:
        """Send what was queued, in its order."""
        async for message_id, message in self._queue[1]:
            reply: Accepted | Error = Accepted(0)
            try:
                await self.answer()
            except Refused as refused:
                reply = Error(refused.code, refused.detail, refused.user)
            match message:
                case Receipt(to, ids, state):
                    self.receipts.append((to, [*ids], state))
                case Text(to, text) if isinstance(reply, Accepted):
                    self.sent.append((text, {}))
                    self.addressees.append(to)
                case File() if isinstance(reply, Accepted):
                    said = asdict(message, filter=lambda _, value: value is not None)
                    del said["to"]
                    self.sent.append((said.pop("url"), said))
            self.waiting -= 1
            self.happen(Settled(message_id, message, reply))
            self._moved.unpark_all()

    async def wait_moved(self) -> None:
        await self._moved.park()

    async def mark_read(self, peer: Address, upto: int) -> None:
        await trio.lowlevel.checkpoint()
        self.read.append((peer, upto))

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
    conversation: LineChat
    enter_batch: Callable[[list[str]], None]
    shown: list[str]
    said: list[str]
    secrecy: list[str]
    """What is said of encryption, which stands between the others."""
    book: AddressBook

    def enter(self, line: str) -> None:
        self.enter_batch([line])

    async def settled(self) -> None:
        await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def held(tmp_path: Path, client: FakeClient, to: Address = BOB, *, recalls: int = 0) -> AsyncGenerator[Table]:
    book = AddressBook.beside(tmp_path / "key")
    book.add("bob", BOB)
    book.add("friends", FRIENDS)
    shown: list[str] = []
    said: list[str] = []
    secrecy: list[str] = []

    def collect(target: list[str]) -> Callable[[Line], None]:
        return lambda text: target.append(text.plain[len("00:00 ") :])

    def say(text: Line) -> None:
        line = text.plain.strip()
        collect(secrecy if line.startswith(("encrypted: ", "not encrypted: ")) else said)(text)

    conversation = LineChat(
        to,
        cast("Client", client),
        book,
        collect(shown),
        say,
        lambda: None,
        receipts="read" if recalls else "delivered",
        recalls=recalls,
    )
    send, batches = trio.open_memory_channel[list[str]](math.inf)
    async with trio.open_nursery() as sending:
        sending.start_soon(client.send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conversation.hold, batches)
            yield Table(client, conversation, send.send_nowait, shown, said, secrecy, book)
            send.close()
        sending.cancel_scope.cancel()
