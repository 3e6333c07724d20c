"""The names and marks beside a key file, brought together with those of the person's other devices.

    files changed by a command since the last time  ──> said to the other devices (`Client.change_own`)
    another device has said something               ──> written to the files

    identity.key.shared    {"contact bob": "<client id>", …}: what the files and the device agreed upon last

What a file has and that one has not, a person has changed here. Where both would change the same, the person's word of
this computer holds: it is the later one.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import trio

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook, parse_name
from ironwire.cli.devicebook import DeviceBook, NamedDevice, parse_device_name
from ironwire.cli.notes import Notes
from ironwire.errors import ConfigError, InvalidId
from ironwire.ids import ClientId, parse_address, parse_client_id

LOOK_SECONDS = 1.0
"""Another program may change the files at any time."""

Name = tuple[iw.OwnKind, str]
Change = tuple[iw.OwnKind, str, str]

_BOOKS = ("contacts", "verified", "devices")
_YES = "yes"


async def keep_books(client: iw.Client, key: Path) -> None:
    """Bring together what is beside the key file `key` and what the devices know, whenever either changes; until it is
    cancelled. Files that cannot be read stay as they are: the commands that need them say so.
    """
    seen: object = None
    while True:
        now = await trio.to_thread.run_sync(_stamps, key), client.own_records
        if now != seen:
            try:
                await bring_together(client, key)
            except (ConfigError, iw.ClientError):
                return
            seen = await trio.to_thread.run_sync(_stamps, key), client.own_records
        await trio.sleep(LOOK_SECONDS)


async def bring_together(client: iw.Client, key: Path) -> None:
    """Once, now.

    Raises:
        ConfigError: a file cannot be read or written.
        ClientError: what was changed here cannot be kept.
    """
    await trio.to_thread.run_sync(_name_this, client, key)
    await client.change_own(await trio.to_thread.run_sync(changes_here, key))
    await trio.to_thread.run_sync(take_changes, client.own_records, key)


def _name_this(client: iw.Client, key: Path) -> None:
    """This device is called as it calls itself, unless the person calls it otherwise. An empty book stays so: then
    nothing in the device log is news (`DeviceBook.take_news`).
    """
    book, own = DeviceBook.beside(key), client.device_log.device_key
    if own is not None and client.device is not None and not book.is_empty:
        book.note([NamedDevice(client.device, own)])


def changes_here(key: Path) -> list[Change]:
    """What a person has changed on this computer since the files and the device agreed."""
    mine, agreed = _content(key), _agreement(key).read()
    return [
        (*name, mine.get(name, ""))
        for name in sorted(mine.keys() | map(_name_of, agreed))
        if mine.get(name, "") != agreed.get(_text_of(name), "")
    ]


def take_changes(records: Iterable[iw.OwnRecord], key: Path) -> None:
    """Write what the records say to the files, but where a person has changed them meanwhile."""
    with _agreement(key).changing() as agreed:
        mine, known = _content(key), {each.name: each for each in records}
        news = [
            each
            for name, each in known.items()
            if mine.get(name, "") == agreed.get(_text_of(name), "") != each.value and _is_fit(each)
        ]
        AddressBook.beside(key).take(
            {each.key: parse_address(each.value) if each.value else None for each in news if each.kind == "contact"},
            {ClientId(each.key): each.at if each.value else None for each in news if each.kind == "verified"},
        )
        DeviceBook.beside(key).take_names({each.key: each.value for each in news if each.kind == "device"})
        after = _content(key)
        for name, each in known.items():
            if after.get(name, "") == each.value:
                agreed[_text_of(name)] = each.value


def _content(key: Path) -> dict[Name, str]:
    """What the files say now."""
    book = AddressBook.beside(key)
    content: dict[Name, str] = {("contact", name): address for name, address in book.all().items()}
    content |= {("verified", client): _YES for client in book.verified()}
    return content | {("device", device): name for device, name in DeviceBook.beside(key).given_names().items()}


def _is_fit(record: iw.OwnRecord) -> bool:
    """Whether it can stand in these files: another program may allow more than they do."""
    try:
        match record.kind:
            case "contact":
                return parse_name(record.key) == record.key
            case "verified":
                return parse_client_id(record.key) == record.key
            case "device":
                return parse_device_name(record.value) == record.value
    except InvalidId:
        return False


def _agreement(key: Path) -> Notes[str]:
    return Notes(key.with_name(f"{key.name}.shared"), "names that your devices share", _parse)


def _parse(name: str, value: object) -> tuple[str, str]:
    if not isinstance(value, str) or name.partition(" ")[0] not in ("contact", "verified", "device"):
        raise ValueError("not an object of names and their meaning")
    return name, value


def _text_of(name: Name) -> str:
    return " ".join(name)


def _name_of(text: str) -> Name:
    kind, _, key = text.partition(" ")
    return kind, key  # type: ignore[return-value]  # `_parse` has seen to the kind


def _stamps(key: Path) -> list[tuple[int, int] | None]:
    """Something else, where a file has changed."""
    found: list[tuple[int, int] | None] = []
    for book in _BOOKS:
        try:
            status = os.stat(key.with_name(f"{key.name}.{book}"))
            found.append((status.st_ino, status.st_mtime_ns))
        except OSError:
            found.append(None)
    return found
