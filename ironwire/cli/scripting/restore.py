"""`ironwire recovery restore`: an identity that was lost, on a new owner device.

code ─> backup ─> identity, contacts, verified marks ─> a new owner device, and the lost ones revoked
                  conversations ──────────────────────> known as encrypted; added to each again (docs/protocol.md, 10.6)
"""

import re
import time
from pathlib import Path

import click
import trio

import ironwire.client as iw
from ironwire.cli import options
from ironwire.cli.addressbook import AddressBook, parse_name
from ironwire.cli.devicebook import DeviceBook
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.render import when
from ironwire.cli.scripting.asking import asked, confirm, yes_option
from ironwire.cli.scripting.recovery_code import asked_code
from ironwire.cli.terminal import SHORT_ID_CHARS, counted, explain
from ironwire.client.recovery import fetch_backup
from ironwire.client.store.keystore import check_free
from ironwire.client.store.known_conversations import begin_with
from ironwire.client.store.recovery_file import KeptRecovery, keep_recovery
from ironwire.e2e.backup import Backup, BackupConversation
from ironwire.errors import InvalidId
from ironwire.ids import Address, ClientId, DeviceId, GroupId, is_group
from ironwire.wire.base64url import from_base64url

ADDED_SECONDS = 15.0
"""A pair is begun anew within seconds; into a group somebody has to let the device."""
_TICK_SECONDS = 0.2


@click.command()
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
    lost; --keep-devices leaves them. Then it asks to be added to your encrypted conversations again, and says in which
    it is. Messages are not in the backup.
    """
    check_free(key)
    address, code = iw.ServerAddress.parse(server), asked_code()
    backup = trio.run(fetch_backup, address, code)
    if backup is None:
        raise Failure(ExitCode.REFUSED, f"{address} has no backup for this code. Name your server with --server.")
    identity = backup.load_identity()
    explain(f"Found {named(backup)}.")
    confirm(_question(identity.client_id, keep_devices), yes)
    iw.keep_account(key, identity, None if no_passphrase else options.new_passphrase())
    key_file = KeyFile(key, identity)
    _bring_back(key, backup)
    now_ms = time.time_ns() // 1_000_000
    kept = KeptRecovery(code, from_base64url(backup.archive_key), backup.number, backup.ts, now_ms)
    keep_recovery(key, identity, kept)
    owner = iw.Owner(identity.client_id, device, address.origin)
    store_key = iw.StoreKey.of_account(identity)
    begin_with(iw.default_store_path(owner), owner, store_key, backup.conversations, now_ms)
    revoked, waiting = trio.run(_begin_anew, address, key_file, device, keep_devices, backup.conversations)
    explain(f"Restored to {key}. `ironwire chat` opens your conversations as {device}.")
    _say_conversations(backup.conversations, waiting, AddressBook.beside(key))
    if revoked:
        explain(f"Revoked {counted(revoked, 'other device')}.")
    click.echo(identity.client_id)


def named(backup: Backup) -> str:
    contacts = counted(len(backup.contacts), "contact")
    conversations = counted(len(backup.conversations), "encrypted conversation")
    return f"backup {backup.number} of {when(backup.ts):%Y-%m-%d %H:%M}, with {contacts} and {conversations}"


def _question(client: ClientId, keep_devices: bool) -> str:
    others = "and leave its other devices as they are" if keep_devices else "and revoke all its other devices"
    return f"Restore {client} here, {others}?"


async def _begin_anew(
    address: iw.ServerAddress,
    key_file: KeyFile,
    device: DeviceId,
    keep_devices: bool,
    conversations: list[BackupConversation],
) -> tuple[int, list[BackupConversation]]:
    """Be a device of the identity; how many others were revoked, and in which conversations it is not yet."""
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
        waiting = conversations
        with trio.move_on_after(ADDED_SECONDS):
            while waiting:
                await trio.sleep(_TICK_SECONDS)
                waiting = [each for each in waiting if each.to is None or not client.is_in(each.to)]
        return others, waiting


def _say_conversations(known: list[BackupConversation], waiting: list[BackupConversation], book: AddressBook) -> None:
    """In which conversations the new device is, and in which it waits for somebody."""
    there = [each for each in known if each not in waiting]
    if there:
        explain(f"Back in {counted(len(there), 'conversation')}: {_labels(there, book)}.")
    if waiting:
        explain(
            "Asked to be let in again, which a device of somebody there does when it is used:"
            f" {_labels(waiting, book)}."
        )


def _labels(conversations: list[BackupConversation], book: AddressBook) -> str:
    names = {GroupId(each.conversation): each.name for each in conversations if each.name is not None}
    book.group_names = names
    return ", ".join(each.conversation if each.to is None else book.label(each.to) for each in conversations)


def _bring_back(key: Path, backup: Backup) -> None:
    book = AddressBook.beside(key)
    for contact in backup.contacts:
        if contact.name is not None:
            book.add(_as_contact_name(contact.name, contact.who), contact.who)
        if contact.verified and not is_group(contact.who):
            book.verify(ClientId(contact.who), backup.ts)


def _as_contact_name(name: str, who: Address) -> str:
    """A name that was given in another program, which may allow more than this one does."""
    try:
        return parse_name(name)
    except InvalidId:
        fit = re.sub(r"[^\w.-]+", "-", name).strip("._-")[:32]
        return fit or who.removeprefix("#")[:SHORT_ID_CHARS]
