"""What a client says of encrypted messages later (docs/between-devices.md, section 11.2)."""

from attrs import define

from ironwire.client.connection.outgoing import checked
from ironwire.client.store.amendments import Amendment
from ironwire.client.store.backlog import Backlog
from ironwire.e2e.bodies import DeleteBody, EditBody, MessageName, ReactionBody
from ironwire.ids import Address, ClientId, MessageId
from ironwire.wire.messages import Accepted, Text


@define(eq=False)
class OwnMessages:
    """`Client.messages`. What is said goes encrypted or not at all, in its order with other messages.

    Raises, all of it, as `Client.send_file` says, and:
        Refused: `forbidden`: the recipient has no device that reads encrypted messages.
    """

    _backlog: Backlog

    async def edit(self, to: Address, message_id: MessageId, text: str) -> Accepted:
        """Give a message of this client another text, or a file of it another caption, at all who have it."""
        return await self._say(to, EditBody(message_id, text))

    async def delete(self, to: Address, message_id: MessageId) -> Accepted:
        """Delete a message of this client at all who have it, as far as their programs do so."""
        return await self._say(to, DeleteBody(message_id))

    async def react(self, to: Address, sender: ClientId, message_id: MessageId, emoji: str | None) -> Accepted:
        """React to a message of `sender` in the conversation `to`, instead of an earlier reaction; None: take that
        back.
        """
        return await self._say(to, ReactionBody(MessageName(sender, message_id), emoji))

    async def _say(self, to: Address, body: Amendment) -> Accepted:
        named = Text(to, body.t)  # for the queue: whose turn it is, and to whom it goes
        (pending,) = await self._backlog.queue([named], is_awaited=True, body=body)
        return checked(named.verb, await pending.reply_or_error(), Accepted)
