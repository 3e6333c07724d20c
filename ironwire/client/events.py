"""What a client tells the program that uses it, in the order in which it happened.

The queue is bounded and never makes the connection wait: a reply must not be stuck behind a push that nobody reads, or
a program that answers what it receives would wait for itself. What does not fit is counted and said.
"""

from collections import deque

import trio
from attrs import define, field, frozen

from ironwire.errors import ClientError
from ironwire.ids import MessageId
from ironwire.wire.messages import ServerMessage

EVENT_LIMIT = 1_000
"""Events that wait for the program; a device session's window is a tenth of it (section 5)."""


@frozen
class Received:
    """The server sent what was not a reply. `id` is the sender's, `seq` the number in this device's mailbox."""

    message: ServerMessage
    id: MessageId | None = None
    seq: int | None = None


@frozen
class Connected:
    """There is a session: the first, or a new one after `Disconnected`."""


@frozen
class Disconnected:
    """The session broke, or could not be opened again; the next attempt is made in `retry_seconds`."""

    reason: str
    retry_seconds: float


@frozen
class Missed:
    """The program read too slowly: `count` events that belong here were left out."""

    count: int


Event = Received | Connected | Disconnected | Missed


@define(eq=False)
class EventQueue:
    """At most `EVENT_LIMIT` events, then one `Missed` that counts. One end puts, any number of tasks get."""

    _events: deque[Event] = field(factory=deque)
    _end: ClientError | None = None
    _readers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def put(self, event: Event) -> None:
        if len(self._events) < EVENT_LIMIT:
            self._events.append(event)
        elif isinstance(last := self._events[-1], Missed):
            self._events[-1] = Missed(last.count + 1)
        else:
            self._events.append(Missed(1))
        self._readers.unpark()

    def end(self, error: ClientError) -> None:
        """Nothing more will come: `get` raises `error` once the queue is empty."""
        self._end = error
        self._readers.unpark_all()

    async def get(self) -> Event:
        """The next event.

        Raises:
            ClientError: the one that ended it.
        """
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._end is not None:
                raise self._end
            await self._readers.park()
        return self._events.popleft()
