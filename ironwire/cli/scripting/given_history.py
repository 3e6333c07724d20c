"""History for a device of one's own that was linked: asked for by `device accept`, and by `device history` later."""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Literal

import click
import trio

import ironwire.client as iw
from ironwire.cli.devicebook import DeviceBook, NamedDevice, find_device
from ironwire.cli.help.completion import DEVICE
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import key_option, server_option, this_device_option
from ironwire.cli.scripting.asking import asked, confirm, yes_option
from ironwire.cli.scripting.outbound import at_device
from ironwire.cli.terminal import counted, explain
from ironwire.ids import DeviceId

HistoryChoice = Literal["month", "all", "none"]
CHOICES: tuple[HistoryChoice, ...] = ("month", "all", "none")
MONTH_MS = 30 * 24 * 3_600_000

PATIENCE_SECONDS = 90.0
"""So long nothing moves before the program stops waiting; what is left goes out when the device is used again."""
_TICK_SECONDS = 0.3


def asked_history(choice: HistoryChoice | None, is_agreed: bool) -> HistoryChoice:
    """What the person wants to give: as they chose before, or say now. Nothing, where nobody can be asked."""
    if choice is not None:
        return choice
    if is_agreed or not sys.stdin.isatty():
        return "none"
    explain("It can have your messages too: of 30 days (month), all, or none.")
    answer: HistoryChoice = click.prompt("Send it your history?", type=click.Choice(CHOICES), default="none", err=True)
    return answer


async def give_history(
    address: iw.ServerAddress, key_file: KeyFile, device: DeviceId, new: str, choice: HistoryChoice
) -> None:
    """Give the own device with the key `new` what was chosen, from `device`, and show how far that is.

    Raises:
        ClientError: it cannot be kept that it is to have it.
    """
    if choice == "none":
        return
    since_ms = time.time_ns() // 1_000_000 - MONTH_MS if choice == "month" else 0

    async def here(client: iw.Client) -> None:
        await client.own_history.give(new, since_ms)
        explain("Sending the history; Ctrl-C stops that, and it goes on when this device is used again.", "dim")
        await _watch(client, new)

    async def there(owner: iw.DeviceOwner) -> None:
        await owner.give_history(new, since_ms)
        explain("Another program has this device: it sends the history, and says how far that is.", "dim")

    await at_device(address, partial(key_file.open_device, address, device), here, there)


async def _watch(client: iw.Client, new: str) -> None:
    """Show how far it is, until it is complete or nothing moves any more."""
    shown, moved_at = None, trio.current_time()
    while trio.current_time() < moved_at + PATIENCE_SECONDS:
        progress = await client.own_history.given(new)
        if progress != shown:
            shown, moved_at = progress, trio.current_time()
            if progress is not None and progress.is_complete:
                explain(f"Sent: {counted(progress.done, 'message')}. The new device fetches them.")
                return
            if progress is not None and progress.total:
                explain(f"{progress.done:,} of {progress.total:,} messages", "dim")
        await trio.sleep(_TICK_SECONDS)
    explain("The new device is not there to get it: it goes on when this device and that one are used again.")


@click.command("history")
@click.argument("name", metavar="DEVICE", type=DEVICE)
@click.option("--all", "is_all", is_flag=True, help="Everything, and not the last 30 days alone.")
@yes_option
@this_device_option
@server_option
@key_option
def history(name: str, device: DeviceId | None, server: str, key: Path, *, is_all: bool, yes: bool) -> None:
    """Give your other device DEVICE the messages that this one has, of 30 days or all.

    They go encrypted, newest first, and DEVICE shows that they come from here. What it has already is not doubled. A
    connection that breaks costs nothing: it goes on from there, also after a restart of either device.
    """
    key_file, address = KeyFile.open(key), iw.ServerAddress.parse(server)
    log = trio.run(asked, address, key_file, lambda client: client.device_log.update())
    book = DeviceBook.beside(key)
    known = [NamedDevice(book.label(each.key.raw.hex()), each.key.raw.hex()) for each in log.current]
    found = find_device(known, name)
    what = "all messages" if is_all else "the messages of 30 days"
    confirm(f"Give {found.name} {what} that this device has?", yes)
    choice: HistoryChoice = "all" if is_all else "month"
    trio.run(give_history, address, key_file, key_file.device(device), found.key or "", choice)
