"""One client's sessions with its server, one after the other.

    run                sessions, with `Backoff` between them
      ├─ _read         replies to `requests.py`, everything else to `pushes.py`
      ├─ _write        frames of unanswered messages, in the order in which they were sent, and acks
      ├─ backlog.run   devices only: the messages that they keep go out (`client/store/backlog.py`)
      └─ keep_alive
    keep               devices only: changes are kept, in batches (`client/store/write_queue.py`)

A link that `is_lasting` is there with or without a session: where the server says that this client should stop, it
waits for `reconnect_now`.
"""

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import trio
from attrs import define, field

from ironwire.client import errors
from ironwire.client.callbook import CallBook
from ironwire.client.connection.dial import Target
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.connection.outgoing import SendQueue
from ironwire.client.connection.preparing import prepare
from ironwire.client.connection.pushes import Pushes
from ironwire.client.connection.repeats import Repeats
from ironwire.client.connection.requests import Requests
from ironwire.client.connection.session import ClientSession, open_session
from ironwire.client.encryption import Encryption
from ironwire.client.events import Connected, Connection, Disconnected, EventQueue, Received
from ironwire.client.inbox import Inbox
from ironwire.client.rosters import Rosters
from ironwire.client.store.backlog import Backlog
from ironwire.client.store.device_keys import DeviceKeys
from ironwire.client.store.records import Begin
from ironwire.client.store.write_queue import WriteQueue
from ironwire.close_codes import CloseCode
from ironwire.crypto.signing import Identity
from ironwire.ids import Address, DeviceId
from ironwire.wire.codec import encode
from ironwire.wire.messages import Answer, AuthChallenge, AuthOk

NOT_LOGGED_REASON = "Device not in the device log"
"""As section 9.2 has it."""

STEADY_SECONDS = 30.0
"""A session that lasted this long was a good one: the next delay starts from the base again."""


@define(eq=False)
class Link:
    """The link of one client to its server. With a write queue the client is a device."""

    target: Target
    write_queue: WriteQueue | None
    events: EventQueue | Inbox
    is_lasting: bool = False
    connection: Connection = field(factory=lambda: Connection("connecting"), init=False)
    requests: Requests = field(init=False)
    rosters: Rosters = field(init=False)
    _calls: CallBook = field(factory=CallBook, init=False)
    _pushes: Pushes = field(init=False)
    _up: trio.Event = field(factory=trio.Event, init=False)
    _retry: trio.Event = field(factory=trio.Event, init=False)
    _leaving: trio.Event = field(factory=trio.Event, init=False)
    _running: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _has_connected: bool = field(default=False, init=False)
    _end: errors.ClientError | None = field(default=None, init=False)
    _enrolment: Literal["none", "due", "done"] = field(default="none", init=False)
    """Of a device with a key: whether a session by the identity's key has to add it to the device log of this server
    first.
    """

    def __attrs_post_init__(self) -> None:
        self.requests = Requests(self.write_queue, self.events, self._calls)
        self.rosters = Rosters(self.target.account.client_id)
        if self.target.keys is not None and self.write_queue is not None:
            self.requests.encryption = self._encryption(self.target.keys, self.write_queue)
        self._pushes = Pushes(self.events, self.rosters, self._calls, self.write_queue, self.encryption)

    def _encryption(self, keys: DeviceKeys, write_queue: WriteQueue) -> Encryption:
        requests = self.requests
        answers = (requests.launch_plain, requests.settle, requests.hold, requests.give_number)
        ways = (requests.launch, requests.forget, *answers)
        return Encryption(self.target, keys, write_queue, self.events, *ways)

    @property
    def encryption(self) -> Encryption | None:
        """The encrypted conversations of a device with a key."""
        return self.requests.encryption

    @property
    def backlog(self) -> Backlog | None:
        """A device's queue of messages."""
        return self.requests.backlog

    @property
    def is_up(self) -> bool:
        """Whether there is a session now."""
        return self.requests.has_session and self._end is None

    def waiting_reason(self, to: Address | None) -> str:
        """Why nothing is sent to this client or group now; empty where it is, or the first attempt goes on."""
        if not self.requests.has_session:
            return self.connection.reason
        return "" if self.backlog is None or to is None else self.backlog.held.get(to, "")

    async def wait_up(self) -> None:
        """Return once there is a session.

        Raises:
            ClientError: there will be none any more, or none before `reconnect_now`.
        """
        await self._up.wait()
        if self.requests.stopped is not None:
            raise self.requests.stopped

    def reconnect_now(self) -> None:
        """Do not wait for the next attempt, and begin the delays anew; where the client has stopped, try again."""
        self._retry.set()

    # --- the tasks, and their end ------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Take up what an earlier run of the program left unanswered.

        Raises:
            LocalStoreError: the store cannot be read.
        """
        if self.encryption is not None:
            await self.encryption.open()
        if self._can_enrol and self.target.keys is not None and not self.target.keys.is_logged:
            self._enrolment = "due"
        if self.backlog is not None:
            self.requests.numbers = await self.backlog.restore()

    async def keep(self) -> None:
        """Keep what comes and goes, until it is cancelled; a store that fails stops the client."""
        if self.write_queue is not None:
            try:
                await self.write_queue.run()
            except errors.LocalStoreError as error:
                self.write_queue.end(error)
                self.stop(error)
                self._running.cancel()
            finally:
                # Cancelled: nobody is to wait any more for what will not be kept.
                self.write_queue.end(errors.SessionEnded(CloseCode.NORMAL, "the client was closed"))

    async def run(self) -> None:
        """Sessions, until the program leaves. Unless the link is a lasting one, the first attempt has to succeed, and a
        session that ends for good is the last one.
        """
        with self._running:
            await self._run_sessions()

    async def leave(self) -> None:
        """The program is done: say goodbye."""
        if isinstance(self.events, Inbox):
            # Where it cannot be kept that the last event is finished, it comes again. The program is gone by then.
            with suppress(errors.ClientError):
                await self.events.finish()
        self._leaving.set()
        if not self.is_up:
            self._running.cancel()

    def stop(self, error: errors.ClientError) -> None:
        """Stop the client: raise `error`, or the one before it, in every task that waits."""
        self._end = self._end or error
        self.events.end(self._end)
        self._fail_waiting(self._end)

    def _fail_waiting(self, error: errors.ClientError) -> None:
        self.requests.stopped = error
        self._up.set()
        self.requests.fail_waiting(error)
        if self.encryption is not None:
            self.encryption.fail_waiting(error)

    async def _run_sessions(self) -> None:
        target = self.target
        attempt = 0
        while True:
            steady_at = math.inf
            try:
                if self._enrolment == "due":
                    await self._enrol()
                async with self._session(target.keys, target.device) as session:
                    self._enrolment = "none"
                    steady_at = trio.current_time() + STEADY_SECONDS
                    await self._live(session)
                return
            except errors.ClientError as error:
                if self._leaving.is_set():
                    return
                if self._must_enrol(error):
                    self._enrolment = "due"
                    continue
                is_passing = isinstance(error, errors.ConnectionFailed | errors.ConnectionLost) or self._can_drop(error)
                goes_on = self.is_lasting or (self._has_connected and is_passing)
                if not goes_on or isinstance(error, errors.LocalStoreError):
                    self.stop(error)
                    return
                ended = error
            if trio.current_time() >= steady_at:
                attempt = 0
            if is_passing:
                spread_seconds = ended.spread_seconds if isinstance(ended, errors.ConnectionLost) else None
                delay_seconds = target.backoff.delay_seconds(attempt, spread_seconds)
                is_asked = await self._wait_to_retry(str(ended), delay_seconds)
                attempt = 0 if is_asked else attempt + 1
            else:
                await self._wait_to_be_told(ended)

    @asynccontextmanager
    async def _session(self, keys: DeviceKeys | None, device: DeviceId | None) -> AsyncGenerator[ClientSession]:
        """A session, by the key of the device if it has one; a device is prepared for it."""
        target = self.target
        async with open_session(
            target.address, target.account, device, invite=target.invite, dial=target.dial, keys=keys
        ) as session:
            if target.keys is not None:
                await prepare(session, target.keys, None if keys is None else self.encryption)
            yield session

    async def _enrol(self) -> None:
        """Add the device to its client's log, in a session of its own."""
        is_renewed = self.target.keys is not None and self.target.keys.replaced is not None  # its mailbox goes then
        async with self._session(None, None if is_renewed else self.target.device):
            self._enrolment = "done"

    def _must_enrol(self, error: errors.ClientError) -> bool:
        """Whether the server knows less of the log than this device: it is another server, or was restored."""
        is_unknown = isinstance(error, errors.AuthenticationRefused) and error.reason == NOT_LOGGED_REASON
        return is_unknown and self._can_enrol and self._enrolment == "none"

    @property
    def _can_enrol(self) -> bool:
        """Only an owner device adds itself to the log."""
        return self.target.keys is not None and isinstance(self.target.account, Identity)

    async def _wait_to_retry(self, reason: str, delay_seconds: float) -> bool:
        """Wait so long, or until `reconnect_now`, which returns True."""
        self.connection = Connection("waiting", reason, trio.current_time() + delay_seconds)
        self.events.put(Disconnected(reason, delay_seconds))
        self._end_lost_calls()
        self._retry = trio.Event()
        with trio.move_on_after(delay_seconds):
            await self._retry.wait()
        self.connection = Connection("connecting", reason)
        return self._retry.is_set()

    async def _wait_to_be_told(self, error: errors.ClientError) -> None:
        self.connection = Connection("stopped", str(error), error=error)
        self.events.put(Disconnected(str(error), None))
        self._end_lost_calls()
        self._fail_waiting(error)
        self._retry = trio.Event()
        await self._retry.wait()
        self.connection = Connection("connecting", str(error))
        if self._enrolment == "done":
            self._enrolment = "none"
        self.requests.stopped = self._end
        self._up = trio.Event()

    def _end_lost_calls(self) -> None:
        for end in self._calls.lost(is_device=self.write_queue is not None):
            self.events.put(Received(end))

    # --- one session -------------------------------------------------------------------------------------------------

    def _can_drop(self, error: errors.ClientError) -> bool:
        """Whether the server ended the session over a frame that was too big, and that frame is now given up."""
        return (
            isinstance(error, errors.SessionEnded) and error.code == CloseCode.TOO_BIG and self.requests.drop_largest()
        )

    def _come_up(self, session: ClientSession, nursery: trio.Nursery) -> tuple[SendQueue, Repeats]:
        welcome = session.welcome
        if self.write_queue is not None:
            if welcome.epoch is None or welcome.seq is None or welcome.sent is None:
                raise errors.NotTheProtocol("the server keeps no mailboxes: connect without a device")
            self.write_queue.put(Begin(welcome.epoch, welcome.seq, welcome.sent), lambda _: None)
        self.rosters.forget_all()
        queue, repeats = self.requests.begin(nursery, welcome)
        self._has_connected = True
        self.connection = Connection("connected")
        self.events.put(Connected())
        self._up.set()
        return queue, repeats

    async def _live(self, session: ClientSession) -> None:
        """Returns when the program leaves; raises what ended the session otherwise."""
        async with plain_nursery() as nursery:
            try:
                queue, repeats = self._come_up(session, nursery)
                if self.encryption is not None:
                    await self.encryption.begin(session.welcome, nursery, queue)
                nursery.start_soon(self._read, session, queue, repeats)
                nursery.start_soon(self._write, session, queue)
                nursery.start_soon(session.keep_alive)
                if self.backlog is not None:
                    nursery.start_soon(self.backlog.run, repeats.resting)
                await self._leaving.wait()
                nursery.cancel_scope.cancel()
            finally:
                self._go_down()  # before the nursery takes no more tasks: what is kept now may want to start one

    def _go_down(self) -> None:
        self.requests.end()
        if self.encryption is not None:
            self.encryption.end()
        self.connection = Connection("connecting")
        if self._end is None and self._up.is_set():
            self._up = trio.Event()

    async def _read(self, session: ClientSession, queue: SendQueue, repeats: Repeats) -> None:
        while True:
            frame = await session.receive()
            if self.requests.take(frame, repeats) or isinstance(frame.message, Answer):
                continue  # an answer that is no reply: nobody waits for it any more
            if isinstance(frame.message, AuthChallenge | AuthOk):
                raise errors.NotTheProtocol(f"the server sent `{frame.message.verb}` in the middle of a session")
            await self._pushes.take(frame, queue)

    async def _write(self, session: ClientSession, queue: SendQueue) -> None:
        while True:
            match await queue.next():
                case str() as message_id:
                    frame = self.requests.frame_of(message_id)
                case message:
                    frame = encode(message).decode()
            if frame is not None:
                await session.send(frame)
