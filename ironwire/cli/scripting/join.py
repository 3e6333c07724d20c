"""`ironwire join`: become a client of a server that takes whom it does not know only with an invite."""

from pathlib import Path

import click
import trio

from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import key_option, server_option, this_device_option
from ironwire.cli.terminal import out
from ironwire.client import ServerAddress
from ironwire.ids import DeviceId


@click.command()
@click.argument("invite")
@server_option
@key_option
@this_device_option
def join(invite: str, server: str, key: Path, device: DeviceId | None) -> None:
    """Register this device with INVITE, which the server's operator gave you. From then on the server knows you."""
    address = ServerAddress.parse(server)
    key_file = KeyFile.open(key)
    name = key_file.device(device)
    trio.run(_join, address, key_file, name, invite)
    out().print(f"{address} knows you now, and keeps what comes for your device {name}.", highlight=False)


async def _join(address: ServerAddress, key_file: KeyFile, device: DeviceId, invite: str) -> None:
    async with key_file.connect(address, device, invite=invite):
        pass
