"""How an envelope reaches its recipients (docs/protocol.md, section 4).

Rule: never a silent drop. Whoever sent is told when nobody can get it, and `accepted` is said only after the envelope was handed over.
"""

from collections.abc import Callable

from attrs import define, frozen

from ironwire.hub.hub import Attachment, Hub
from ironwire.ids import ClientId, MessageId, is_group
from ironwire.wire.codec import encode
from ironwire.wire.messages import Accepted, DeliveredFile, DeliveredText, Error, File, Text


@frozen
class DeliveryStatistics:
    accepted_total: int
    """Envelopes that reached at least one session."""
    undeliverable_total: int
    """Envelopes that nobody could get; the sender was told."""


@define
class Delivery:
    _hub: Hub
    _now_ms: Callable[[], int]
    _accepted: int = 0
    _undeliverable: int = 0

    def submit(self, sender: Attachment, message: Text | File, id: MessageId | None) -> None:  # noqa: A002  # the frame's
        """Hand an envelope to every session of its recipient. Replies go to the sender's outbox."""
        if is_group(message.to):
            sender.outbox.put(encode(Error("not_found", detail="no such group"), id))
            return
        frame = encode(_delivered(message, sender.principal.client))
        handed_over = 0
        for seat in self._hub.sessions_of(ClientId(message.to)):
            handed_over += seat.outbox.put(frame)
        if not handed_over:
            self._undeliverable += 1
            sender.outbox.put(encode(Error("user_offline", user=message.to), id))
            return
        self._accepted += 1
        if id is not None:
            sender.outbox.put(encode(Accepted(ts=self._now_ms()), id))

    def statistics(self) -> DeliveryStatistics:
        return DeliveryStatistics(accepted_total=self._accepted, undeliverable_total=self._undeliverable)


def _delivered(message: Text | File, sender: ClientId) -> DeliveredText | DeliveredFile:
    match message:
        case Text():
            return DeliveredText(sender=sender, text=message.text)
        case File():
            return DeliveredFile(
                sender=sender,
                url=message.url,
                kind=message.kind,
                name=message.name,
                mime=message.mime,
                size=message.size,
                sha256=message.sha256,
                duration_ms=message.duration_ms,
                width=message.width,
                height=message.height,
                waveform=message.waveform,
                caption=message.caption,
            )
