"""An envelope from its submission to its end: what it costs, whether it is stored, and the answer to its sender.

    submit ── nobody involved has a mailbox ──> the recipient's live sessions, at once; no disk
          └── someone has ──> committer ──> settle: handed to everybody it is owed to, and answered

Rules: the client that asks is charged for the work of the store, and no lookup for that takes longer than it saves: a
glance is enough. Never a silent drop: the sender is told when nobody can get it.
"""

from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b

import trio
from attrs import define, field

from ironwire.delivery.committer import Committer
from ironwire.delivery.hub import REPLACED, Endpoint, Hub, ends_session_on_error
from ironwire.delivery.metrics import DeliveryMetrics
from ironwire.errors import StoreError
from ironwire.ids import Address, ClientId, GroupId, MessageId, is_group
from ironwire.protocol.auth import Principal
from ironwire.store.contract import operations as op
from ironwire.store.contract.records import Envelope
from ironwire.store.contract.store import Glance, Store
from ironwire.wire.codec import Sendable, accepted, encode, live_frame, relayed_text, stored_payload
from ironwire.wire.messages import Accepted, ClientMessage, Error, Receipt, Text

NO_SUCH_GROUP = Error("not_found", detail="no such group")
IS_ENCRYPTED = Error("forbidden", detail="this conversation is encrypted: send with mls_send")
ID_TAKEN = Error("invalid", detail="id was used for another message")

DIGEST_BYTES = 16

ON_THE_PAGE = 2 * 1024
"""Bytes included in one entry: the disk writes pages of twice that size."""
BYTES_PER_ENTRY = 256
"""Bytes charged as one entry: at 20 MB/s, 256 bytes of I/O take as long as one mailbox insert."""


def cost_of(size: int, entries: int) -> int:
    """The cost of so many entries, and of so many bytes that are written, or overwritten because they are erased."""
    return entries + max(size - ON_THE_PAGE, 0) // BYTES_PER_ENTRY


def entries_between(glance: Glance, sender: Principal, to: ClientId) -> int:
    """How many entries an envelope may take: one in each mailbox of the two, besides that of the device that sends it.

    Raises:
        StoreError: the store cannot be read.
    """
    entries = glance.mailbox_count(to)
    if sender.client == to:
        return entries
    return entries + glance.mailbox_count(sender.client) - (sender.device is not None)


def entries_in(glance: Glance, client: ClientId, group: GroupId) -> int:
    """How many entries an envelope of the client to the group may take: at least one for each member."""
    try:
        stands = glance.group(group)
        if stands is None or client not in stands.roles:
            return 1
        return entries_of_all(glance, stands.roles)
    except StoreError:
        return 1  # nothing will be stored either


def entries_of_all(glance: Glance, clients: Iterable[ClientId]) -> int:
    """How many entries an envelope to all these clients may take: at least one for each.

    Raises:
        StoreError: the store cannot be read.
    """
    return sum(max(count, 1) for count in glance.mailbox_counts(clients))


def digest_of(message: ClientMessage) -> bytes:
    """The digest that tells two messages with the same id apart."""
    # No address has a zero in it, and none begins like a frame.
    said = f"{message.to}\0{message.text}".encode() if type(message) is Text else encode(message)
    return blake2b(said).digest()[:DIGEST_BYTES]


@define
class Envelopes:
    """The envelopes of all sessions, from their submission to their settlement."""

    _hub: Hub
    _store: Store
    _committer: Committer
    _now_ms: Callable[[], int]
    keeps_history: bool
    metrics: DeliveryMetrics = field(init=False, factory=DeliveryMetrics)

    def submit(self, sender: Endpoint, message: Sendable, id: MessageId | None, n: int | None = None) -> None:  # noqa: A002  # the frame's
        """Take an envelope to a client or to a group. Replies go to the session's outbox, now or after the commit."""
        if is_group(message.to):
            entries = entries_in(self._store.glance, sender.principal.client, GroupId(message.to))
            self._submit_to_store(sender, message, id, n, entries)
            return
        to = ClientId(message.to)
        try:
            entries = entries_between(self._store.glance, sender.principal, to)
            # Envelopes of one sender keep their order: what follows one that waits for its commit waits too.
            if not entries and sender.principal.device is None and not sender.unsettled.count:
                self._relay(sender, message, to, id)
                return
        except StoreError:
            entries = 1  # the commit fails as well, and answers
        self._submit_to_store(sender, message, id, n, entries)

    def refuse(self, sender: Endpoint, error: Error, id: MessageId | None, n: int | None) -> None:  # noqa: A002  # as above
        """Answer a frame that goes no further with an error. Its number is used up, and the answer comes after the
        commit; unless the session is held because the store cannot commit.
        """
        number = sender.number(n)
        if number is None or (sender.hold is not None and sender.hold.code == "internal"):
            sender.outbox.put(encode(error, id))
            return
        sender.unsettled.begin(1)
        settle = partial(self._settle_refusal, sender, error, id)
        self._committer.ask(sender.principal.client, op.RefuseNumber(number, error.msg, sender.hold), settle)

    async def change_group(self, change: op.ChangeGroup, frame: Callable[[], bytes]) -> op.Result:
        """Change a group, and tell everyone of it who was or is a member: whatever becomes of the caller meanwhile.

        Raises:
            StoreError: the store cannot work.
        """

        def tell(result: op.Result | StoreError) -> None:
            if isinstance(result, op.Appended):
                self.metrics.stored[change.envelope.verb] += 1
                self._hub.fan_out(result, frame)

        cost = max(entries_of_all(self._store.glance, change.roles), 1)
        return await self._committer.committed(change.envelope.sender, change, tell, cost)

    def _relay(self, sender: Endpoint, message: Sendable, to: ClientId, id: MessageId | None) -> None:  # noqa: A002  # as above
        """Hand an envelope to the recipient's live sessions at once: nobody involved has a mailbox. Nothing comes
        between the look at the blocks and the hand-over.

        Raises:
            StoreError: the blocks cannot be read, and nothing was done.
        """
        client = sender.principal.client
        if isinstance(message, Receipt):
            is_taken = False
        elif client in self._store.glance.blocks_of(to):
            is_taken = self._hub.is_live(to)  # the sender gets the answer that it would get otherwise
        else:
            # As `live_frame`, which would ask again whether this goes to a group.
            frame = relayed_text(client, message.text) if type(message) is Text else live_frame(message, client)
            is_taken = self._hub.hand_over(to, frame)
        if not is_taken:
            self._reply_offline(sender, to, message.verb, id)
            return
        self.metrics.relayed[message.verb] += 1
        if id is not None:
            sender.outbox.put(accepted(self._now_ms(), id))

    def _submit_to_store(
        self,
        sender: Endpoint,
        message: Sendable,
        id: MessageId | None,  # noqa: A002  # as above
        n: int | None,
        entries: int,
    ) -> None:
        client, device, now = sender.principal.client, sender.principal.device, self._now_ms()
        payload = stored_payload(message, client, now, device)
        envelope = Envelope(message.verb, client, device, message.to, id, now, payload)
        is_archived = self.keeps_history and not isinstance(message, Receipt)
        number = sender.number(n)
        digest = digest_of(message) if number is None else b""
        append = op.Append(envelope, digest, self._audience_of(message), is_archived, sender.hold, number)
        cost = cost_of(len(payload), max(entries, 1))
        sender.unsettled.begin(cost)
        self._committer.ask(client, append, partial(self._settle, sender, message, append, cost), cost)

    def _audience_of(self, message: Sendable) -> op.Audience:
        if is_group(message.to):
            return op.ToGroup(GroupId(message.to))
        to = ClientId(message.to)
        return op.ToClient(to, not isinstance(message, Receipt) and self._hub.is_live(to))

    @ends_session_on_error
    def _settle(
        self, sender: Endpoint, message: Sendable, append: op.Append, cost: int, result: op.Result | StoreError
    ) -> None:
        """Fan out an envelope about which the store has decided, and answer its sender."""
        sender.unsettled.settle(cost)
        envelope = append.envelope
        verb, id_ = envelope.verb, envelope.id
        match result:
            case op.Appended():
                if self._reaches_nobody(sender, message, append, result):
                    self._forget(append)
                    self._reply_offline(sender, message.to, verb, id_)
                    return
                self.metrics.stored[verb] += 1
                if id_ is not None:
                    sender.outbox.put(accepted(envelope.ts, id_))
            case op.Duplicate(ts, _):
                self.metrics.duplicates[verb] += 1
                sender.outbox.put(encode(Accepted(ts=ts, duplicate=True), id_))
            case op.Undeliverable():
                self._reply_offline(sender, message.to, verb, id_)
            case op.NotMember():
                self.reply_refused(sender, NO_SUCH_GROUP, verb, id_)
            case op.Encrypted():
                self.reply_refused(sender, IS_ENCRYPTED, verb, id_)
            case op.IdTaken():
                self.reply_refused(sender, ID_TAKEN, verb, id_)
            case op.Held() if sender.hold is not None:
                self.reply_refused(sender, sender.hold.answer(trio.current_time()), verb, id_)
            case op.MailboxFull():
                self.refuse_at_commit(sender, Error("mailbox_full", user=message.to), envelope)
            case op.AlreadySettled() | op.OutOfTurn() | op.SessionOver():
                if result == op.AlreadySettled(None):
                    self.metrics.duplicates[verb] += 1
                self.settle_number(sender, id_, result)
            case _:
                self.metrics.refuse(verb, "internal")
                self.fail(sender, id_)

    def _reaches_nobody(self, sender: Endpoint, message: Sendable, append: op.Append, stored: op.Appended) -> bool:
        """Bring what was stored to everybody it is owed to. True: it was for sessions without a mailbox alone, and they
        have left meanwhile.
        """
        audience = append.audience
        frame = None if isinstance(message, Receipt) else partial(live_frame, message, sender.principal.client)
        but = sender if isinstance(audience, op.ToGroup) else None
        is_taken = self._hub.fan_out(stored, frame, but)
        if is_taken or not isinstance(audience, op.ToClient) or not audience.is_live:
            return False
        return bool(stored.owed) and all(place.is_own for place in stored.placed)

    @ends_session_on_error
    def _settle_refusal(
        self,
        sender: Endpoint,
        error: Error,
        id: MessageId | None,  # noqa: A002  # as above
        result: op.Result | StoreError,
    ) -> None:
        sender.unsettled.settle(1)
        match result:
            case op.NumberRefused():
                sender.outbox.put(encode(error, id))
            case op.Held() if sender.hold is not None:
                sender.outbox.put(encode(sender.hold.answer(trio.current_time()), id))
            case op.AlreadySettled() | op.OutOfTurn() | op.SessionOver():
                self.settle_number(sender, id, result)
            case _:
                self.fail(sender, id)

    def settle_number(
        self,
        sender: Endpoint,
        id: MessageId | None,  # noqa: A002  # as above
        result: op.NotNext,
    ) -> None:
        """Answer an envelope whose number was not the next one."""
        match result:
            case op.AlreadySettled(None):
                answer: Accepted | Error = Accepted(self._now_ms(), duplicate=True)
            case op.AlreadySettled(code) if code is not None:
                answer = Error(code, detail="this n was refused before")
            case op.OutOfTurn(due):
                answer = Error("invalid", detail=f"the next n of this device is {due}")
            case _:
                sender.outbox.close(REPLACED)
                return
        if id is not None or isinstance(answer, Error):
            sender.outbox.put(encode(answer, id))

    def _forget(self, append: op.Append) -> None:
        """Release the id of an envelope that nobody got, and refuse its number."""
        envelope, number = append.envelope, append.number
        if envelope.id is not None or number is not None:
            self._committer.ask(envelope.sender, op.Forget(envelope, number), lambda _: None)

    def fail(self, sender: Endpoint, id: MessageId | None) -> None:  # noqa: A002  # as above
        """Answer an envelope that the store could not commit: nothing was accepted, and no number is used up."""
        error = Error("internal", detail="the message could not be stored")
        sender.outbox.put(encode(error, id))
        if sender.hold is not None:
            sender.hold.refused_at_commit(error)

    def _reply_offline(self, sender: Endpoint, to: Address, verb: str, id: MessageId | None) -> None:  # noqa: A002  # as above
        self.metrics.undeliverable[verb] += 1
        sender.outbox.put(encode(Error("user_offline", user=to), id))

    def reply_refused(self, sender: Endpoint, error: Error, verb: str, id: MessageId | None) -> None:  # noqa: A002  # as above
        self.metrics.refuse(verb, error.msg)
        sender.outbox.put(encode(error, id))

    def refuse_at_commit(self, sender: Endpoint, error: Error, envelope: Envelope) -> None:
        """Refuse an envelope for now, and everything that the session sent after it."""
        self.reply_refused(sender, error, envelope.verb, envelope.id)
        if sender.hold is not None:
            sender.hold.refused_at_commit(error)
