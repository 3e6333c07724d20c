"""A device's file gives nothing away without its key, and nothing wrong with a changed byte."""

import hashlib
import hmac
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio
from attrs import frozen
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlcipher3 import dbapi2

from ironwire.client import Identity, LocalStoreError, Owner, ServerAddress, StoreKey, open_device
from ironwire.client.store.file import LocalFile, as_local_store_error
from ironwire.client.store.records import Arrive, Begin, Change, Queue, Settle
from ironwire.client.store.sealed import open_sealed
from ironwire.ids import ClientId, DeviceId, GroupId, MessageId, Origin
from ironwire.store.sqlite.migrations import load_migrations, migrate
from ironwire.wire.messages import DeliveredFile, DeliveredReceipt, DeliveredText, File, Gap, GroupChanged, Text

ALICE = Identity.from_seed(bytes(range(32)))
KEY = StoreKey.of(ALICE)
BOB = ClientId(hashlib.sha256(b"bob").hexdigest())
CAROL = ClientId(hashlib.sha256(b"carol").hexdigest())
CLUB = GroupId("#" + hashlib.sha256(b"club").hexdigest()[:32])
OWNER = Owner(ALICE.client_id, DeviceId("marked-device"), Origin("http://marked-server.test:8080"))

PAGE_BYTES, MAC_BYTES, SALT_BYTES = 4096, 64, 16
MOST = 10_000

WORDS = (
    "marked text",
    "marked reply",
    "marked-file-name.pdf",
    "application/marked-type",
    "marked caption",
    "Marked group",
    "marked-laptop",
    "marked-message",
    "/media/d1cbd0b4-6b0f-4a36-8a51-a1b1c6c3f5d2.bin",
)
NAMES = (BOB, CAROL, CLUB.removeprefix("#"), ALICE.client_id, OWNER.device, OWNER.origin)

in_one_folder = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changes() -> list[Change]:
    """Every kind of change, with a word of its own wherever one fits."""
    said = DeliveredText(BOB, WORDS[0], 1, DeviceId(WORDS[6]))
    file = DeliveredFile(CAROL, WORDS[8], "file", WORDS[2], WORDS[3], caption=WORDS[4], group=CLUB, ts=2)
    return [
        Begin(1, 9),
        Arrive(said, MessageId(WORDS[7]), 1),
        Arrive(GroupChanged(CLUB, 2, CAROL, [ALICE.client_id], [], [], WORDS[5]), None, 2),
        Arrive(file, None, 3),
        Queue(MessageId("own"), Text(BOB, WORDS[1]), 3, 1),
        Queue(MessageId("own file"), File(CLUB, WORDS[8], name=WORDS[2]), 4),
        Settle(MessageId("own"), 5),
        Arrive(DeliveredReceipt(BOB, [MessageId("own")], "read"), None, 4),
        Arrive(Gap(5, 6, "expired"), None, 6),
    ]


def filled(path: Path) -> None:
    with closing(LocalFile.open(path, OWNER, KEY)) as file:
        file.apply(changes())


def everything(path: Path) -> list[Sequence[object]]:
    """Whatever the file can be asked for.

    Raises:
        LocalStoreError: it cannot be read.
    """
    with as_local_store_error(path), closing(LocalFile.open(path, OWNER, KEY)) as file:
        histories = [file.history(peer, MOST) for peer in (BOB, CAROL, CLUB)]
        lists: list[Sequence[object]] = [file.unseen(0, MOST), file.queued(MOST), file.conversations()]
        return [*histories, *lists, [file.sent([MessageId("own")]), file.numbered(), file.group_names()]]


def readable(folder: Path) -> set[str]:
    """Those of the words and names that stand somewhere in the bytes of the folder's files; ids also as raw bytes."""
    ids = (BOB, CAROL, CLUB.removeprefix("#"), ALICE.client_id)
    looked_for = [(word, word.encode()) for word in (*WORDS, *NAMES)] + [(each, bytes.fromhex(each)) for each in ids]
    held = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return {word for word, form in looked_for for content in held if form in content}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "device"
    folder.mkdir()
    return folder / "phone.db"


# --- without the key -------------------------------------------------------------------------------------------------


def test_what_a_device_keeps_is_nowhere_in_its_folder(path: Path) -> None:
    with closing(LocalFile.open(path, OWNER, KEY)) as file:
        file.apply(changes())
        tables = [file._database.execute(f"SELECT * FROM {table}").fetchall() for table in ("mailbox", "entry")]
        kept = str(tables)
        assert [word for word in (*WORDS, *NAMES) if word not in kept] == []
        assert path.with_name("phone.db-wal").stat().st_size > PAGE_BYTES
        assert readable(path.parent) == set()
        file._database.execute("PRAGMA wal_checkpoint(PASSIVE)")
        assert path.stat().st_size > PAGE_BYTES
        assert readable(path.parent) == set()
    assert {each.name for each in path.parent.iterdir()} == {"phone.db", "phone.db.lock"}
    assert readable(path.parent) == set()


async def test_a_client_leaves_nothing_readable_beside_its_file(path: Path) -> None:
    async def dial(_: ServerAddress) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async with open_device(OWNER.origin, ALICE, OWNER.device, store=path, dial=dial) as client:
        await client.queue(Text(BOB, WORDS[0]), File(CLUB, WORDS[8], name=WORDS[2], caption=WORDS[4]))
        assert client.waiting == 2
        await trio.testing.wait_all_tasks_blocked()
        assert path.with_name("phone.db.sock").exists()
        assert readable(path.parent) == set()
    assert readable(path.parent) == set()


def test_the_copy_before_a_migration_is_encrypted_too(path: Path) -> None:
    filled(path)
    newest = load_migrations("ironwire.client.store")
    with closing(open_sealed(path, KEY)) as database:
        copy = migrate(database, path, {**newest, max(newest) + 1: "CREATE TABLE later (number INTEGER) STRICT;"})
    assert copy is not None
    assert readable(path.parent) == set()
    path.unlink()
    assert everything(copy)[0] != []


def test_nothing_is_sorted_in_a_file(path: Path) -> None:
    """SQLCipher does not encrypt temporary files."""
    with closing(open_sealed(path, KEY)) as database:
        assert database.execute("PRAGMA temp_store").fetchone() == (2,)


@pytest.mark.parametrize("other", [StoreKey(b"k" * 32), StoreKey.of(Identity.from_seed(b"b" * 32))])
def test_another_key_opens_nothing_and_changes_nothing(
    path: Path, other: StoreKey, capfd: pytest.CaptureFixture[str]
) -> None:
    filled(path)
    before = path.read_bytes()
    with (
        pytest.raises(LocalStoreError, match="does not open with the key of this identity"),
        as_local_store_error(path),
    ):
        LocalFile.open(path, OWNER, other)
    assert path.read_bytes() == before
    assert capfd.readouterr() == ("", "")
    assert everything(path)[0] != []


def test_a_file_that_is_not_encrypted_is_refused(path: Path) -> None:
    """Somebody may have put it there, or a version that encrypted nothing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, path, load_migrations("ironwire.client.store"))
    with pytest.raises(LocalStoreError, match="was not written encrypted"):
        everything(path)


def test_without_sqlcipher_nothing_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbapi2, "connect", sqlite3.connect)
    with pytest.raises(LocalStoreError, match="cannot encrypt"):
        LocalFile.open(path, OWNER, KEY)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_none(size: int) -> None:
    with pytest.raises(ValueError, match="Length of 'raw'"):
        StoreKey(b"k" * size)


def test_a_key_is_not_printed() -> None:
    assert KEY.raw.hex() not in repr(KEY)
    assert str(KEY.raw) not in repr(KEY)


# --- with the key ----------------------------------------------------------------------------------------------------


def test_the_pages_are_as_described(path: Path) -> None:
    """The key is that of the docstring, and each page carries the MAC of SQLCipher's fourth format."""
    extracted = hmac.digest(b"", bytes(range(32)), "sha256")
    key = hmac.digest(extracted, b"IronWire device store v1\x01", "sha256")
    assert key == KEY.raw
    filled(path)
    content = path.read_bytes()
    salt = content[:SALT_BYTES]
    mac_key = hashlib.pbkdf2_hmac("sha512", key, bytes(byte ^ 0x3A for byte in salt), 2, 32)
    for number, page in enumerate(pages(content), 1):
        maced = page[SALT_BYTES if number == 1 else 0 : -MAC_BYTES]
        assert page[-MAC_BYTES:] == hmac.digest(mac_key, maced + number.to_bytes(4, "little"), "sha512")


def test_file_and_key_can_be_moved_together(path: Path, tmp_path: Path) -> None:
    filled(path)
    whole = everything(path)
    moved = shutil.move(path.parent, tmp_path / "elsewhere")
    assert everything(Path(moved, path.name)) == whole


def pages(content: bytes) -> list[bytes]:
    return [content[start : start + PAGE_BYTES] for start in range(0, len(content), PAGE_BYTES)]


@frozen
class Whole:
    """A file, what it says, and where to put changed copies of it."""

    content: bytes
    said: list[Sequence[object]]
    copy: Path

    def check(self, content: bytes) -> None:
        """A changed file is an error as soon as the changed page is read, and says nothing else before."""
        self.copy.write_bytes(content)
        with suppress(LocalStoreError):
            assert everything(self.copy) == self.said
        with closing(open_sealed(self.copy, KEY)) as database:
            assert database.execute("PRAGMA cipher_integrity_check").fetchall() != []


@pytest.fixture
def whole(path: Path) -> Whole:
    filled(path)
    return Whole(path.read_bytes(), everything(path), path.with_name("copy.db"))


@in_one_folder
@given(st.integers(0), st.integers(1, 255))
@example(0, 1)
@example(SALT_BYTES, 1)
@example(PAGE_BYTES - 1, 1)
@example(PAGE_BYTES - MAC_BYTES - 1, 1)
def test_any_changed_byte_is_an_error_and_never_another_text(whole: Whole, place: int, change: int) -> None:
    changed = bytearray(whole.content)
    changed[place % len(changed)] ^= change
    whole.check(bytes(changed))


@in_one_folder
@given(st.data())
def test_pages_have_their_places(whole: Whole, data: st.DataObject) -> None:
    order = pages(whole.content)
    first, second = data.draw(st.lists(st.integers(0, len(order) - 1), min_size=2, max_size=2, unique=True))
    order[first], order[second] = order[second], order[first]
    whole.check(b"".join(order))


@in_one_folder
@given(st.data())
def test_a_page_of_another_device_of_the_same_identity_is_refused(whole: Whole, data: st.DataObject) -> None:
    other = whole.copy.with_name("other.db")
    if not other.exists():
        filled(other)
    mixed, foreign = pages(whole.content), pages(other.read_bytes())
    number = data.draw(st.integers(0, len(mixed) - 1))
    mixed[number] = foreign[number]
    whole.check(b"".join(mixed))


@in_one_folder
@given(st.integers(0), st.integers(1, 255))
@example(0, 1)
def test_a_changed_log_takes_back_the_last_changes_or_is_an_error(path: Path, place: int, change: int) -> None:
    """As a crash leaves it. SQLite ends the log where its checksum is wrong, as after a loss of power."""
    crashed = path.with_name("crashed.db")
    with closing(LocalFile.open(path, OWNER, KEY)) as file:
        for seq in range(file.last_number + 1, file.last_number + 5):
            file.apply([Begin(1, seq), Arrive(DeliveredText(BOB, str(seq)), None, seq)])
        said = file.history(BOB, MOST)
        shutil.copy(path, crashed)
        log = bytearray(path.with_name("phone.db-wal").read_bytes())
    log[place % len(log)] ^= change
    crashed.with_name("crashed.db-wal").write_bytes(log)
    with suppress(LocalStoreError):
        found = everything(crashed)[0]
        assert found == said[: len(found)]
    crashed.with_name("crashed.db-wal").unlink(missing_ok=True)
