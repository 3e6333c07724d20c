"""Typing, presence and blocks (docs/protocol.md, sections 7.3 and 7.5). Only blocks outlive the session."""

from typing import Annotated, ClassVar, Literal

from attrs import field

from ironwire.ids import Address, ClientId, GroupId
from ironwire.limits import BLOCKS_PER_CLIENT, CLIENTS_PER_FRAME
from ironwire.record import record
from ironwire.wire.messages.base import Answer, ClientMessage, Members, ServerMessage, members_at
from ironwire.wire.messages.fields import WIRE_KEY, Items

Status = Literal["online", "away", "busy"]
GivenStatus = Literal["online", "away", "busy", "offline"]
Watchlist = Annotated[list[ClientId], Items(0, CLIENTS_PER_FRAME)]


@record
class Typing(ClientMessage):
    """This client is typing to `to`, or has stopped."""

    verb: ClassVar[str] = "typing"

    to: Address
    typing: bool

    def surcharge(self, members: Members) -> int:
        return members_at(self.to, members)


@record
class RelayedTyping(ServerMessage):
    """`sender` is typing to this client, or to a group they share, or has stopped."""

    verb: ClassVar[str] = "typing"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    typing: bool
    group: GroupId | None = None


@record
class Presence(ClientMessage):
    """The status of this session, for clients that its client allows to see it."""

    verb: ClassVar[str] = "presence"

    status: Status


@record
class PresenceAllow(ClientMessage):
    """Replaces the list of clients that may see this client's presence, until its last session ends."""

    verb: ClassVar[str] = "presence_allow"

    clients: Watchlist

    def surcharge(self, members: Members) -> int:
        return len(self.clients)


@record
class PresenceWatch(ClientMessage):
    """Replaces the list of clients whose presence this session wants to see."""

    verb: ClassVar[str] = "presence_watch"

    clients: Watchlist

    def surcharge(self, members: Members) -> int:
        return len(self.clients)


@record
class PresenceUpdate(ServerMessage):
    """The status of a watched client. `offline` stands for a client without a session, and for one that does not allow
    it.
    """

    verb: ClassVar[str] = "presence"

    client: ClientId
    status: GivenStatus


@record
class Block(ClientMessage):
    """Nothing that `client` addresses to this client is delivered from now on."""

    verb: ClassVar[str] = "block"

    client: ClientId


@record
class Unblock(ClientMessage):
    """Ends a block."""

    verb: ClassVar[str] = "unblock"

    client: ClientId


@record
class Blocks(ClientMessage):
    """Asks for the clients that this client has blocked."""

    verb: ClassVar[str] = "blocks"


@record
class BlockList(Answer):
    """The answer to `blocks`."""

    verb: ClassVar[str] = "blocks"

    clients: Annotated[list[ClientId], Items(0, BLOCKS_PER_CLIENT)]
