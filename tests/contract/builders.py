"""Short names for what store tests are made of."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import orjson
from attrs import evolve

from ironwire.crypto.signing import KEY_BYTES, PublicKey
from ironwire.ids import Address, ClientId, ConversationId, DeviceId, GroupId, MessageId, Role, is_group
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, SignedEntry
from ironwire.store.contract.conversations import PoolPackage, StoredConversation
from ironwire.store.contract.operations import (
    AdvanceConversation,
    Append,
    AppendToLog,
    Audience,
    ChangeGroup,
    Logged,
    Operation,
    Register,
    Result,
    ToClient,
    ToConversation,
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
    return counted(evolve(append(sent, is_live=is_live), lane=lane), mailbox, n)


def counted(append: Append, mailbox: Mailbox, n: int) -> Append:
    """The same under `n`."""
    return evolve(append, digest=b"", number=Number(mailbox.id, mailbox.session, n))


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


# --- encrypted conversations -----------------------------------------------------------------------------------------


async def keyed(store: Store, client: ClientId, device: DeviceId, key: bytes) -> Leaf:
    """A device with a mailbox that belongs to its key."""
    page = await store.device_log(client, first=0, limit=99)
    log = DeviceLog(PublicKey(bytes.fromhex(client)))
    if page is not None:
        keys = [kept.entry[-KEY_BYTES:] for kept in page.entries]
        for each in keys:
            log = log.append(log_entry(log, LogOp.ADD, each))
    assert isinstance(await apply(store, logged(log_entry(log, LogOp.ADD, key))), Logged)
    assert isinstance(await apply(store, Register(client, device, 1_000, key)), Mailbox)
    return Leaf(client, key)


def package(name: str, *, is_last_resort: bool = False, not_after_ms: int = 9_000) -> PoolPackage:
    kind = b"last resort" if is_last_resort else b"package"
    return PoolPackage(
        b"ref " + name.encode(), b"key " + name.encode(), kind + name.encode(), is_last_resort, not_after_ms
    )


def state(
    conversation: ConversationId, generation: int, epoch: int, roster: Mapping[ClientId, Role], *slots: Leaf | None
) -> StoredConversation:
    return StoredConversation(conversation, generation, epoch, b"group id %d" % generation, slots, roster)


def commit(
    after: StoredConversation,
    by: Leaf,
    device: DeviceId,
    *,
    seen: tuple[int, int] | None = None,
    id: str | None = None,  # noqa: A002  # the frame's
    ts: int = 1_000,
    added: Sequence[Leaf] = (),
    group: ChangeGroup | None = None,
) -> AdvanceConversation:
    """Its text is its epoch; that of the welcome for each that is added, the device's key."""

    def told(verb: str, text: str, message_id: MessageId | None = None) -> Envelope:
        return Envelope(verb, by.client, device, after.id, message_id, ts, orjson.dumps({"text": text}))

    message_id = None if id is None else MessageId(id)
    committed = told("mls_committed", f"epoch {after.epoch}", message_id)
    digest = blake2b(committed.payload, digest_size=16).digest()
    welcomes = tuple((leaf, told("mls_welcome", f"welcome {leaf.device.hex()[:2]}")) for leaf in added)
    expected = (after.generation, after.epoch - 1) if seen is None else seen
    return AdvanceConversation(committed, digest, expected, after, tuple(added), welcomes, group)


def say(
    conversation: ConversationId,
    by: Leaf,
    device: DeviceId,
    epoch: tuple[int, int],
    text: str = "hello",
    *,
    id: str | None = None,  # noqa: A002  # the frame's
    ts: int = 1_000,
) -> Append:
    """An encrypted message."""
    payload = orjson.dumps({"text": text})
    sent = Envelope("mls_message", by.client, device, conversation, None if id is None else MessageId(id), ts, payload)
    digest = blake2b(conversation.encode(), digest_size=16).digest()
    return Append(sent, digest, ToConversation(conversation, by, *epoch))
