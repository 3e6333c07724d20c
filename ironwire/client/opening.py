"""How a program gets a client: with a first session, or as soon as the device's store is open.

    connect()        waits for the first session
    open_device()    waits for nobody: what the device keeps can be read and added to without a server
      ├─ Link.keep
      ├─ Reception.run    what other programs hand over (`client/store/handover.py`)
      ├─ HistoryTransfer  history to and from other own devices (`client/history.py`)
      └─ Link.run         drawn in `client/connection/link.py`

Both own the nurseries; what their block raises comes out as it was raised.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import trio

from ironwire.client.client import Client
from ironwire.client.connection.dial import Backoff, Dial, Target, dial_tcp
from ironwire.client.connection.link import Link
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.connection.urls import ServerAddress
from ironwire.client.errors import ClientError, KeystoreError, SessionEnded
from ironwire.client.events import EventQueue
from ironwire.client.history import HistoryTransfer
from ironwire.client.inbox import Inbox
from ironwire.client.store.device_keys import DeviceKeys, KeptLog
from ironwire.client.store.handover import Reception
from ironwire.client.store.keystore import Account
from ironwire.client.store.records import Owner, default_store_path
from ironwire.client.store.sealed import StoreKey
from ironwire.client.store.store import LocalStore
from ironwire.client.store.write_queue import WriteQueue
from ironwire.close_codes import CloseCode
from ironwire.ids import DeviceId

CLOSE_SECONDS = 10.0
"""A disk that does not answer for so long is left as if the program had been killed."""

_DEFAULT_BACKOFF = Backoff()


@asynccontextmanager
async def connect(
    server: ServerAddress | str,
    account: Account,
    *,
    device: DeviceId | None = None,
    store: LocalStore | Path | None = None,
    invite: str | None = None,
    keys: DeviceKeys | None = None,
    log: KeptLog | None = None,
    backoff: Backoff = _DEFAULT_BACKOFF,
    dial: Dial = dial_tcp,
) -> AsyncGenerator[Client]:
    """A client with a session; from then on it comes back by itself, as often as it takes.

    Args:
        server: as `ServerAddress.parse` takes it.
        account: an identity; or a linked device, which needs its name as `device` and its `keys`.
        device: names this installation, for which the server then keeps what comes while we are away, and for which
            this client keeps what comes and goes; without it nothing is kept on either side.
        store: where the device keeps it; `default_store_path` unless given.
        invite: lets a device in that the server does not know, where the server wants one.
        keys: of the device, from `open_device_keys`: it proves by its own key who it is. In its first session with a
            server the device of an identity is added to the client's device log there.
        log: from `open_log`, for `Client.device_log` where there are no `keys`.
        backoff: how long to wait between attempts.
        dial: how to get a stream to the server.

    Raises:
        InvalidServerAddress: `server` is not an address.
        LocalStoreError: the device's store cannot be used; another program may have it.
        KeystoreError: `keys` belong to another identity or device.
        ConnectionFailed, ConnectionLost, NotTheProtocol, AuthenticationRefused, SessionEnded: the first session could
            not be opened.
    """
    address = server if isinstance(server, ServerAddress) else ServerAddress.parse(server)
    target = Target(address, account, device, backoff, dial, invite, keys, log)
    async with _client(target, store, is_lasting=False) as client:
        await client.wait_connected()
        yield client


@asynccontextmanager
async def open_device(
    server: ServerAddress | str,
    account: Account,
    device: DeviceId,
    *,
    store: LocalStore | Path | None = None,
    invite: str | None = None,
    keys: DeviceKeys | None = None,
    backoff: Backoff = _DEFAULT_BACKOFF,
    dial: Dial = dial_tcp,
) -> AsyncGenerator[Client]:
    """A device as soon as its store is open; sessions come and go beneath it, from the first on.

    Its conversations can be read and messages be queued whether or not there was ever a session. The events `Connected`
    and `Disconnected`, and `Client.connection`, tell how it stands. What asks the server waits for a session; where the
    server has said that this client should stop, it raises that. The arguments are those of `connect`.

    Raises:
        InvalidServerAddress: `server` is not an address.
        LocalStoreError: the device's store cannot be used; another program may have it (`DeviceInUse`).
    """
    address = server if isinstance(server, ServerAddress) else ServerAddress.parse(server)
    target = Target(address, account, device, backoff, dial, invite, keys)
    async with _client(target, store, is_lasting=True) as client:
        yield client


async def _close(link: Link) -> None:
    """Note that the device's store is closed. Without that it looks like one that was in use."""
    if link.encryption is not None:
        with suppress(ClientError):
            await link.encryption.close()


@asynccontextmanager
async def _client(target: Target, store: LocalStore | Path | None, *, is_lasting: bool) -> AsyncGenerator[Client]:
    keys = target.keys
    if keys is not None and (keys.account.client_id, keys.device) != (target.account.client_id, target.device):
        raise KeystoreError("the device keys belong to another identity or device")
    async with AsyncExitStack() as stack:
        write_queue = None
        if target.device is not None:
            owner = Owner(target.account.client_id, target.device, target.address.origin)
            kept = store if isinstance(store, LocalStore) else LocalStore(store or default_store_path(owner))
            await stack.enter_async_context(kept.opened(owner, StoreKey.of_account(target.account)))
            write_queue = WriteQueue(kept)
        link = Link(target, write_queue, EventQueue() if write_queue is None else Inbox(write_queue), is_lasting)
        await link.restore()
        try:
            async with plain_nursery() as keeping:
                keeping.start_soon(link.keep)
                if write_queue is not None:
                    keeping.start_soon(Reception(link, write_queue.store.path).run)
                    if link.encryption is not None:
                        keeping.start_soon(HistoryTransfer(link, write_queue, link.encryption).run)
                async with plain_nursery() as nursery:
                    nursery.start_soon(link.run)
                    yield Client(link)
                    await link.leave()
                keeping.cancel_scope.cancel()
        finally:
            ended = SessionEnded(CloseCode.NORMAL, "the client was closed")
            link.stop(ended)
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await _close(link)
            if write_queue is not None:
                write_queue.end(ended)
