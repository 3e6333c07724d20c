"""Hands on pushes of the server: to the program at once, or, where a device keeps it, to its store first.

Rule: what came is kept, then acknowledged, then handed to the program (docs/protocol.md, section 5). On the way, what
this client knows of its groups and calls follows what comes.
"""

from functools import partial

from attrs import define

from ironwire.client.callbook import CallBook
from ironwire.client.connection.outgoing import SendQueue
from ironwire.client.errors import NotTheProtocol
from ironwire.client.events import EventQueue, Received
from ironwire.client.inbox import Inbox
from ironwire.client.rosters import Rosters
from ironwire.client.store.records import Arrive
from ironwire.client.store.write_queue import WriteQueue
from ironwire.errors import ClientError
from ironwire.wire import messages as msg
from ironwire.wire.codec import ServerFrame


@define(eq=False)
class Pushes:
    """The pushes to one client, over all its sessions. With a write queue the client is a device."""

    events: EventQueue | Inbox
    rosters: Rosters
    _calls: CallBook
    _write_queue: WriteQueue | None

    async def take(self, frame: ServerFrame, queue: SendQueue) -> None:
        """Take one frame that came in the session of `queue`; waits while more is to be kept than should be.

        Raises:
            NotTheProtocol: the server should not say this to a device.
        """
        for end in self._calls.heard(frame.message):
            self.events.put(Received(end))
        if isinstance(frame.message, msg.GroupChanged):
            self.rosters.follow(frame.message)
        elif isinstance(frame.message, msg.Gap):
            if frame.message.more_groups:
                self.rosters.forget_all()
            else:
                self.rosters.forget(frame.message.groups or ())
        if self._write_queue is None:
            self.events.put(Received(frame.message, frame.id, frame.seq))
        else:
            self._keep(self._write_queue, frame, queue)
            await self._write_queue.wait_room()

    def _keep(self, write_queue: WriteQueue, frame: ServerFrame, queue: SendQueue) -> None:
        match frame.message:
            case (
                msg.DeliveredText()
                | msg.DeliveredFile()
                | msg.DeliveredReceipt()
                | msg.GroupChanged()
                | msg.DeviceLogChanged() as delivery
            ):
                if frame.seq is None:
                    raise NotTheProtocol("the server sent this device a delivery without a number")
                write_queue.put(Arrive(delivery, frame.id, frame.seq), partial(self._arrived, queue, frame.seq))
            case msg.Gap() as gap:
                write_queue.put(Arrive(gap, None, gap.last), partial(self._arrived, queue, gap.last))
            case msg.CaughtUp() as caught_up:
                # Behind the deliveries that it is about.
                write_queue.put(None, partial(self._caught_up, caught_up))
            case message:
                self.events.put(Received(message, frame.id))

    def _arrived(self, queue: SendQueue, seq: int, error: ClientError | None) -> None:
        """Acknowledge in the session in which it came: in a later one, the server has not yet delivered so much."""
        if error is None:
            queue.ack(seq)
            self.events.wake()

    def _caught_up(self, caught_up: msg.CaughtUp, error: ClientError | None) -> None:
        if error is None:
            self.events.put(Received(caught_up))
