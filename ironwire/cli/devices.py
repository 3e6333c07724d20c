"""`ironwire devices`: the installations of this identity that the server keeps a mailbox for."""

import json
from pathlib import Path

import click
from attrs import asdict
from rich.table import Table

from ironwire.cli.asking import ask
from ironwire.cli.options import json_option, key_option, parse_device, server_option
from ironwire.cli.render import when
from ironwire.cli.terminal import out
from ironwire.client import Client
from ironwire.ids import DeviceId


@click.group()
def devices() -> None:
    """See what waits for your devices, and remove those you no longer have."""


@devices.command("list")
@server_option
@key_option
@json_option
def list_devices(server: str, key: Path, *, as_json: bool) -> None:
    """Show every device, when it was here last and how many messages wait for it."""
    found = ask(server, key, Client.devices)
    if as_json:
        click.echo(json.dumps([asdict(device) for device in found]))
        return
    table = Table("device", "last here", "waiting", box=None, padding=(0, 2, 0, 0))
    for device in found:
        table.add_row(device.device, f"{when(device.seen):%Y-%m-%d %H:%M}", str(device.waiting))
    out().print(table)


@devices.command()
@click.argument("name", callback=parse_device)
@server_option
@key_option
def remove(name: DeviceId, server: str, key: Path) -> None:
    """Forget the device NAME, with everything that waits for it. If it is connected, it is thrown out."""
    ask(server, key, lambda client: client.remove_device(name))
