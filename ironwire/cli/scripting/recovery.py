"""`ironwire recovery`: what brings an identity back when every device that has it is lost.

create    code ─> written down, typed back ─> backup stored and read back ─> "saved"
restore   code ─> backup ─> identity, contacts ─> a new owner device, and the lost ones revoked
"""

import json
import os
import re
import sys
import time
from datetime import timedelta
from pathlib import Path

import click
import trio
from attrs import evolve
from rich.text import Text

import ironwire.client as iw
from ironwire.cli import options
from ironwire.cli.addressbook import AddressBook, parse_name
from ironwire.cli.devicebook import DeviceBook
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.render import now, when
from ironwire.cli.scripting.asking import asked, confirm, yes_option
from ironwire.cli.streams import read_text
from ironwire.cli.terminal import SHORT_ID_CHARS, counted, err, explain, out
from ironwire.client.recovery import fetch_backup, remove_backup, store_backup
from ironwire.client.store.keystore import check_free
from ironwire.client.store.recovery_file import KeptRecovery, keep_recovery, read_recovery
from ironwire.e2e.backup import MOST_CONTACTS, Backup, BackupContact, new_backup
from ironwire.e2e.recovery import RecoveryCode, parse_recovery_code
from ironwire.errors import InvalidBackup, InvalidId, InvalidRecoveryCode
from ironwire.ids import ClientId, DeviceId, is_group
from ironwire.wire.base64url import from_base64url

ASK_AGAIN = timedelta(days=7)
"""A code that was typed once is asked for again, before it is needed."""
_TRIES = 3
_ARCHIVE_KEY_BYTES = 32
_GROUPS_A_LINE = 3

_MEANING = (
    "Whoever has this code has your identity: keep it on paper, in a safe place. If it is lost, and every device that"
    " has the identity's key too, the identity is lost for good. Nobody can give it back, no operator and no server."
)


@click.group()
def recovery() -> None:
    """Get your identity back when all your devices are lost: make a code, and keep it on paper.

    The server keeps a backup that only the code opens: your identity, your contacts and whom you have verified. No
    messages are in it.
    """


@recovery.command()
@click.option("--yes", is_flag=True, help="Do not ask the code back: a program keeps it. It goes to standard output.")
@options.server_option
@options.key_option
def create(server: str, key: Path, *, yes: bool) -> None:
    """Make a recovery code, and store the backup that it opens.

    The code is shown once. You write it down and type it back; then the backup is stored, read back and opened, and
    only after that it is called saved. A code that there was before ends.
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("The code has to be written down and typed back: run this at a terminal, or say --yes.")
    key_file = KeyFile.open(key)
    identity, address = key_file.identity(), iw.ServerAddress.parse(server)
    former, code = read_recovery(key, identity), RecoveryCode.generate()
    if not yes:
        _show_and_ask_back(code)
    archive_key = os.urandom(_ARCHIVE_KEY_BYTES) if former is None else former.archive_key
    first = KeptRecovery(code, archive_key, 0 if former is None else former.number, 0, _now_ms())
    kept = trio.run(_store, address, key_file, first, AddressBook.beside(key))
    if former is not None:
        trio.run(_remove, address, key_file, former.code)
    if yes:
        out().print(code.text)
    explain(f"Saved, and read back: backup {kept.number} of {identity.client_id}.")


@recovery.command()
@options.server_option
@options.key_option
def update(server: str, key: Path) -> None:
    """Store the backup anew, with the contacts of today.

    The code stays as it is. Whom you have verified is in the backup too.
    """
    key_file = KeyFile.open(key)
    kept = _kept(key_file)
    kept = trio.run(_store, iw.ServerAddress.parse(server), key_file, kept, AddressBook.beside(key))
    click.echo(f"Saved, and read back: backup {kept.number}.")


@recovery.command()
@options.key_option
def check(key: Path) -> None:
    """Type your code, to see that it is the right one.

    Nothing is sent. A week after you have made a code, see that you still know where it is.
    """
    key_file = KeyFile.open(key)
    kept = _kept(key_file)
    if _asked_code() != kept.code:
        raise Failure(
            ExitCode.REFUSED,
            "This is a recovery code, but not the one of today: look for another paper, or make a new code with"
            " `ironwire recovery create`.",
        )
    keep_recovery(key, key_file.identity(), evolve(kept, confirmed_ms=_now_ms()))
    click.echo("This is your recovery code.")


@recovery.command()
@options.server_option
@options.key_option
@options.json_option
def status(server: str, key: Path, *, as_json: bool) -> None:
    """Say whether there is a code, and a backup that it opens.

    The backup is fetched from the server and opened, and compared with your contacts.
    """
    key_file = KeyFile.open(key)
    kept = read_recovery(key, key_file.identity())
    if kept is None:
        if as_json:
            click.echo(json.dumps({"stored": None}))
        else:
            explain("No recovery code.", "bold", console=out())
            explain(NO_CODE, console=out())
        return
    found = trio.run(_fetched, iw.ServerAddress.parse(server), kept)
    if found is None:
        raise Failure(ExitCode.REFUSED, "The server has no backup any more: store it with `ironwire recovery update`.")
    is_current = _contacts(AddressBook.beside(key)) == found.contacts
    due = due_again(kept)
    if as_json:
        stored = {"stored": kept.stored_ms, "number": found.number, "contacts": len(found.contacts)}
        click.echo(json.dumps(stored | {"current": is_current, "confirmed": kept.confirmed_ms}))
        return
    lines = [f"The server has {_named(found)}, and it opens."]
    if not is_current:
        lines.append("Your contacts have changed since: `ironwire recovery update`.")
    lines += [due] if due else []
    for line in lines:
        explain(line, console=out())


NO_CODE = (
    "If every device that has the identity's key is lost, this identity is lost for good. `ironwire recovery create`"
    " makes a code that brings it back."
)


def due_again(kept: KeptRecovery) -> str:
    """The reminder to type the code; empty while that is not long ago."""
    typed = when(kept.confirmed_ms)
    if now() - typed < ASK_AGAIN:
        return ""
    return f"You typed your recovery code last on {typed:%Y-%m-%d}: do you still have it? `ironwire recovery check`"


@recovery.command()
@click.option(
    "--device",
    metavar="NAME",
    callback=options.parse_device,
    default=options.this_device,
    help="The name of this device.  [default: this computer's name]",
)
@click.option("--keep-devices", is_flag=True, help="Do not revoke the other devices: they are not lost.")
@click.option("--no-passphrase", is_flag=True, help="Leave the key unencrypted and do not ask.")
@yes_option
@options.server_option
@options.key_option
def restore(device: DeviceId, server: str, key: Path, *, keep_devices: bool, no_passphrase: bool, yes: bool) -> None:
    """Get your identity back on this computer, with the recovery code.

    The code is asked for, or read from standard input. The identity's key is written to the file that --key names, the
    contacts beside it, and this computer becomes a new owner device. All other devices are revoked, because they are
    lost; --keep-devices leaves them. Messages are not in the backup.
    """
    check_free(key)
    address, code = iw.ServerAddress.parse(server), _asked_code()
    backup = trio.run(fetch_backup, address, code)
    if backup is None:
        raise Failure(ExitCode.REFUSED, f"{address} has no backup for this code. Name your server with --server.")
    identity = backup.load_identity()
    explain(f"Found {_named(backup)}.")
    confirm(_question(identity.client_id, keep_devices), yes)
    iw.keep_account(key, identity, None if no_passphrase else options.new_passphrase())
    key_file = KeyFile(key, identity)
    _bring_back(key, backup)
    kept = KeptRecovery(code, from_base64url(backup.archive_key), backup.number, backup.ts, _now_ms())
    keep_recovery(key, identity, kept)
    revoked = trio.run(_begin_anew, address, key_file, device, keep_devices)
    explain(f"Restored to {key}. `ironwire chat` opens your conversations as {device}.")
    if revoked:
        explain(f"Revoked {counted(revoked, 'other device')}.")
    click.echo(identity.client_id)


def _named(backup: Backup) -> str:
    contacts = counted(len(backup.contacts), "contact")
    return f"backup {backup.number} of {when(backup.ts):%Y-%m-%d %H:%M}, with {contacts}"


def _question(client: ClientId, keep_devices: bool) -> str:
    others = "and leave its other devices as they are" if keep_devices else "and revoke all its other devices"
    return f"Restore {client} here, {others}?"


async def _begin_anew(address: iw.ServerAddress, key_file: KeyFile, device: DeviceId, keep_devices: bool) -> int:
    """Be a device of the identity; how many others were revoked."""
    keys = await trio.to_thread.run_sync(iw.open_device_keys, key_file.path, key_file.account, device)
    others = 0

    async def revoke_others(client: iw.Client) -> int:
        found = (await client.device_log.update()).current
        if found:
            await client.device_log.only(keys.key.public_key.raw.hex())
        return sum(each.key != keys.key.public_key for each in found)

    if not keep_devices:
        others = await asked(address, key_file, revoke_others)
    async with key_file.connect(address, device) as client:
        # The devices that there are now are no news to whoever has just restored.
        log, own_key = client.device_log.known, client.device_log.device_key
        await trio.to_thread.run_sync(DeviceBook.beside(key_file.path).take_news, log, own_key)
        return others


def _bring_back(key: Path, backup: Backup) -> None:
    book = AddressBook.beside(key)
    for contact in backup.contacts:
        if contact.name is not None:
            book.add(_as_contact_name(contact.name, contact.client), contact.client)
        if contact.verified:
            book.verify(contact.client, backup.ts)


def _as_contact_name(name: str, client: ClientId) -> str:
    """A name that was given in another program, which may allow more than this one does."""
    try:
        return parse_name(name)
    except InvalidId:
        fit = re.sub(r"[^\w.-]+", "-", name).strip("._-")[:32]
        return fit or client[:SHORT_ID_CHARS]


def _kept(key_file: KeyFile) -> KeptRecovery:
    kept = read_recovery(key_file.path, key_file.identity())
    if kept is None:
        raise Failure(ExitCode.REFUSED, "There is no recovery code: `ironwire recovery create` makes one.")
    return kept


async def _store(address: iw.ServerAddress, key_file: KeyFile, kept: KeptRecovery, book: AddressBook) -> KeptRecovery:
    """Store the next backup; what is kept of it from now on."""
    identity, stored_ms = key_file.identity(), _now_ms()
    kept = evolve(kept, number=kept.number + 1, stored_ms=stored_ms)
    backup = new_backup(
        identity, kept.archive_key, number=kept.number, ts=stored_ms, contacts=_contacts(book), conversations=[]
    )
    token = await asked(address, key_file, iw.Client.upload_token)
    await store_backup(address, backup, kept.code, token=token)
    await trio.to_thread.run_sync(keep_recovery, key_file.path, identity, kept)
    return kept


async def _remove(address: iw.ServerAddress, key_file: KeyFile, code: RecoveryCode) -> None:
    token = await asked(address, key_file, iw.Client.upload_token)
    await remove_backup(address, code, token=token)


async def _fetched(address: iw.ServerAddress, kept: KeptRecovery) -> Backup | None:
    return await fetch_backup(address, kept.code, at_least=kept.number)


def _contacts(book: AddressBook) -> list[BackupContact]:
    """The people of the book, by their first name, and those who are verified without one."""
    names: dict[ClientId, str | None] = {}
    for name, address in book.all().items():
        if not is_group(address):
            names.setdefault(ClientId(address), name)
    for client in book.verified():
        names.setdefault(client, None)
    if len(names) > MOST_CONTACTS:
        raise InvalidBackup(f"a backup has room for {MOST_CONTACTS} contacts, and you have {len(names)}")
    return [BackupContact(client, book.is_verified(client), name) for client, name in sorted(names.items())]


def _show_and_ask_back(code: RecoveryCode) -> None:
    """Show the code on a screen of its own, which leaves no trace in the terminal's history; then have it typed."""
    console = err()
    groups = code.text.split("-")
    with console.screen(hide_cursor=False):
        console.print(Text("Your recovery code:\n", "bold"))
        for start in range(0, len(groups), _GROUPS_A_LINE):
            console.print(Text("   " + "-".join(groups[start : start + _GROUPS_A_LINE])))
        explain(f"\n{_MEANING}\n")
        click.prompt("Write it down, then press Enter", default="", show_default=False, err=True)
    explain("Type it now, from the paper. Spaces, hyphens and capitals do not matter.")
    for _ in range(_TRIES):
        if _asked_code() == code:
            return
        explain("This is another code than the one that was shown.")
    raise Failure(ExitCode.REFUSED, "The code was not typed as it was shown: nothing is saved. Begin again.")


def _asked_code() -> RecoveryCode:
    """A code that a person types, or from standard input.

    Raises:
        InvalidRecoveryCode: it is none; at a terminal, three times.
    """
    if not sys.stdin.isatty():
        return parse_recovery_code(read_text("CODE"))
    for _ in range(_TRIES - 1):
        try:
            return _typed_code()
        except InvalidRecoveryCode as error:
            explain(f"{error}.")
    return _typed_code()


def _typed_code() -> RecoveryCode:
    answer: str = click.prompt("Recovery code", err=True)
    return parse_recovery_code(answer)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
