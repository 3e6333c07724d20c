"""`ironwire recovery`: what brings an identity back when every device that has it is lost.

create    code ─> written down, typed back ─> backup stored and read back ─> "saved"
restore   code ─> backup ─> identity, contacts, conversations ─> a new owner device (`restore.py`)
"""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import click
import trio
from attrs import evolve

import ironwire.client as iw
from ironwire.cli import options
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.render import now, when
from ironwire.cli.scripting.asking import asked
from ironwire.cli.scripting.recovery_code import asked_code, show_and_ask_back
from ironwire.cli.scripting.restore import named, restore
from ironwire.cli.terminal import explain, out
from ironwire.client.recovery import fetch_backup, remove_backup, store_backup
from ironwire.client.store.known_conversations import read_conversations
from ironwire.client.store.recovery_file import KeptRecovery, keep_recovery, read_recovery
from ironwire.e2e.backup import MOST_CONTACTS, MOST_CONVERSATIONS, Backup, BackupContact, BackupConversation, new_backup
from ironwire.e2e.recovery import RecoveryCode
from ironwire.errors import InvalidBackup
from ironwire.ids import Address, DeviceId

ASK_AGAIN = timedelta(days=7)
"""A code that was typed once is asked for again, before it is needed."""
_ARCHIVE_KEY_BYTES = 32

Known = tuple[list[BackupContact], list[BackupConversation]]


@click.group()
def recovery() -> None:
    """Get your identity back when all your devices are lost: make a code, and keep it on paper.

    The server keeps a backup that only the code opens: your identity, your contacts, whom you have verified, and which
    encrypted conversations you have. No messages are in it.
    """


@recovery.command()
@click.option("--yes", is_flag=True, help="Do not ask the code back: a program keeps it. It goes to standard output.")
@options.this_device_option
@options.server_option
@options.key_option
def create(device: DeviceId | None, server: str, key: Path, *, yes: bool) -> None:
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
        show_and_ask_back(code)
    archive_key = os.urandom(_ARCHIVE_KEY_BYTES) if former is None else former.archive_key
    first = KeptRecovery(code, archive_key, 0 if former is None else former.number, 0, _now_ms())
    kept = trio.run(_store, address, key_file, first, _known(key_file, address, device))
    if former is not None:
        trio.run(_remove, address, key_file, former.code)
    if yes:
        out().print(code.text)
    explain(f"Saved, and read back: backup {kept.number} of {identity.client_id}.")


@recovery.command()
@options.this_device_option
@options.server_option
@options.key_option
def update(device: DeviceId | None, server: str, key: Path) -> None:
    """Store the backup anew, with the contacts and conversations of today.

    The code stays as it is. Whom you have verified is in the backup too. The conversations are those of the device that
    --device names.
    """
    key_file, address = KeyFile.open(key), iw.ServerAddress.parse(server)
    kept = _kept(key_file)
    kept = trio.run(_store, address, key_file, kept, _known(key_file, address, device))
    click.echo(f"Saved, and read back: backup {kept.number}.")


@recovery.command()
@options.key_option
def check(key: Path) -> None:
    """Type your code, to see that it is the right one.

    Nothing is sent. A week after you have made a code, see that you still know where it is.
    """
    key_file = KeyFile.open(key)
    kept = _kept(key_file)
    if asked_code() != kept.code:
        raise Failure(
            ExitCode.REFUSED,
            "This is a recovery code, but not the one of today: look for another paper, or make a new code with"
            " `ironwire recovery create`.",
        )
    keep_recovery(key, key_file.identity(), evolve(kept, confirmed_ms=_now_ms()))
    click.echo("This is your recovery code.")


@recovery.command()
@options.this_device_option
@options.server_option
@options.key_option
@options.json_option
def status(device: DeviceId | None, server: str, key: Path, *, as_json: bool) -> None:
    """Say whether there is a code, and a backup that it opens.

    The backup is fetched from the server and opened, and compared with your contacts and conversations.
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
    address = iw.ServerAddress.parse(server)
    found = trio.run(_fetched, address, kept)
    if found is None:
        raise Failure(ExitCode.REFUSED, "The server has no backup any more: store it with `ironwire recovery update`.")
    is_current = _known(key_file, address, device) == (found.contacts, found.conversations)
    due = due_again(kept)
    if as_json:
        stored = {"stored": kept.stored_ms, "number": found.number, "contacts": len(found.contacts)}
        stored["conversations"] = len(found.conversations)
        click.echo(json.dumps(stored | {"current": is_current, "confirmed": kept.confirmed_ms}))
        return
    lines = [f"The server has {named(found)}, and it opens."]
    if not is_current:
        lines.append("Your contacts or conversations have changed since: `ironwire recovery update`.")
    lines += [due] if due else []
    for line in lines:
        explain(line, console=out())


recovery.add_command(restore)


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


def _kept(key_file: KeyFile) -> KeptRecovery:
    kept = read_recovery(key_file.path, key_file.identity())
    if kept is None:
        raise Failure(ExitCode.REFUSED, "There is no recovery code: `ironwire recovery create` makes one.")
    return kept


async def _store(address: iw.ServerAddress, key_file: KeyFile, kept: KeptRecovery, known: Known) -> KeptRecovery:
    """Store the next backup; what is kept of it from now on."""
    identity, stored_ms = key_file.identity(), _now_ms()
    kept = evolve(kept, number=kept.number + 1, stored_ms=stored_ms)
    numbered = {"number": kept.number, "ts": stored_ms}
    contacts, conversations = known
    backup = new_backup(identity, kept.archive_key, **numbered, contacts=contacts, conversations=conversations)
    token = await asked(address, key_file, iw.Client.upload_token)
    await store_backup(address, backup, kept.code, token=token)
    await trio.to_thread.run_sync(keep_recovery, key_file.path, identity, kept)
    return kept


async def _remove(address: iw.ServerAddress, key_file: KeyFile, code: RecoveryCode) -> None:
    token = await asked(address, key_file, iw.Client.upload_token)
    await remove_backup(address, code, token=token)


async def _fetched(address: iw.ServerAddress, kept: KeptRecovery) -> Backup | None:
    return await fetch_backup(address, kept.code, at_least=kept.number)


def _known(key_file: KeyFile, address: iw.ServerAddress, device: DeviceId | None) -> Known:
    """What belongs into a backup: contacts, and the conversations of the device."""
    owner = iw.Owner(key_file.client_id, key_file.device(device), address.origin)
    store_key = iw.StoreKey.of_account(key_file.account)
    conversations = read_conversations(iw.default_store_path(owner), owner, store_key)[:MOST_CONVERSATIONS]
    return _contacts(AddressBook.beside(key_file.path)), conversations


def _contacts(book: AddressBook) -> list[BackupContact]:
    """The people and groups of the book, by their first name, and those who are verified without one."""
    names: dict[Address, str | None] = {}
    for name, address in book.all().items():
        names.setdefault(address, name)
    for client in book.verified():
        names.setdefault(client, None)
    if len(names) > MOST_CONTACTS:
        raise InvalidBackup(f"a backup has room for {MOST_CONTACTS} contacts, and you have {len(names)}")
    return [BackupContact(who, book.is_verified(who), name) for who, name in sorted(names.items())]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
