"""Finds out whether a device's file was put back from a copy.

Beside the device's key, and in its file, stands how often the file was opened and closed. Where the file counts less,
it is an older copy: the keys in it have encrypted messages that it does not know of, and must not be used again.
"""

import trio
from attrs import define, field

from ironwire.client.store.device_keys import DeviceKeys
from ironwire.client.store.records import ForgetSecrets, NoteMark
from ironwire.client.store.store import LocalStore


@define(eq=False)
class StoreMark:
    """Of an open file, and the key that belongs to it."""

    _store: LocalStore
    _keys: DeviceKeys
    _mark: int = field(default=0, init=False)

    async def opened(self) -> bool:
        """Count. True: the file was put back from a copy, and the device has a new key and no state from now on.

        Raises:
            LocalStoreError, KeystoreError: file or key cannot be read or written.
        """
        here, beside = await self._store.mark(), await trio.to_thread.run_sync(self._keys.read_mark)
        if here < beside:
            await trio.to_thread.run_sync(self._keys.renew)
            await self._store.apply([ForgetSecrets()])
        await self._count(max(here, beside) + 1)
        return here < beside

    async def closed(self) -> None:
        """Count again: a copy of the open file is older than the closed one. Raises as `opened`."""
        await self._count(self._mark + 1)

    async def _count(self, mark: int) -> None:
        """The file first: one that counts more is no older copy."""
        await self._store.apply([NoteMark(mark)])
        await trio.to_thread.run_sync(self._keys.write_mark, mark)
        self._mark = mark
