"""What goes wrong on the way to a device, and in its program: once, the next time there is an occasion."""

from collections.abc import Callable

from attrs import evolve

from ironwire.e2e.conversations import effects as fx
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages import Answer, Error, Gap
from ironwire.wire.messages.conversations import MlsCommitted, MlsMessage, MlsWelcome
from tests.e2e.conversations.devices import ConnectionBroken, Fails

Spoil = Callable[[ServerFrame], ServerFrame | None]
Delivery = MlsCommitted | MlsMessage | MlsWelcome


def once(kind: type | tuple[type, ...], lie: Spoil, *, in_mailbox: bool = True) -> Spoil:
    """Spoil the first frame with such a message."""
    left = [1]

    def spoil(frame: ServerFrame) -> ServerFrame | None:
        if not isinstance(frame.message, kind) or (frame.seq is not None) is not in_mailbox or not left:
            return frame
        left.pop()
        return lie(frame)

    return spoil


def lost(*kinds: type[Delivery]) -> Spoil:
    """The mailbox was full when it came."""

    def lie(frame: ServerFrame) -> ServerFrame:
        message = frame.message
        assert isinstance(message, Delivery)
        assert frame.seq is not None
        changed = None if isinstance(message, MlsMessage) else [message.group]
        return ServerFrame(Gap(frame.seq, frame.seq, "full", changed), None, None)

    return once(kinds, lie)


def damaged_message() -> Spoil:
    """A message comes with another byte."""

    def lie(frame: ServerFrame) -> ServerFrame:
        assert isinstance(frame.message, MlsMessage)
        data = frame.message.data
        changed = data[:-9] + ("A" if data[-9] != "A" else "B") + data[-8:]
        return frame._replace(message=evolve(frame.message, data=changed))

    return once(MlsMessage, lie)


def lost_reply() -> Spoil:
    """The connection breaks where the answer to a request should have come."""

    def lie(frame: ServerFrame) -> ServerFrame:
        raise ConnectionBroken

    return once((Answer, Error), lie, in_mailbox=False)


def never(effects: fx.Effects, *, is_kept: bool) -> bool:
    return False


def after_some(count: int, is_wanted: bool) -> Fails:
    """The program ends at one of its next steps, before or after that is on the disk."""
    left = [count]

    def fails(effects: fx.Effects, *, is_kept: bool) -> bool:
        if is_kept:
            return is_wanted and left[0] <= 0
        left[0] -= 1
        return not is_wanted and left[0] < 0

    return fails
