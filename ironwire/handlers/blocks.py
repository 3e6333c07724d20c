"""Whom a client wants nothing from: durable, and known to nobody else (docs/protocol.md, section 7.5)."""

from collections.abc import Callable
from typing import assert_never

from attrs import frozen

from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Endpoint
from ironwire.delivery.metrics import refusal_in
from ironwire.handlers.presence import PresenceHandler
from ironwire.ids import ClientId, MessageId
from ironwire.store.contract import operations
from ironwire.store.contract.store import Store
from ironwire.wire.codec import encode
from ironwire.wire.messages import Accepted, Block, BlockList, Blocks, Error, ServerMessage, Unblock
from ironwire.wire.messages.fields import ErrorCode


@frozen
class BlockHandler:
    """Answers what clients ask about their blocks."""

    _delivery: Delivery
    _store: Store
    _presence: PresenceHandler
    _now_ms: Callable[[], int]

    async def answer(
        self,
        endpoint: Endpoint,
        request: Block | Unblock | Blocks,
        id: MessageId | None,  # noqa: A002  # the frame's
    ) -> ErrorCode | None:
        """Returns the code of the error that was the answer, if it was one.

        Raises:
            StoreError: the store cannot work.
        """
        client = endpoint.principal.client
        match request:
            case Block(blocked):
                reply = await self._block(client, blocked)
            case Unblock(blocked):
                reply = await self._unblock(client, blocked)
            case Blocks():
                reply = BlockList(sorted(await self._store.blocks_of(client)))
            case _:
                assert_never(request)
        if id is not None or not isinstance(reply, Accepted):
            endpoint.outbox.put(encode(reply, id))
        return refusal_in(reply)

    async def _block(self, client: ClientId, blocked: ClientId) -> ServerMessage:
        if blocked == client:
            return Error("invalid", detail="a client cannot block itself")
        result = await self._delivery.change(client, operations.Block(client, blocked))
        if isinstance(result, operations.TooManyBlocks):
            return Error("quota", detail="this client has blocked as many as one may: unblock another first")
        self._presence.changed(client)
        return Accepted(ts=self._now_ms())

    async def _unblock(self, client: ClientId, blocked: ClientId) -> ServerMessage:
        await self._delivery.change(client, operations.Unblock(client, blocked))
        self._presence.changed(client)
        return Accepted(ts=self._now_ms())
