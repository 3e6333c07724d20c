"""Envelopes of encrypted conversations, from their submission to their end: messages, commits and welcomes.

A message is accepted in one epoch of its conversation, and a commit ends it: the store decides between the two, in the
order of commits. What an envelope costs follows from how many devices it goes to.
"""

from collections.abc import Callable
from functools import partial
from hashlib import blake2b

import trio
from attrs import define

from ironwire.delivery.committer import Committer
from ironwire.delivery.envelopes import DIGEST_BYTES, ID_TAKEN, Envelopes, cost_of
from ironwire.delivery.hub import Endpoint, Hub, ends_session_on_error
from ironwire.errors import InvalidId, MLSError, StoreError
from ironwire.ids import ConversationId, DeviceId, MessageId
from ironwire.mls.public import inspect_application
from ironwire.protocol.conversations.names import Generation
from ironwire.protocol.conversations.slots import Leaf
from ironwire.store.contract import operations as op
from ironwire.store.contract.records import Envelope
from ironwire.store.contract.store import Store
from ironwire.wire.base64url import from_base64url
from ironwire.wire.codec import accepted, encode, encode_payload
from ironwire.wire.messages import Accepted, Error, MlsMessage, MlsSend, MlsSignal

NO_KEY = Error("forbidden", detail="this session has no certificate: authenticate with one")
NO_SUCH_CONVERSATION = Error("not_found", detail="this device is in no such conversation")


def leaf_of(endpoint: Endpoint) -> tuple[Leaf, DeviceId] | None:
    """The device of a session with a certificate, by its key, and by its name."""
    principal = endpoint.principal
    if principal.device_key is None or principal.device is None:
        return None
    return Leaf(principal.client, principal.device_key.raw), principal.device


def fault_of(request: MlsSend | MlsSignal) -> Error | None:
    """Something is wrong with the message itself."""
    try:
        group_id, epoch = inspect_application(from_base64url(request.data))
    except (MLSError, InvalidId) as error:
        return Error("invalid", detail=f"data: {error}")
    if epoch != request.epoch or not Generation(request.group, request.generation).is_named_by(group_id):
        return Error("invalid", detail="data: a message of another generation or epoch than the frame says")
    return None


@define(eq=False)
class EncryptedEnvelopes:
    """The encrypted envelopes of all sessions. What is refused is refused as other envelopes are."""

    _hub: Hub
    _store: Store
    _committer: Committer
    _envelopes: Envelopes
    _now_ms: Callable[[], int]

    def submit(self, sender: Endpoint, request: MlsSend, id: MessageId | None, n: int | None = None) -> None:  # noqa: A002  # the frame's
        """Take an encrypted message. Replies go to the session's outbox, now or after the commit."""
        who = leaf_of(sender)
        if who is None:
            self._refuse(sender, NO_KEY, id, n)
            return
        fault = fault_of(request)
        if fault is not None:
            self._refuse(sender, fault, id, n)
            return
        (by, device), group = who, request.group
        now, place = self._now_ms(), (group, request.generation, request.epoch)
        payload = encode_payload(MlsMessage(by.client, device, *place, now, request.data))
        envelope = Envelope(MlsMessage.verb, by.client, device, group, id, now, payload)
        number = sender.number(n)
        # Encrypted anew under the same id, for another epoch, it is the same message.
        digest = blake2b(group.encode()).digest()[:DIGEST_BYTES] if number is None else b""
        audience = op.ToConversation(group, by, request.generation, request.epoch)
        append = op.Append(envelope, digest, audience, lane=sender.hold, number=number)
        cost = cost_of(len(payload), self._entries_in(group, by))
        sender.unsettled.begin(cost)
        self._committer.ask(by.client, append, partial(self._settle, sender, envelope, cost), cost)

    def _entries_in(self, group: ConversationId, by: Leaf) -> int:
        """How many entries a message of the device may take."""
        try:
            stands = self._store.glance.conversation(group)
        except StoreError:
            return 1  # the commit fails as well, and answers
        return 1 if stands is None or by not in stands.slots else len(stands.slots)

    def _refuse(self, sender: Endpoint, error: Error, id: MessageId | None, n: int | None) -> None:  # noqa: A002  # as above
        self._envelopes.metrics.refuse(MlsMessage.verb, error.msg)
        self._envelopes.refuse(sender, error, id, n)

    @ends_session_on_error
    def _settle(self, sender: Endpoint, envelope: Envelope, cost: int, result: op.Result | StoreError) -> None:
        sender.unsettled.settle(cost)
        verb, id_ = envelope.verb, envelope.id
        match result:
            case op.Appended():
                self._envelopes.metrics.stored[verb] += 1
                if id_ is not None:
                    sender.outbox.put(accepted(envelope.ts, id_))
            case op.Duplicate(ts, _):
                self._envelopes.metrics.duplicates[verb] += 1
                sender.outbox.put(encode(Accepted(ts=ts, duplicate=True), id_))
            case op.ConversationMoved(generation, epoch):
                detail = "the conversation is in another epoch: process its commits, then encrypt again"
                moved = Error("conflict", detail, generation=generation, epoch=epoch)
                self._envelopes.reply_refused(sender, moved, verb, id_)
            case op.NotMember():
                self._envelopes.reply_refused(sender, NO_SUCH_CONVERSATION, verb, id_)
            case op.IdTaken():
                self._envelopes.reply_refused(sender, ID_TAKEN, verb, id_)
            case op.Held() if sender.hold is not None:
                self._envelopes.reply_refused(sender, sender.hold.answer(trio.current_time()), verb, id_)
            case op.MailboxFull():
                self._envelopes.refuse_at_commit(
                    sender, Error("mailbox_full", detail="the other client's is full"), envelope
                )
            case op.AlreadySettled() | op.OutOfTurn() | op.SessionOver():
                if result == op.AlreadySettled(None):
                    self._envelopes.metrics.duplicates[verb] += 1
                self._envelopes.settle_number(sender, id_, result)
            case _:
                self._envelopes.metrics.refuse(verb, "internal")
                self._envelopes.fail(sender, id_)

    async def advance(self, advance: op.AdvanceConversation, frame: Callable[[], bytes]) -> op.Result:
        """Move an encrypted conversation on, and tell everybody whom it concerns: whatever becomes of the caller.

        Args:
            frame: what sessions without a mailbox get of the change of its group.

        Raises:
            StoreError: the store cannot work.
        """

        def tell(result: op.Result | StoreError) -> None:
            if isinstance(result, op.Advanced):
                for envelope, stored in result.stored:
                    self._envelopes.metrics.stored[envelope.verb] += 1
                    self._hub.fan_out(stored, frame)

        size = len(advance.envelope.payload) + sum(len(welcome.payload) for _, welcome in advance.welcomes)
        entries = len(advance.after.slots) + len(advance.welcomes) + len(advance.after.roster)
        cost = cost_of(2 * size, entries)  # the commit is kept besides
        return await self._committer.committed(advance.envelope.sender, advance, tell, cost)
