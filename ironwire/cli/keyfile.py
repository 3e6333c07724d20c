"""The key file by which a command acts, and the clients that it makes: of an identity, or of a linked device."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import click
import trio
from attrs import frozen

import ironwire.client as iw
from ironwire.cli.options import ask_passphrase, check_there, this_device
from ironwire.cli.shared_books import keep_books
from ironwire.client.connection.nursery import plain_nursery
from ironwire.ids import ClientId, DeviceId


@frozen
class KeyFile:
    """An opened one. As a device, a client proves by the device's own key who it is, and keeps the device log."""

    path: Path
    account: iw.Account

    @classmethod
    def open(cls, path: Path) -> Self:
        """The key in the file; its passphrase, if it has one, from the environment or the person at the terminal.

        Raises:
            KeystoreError: it cannot be opened.
        """
        check_there(path)
        return cls(path, iw.load_account(path, ask_passphrase))

    @property
    def client_id(self) -> ClientId:
        return self.account.client_id

    def identity(self) -> iw.Identity:
        """The identity's key, for what only an owner device may do.

        Raises:
            KeystoreError: this is a linked device.
        """
        if isinstance(self.account, iw.LinkedDevice):
            raise iw.KeystoreError(
                f"{self.path} is the key of the linked device {self.account.device}: do this on a device that has the"
                " identity's key (`ironwire device list` says which are owners)"
            )
        return self.account

    def device(self, named: DeviceId | None) -> DeviceId:
        """The device that a command is: the one that was `named`, the linked one, or this computer.

        Raises:
            UsageError: a linked device was given the name of another.
        """
        linked = self.account.device if isinstance(self.account, iw.LinkedDevice) else None
        if linked is not None and named not in (None, linked):
            raise click.UsageError(
                f"{self.path} is the key of the linked device {linked}, and no other: leave out --device."
            )
        return linked or named or this_device()

    @asynccontextmanager
    async def connect(
        self,
        address: iw.ServerAddress,
        device: DeviceId | None = None,
        *,
        invite: str | None = None,
        backoff: iw.Backoff | None = None,
    ) -> AsyncGenerator[iw.Client]:
        """A client with a session: as a device, where one is named or this is a linked one. Raises as `connect`."""
        backoff = backoff or iw.Backoff()
        if device is None and not isinstance(self.account, iw.LinkedDevice):
            log = await trio.to_thread.run_sync(iw.open_log, self.path, self.account)
            async with iw.connect(address, self.account, invite=invite, log=log, backoff=backoff) as client:
                yield client
            return
        device = self.device(device)
        keys = await self._keys(device)
        async with (
            iw.connect(address, self.account, device=device, invite=invite, keys=keys, backoff=backoff) as client,
            self._with_books(client),
        ):
            yield client

    @asynccontextmanager
    async def open_device(self, address: iw.ServerAddress, device: DeviceId) -> AsyncGenerator[iw.Client]:
        """The device, with or without a server. Raises as `open_device`."""
        keys = await self._keys(device)
        async with iw.open_device(address, self.account, device, keys=keys) as client, self._with_books(client):
            yield client

    @asynccontextmanager
    async def _with_books(self, client: iw.Client) -> AsyncGenerator[None]:
        """As long as the block lasts, the names and marks beside the key are those of all devices."""
        async with plain_nursery() as nursery:
            nursery.start_soon(keep_books, client, self.path)
            yield
            nursery.cancel_scope.cancel()

    async def _keys(self, device: DeviceId) -> iw.DeviceKeys | None:
        return await trio.to_thread.run_sync(iw.open_device_keys, self.path, self.account, device)
