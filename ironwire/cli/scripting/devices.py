"""`ironwire devices`: the installations of this identity that the server keeps a mailbox for."""

import json
from pathlib import Path

import click
from attrs import asdict
from rich.text import Text

from ironwire.cli.options import json_option, key_option, parse_device, server_option
from ironwire.cli.render import when
from ironwire.cli.scripting.asking import ask, confirm, yes_option
from ironwire.cli.table import show_table
from ironwire.cli.terminal import counted, out
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
    if not found:
        out().print(Text("No devices: `ironwire chat` makes this computer one.", "dim"))
        return
    show_table(
        ("device", "last here", "waiting"),
        [(each.device, f"{when(each.seen):%Y-%m-%d %H:%M}", str(each.waiting)) for each in found],
    )


@devices.command()
@click.argument("name", callback=parse_device)
@yes_option
@server_option
@key_option
def remove(name: DeviceId, server: str, key: Path, *, yes: bool) -> None:
    """Forget the device NAME, with everything that waits for it. If it is connected, it is thrown out.

    Where messages wait for it, you are asked first.
    """
    found = ask(server, key, Client.devices)
    waiting = next((device.waiting for device in found if device.device == name), 0)
    lost = f"{counted(waiting, 'message')} that {'waits' if waiting == 1 else 'wait'} for it"
    if waiting:
        confirm(f"Remove {name}, with {lost}?", yes)
    ask(server, key, lambda client: client.remove_device(name))
    click.echo(f"Removed {name}" + (f", with {lost}." if waiting else "; nothing waited for it."))
