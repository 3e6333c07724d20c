"""What the engine of encrypted conversations asks besides the server's verbs: the device's file, and uploaded blobs."""

from collections.abc import Awaitable, Callable
from functools import partial

from attrs import frozen

from ironwire.client.blobs import fetch_blob, store_blob
from ironwire.client.connection.dial import Target
from ironwire.client.connection.outgoing import Reply
from ironwire.client.store.store import LocalStore
from ironwire.e2e.conversations import effects as fx
from ironwire.errors import ClientError, InvalidId
from ironwire.wire import messages as msg


@frozen(eq=False)
class Lookups:
    """The lookups of one device. `ask` has a question answered by the server in this session."""

    _target: Target
    _store: LocalStore
    _ask: Callable[[msg.ClientMessage], Awaitable[Reply]]

    async def find(self, question: fx.Question) -> object:
        """What was asked for; None: it cannot be had.

        Raises:
            LocalStoreError: the device's file cannot be read.
        """
        match question:
            case fx.Recall(to, ids):
                return await self._store.recall(to, ids)
            case fx.WasOpened(sender, device, message_id):
                return await self._store.was_opened(sender, device, message_id)
            case fx.FetchBlob(ref):
                return await _try(partial(fetch_blob, self._target.address, ref, self._target.dial))
            case fx.StoreBlob(data):
                return await _try(partial(self._upload, data))
            case _:
                return None

    async def _upload(self, data: bytes) -> object:
        grant = await self._ask(msg.UploadToken())
        token = grant.token if isinstance(grant, msg.UploadGrant) else None
        return await store_blob(self._target.address, data, token, self._target.dial)


async def _try(transfer: Callable[[], Awaitable[object]]) -> object:
    try:
        return await transfer()
    except (ClientError, InvalidId):
        return None
