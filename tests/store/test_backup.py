"""Backups are whole or said not to be; what is put back begins a new epoch, and nothing is ever overwritten."""

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ironwire.errors import BackupError, StoreError
from ironwire.ids import ClientId, DeviceId, GroupId, parse_blob_name
from ironwire.protocol.conversations.names import pair_id
from ironwire.store.backup import MANIFEST, RESTORING, examine_backup, make_backup, restore_backup
from ironwire.store.contract.conversations import Pool
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.operations import Acknowledge, Appended, PackageKnown, PublishPackages, Touch
from ironwire.store.contract.records import Mailbox, Quota
from ironwire.store.sqlite.store import SqliteStore
from ironwire.store.survey import DATABASE, MEDIA
from tests.contract.builders import (
    ANN,
    BOB,
    CAT,
    LAPTOP,
    PHONE,
    TABLET,
    append,
    apply,
    change,
    commit,
    envelope,
    keyed,
    mailbox_of,
    numbered,
    package,
    registered,
    say,
    state,
    texts,
)

BLOB = parse_blob_name("0b7e5d4e-1111-4222-8333-123456789abc.bin")
SMALL = Quota(mailbox_envelopes=4, mailbox_bytes=1_000_000, devices_per_client=3)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Bob's phone has 2 of 4 acknowledged, his laptop has none; a file was uploaded."""
    folder = tmp_path / "data"
    store = SqliteStore(folder / DATABASE, SMALL)
    await store.open()
    await registered(store, ANN, TABLET)
    phone = await registered(store, BOB, PHONE)
    await registered(store, BOB, LAPTOP)
    for number in range(4):
        await apply(store, append(envelope(ANN, BOB, f"{number}", device=TABLET, id=f"m{number}")))
    await apply(store, Acknowledge(phone.id, 2))
    await store.close()
    (folder / MEDIA).mkdir()
    (folder / MEDIA / BLOB).write_bytes(b"a file")
    (folder / MEDIA / "half.part").write_bytes(b"half")
    return folder


@pytest.fixture
async def backup(data: Path, tmp_path: Path) -> Path:
    await back_up(data, tmp_path / "backup")
    return tmp_path / "backup"


async def back_up(data: Path, target: Path) -> None:
    store = SqliteStore(data / DATABASE, SMALL)
    await store.open()
    await store.copy_to(data / "copy")
    await store.close()
    make_backup(data, data / "copy", target)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def boxes(data: Path, client: ClientId) -> dict[DeviceId, tuple[Mailbox, list[tuple[int, str]]]]:
    """The mailboxes of a client, and what waits in each."""
    store = SqliteStore(data / DATABASE, SMALL)
    await store.open()
    found = {box.device: (box, await texts(store, box)) for box in await store.mailboxes_of(client)}
    await store.close()
    return found


async def test_a_backup_holds_what_waits_and_the_files_for_its_owner_alone(data: Path, backup: Path) -> None:
    contents = examine_backup(backup)
    assert (contents.mailboxes, contents.waiting, contents.blobs, contents.blob_bytes) == (3, 6, 1, 6)
    assert names_in(backup) == sorted([DATABASE, MEDIA, MANIFEST])
    assert names_in(backup / MEDIA) == [BLOB]
    assert mode_of(backup) == 0o700
    assert mode_of(backup / DATABASE) == 0o600
    assert not (data / "copy").exists()
    assert names_in(backup.parent) == ["backup", "data"], "nothing is left beside it"


async def test_what_is_put_back_begins_a_new_epoch_with_a_numbering_of_its_own(
    data: Path, backup: Path, tmp_path: Path
) -> None:
    before = await boxes(data, BOB)
    restore_backup(backup, tmp_path / "again")
    after = await boxes(tmp_path / "again", BOB)
    assert after[PHONE][1] == [(1, "2"), (2, "3")]
    assert after[LAPTOP][1] == [(1, "0"), (2, "1"), (3, "2"), (4, "3")]
    assert [after[device][0].tail for device in (PHONE, LAPTOP)] == [2, 4]
    assert [after[device][0].acked for device in (PHONE, LAPTOP)] == [0, 0]
    old_epochs = {box.epoch for box, _ in before.values()}
    assert old_epochs.isdisjoint(box.epoch for box, _ in after.values())
    assert (tmp_path / "again" / MEDIA / BLOB).read_bytes() == b"a file"


async def test_the_same_backup_put_back_twice_gives_two_different_epochs(backup: Path, tmp_path: Path) -> None:
    epochs = set()
    for name in ("one", "two"):
        restore_backup(backup, tmp_path / name)
        epochs |= {box.epoch for client in (ANN, BOB) for box, _ in (await boxes(tmp_path / name, client)).values()}
    assert len(epochs) == 6


async def test_a_device_that_is_new_after_a_restore_gets_no_epoch_that_was_given_out_before_it(
    data: Path, backup: Path, tmp_path: Path
) -> None:
    """The backup does not know of it; the epoch that it had must not come again with other numbers."""

    async def register(folder: Path) -> int:
        store = SqliteStore(folder / DATABASE, SMALL)
        await store.open()
        box = await registered(store, ANN, PHONE)
        await store.close()
        return box.epoch

    restore_backup(backup, tmp_path / "again")
    assert await register(data) != await register(tmp_path / "again")


async def test_a_folder_without_any_mailbox_starts_its_epochs_elsewhere_too(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data" / DATABASE, SMALL)
    await store.open()
    await store.close()
    await back_up(tmp_path / "data", tmp_path / "backup")
    restore_backup(tmp_path / "backup", tmp_path / "again")
    again = SqliteStore(tmp_path / "again" / DATABASE, SMALL)
    await again.open()
    assert (await registered(again, ANN, PHONE)).epoch > 1
    await again.close()


async def test_what_expired_before_stays_a_hole_after(data: Path, tmp_path: Path) -> None:
    """A mailbox that lost its places to a bound, or to time, tells of them as before."""
    with closing(sqlite3.connect(data / DATABASE)) as database, database:
        database.execute("DELETE FROM entry WHERE seq = 3")
        database.execute("UPDATE mailbox SET waiting = waiting - 1 WHERE client = ?", (BOB,))
        database.execute("UPDATE envelope SET owed = owed - 2 WHERE message_id = 'm2'")
    await back_up(data, tmp_path / "backup")
    restore_backup(tmp_path / "backup", tmp_path / "again")
    after = await boxes(tmp_path / "again", BOB)
    assert after[PHONE][1] == [(2, "3")]
    assert after[LAPTOP][1] == [(1, "0"), (2, "1"), (4, "3")]


async def test_what_was_lost_is_told_after_a_restore_too(data: Path, tmp_path: Path) -> None:
    """Of Bob's phone, which has 2 of 4 acknowledged, the rest has expired, and then it lost a change of a group."""
    club = GroupId("#" + "1" * 32)
    store = SqliteStore(data / DATABASE, Quota(mailbox_envelopes=0, mailbox_bytes=0, devices_per_client=3))
    await store.open()
    await store.apply([Touch(box.id, 5_000) for box in await store.mailboxes_of(BOB)])
    await store.expire(before_ms=2_000, archived_before_ms=2_000)
    await apply(store, change(club, 0, {ANN: "admin", BOB: "member"}, ts=3_000))
    await store.close()
    await back_up(data, tmp_path / "backup")
    restore_backup(tmp_path / "backup", tmp_path / "again")
    again = SqliteStore(tmp_path / "again" / DATABASE, SMALL)
    await again.open()
    phone, laptop = await again.mailboxes_of(BOB)
    assert await again.losses(phone.id, 1, 3) == [Loss(1, 2, "expired"), Loss(3, 3, "full", (club,))]
    assert await again.losses(laptop.id, 1, 5) == [Loss(1, 4, "expired"), Loss(5, 5, "full", (club,))]
    await again.close()


async def test_numbers_begin_anew_after_a_restore(data: Path, tmp_path: Path) -> None:
    store = SqliteStore(data / DATABASE, SMALL)
    await store.open()
    box = await registered(store, BOB, PHONE)
    await registered(store, CAT, PHONE)
    for n in (1, 2):
        await apply(store, numbered(envelope(BOB, CAT, device=PHONE), box, n))
    assert (await mailbox_of(store, BOB, PHONE)).sent == 2
    await store.close()
    await back_up(data, tmp_path / "backup")
    restore_backup(tmp_path / "backup", tmp_path / "again")
    again = SqliteStore(tmp_path / "again" / DATABASE, SMALL)
    await again.open()
    box = await mailbox_of(again, BOB, PHONE)
    assert (box.sent, box.refused) == (0, ())
    await again.close()


async def test_conversations_are_as_old_as_the_backup_and_packages_are_handed_out_once(
    data: Path, tmp_path: Path
) -> None:
    """A package may have been handed out since: only last resorts are given again."""
    store = SqliteStore(data / DATABASE, SMALL)
    await store.open()
    ann, bob = await keyed(store, ANN, TABLET, b"a" * 32), await keyed(store, BOB, LAPTOP, b"b" * 32)
    pair = pair_id(ANN, BOB)
    after = state(pair, 1, 1, {ANN: "admin", BOB: "admin"}, ann, bob)
    await apply(store, commit(after, ann, TABLET, seen=(0, 0), added=[bob]))
    await apply(store, PublishPackages(bob, (package("1"), package("2", is_last_resort=True))))
    await store.close()
    await back_up(data, tmp_path / "backup")
    restore_backup(tmp_path / "backup", tmp_path / "again")
    store = SqliteStore(tmp_path / "again" / DATABASE, SMALL)
    await store.open()
    assert await store.conversation(pair) == after
    assert [kept.epoch for kept in await store.commits(pair, 1, first=1, limit=9)] == [1]
    assert await store.pool(bob) == Pool(0, has_last_resort=True)
    assert await apply(store, PublishPackages(bob, (package("1"),))) == PackageKnown(0)
    assert isinstance(await apply(store, say(pair, bob, LAPTOP, (1, 1))), Appended)
    await store.close()


async def test_a_backup_of_an_older_schema_is_brought_to_the_newest(data: Path, backup: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(backup / DATABASE)) as database, database:
        for trigger in ("mailbox_removed", "device_removed", "device_came", "device_bound"):
            database.execute(f"DROP TRIGGER {trigger}")
        for table in ("lost_change", "device_log", "logged_device", "backup", "key_package", "package_claim"):
            database.execute(f"DROP TABLE {table}")
        for table in ("", "_member", "_commit", "_task"):
            database.execute(f"DROP TABLE conversation{table}")
        for column in ("expired", "session", "sent", "refused", "device_key"):
            database.execute(f"ALTER TABLE mailbox DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 6")
    manifest = json.loads((backup / MANIFEST).read_text())
    (backup / MANIFEST).write_text(json.dumps(manifest | {"schema": 6}))
    restore_backup(backup, tmp_path / "again")
    assert (await boxes(tmp_path / "again", BOB))[PHONE][1] == [(1, "2"), (2, "3")]


async def test_ids_are_known_after_a_restore(backup: Path, tmp_path: Path) -> None:
    restore_backup(backup, tmp_path / "again")
    store = SqliteStore(tmp_path / "again" / DATABASE, SMALL)
    await store.open()
    again = append(envelope(ANN, BOB, "0", device=TABLET, id="m0"))
    assert await store.recall(ANN, TABLET, again.envelope.id or "", again.digest) is not None  # type: ignore[arg-type]  # it has an id
    await store.close()


def _cut_the_database(backup: Path) -> None:
    os.truncate(backup / DATABASE, 8192)


def _lose_a_file(backup: Path) -> None:
    (backup / MEDIA / BLOB).unlink()


def _cut_a_file(backup: Path) -> None:
    (backup / MEDIA / BLOB).unlink()  # it is a link
    (backup / MEDIA / BLOB).write_bytes(b"a")


def _lose_an_entry(backup: Path) -> None:
    with closing(sqlite3.connect(backup / DATABASE)) as database, database:
        database.execute("DELETE FROM entry WHERE seq = 4")


def _lose_the_manifest(backup: Path) -> None:
    (backup / MANIFEST).unlink()


def _write_another_manifest(backup: Path) -> None:
    (backup / MANIFEST).write_text(json.dumps({"files": 3}))


@pytest.mark.parametrize(
    "damage",
    [
        _cut_the_database,
        _lose_a_file,
        _cut_a_file,
        _lose_an_entry,
        _lose_the_manifest,
        _write_another_manifest,
    ],
)
async def test_a_backup_that_is_not_whole_is_not_put_back(
    backup: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(backup)
    with pytest.raises(BackupError):
        restore_backup(backup, tmp_path / "again")
    assert not (tmp_path / "again").exists()


async def test_a_copy_that_contradicts_itself_makes_no_backup(data: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(data / DATABASE)) as database, database:
        database.execute("DELETE FROM entry WHERE seq = 4")
    with pytest.raises(BackupError, match="contradicts itself"):
        await back_up(data, tmp_path / "backup")
    assert names_in(tmp_path) == ["data"]


async def test_nothing_is_overwritten(data: Path, backup: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="has a database already"):
        restore_backup(backup, data)
    (tmp_path / "files" / MEDIA).mkdir(parents=True)
    (tmp_path / "files" / MEDIA / BLOB).touch()
    with pytest.raises(BackupError, match="has files already"):
        restore_backup(backup, tmp_path / "files")


async def test_a_restore_that_was_interrupted_can_be_begun_again(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "again" / MEDIA).mkdir(parents=True)
    (tmp_path / "again" / RESTORING).write_bytes(b"half of a database")
    os.link(backup / MEDIA / BLOB, tmp_path / "again" / MEDIA / BLOB)
    restore_backup(backup, tmp_path / "again")
    assert len(await boxes(tmp_path / "again", BOB)) == 2
    assert not (tmp_path / "again" / RESTORING).exists()


async def test_a_folder_that_is_served_is_left_alone(backup: Path, tmp_path: Path) -> None:
    serving = SqliteStore(tmp_path / "again" / DATABASE, SMALL)
    await serving.open()
    (tmp_path / "again" / DATABASE).rename(tmp_path / "away")
    with pytest.raises(StoreError, match="in use by another"):
        restore_backup(backup, tmp_path / "again")
    await serving.close()


async def test_a_backup_of_a_newer_version_is_not_put_back(backup: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(backup / DATABASE)) as database:
        database.execute("PRAGMA user_version = 999")
    promised = json.loads((backup / MANIFEST).read_text())
    (backup / MANIFEST).write_text(json.dumps(promised | {"schema": 999}))
    with pytest.raises(BackupError, match=r"schema 999.*install the newer one"):
        restore_backup(backup, tmp_path / "again")


async def test_files_are_copied_where_they_cannot_be_linked(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", elsewhere)
    await back_up(data, tmp_path / "backup")
    copied = tmp_path / "backup" / MEDIA / BLOB
    assert copied.read_bytes() == b"a file"
    assert copied.stat().st_nlink == 1
    assert copied.stat().st_mtime_ns == (data / MEDIA / BLOB).stat().st_mtime_ns, "it expires when it would have"
    assert mode_of(copied) == 0o600
