"""The operations of the contract, each on the state of a store in memory. Knows neither batches nor Trio."""

from collections.abc import Sequence

from attrs import evolve

from ironwire.crypto.signing import PublicKey
from ironwire.errors import InvalidLogEntry, MisplacedLogEntry
from ironwire.ids import ClientId, DeviceId, GroupId
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.log import check_place
from ironwire.store.contract import operations as op
from ironwire.store.contract.device_log import is_taken
from ironwire.store.contract.order import answer_to, refuse_after_all, refuse_next, settle_next
from ironwire.store.contract.records import Envelope, MailboxId, Number, Quota
from ironwire.store.memory import conversations, epochs, placing
from ironwire.store.memory import state as memory
from ironwire.wire.messages import ErrorCode


def apply(state: memory.MemoryState, operation: op.Operation, quota: Quota) -> op.Result:
    match operation:
        case op.Register():
            return _register(state, operation, quota)
        case op.Touch(mailbox, now_ms):
            if mailbox in state.boxes:
                box = state.boxes[mailbox]
                box.seen_ms = max(box.seen_ms, now_ms)
            return op.Touched()
        case op.Remove(client, device, session):
            for box in memory.boxes_of(state, client):
                if box.device == device:
                    if session not in (None, box.session):
                        return op.SessionOver()
                    memory.drop_box(state, box)
                    return op.Removed()
            return op.NoSuchDevice()
        case op.Sweep():
            return op.Swept()
        case op.Append(number=Number() as number):
            return _append_numbered(state, operation, number, quota)
        case op.Append():
            return _append(state, operation, quota)
        case op.RefuseNumber(number, code):
            return _refuse_number(state, number, code)
        case op.Acknowledge():
            return _ack(state, operation)
        case op.ChangeGroup():
            return _change_group(state, operation, quota)
        case op.Forget(envelope, Number() as number):
            state.archive = [archived for archived in state.archive if archived.envelope != envelope]
            if isinstance(answer_to(state.boxes.get(number.mailbox), number), op.AlreadySettled):
                refuse_after_all(state.boxes[number.mailbox], number.n, "user_offline")
            return op.Forgotten()
        case op.Forget(envelope):
            if envelope.id is not None:
                key = (envelope.sender, envelope.device, envelope.id)
                known, _ = state.known_ids.pop(key, (None, b""))
                state.archive = [archived for archived in state.archive if archived.envelope is not known]
            return op.Forgotten()
        case op.AddBlock(client, blocked):
            blocks = state.blocks.setdefault(client, set())
            if blocked not in blocks and len(blocks) >= quota.blocks_per_client:
                return op.TooManyBlocks()
            blocks.add(blocked)
            return op.Blocked()
        case op.RemoveBlock(client, blocked):
            state.blocks.get(client, set()).discard(blocked)
            return op.Unblocked()
        case op.AppendToLog():
            return _append_to_log(state, operation, quota)
        case op.AdvanceConversation():
            return epochs.advance(state, operation, quota)
        case op.PublishPackages(device):
            if memory.box_of(state, device) is None:
                return op.SessionOver()
            return conversations.publish(state.encrypted, operation)
        case op.ClaimPackages(claimer):
            blocked_by = frozenset(client for client, blocked in state.blocks.items() if claimer in blocked)
            return conversations.claim(state.encrypted, operation, blocked_by)
        case op.AskToRejoin():
            return conversations.rejoin(state.encrypted, operation)


def _register(state: memory.MemoryState, register: op.Register, quota: Quota) -> op.RegisterResult:
    boxes, key = memory.boxes_of(state, register.client), register.device_key
    if key is not None:
        standing = memory.log_of(state, register.client).standing_of(PublicKey(key))
        if standing != "current":
            return op.DeviceNotLogged(standing)
        if is_taken(boxes, register.device, key):
            return op.DeviceNameTaken()
    for box in boxes:
        if box.device == register.device:
            if box.device_key is None and key is not None:
                box.device_key = key
                conversations.keep_device(state.encrypted, Leaf(register.client, key))
            box.seen_ms = max(box.seen_ms, register.now_ms)
            box.session += 1
            return box.snapshot()
    if len(boxes) >= quota.devices_per_client:
        return op.TooManyDevices()
    box = memory.MemoryMailbox(
        id=MailboxId(state.next_mailbox),
        client=register.client,
        device=register.device,
        epoch=state.next_mailbox,
        created_ms=register.now_ms,
        seen_ms=register.now_ms,
        device_key=key,
    )
    state.next_mailbox += 1
    state.boxes[box.id] = box
    if box.leaf is not None:
        conversations.keep_device(state.encrypted, box.leaf)
    return box.snapshot()


def _append_numbered(state: memory.MemoryState, append: op.Append, number: Number, quota: Quota) -> op.Result:
    box = state.boxes.get(number.mailbox)
    answer = answer_to(box, number)
    if answer is not None or box is None:
        return answer or op.SessionOver()
    result = _append(state, append, quota)
    settle_next(box, result)
    return result


def _refuse_number(state: memory.MemoryState, number: Number, code: ErrorCode) -> op.NumberRefused | op.NotNext:
    box = state.boxes.get(number.mailbox)
    answer = answer_to(box, number)
    if answer is not None or box is None:
        return answer or op.SessionOver()
    refuse_next(box, code)
    return op.NumberRefused()


def _append(state: memory.MemoryState, append: op.Append, quota: Quota) -> op.AppendResult:
    envelope = append.envelope
    known = memory.recall(state, placing.key_of(envelope, append.digest), append.digest)
    if known is not None:
        return known
    if memory.is_encrypted_by_now(state, envelope):
        return op.Encrypted()
    match append.audience:
        case op.ToClient(client, is_live):
            return _append_to_client(state, append, client, quota, is_live=is_live)
        case op.ToGroup(group):
            return _append_to_group(state, append, group, quota)
        case op.ToDevices(devices):
            return _append_to_devices(state, append, devices, quota)
        case op.ToConversation() as to:
            return epochs.append(state, append, to, quota)


def _append_to_client(
    state: memory.MemoryState, append: op.Append, client: ClientId, quota: Quota, *, is_live: bool
) -> op.Appended | op.MailboxFull | op.Undeliverable:
    envelope = append.envelope
    boxes = memory.boxes_of(state, client)
    if not boxes and not is_live:
        return op.Undeliverable()
    have_room = [box.admits(len(envelope.payload), quota) for box in boxes]
    is_to_self = envelope.sender == client
    if boxes and not (any(have_room) if is_to_self else all(have_room)):
        return op.MailboxFull()
    is_blocked = envelope.sender in state.blocks.get(client, ())
    owed = [] if is_blocked else [(box, False) for box in boxes]
    if not is_to_self:
        owed += [(box, True) for box in memory.boxes_of(state, envelope.sender) if box.device != envelope.device]
    if is_blocked and append.is_archived:
        state.blocked.add(state.next_archived)
    placing.remember(state, envelope, append.digest, is_archived=append.is_archived)
    return evolve(placing.spread(envelope, owed, quota), owed=() if is_blocked else (client,))


def _append_to_group(
    state: memory.MemoryState, append: op.Append, to: GroupId, quota: Quota
) -> op.Appended | op.NotMember:
    envelope = append.envelope
    group = state.groups.get(to)
    if group is None or envelope.sender not in group.members:
        return op.NotMember()
    placing.remember(state, envelope, append.digest, is_archived=append.is_archived)
    return _spread_in_group(state, envelope, list(group.members), quota, but=(envelope.sender, envelope.device))


def _append_to_devices(
    state: memory.MemoryState, append: op.Append, devices: Sequence[tuple[ClientId, DeviceId]], quota: Quota
) -> op.Appended | op.Undeliverable:
    boxes = [box for client, device in devices for box in memory.boxes_of(state, client) if box.device == device]
    if not boxes:
        return op.Undeliverable()
    placing.remember(state, append.envelope, append.digest, is_archived=append.is_archived)
    return placing.spread(append.envelope, [(box, False) for box in boxes], quota)


def _change_group(state: memory.MemoryState, change: op.ChangeGroup, quota: Quota) -> op.ChangeResult:
    envelope = change.envelope
    known = memory.recall(state, placing.key_of(envelope, change.digest), change.digest)
    if known is not None:
        return known
    everyone = placing.move_group(state, change, quota)
    if not isinstance(everyone, list):
        return everyone
    gone = [client for client in everyone if client not in change.roles]
    conversations.ask_for_those_who_left(state.encrypted, GroupId(envelope.to), gone)
    placing.remember(state, envelope, change.digest, is_archived=False)
    return _spread_in_group(state, envelope, everyone, quota)


def _spread_in_group(
    state: memory.MemoryState,
    envelope: Envelope,
    clients: Sequence[ClientId],
    quota: Quota,
    but: tuple[ClientId, DeviceId | None] | None = None,
) -> op.Appended:
    """Put the envelope into all mailboxes of these clients, `but` that of one device."""
    boxes = [box for client in clients for box in memory.boxes_of(state, client) if (client, box.device) != but]
    return evolve(placing.spread(envelope, [(box, False) for box in boxes], quota), owed=tuple(clients))


def _append_to_log(state: memory.MemoryState, append: op.AppendToLog, quota: Quota) -> op.LogResult:
    envelope, entry = append.envelope, append.entry
    client, log = envelope.sender, memory.log_of(state, envelope.sender)
    if log.at(entry.index) == entry:
        return op.AlreadyLogged()
    try:
        check_place(log.head, entry.entry)
        longer = log.append(entry)
    except MisplacedLogEntry:
        return op.LogMoved(log.head)
    except InvalidLogEntry as error:
        return op.LogRefused(str(error))
    if len(longer.current) > max(len(log.current), quota.devices_per_client):
        return op.TooManyDevices()
    state.logs[client] = longer
    current = {device.key.raw for device in longer.current}
    removed = [box for box in memory.boxes_of(state, client) if box.device_key not in (None, *current)]
    for box in removed:
        memory.drop_box(state, box)
    stored = placing.spread(envelope, [(box, False) for box in memory.boxes_of(state, client)], quota)
    return op.Logged(evolve(stored, owed=(client,)), tuple(box.device for box in removed))


def _ack(state: memory.MemoryState, ack: op.Acknowledge) -> op.Acked | op.SessionOver:
    box = state.boxes.get(ack.mailbox)
    if box is None:
        return op.Acked()
    if ack.session not in (None, box.session):
        return op.SessionOver()
    box.acked = max(box.acked, min(ack.upto, box.tail))
    for seq in [seq for seq in box.entries if seq <= box.acked]:
        del box.entries[seq]
    box.lost_changes = {group: span for group, span in box.lost_changes.items() if span[1] > box.acked}
    return op.Acked()
