"""`ironwire join`: become a client of a server that takes whom it does not know only with an invite."""

from pathlib import Path

import click
import trio

from ironwire.cli.options import key_option, open_identity, server_option, this_device_option
from ironwire.cli.terminal import out
from ironwire.client import ServerAddress, connect
from ironwire.crypto.signing import Identity
from ironwire.ids import DeviceId


@click.command()
@click.argument("invite")
@server_option
@key_option
@this_device_option
def join(invite: str, server: str, key: Path, device: DeviceId) -> None:
    """Register this device with INVITE, which the server's operator gave you. From then on the server knows you."""
    address = ServerAddress.parse(server)
    trio.run(_join, address, open_identity(key), device, invite)
    out().print(f"{address} knows you now, and keeps what comes for your device {device}.", highlight=False)


async def _join(address: ServerAddress, identity: Identity, device: DeviceId, invite: str) -> None:
    async with connect(address, identity, device=device, invite=invite):
        pass
