"""What this device has of conversations, for another device of its client (`history.py` carries it over)."""

from functools import partial

from attrs import define

from ironwire.client.encryption import Encryption
from ironwire.client.errors import LocalStoreError
from ironwire.client.events import HistoryProgress
from ironwire.client.store import history_parts, records
from ironwire.client.store.write_queue import WriteQueue


@define(eq=False)
class OwnHistory:
    """`Client.own_history`."""

    _encryption: Encryption | None
    _write_queue: WriteQueue | None

    async def give(self, device_key: str, since_ms: int) -> None:
        """Give the own device with this key, in hex, the messages that this one has since then. Returns when that is
        kept: it goes on in all sessions until it is done, and the event `HistoryProgress` says how far it is.

        Raises:
            LocalStoreError: there is no device whose store could keep it, or it fails.
        """
        if self._encryption is None or self._write_queue is None:
            raise LocalStoreError("a client without the keys of a device has no history to give")
        await self._write_queue.commit(records.KeepGift(records.new_gift(device_key, since_ms)))
        self._encryption.note_history()

    async def given(self, device_key: str) -> HistoryProgress | None:
        """How far the history for the own device with this key is; None: it gets none. Raises as `give` does."""
        if self._write_queue is None:
            return None
        gift = await self._write_queue.store.look_up(partial(history_parts.gift_for, device_key))
        if gift is None:
            return None
        done = sum(part.messages for part in gift.told.parts)
        return HistoryProgress(device_key, True, done, gift.told.total, gift.told.is_complete)
