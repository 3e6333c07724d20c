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
from ironwire.errors import StoreError
from ironwire.ids import MessageId
from ironwire.protocol.conversations.slots import Leaf
from ironwire.store.contract import operations as op
from ironwire.store.contract.records import Envelope
from ironwire.store.contract.store import Store
from ironwire.wire.codec import accepted, encode, encode_payload
from ironwire.wire.messages import Accepted, Error, MlsMessage

NO_SUCH_CONVERSATION = Error("not_found", detail="this device is in no such conversation")


@define(eq=False)
class EncryptedEnvelopes:
    """The encrypted envelopes of all sessions. What is refused is refused as other envelopes are."""

    _hub: Hub
    _store: Store
    _committer: Committer
    _envelopes: Envelopes

    def submit(self, sender: Endpoint, message: MlsMessage, by: Leaf, id: MessageId | None) -> None:  # noqa: A002  # as above
        """Take an encrypted message of the device `by`. Replies go to the session's outbox, after the commit."""
        client, device, group = sender.principal.client, sender.principal.device, message.group
        try:
            stands = self._store.glance.conversation(group)
            entries = 1 if stands is None or by not in stands.slots else len(stands.slots)
        except StoreError:
            entries = 1  # the commit fails as well, and answers
        payload = encode_payload(message)
        envelope = Envelope(message.verb, client, device, group, id, message.ts, payload)
        # Encrypted anew under the same id, for another epoch, it is the same message.
        digest = blake2b(group.encode()).digest()[:DIGEST_BYTES]
        audience = op.ToConversation(group, by, message.generation, message.epoch)
        append = op.Append(envelope, digest, audience, lane=sender.hold)
        cost = cost_of(len(payload), entries)
        sender.unsettled.begin(cost)
        self._committer.ask(client, append, partial(self._settle, sender, envelope, cost), cost)

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
