"""Short names for what store tests are made of."""

from hashlib import blake2b

import orjson

from ironwire.ids import Address, ClientId, DeviceId, MessageId
from ironwire.store.base import Append, Envelope, Mailbox, Quota, Register, Store

ANN = ClientId("a" * 64)
BOB = ClientId("b" * 64)
CAT = ClientId("c" * 64)
PHONE = DeviceId("phone")
LAPTOP = DeviceId("laptop")
TABLET = DeviceId("tablet")

WIDE = Quota(mailbox_envelopes=100, mailbox_bytes=1_000_000, devices_per_client=3)


def envelope(
    sender: ClientId,
    to: Address,
    text: str = "hello",
    *,
    device: DeviceId | None = None,
    id: str | None = None,  # noqa: A002  # the frame's
    ts: int = 1_000,
) -> Envelope:
    payload = orjson.dumps({"from": sender, "text": text})
    return Envelope("text", sender, device, to, None if id is None else MessageId(id), ts, payload)


def append(sent: Envelope, *, is_live: bool = False, is_archived: bool = False) -> Append:
    digest = blake2b(sent.to.encode() + sent.payload, digest_size=16).digest()
    return Append(sent, digest, is_live, is_archived)


async def registered(store: Store, client: ClientId, device: DeviceId, now_ms: int = 1_000) -> Mailbox:
    (mailbox,) = await store.apply([Register(client, device, now_ms)])
    assert isinstance(mailbox, Mailbox)
    return mailbox


async def texts(store: Store, mailbox: Mailbox) -> list[tuple[int, str]]:
    """What waits in the mailbox: seq and text."""
    page = await store.read(mailbox.id, after=0, limit=1_000)
    return [(entry.seq, orjson.loads(entry.envelope.payload)["text"]) for entry in page]
