"""The forms of a message on its way: for devices, for sessions without a device, and the digest that tells it from
another with the same id.
"""

from hashlib import blake2b

from ironwire.ids import ClientId, DeviceId, GroupId, is_group
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
    """Tells two messages with the same id apart."""
    # No address has a zero in it, and none begins like a frame.
    said = f"{message.to}\0{message.text}".encode() if type(message) is Text else encode(message)
    return blake2b(said).digest()[:DIGEST_BYTES]


def stored_payload(message: Sendable, sender: ClientId, ts: int, device: DeviceId | None) -> bytes:
    """The payload of the delivery: the store keeps it, and devices get it."""
    if type(message) is Text:
        return text_payload(sender, message.text, ts, device, _group_of(message))
    return encode_payload(delivered(message, sender, ts, device))


def live_frame(message: Sendable, sender: ClientId) -> bytes:
    """The frame for a session without a mailbox: without time and device, as the seed protocol has it."""
    if type(message) is Text and not is_group(message.to):
        return relayed_text(sender, message.text)
    return encode(delivered(message, sender))


def delivered(message: Sendable, sender: ClientId, ts: int | None = None, device: DeviceId | None = None) -> Delivered:
    group = _group_of(message)
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


def _group_of(message: Sendable) -> GroupId | None:
    return GroupId(message.to) if is_group(message.to) else None
