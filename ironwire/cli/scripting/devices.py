"""`ironwire device`: the installations of this identity; linking one is in `linking.py`."""

import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import click
import trio
from attrs import frozen

from ironwire.cli.devicebook import DeviceBook, NamedDevice, find_device, fingerprint
from ironwire.cli.help.completion import DEVICE
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import json_option, key_option, server_option
from ironwire.cli.render import when
from ironwire.cli.scripting.asking import asked, confirm, yes_option
from ironwire.cli.scripting.given_history import history
from ironwire.cli.scripting.linking import accept, link
from ironwire.cli.table import show_table
from ironwire.cli.terminal import counted, explain, out, printable
from ironwire.client import Client, Device, DeviceId, LoggedDevice, ServerAddress
from ironwire.client.store.device_keys import device_keys_here

T = TypeVar("T")


@click.group()
def device() -> None:
    """See your devices, link a new one, and revoke one that is lost.

    A device that has the identity's key is an owner: it links and revokes. A linked device has only a key of its own.
    """


device.add_command(link)
device.add_command(accept)
device.add_command(history)


_SHOWN_CHARS = 9
"""Of a fingerprint in the list: enough to name the device, and a line has room for the rest."""


@frozen
class OwnDevice:
    """A device in the log, with its mailbox if there is one; or a mailbox of a device without a key."""

    name: str
    logged: LoggedDevice | None
    mailbox: Device | None
    is_here: bool

    @property
    def key(self) -> str | None:
        return None if self.logged is None else self.logged.key.raw.hex()

    @property
    def role(self) -> str:
        if self.logged is None:
            return "no key"
        return "owner" if self.logged.is_owner else "linked"


async def own_devices(client: Client, key_file: KeyFile, book: DeviceBook) -> list[OwnDevice]:
    """Every device that is one now, by the name that it has here, else by the one that it gave itself."""
    log = await client.device_log.update()
    mailboxes = {box.device_key or box.device: box for box in await client.devices()}
    here = await trio.to_thread.run_sync(device_keys_here, key_file.path, key_file.account)
    current = {each.key.raw.hex(): each for each in log.current}
    found = []
    for key, logged in current.items():
        box = mailboxes.get(key)
        found.append(OwnDevice(book.label(key, "" if box is None else box.device), logged, box, key in here))
    return [*found, *(OwnDevice(box.device, None, box, False) for box in mailboxes.values() if box.device_key is None)]


def _found(server: str, key_file: KeyFile, book: DeviceBook) -> list[OwnDevice]:
    return _ask(server, key_file, lambda client: own_devices(client, key_file, book))


def _ask(server: str, key_file: KeyFile, question: Callable[[Client], Awaitable[T]]) -> T:
    return trio.run(asked, ServerAddress.parse(server), key_file, question)


@device.command("list")
@server_option
@key_option
@json_option
def list_devices(server: str, key: Path, *, as_json: bool) -> None:
    """Show your devices, and what waits for each.

    An owner has the identity's key; since tells when a device was linked; key is how its fingerprint begins.
    """
    book = DeviceBook.beside(key)
    found = _found(server, KeyFile.open(key), book)
    if as_json:
        click.echo(json.dumps([_described(each) for each in found]))
        return
    if not found:
        explain("No devices: `ironwire chat` makes this computer one.", "dim", console=out())
        return
    show_table(("device", "role", "since", "last here", "waiting", "key"), [_row(each) for each in found])
    # Now the user was told of them, and by these names: the server cannot give them others.
    book.note(NamedDevice("" if each.mailbox is None else each.mailbox.device, each.key) for each in found)


@device.command()
@click.argument("device", metavar="DEVICE", type=DEVICE)
@click.argument("name")
@server_option
@key_option
def name(device: str, name: str, server: str, key: Path) -> None:
    """Call DEVICE by NAME here from now on. DEVICE is its name now, or the first digits of its fingerprint."""
    book = DeviceBook.beside(key)
    found = _find(_found(server, KeyFile.open(key), book), device)
    if found.key is None:
        raise click.UsageError(f"{found.name} has no key of its own, and so no other name.")
    book.rename(found.key, name)
    click.echo(f"{fingerprint(found.key)} is {printable(name.strip())}.")


@device.command()
@click.argument("device", metavar="NAME", type=DEVICE)
@yes_option
@server_option
@key_option
def revoke(device: str, server: str, key: Path, *, yes: bool) -> None:
    """Put out the device NAME for good: it is lost, or not yours.

    You are asked first. Its connection ends at once, its key is never taken again, and everything that waits for it is
    deleted. What it had received stays on it. Your other devices and the people you write to see that it was revoked.
    Only a device that has the identity's key can revoke.
    """
    key_file, book = KeyFile.open(key), DeviceBook.beside(key)
    found = _find(_found(server, key_file, book), device)
    lost = _waiting(found.mailbox)
    if found.logged is None:
        if lost:
            confirm(f"Remove {found.name}, with {lost}?", yes)
        _ask(server, key_file, lambda client: client.remove_device(DeviceId(found.name)))
        click.echo(f"Removed {found.name}" + (f", with {lost}." if lost else "; nothing waited for it."))
        return
    if found.is_here:
        raise click.UsageError(f"{found.name} is this computer: revoke it on another device that has the identity.")
    key_file.identity()
    if not yes:
        explain(f"{found.name}: {fingerprint(found.key or '')}")
        explain(_MEANING)
    confirm(f"Revoke {found.name}{f', and delete {lost}' if lost else ''}?", yes)
    _ask(server, key_file, lambda client: client.device_log.revoke(found.key or ""))
    book.mark_revoked(found.key or "")
    click.echo(f"Revoked {found.name}.")


_MEANING = (
    "It is put out at once and can never come back. What it has received stays on it: if somebody else has it, they can"
    " read that."
)


def _find(devices: Iterable[OwnDevice], text: str) -> OwnDevice:
    by_name = {NamedDevice(each.name, each.key): each for each in devices}
    return by_name[find_device(by_name, text)]


def _waiting(mailbox: Device | None) -> str:
    """What is lost with a device; empty where nothing waits for it."""
    if mailbox is None or not mailbox.waiting:
        return ""
    return f"{counted(mailbox.waiting, 'message')} that {'waits' if mailbox.waiting == 1 else 'wait'} for it"


def _row(device: OwnDevice) -> tuple[str, ...]:
    mailbox, logged = device.mailbox, device.logged
    since = logged.added_ms if logged is not None else mailbox.created if mailbox is not None else None
    return (
        f"{device.name} (here)" if device.is_here else device.name,
        device.role,
        "" if since is None else f"{when(since):%Y-%m-%d %H:%M}",
        "never" if mailbox is None else f"{when(mailbox.seen):%Y-%m-%d %H:%M}",
        "" if mailbox is None else str(mailbox.waiting),
        "" if device.key is None else fingerprint(device.key)[:_SHOWN_CHARS],
    )


def _described(device: OwnDevice) -> dict[str, object]:
    mailbox, logged = device.mailbox, device.logged
    return {
        "name": device.name,
        "role": device.role,
        "here": device.is_here,
        "key": device.key,
        "since": logged.added_ms if logged is not None else mailbox.created if mailbox is not None else None,
        "device": None if mailbox is None else mailbox.device,
        "seen": None if mailbox is None else mailbox.seen,
        "waiting": 0 if mailbox is None else mailbox.waiting,
    }
