"""Events for the program that uses a client, in the order in which it happened.

The queue is bounded and never makes the connection wait: a reply must not be stuck behind a push that nobody reads, or
a program that answers what it receives would wait for itself. What does not fit is counted and said. The deliveries of
a device are not in it: they wait in the device's store (`inbox.py`).
"""

from collections import deque
from typing import Literal

import trio
from attrs import define, field, frozen

from ironwire.e2e.content import Content
from ironwire.e2e.conversations import events as ev
from ironwire.errors import ClientError
from ironwire.ids import GroupId, MessageId
from ironwire.wire.messages import Accepted, Error, File, Receipt, RelayedTyping, ServerMessage, Text

EVENT_LIMIT = 1_000
"""Events that wait for the program."""


@frozen
class Received:
    """The server sent what was not a reply. `id` is the sender's, `seq` the number in this device's mailbox.

    `content` is the inside of a message that was encrypted; None: it came in the clear. A text, a file, a receipt or
    who types has the same `message` either way. Other kinds, such as a reaction, have a `message` of which only sender,
    device and time mean anything.
    """

    message: ServerMessage
    id: MessageId | None = None
    seq: int | None = None
    content: Content | None = None


@frozen
class Connected:
    """There is a session: the first, or a new one after `Disconnected`."""


@frozen
class Disconnected:
    """The session broke, or could not be opened; the next attempt is made in `retry_seconds`.

    None: there is no next attempt before `Client.reconnect_now`, because the server has said that this client should
    stop. Only `open_device` has that; a client of `connect` ends.
    """

    reason: str
    retry_seconds: float | None


@frozen
class Missed:
    """The program read too slowly: `count` events that belong here were left out."""

    count: int


@frozen
class Lost:
    """The entries `first` to `last` of this device's mailbox are gone: they expired before they could be delivered, or
    the mailbox was full when they came.

    Of `groups`, changes were among them: `Client.groups.info` says how each stands now, and is refused with `not_found`
    where this client is not in it any more. With `more_groups` there were changes of others: `Client.groups.all` names
    the groups in which this client is.
    """

    first: int
    last: int
    reason: Literal["expired", "full"]
    groups: tuple[GroupId, ...] = ()
    more_groups: bool = False


@frozen
class Queued:
    """A text or a file stands in the device's store, to be sent: through `Client.queue`, by this program or by another
    one that hands over what it has for this device. `Settled` follows.
    """

    id: MessageId
    message: Text | File
    ts: int


@frozen
class Settled:
    """The server's answer to a message of this device for which nobody waits: it was only queued, an earlier run of the
    program sent it, or the wait was cancelled.
    """

    id: MessageId
    message: Text | File | Receipt
    reply: Accepted | Error


@frozen
class Connection:
    """How it stands with the session. `reason` is why there is none, if that is known.

    waiting: until `retry_at`, on Trio's clock. stopped: for `error`, the server does not want this client, which does
    not try again before it is told to.
    """

    state: Literal["connecting", "connected", "waiting", "stopped"]
    reason: str = ""
    retry_at: float | None = None
    error: ClientError | None = None


@frozen
class DeviceRenewed:
    """The device's store was put back from a copy. Its keys must not be used again, so the device has a new one, and is
    added to its conversations anew.
    """


@frozen
class HistoryProgress:
    """History goes to another own device, or comes from it: to or from the device with the key `device`, in hex. `done`
    of `total` messages have gone or come; `is_complete`: all that were to. `problem`: a part could not be had, and will
    not be.
    """

    device: str
    is_given: bool
    done: int
    total: int
    is_complete: bool = False
    problem: str = ""


ConversationEvent = (
    DeviceRenewed
    | HistoryProgress
    | ev.CommitRefused
    | ev.DeviceLinked
    | ev.DevicesChanged
    | ev.GroupRenamed
    | ev.LogDisputed
    | ev.MembersChanged
    | ev.MessagesHeld
    | ev.NotEncrypted
    | ev.OwnRecordsChanged
    | ev.Secured
    | ev.Unreadable
)
"""Of encrypted conversations (`ironwire.e2e.conversations.events` explains each)."""

Event = Received | Connected | Disconnected | Missed | Lost | Queued | Settled | ConversationEvent


@define(eq=False)
class EventQueue:
    """At most `EVENT_LIMIT` events, then one `Missed` that counts. One end puts, any number of tasks get.

    Who is typing is worth least: it is left out, and not counted, once half of the queue is full. So nobody can type
    another's messages away. What became of what this program queued is never left out: it decides how much that is.
    """

    _events: deque[tuple[int, Event]] = field(factory=deque)
    _bounded: int = field(default=0, init=False)
    """Events that wait, without those that are never left out."""
    _end: ClientError | None = None
    _readers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def put(self, event: Event, after: int = 0) -> None:
        """`after` is the last of the stored deliveries that come before this event, where there are any."""
        if self._bounded >= EVENT_LIMIT // 2 and _is_typing(event):
            return
        if isinstance(event, Queued | Settled):
            self._events.append((after, event))
        elif self._bounded < EVENT_LIMIT:
            self._events.append((after, event))
            self._bounded += 1
        elif isinstance(last := self._events[-1][1], Missed):
            self._events[-1] = (after, Missed(last.count + 1))
        else:
            self._events.append((after, Missed(1)))
            self._bounded += 1
        self._readers.unpark()

    def wake(self) -> None:
        """There is something else than an event to look at, for whoever waits."""
        self._readers.unpark()

    def end(self, error: ClientError) -> None:
        """Nothing more will come: `get` raises `error` once the queue is empty."""
        self._end = error
        self._readers.unpark_all()

    def take(self, before: int | None = None) -> Event | None:
        """The first event; None if there is none, or none that comes before the stored delivery `before`."""
        if not self._events or (before is not None and self._events[0][0] >= before):
            return None
        _, event = self._events.popleft()
        self._bounded -= not isinstance(event, Queued | Settled)
        return event

    async def wait(self) -> None:
        """Return when there may be something.

        Raises:
            ClientError: there will be nothing; the one that ended it.
        """
        if self._end is not None:
            raise self._end
        await self._readers.park()

    async def get(self) -> Event:
        """The next event.

        Raises:
            ClientError: the one that ended it.
        """
        await trio.lowlevel.checkpoint()
        while (event := self.take()) is None:
            await self.wait()
        return event


def _is_typing(event: Event) -> bool:
    return isinstance(event, Received) and isinstance(event.message, RelayedTyping)
