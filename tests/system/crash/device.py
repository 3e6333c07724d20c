"""A device that survives its server: it keeps what a device has to keep, and checks every frame that it gets.

It numbers what it sends (docs/protocol.md, section 4.1), and believes what `sent` says after a reconnect: it neither
sends that again nor waits for an answer. What it keeps across connections: the messages that were not accepted yet, in
order, each with its id; what it has stored; and up to where it knows that its ack was committed. It asks for an answer
to some of its acks, and only what an answered one covers must never come again (section 5).
"""

import json
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import trio
from attrs import define, field, frozen
from nacl.signing import SigningKey
from wsproto.events import CloseConnection, TextMessage

from tests.server.raw_client import RawClient
from tests.wire import frame_builder

MOST_UNACCEPTED = 16
ANSWER_SECONDS = 10.0
RECONNECT_SECONDS = 0.02
CUT_AFTER_SECONDS = 1.5
ACK_ID = "ack "
"""What the id of an ack begins with; the id of a message is a number."""
ANSWERED_SHARE = 0.3
"""Of the acks, how many ask for an answer."""
SENT_AWAY = (1001, 1012, 4409)
"""The server stops, or a newer session of this device is there."""


class Violation(AssertionError):
    """The server broke a promise."""


Key = tuple[str, str, int]
"""Client, device and number: which envelope it is."""


@frozen
class Sent:
    """An envelope as its sender knows it. `number` counts what one device sends, and is its id."""

    client: str
    device: str
    number: int
    to: str
    text: str

    @property
    def key(self) -> Key:
        return (self.client, self.device, self.number)


@define
class Counters:
    """What happened in all histories so far."""

    accepted: int = 0
    unheard: int = 0
    delivered: int = 0
    redelivered: int = 0
    answered: int = 0
    sessions: int = 0
    cuts: int = 0

    def __str__(self) -> str:
        return (
            f"{self.accepted} accepted ({self.unheard} of them told after a reconnect), {self.delivered} delivered, "
            f"{self.redelivered} delivered again before an answer to their ack, {self.answered} acks answered, "
            f"{self.sessions} sessions, {self.cuts} cut by devices"
        )


@define(eq=False)
class Connection:
    """JSON in text frames, and errors that say whether the server is gone or has broken a promise."""

    _raw: RawClient
    _writing: trio.Lock = field(init=False, factory=trio.Lock)

    async def open(self) -> None:
        await self._raw.upgrade()

    async def say(self, verb: str, id_: str | None = None, n: int | None = None, /, **payload: object) -> None:
        named = {key: value for key, value in {"id": id_, "n": n}.items() if value is not None}
        async with self._writing:
            await self._raw.send(frame_builder.text(json.dumps({"type": verb, **named, "payload": payload})))

    async def hear(self) -> dict[str, Any]:
        """Raises:
        EOFError: the server is gone, or sent this connection away.
        Violation: the server closed the connection as if the device had done something wrong, or failed itself.
        """
        match await self._raw.event():
            case TextMessage(data):
                frame: dict[str, Any] = json.loads(data)
                return frame
            case CloseConnection(code, reason) if code not in SENT_AWAY:
                raise Violation(f"closed with {code} {reason}")
            case other:
                raise EOFError(repr(other))


@define(eq=False)
class Device:
    key: SigningKey
    name: str
    counters: Counters
    find_sent: Callable[[Key], Sent]
    """What a device of this history sent under that number.

    Raises:
        Violation: nobody did.
    """
    is_lazy: bool = False
    """Acknowledges rarely, and so keeps its window full."""
    accepted_numbers: int = 0
    """Up to which number of this epoch everything was accepted."""
    stored: list[Sent] = field(factory=list)
    """What seq 1, 2, 3... held."""
    unaccepted: deque[Sent] = field(factory=deque)
    next_number: int = 1
    epoch: int | None = None
    former_epochs: set[int | None] = field(factory=set)
    durable_ack: int = 0
    """The highest ack of this epoch that was answered."""
    acked_ever: int = 0
    """The highest ack that was sent in this epoch, whether or not it got there."""
    is_caught_up: bool = field(default=False, init=False)
    may_come_again: set[Key] = field(init=False, factory=set)
    """What had no answer when a new epoch began: its sender repeats it, and it may come twice (protocol, 4.1)."""
    _seen: set[Key] = field(init=False, factory=set)
    _last_from: dict[tuple[str, str], int] = field(init=False, factory=dict)
    _got: int = field(init=False, default=0)
    """The last seq that this connection has delivered, and the last ack that it was given."""
    _acked: int = field(init=False, default=0)
    _connection: Connection | None = field(init=False, default=None)
    _unsent: deque[Sent] = field(init=False, factory=deque)
    _most_unheard: int = field(init=False, default=0)
    """How many numbers are on their way."""
    _wake: trio.Event = field(init=False, factory=trio.Event)

    @property
    def client(self) -> str:
        return self.key.verify_key.encode().hex()

    def send(self, to: str, text: str) -> Sent:
        """Take a message from the application: it is kept until it is accepted."""
        sent = Sent(self.client, self.name, self.next_number, to, text)
        self.next_number += 1
        self.unaccepted.append(sent)
        self._unsent.append(sent)
        self._wake.set()
        return sent

    async def acknowledge_all(self) -> None:
        """Acknowledge everything that this connection has delivered, and ask for an answer."""
        if self._connection is not None:
            await self._say_ack(self._connection, is_answered=True)

    def start_anew(self) -> None:
        """Forget the numbering, as a device does when the epoch is another; what is not accepted is kept."""
        self.former_epochs.add(self.epoch)
        self.epoch = None
        self.durable_ack = self.acked_ever = self.accepted_numbers = 0
        self.stored.clear()
        self._seen.clear()
        self._last_from.clear()

    async def run(self, port: int, *, is_restless: bool) -> None:
        """Be connected, again and again, for ever. A restless device cuts its connection now and then."""
        while True:
            limit = random.uniform(0, CUT_AFTER_SECONDS) if is_restless and random.random() < 0.3 else float("inf")
            with trio.move_on_after(limit) as connected:
                try:
                    await self._be_connected(port)
                except* (OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
            self.counters.cuts += connected.cancelled_caught
            self.is_caught_up = False
            await trio.sleep(random.uniform(0, RECONNECT_SECONDS))

    async def _be_connected(self, port: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            async with trio.open_nursery() as nursery:
                self._connection = connection = Connection(RawClient(stream))
                with trio.fail_after(ANSWER_SECONDS):
                    await connection.open()
                    await self._authenticate(connection)
                self.counters.sessions += 1
                nursery.start_soon(self._send_all, connection)
                while True:
                    await self._take(connection, await connection.hear())
        finally:
            await trio.aclose_forcefully(stream)

    async def _authenticate(self, connection: Connection) -> None:
        await connection.say("auth", token=self.client, device=self.name)
        challenge = (await connection.hear())["challenge"]
        await connection.say("verify", attempt=self.key.sign(bytes.fromhex(challenge)).signature.hex())
        welcome = await connection.hear()
        _demand(welcome["type"] == "auth_ok", f"{welcome} instead of auth_ok")
        epoch, tail = welcome["payload"]["epoch"], welcome["payload"]["seq"]
        _demand(self.epoch in (None, epoch), f"epoch {epoch} after {self.epoch}: the mailbox was made anew")
        _demand(epoch not in self.former_epochs, f"epoch {epoch} came again, with another numbering")
        _demand(tail >= len(self.stored), f"tail {tail} although {len(self.stored)} was delivered")
        self.epoch = epoch
        self._got = self._acked = 0
        self._learn(welcome["payload"]["sent"], welcome["payload"].get("refused"))
        self._unsent = deque(self.unaccepted)

    def _learn(self, sent: int, refused: object) -> None:
        """What had no answer when the last connection broke, and is settled, was accepted."""
        _demand(not refused, f"{refused} was refused, and nothing can be")
        unheard = sent - self.accepted_numbers
        _demand(0 <= unheard <= self._most_unheard, f"{sent} are settled after {self.accepted_numbers}")
        for _ in range(unheard):
            self.unaccepted.popleft()
        self.accepted_numbers = sent
        self.counters.accepted += unheard
        self.counters.unheard += unheard
        self._most_unheard = 0

    async def _send_all(self, connection: Connection) -> None:
        """Send what waits, oldest first: so what a crash has undone is sent again in its order."""
        on_the_way: deque[Sent] = deque()
        while True:
            while on_the_way and (not self.unaccepted or on_the_way[0].number < self.unaccepted[0].number):
                on_the_way.popleft()
            if self._unsent and len(on_the_way) < MOST_UNACCEPTED:
                sent = self._unsent.popleft()
                on_the_way.append(sent)
                # What is in front of it has its number before it.
                n = self.accepted_numbers + 1 + self.unaccepted.index(sent)
                self._most_unheard = max(self._most_unheard, n - self.accepted_numbers)
                await connection.say("text", str(sent.number), n, to=sent.to, text=sent.text)
            else:
                self._wake = trio.Event()
                await self._wake.wait()

    async def _take(self, connection: Connection, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "accepted" if frame["id"].startswith(ACK_ID):
                self.durable_ack = max(self.durable_ack, int(frame["id"].removeprefix(ACK_ID)))
                self.counters.answered += 1
            case "accepted":
                self._accept(frame)
            case "text":
                self._store(frame)
                await self._acknowledge(connection)
            case "caught_up":
                seq = frame["payload"]["seq"]
                _demand(seq == len(self.stored), f"caught up with {seq}, but {len(self.stored)} is stored")
                self.is_caught_up = True
                self._got = seq
                await self._acknowledge(connection, at_once=True)
            case _:
                raise Violation(f"{self} got {frame}")

    def _accept(self, frame: dict[str, Any]) -> None:
        number = int(frame["id"])
        _demand(bool(self.unaccepted) and self.unaccepted[0].number == number, f"{number} was accepted out of turn")
        _demand("duplicate" not in frame["payload"], f"{number} was told to have been sent before")
        self.unaccepted.popleft()
        self.accepted_numbers += 1
        self._most_unheard -= 1
        self.counters.accepted += 1
        self._wake.set()

    def _store(self, frame: dict[str, Any]) -> None:
        seq, payload = frame["seq"], frame["payload"]
        sent = self.find_sent((payload["from"], payload["device"], int(frame["id"])))
        _demand(payload["text"] == sent.text, f"{sent} came with another text")
        is_own = sent.client == self.client and sent.to != self.client
        _demand(payload.get("to") == (sent.to if is_own else None), f"{sent} came with to={payload.get('to')}")
        _demand(self._got in (0, seq - 1), f"seq {seq} came after {self._got} on the same connection")
        self._got = seq
        if seq <= len(self.stored):
            _demand(self.stored[seq - 1] == sent, f"seq {seq} was {self.stored[seq - 1]} and is {sent}")
            _demand(seq > self.durable_ack, f"seq {seq} came again after its ack was answered")
            self.counters.redelivered += 1
            return
        _demand(seq == len(self.stored) + 1, f"seq {seq} came after {len(self.stored)}: a hole")
        source = (sent.client, sent.device)
        last = self._last_from.get(source, 0)
        if sent.key not in self.may_come_again:
            _demand(sent.key not in self._seen, f"{sent} has a second place, {seq}")
            _demand(sent.number > last, f"{sent} came after {last}")
        self._last_from[source] = max(last, sent.number)
        self._seen.add(sent.key)
        self.stored.append(sent)
        self.counters.delivered += 1

    async def _acknowledge(self, connection: Connection, *, at_once: bool = False) -> None:
        step = 60 if self.is_lazy else random.randint(1, 8)
        # Not what is stored, but what this connection has delivered: to acknowledge more would be misuse.
        if self._got - self._acked >= step or (at_once and self._got > self._acked):
            await self._say_ack(connection, is_answered=random.random() < ANSWERED_SHARE)

    async def _say_ack(self, connection: Connection, *, is_answered: bool) -> None:
        self._acked = self._got
        self.acked_ever = max(self.acked_ever, self._acked)
        await connection.say("ack", f"{ACK_ID}{self._acked}" if is_answered else None, upto=self._acked)

    def __str__(self) -> str:
        return f"{self.client[:6]}/{self.name}"


def _demand(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Violation(otherwise)
