"""What becomes of a message on its way: the form in which devices get it, the one for sessions without a device, and
the digest that tells it from another with the same id.
"""

from hashlib import blake2b

from ironwire.ids import ClientId, DeviceId, GroupId
from ironwire.wire.codec import encode, encode_payload, relayed_text, text_payload
from ironwire.wire.messages import (
    ClientMessage,
    DeliveredFile,
    DeliveredReceipt,
    DeliveredText,
    File,
    Receipt,
    Text,
)

DIGEST_BYTES = 16

Sendable = Text | File | Receipt
Delivered = DeliveredText | DeliveredFile | DeliveredReceipt


def digest_of(message: ClientMessage) -> bytes:
    """What tells two messages with the same id apart."""
    # No address has a zero in it, and none begins like a frame.
    said = f"{message.to}\0{message.text}".encode() if type(message) is Text else encode(message)
    return blake2b(said).digest()[:DIGEST_BYTES]


def stored_payload(
    message: Sendable, sender: ClientId, ts: int, device: DeviceId | None, group: GroupId | None = None
) -> bytes:
    """What the store keeps of a message, and devices get: the payload of the delivery."""
    if type(message) is Text:
        return text_payload(sender, message.text, ts, device, group)
    return encode_payload(delivered(message, sender, ts, device, group))


def live_frame(message: Sendable, sender: ClientId, group: GroupId | None = None) -> bytes:
    """What a session without a mailbox gets: without time and device, as the seed protocol has it."""
    if type(message) is Text and group is None:
        return relayed_text(sender, message.text)
    return encode(delivered(message, sender, group=group))


def delivered(
    message: Sendable,
    sender: ClientId,
    ts: int | None = None,
    device: DeviceId | None = None,
    group: GroupId | None = None,
) -> Delivered:
    match message:
        case Text():
            return DeliveredText(sender, message.text, ts, device, group=group)
        case Receipt():
            return DeliveredReceipt(sender, message.ids, message.state, ts, device)
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
                ts=ts,
                device=device,
                group=group,
            )
