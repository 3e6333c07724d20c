"""Blocks: a client wants nothing from another. Durable, and known to nobody else (docs/protocol.md, section 7.5)."""

from collections.abc import Callable

from attrs import frozen

from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Endpoint
from ironwire.handlers.presence import PresenceHandler
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import MessageId
from ironwire.store.contract import operations
from ironwire.store.contract.store import Store
from ironwire.wire.messages import Accepted, Block, BlockList, Blocks, Error, Unblock
from ironwire.wire.messages.fields import ErrorCode


@frozen
class BlockHandler:
    """Answers clients about their blocks."""

    _delivery: Delivery
    _store: Store
    _presence: PresenceHandler
    _now_ms: Callable[[], int]

    @verb_handler
    async def block(self, endpoint: Endpoint, request: Block, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot work.
        """
        client = endpoint.principal.client
        if request.client == client:
            return reply(endpoint, Error("invalid", detail="a client cannot block itself"), id_)
        result = await self._delivery.change(client, operations.AddBlock(client, request.client))
        if isinstance(result, operations.TooManyBlocks):
            detail = "this client has blocked as many as one may: unblock another first"
            return reply(endpoint, Error("quota", detail=detail), id_)
        self._presence.changed(client)
        return reply(endpoint, Accepted(ts=self._now_ms()), id_)

    @verb_handler
    async def unblock(self, endpoint: Endpoint, request: Unblock, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot work.
        """
        client = endpoint.principal.client
        await self._delivery.change(client, operations.RemoveBlock(client, request.client))
        self._presence.changed(client)
        return reply(endpoint, Accepted(ts=self._now_ms()), id_)

    @verb_handler
    async def list_blocks(self, endpoint: Endpoint, request: Blocks, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        return reply(endpoint, BlockList(sorted(await self._store.blocks_of(endpoint.principal.client))), id_)
