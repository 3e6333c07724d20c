"""Short names for what store tests are made of."""

from collections.abc import Mapping
from hashlib import blake2b

import orjson
from attrs import evolve

from ironwire.crypto.signing import PublicKey
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId, Role, is_group
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, SignedEntry
from ironwire.store.contract.operations import (
    Append,
    AppendToLog,
    Audience,
    ChangeGroup,
    Operation,
    Register,
    Result,
    ToClient,
    ToDevices,
    ToGroup,
)
from ironwire.store.contract.records import Envelope, Mailbox, Number, Quota
from ironwire.store.contract.store import Store

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


def append(
    sent: Envelope, *devices: tuple[ClientId, DeviceId], is_live: bool = False, is_archived: bool = False
) -> Append:
    """The envelope goes to `devices` if some are named, and else to its own address."""
    digest = blake2b(sent.to.encode() + sent.payload, digest_size=16).digest()
    audience: Audience
    if devices:
        audience = ToDevices(devices)
    else:
        audience = ToGroup(GroupId(sent.to)) if is_group(sent.to) else ToClient(ClientId(sent.to), is_live)
    return Append(sent, digest, audience, is_archived)


def numbered(sent: Envelope, mailbox: Mailbox, n: int, *, is_live: bool = False, lane: str | None = None) -> Append:
    """Sent by the device of `mailbox` under `n`, in the session in which the mailbox stood so."""
    number = Number(mailbox.id, mailbox.session, n)
    return evolve(append(sent, is_live=is_live), digest=b"", lane=lane, number=number)


def change(
    group: GroupId,
    expected_epoch: int,
    roles: Mapping[ClientId, Role],
    *,
    by: ClientId = ANN,
    device: DeviceId | None = None,
    id: str | None = None,  # noqa: A002  # the frame's
    ts: int = 1_000,
    name: str | None = None,
    asked: bytes = b"this",
) -> ChangeGroup:
    """The text of what tells of it is the epoch that it leads to; `asked` stands for what the client has sent."""
    payload = orjson.dumps({"text": str(expected_epoch + 1)})
    told = Envelope("group_changed", by, device, group, None if id is None else MessageId(id), ts, payload)
    return ChangeGroup(told, blake2b(asked, digest_size=16).digest(), expected_epoch, name, roles)


def log_entry(log: DeviceLog, op: LogOp, *keys: bytes, is_owner: bool = False) -> SignedEntry:
    """The next entry of the log; its signature is none, because stores do not look at it."""
    devices = [PublicKey(key) for key in keys]
    return SignedEntry(log.next_entry(op, devices, time_ms=1_000 + log.next_index, is_owner=is_owner), bytes(64))


def logged(entry: SignedEntry, device: DeviceId | None = None) -> AppendToLog:
    """The text of what tells of it is the index."""
    client = entry.entry.client.client_id
    payload = orjson.dumps({"text": str(entry.index)})
    return AppendToLog(
        Envelope("device_log_changed", client, device, client, None, entry.entry.time_ms, payload), entry
    )


async def apply(store: Store, operation: Operation) -> Result:
    (result,) = await store.apply([operation])
    return result


async def mailbox_of(store: Store, client: ClientId, device: DeviceId) -> Mailbox:
    return next(box for box in await store.mailboxes_of(client) if box.device == device)


async def registered(store: Store, client: ClientId, device: DeviceId, now_ms: int = 1_000) -> Mailbox:
    (mailbox,) = await store.apply([Register(client, device, now_ms)])
    assert isinstance(mailbox, Mailbox)
    return mailbox


async def texts(store: Store, mailbox: Mailbox) -> list[tuple[int, str]]:
    """What waits in the mailbox: seq and text."""
    page = await store.read(mailbox.id, after=0, limit=1_000)
    return [(entry.seq, orjson.loads(entry.envelope.payload)["text"]) for entry in page]
