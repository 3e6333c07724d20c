"""The conversations of a device, out of its file: which there are, in what order, and what in them is unread."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ironwire.client import Owner, ServerAddress, StoreKey
from ironwire.client.store.file import LocalFile
from ironwire.client.store.records import Arrive, MarkRead, Queue, Settle
from ironwire.ids import ClientId, DeviceId, GroupId, MessageId
from ironwire.wire.messages import DeliveredText, GroupChanged, Text

ALICE = ClientId("a1" * 32)
BOB = ClientId("b0" * 32)
CAROL = ClientId("c0" * 32)
FRIENDS = GroupId("#" + "f0" * 16)
PHONE = DeviceId("phone")
LAPTOP = DeviceId("laptop")
OWNER = Owner(ALICE, PHONE, ServerAddress.parse("http://localhost:8080").origin)
KEY = StoreKey(b"k" * 32)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LocalFile]:
    with closing(LocalFile.open(tmp_path / "phone.db", OWNER, KEY)) as file:
        yield file


def listed(file: LocalFile) -> list[tuple[str, str, int]]:
    return [(each.peer, getattr(each.last.message, "text", ""), each.unread) for each in file.conversations()]


def test_the_one_that_changed_last_comes_first(file: LocalFile) -> None:
    assert listed(file) == []
    file.apply([Arrive(DeliveredText(BOB, "hi"), None, 1), Arrive(DeliveredText(CAROL, "hello"), None, 2)])
    assert listed(file) == [(CAROL, "hello", 1), (BOB, "hi", 1)]
    file.apply([Queue(MessageId("m"), Text(BOB, "hi yourself"), 7)])
    assert listed(file) == [(BOB, "hi yourself", 1), (CAROL, "hello", 1)]
    file.apply([Arrive(DeliveredText(CAROL, "hi all", group=FRIENDS), None, 3)])
    assert listed(file) == [(FRIENDS, "hi all", 1), (BOB, "hi yourself", 1), (CAROL, "hello", 1)]


def test_only_what_others_said_is_unread(file: LocalFile) -> None:
    copy = DeliveredText(ALICE, "from my laptop", device=LAPTOP, group=FRIENDS)
    change = GroupChanged(FRIENDS, 2, BOB, [], [], [], "Friends")
    said = DeliveredText(BOB, "hi all", group=FRIENDS)
    file.apply([Arrive(said, None, 1), Arrive(copy, None, 2), Arrive(change, None, 3), Arrive(said, None, 4)])
    ((_, last, unread),) = listed(file)
    assert (last, unread) == ("hi all", 2)


def test_what_was_read_stays_read(tmp_path: Path) -> None:
    with closing(LocalFile.open(tmp_path / "phone.db", OWNER, KEY)) as file:
        file.apply([Arrive(DeliveredText(BOB, str(seq)), None, seq) for seq in (1, 2, 3)])
        second = file.history(BOB, 10)[1].number
        file.apply([MarkRead(BOB, second)])
        file.apply([MarkRead(BOB, second - 1), MarkRead(CAROL, 99)])
        assert listed(file) == [(BOB, "3", 1)]
    with closing(LocalFile.open(tmp_path / "phone.db", OWNER, KEY)) as again:
        assert listed(again) == [(BOB, "3", 1)]


def test_what_is_not_there_yet_is_not_read(file: LocalFile) -> None:
    file.apply([Arrive(DeliveredText(BOB, "1"), None, 1), MarkRead(BOB, 1_000)])
    file.apply([Arrive(DeliveredText(BOB, "2"), None, 2)])
    assert listed(file) == [(BOB, "2", 1)]


def test_an_entry_says_why_it_was_refused(file: LocalFile) -> None:
    file.apply([Queue(MessageId(word), Text(BOB, word), 0) for word in ("one", "two")])
    file.apply([Settle(MessageId("one"), 5), Settle(MessageId("two"), None, "mailbox_full")])
    assert [(entry.state, entry.reason) for entry in file.history(BOB, 9)] == [
        ("accepted", None),
        ("refused", "mailbox_full"),
    ]


def test_a_note_that_came_back_alone_is_no_conversation(file: LocalFile) -> None:
    """To a device whose file is new: it shows what it sent itself, and of that it has nothing."""
    file.apply([Arrive(DeliveredText(ALICE, "note", device=PHONE), None, 1)])
    assert listed(file) == []


def test_a_group_has_the_name_of_the_last_change_that_gave_it_one(file: LocalFile) -> None:
    other = GroupId("#" + "0e" * 16)
    file.apply(
        [
            Arrive(GroupChanged(FRIENDS, 1, BOB, [ALICE, BOB], [], [], "First"), None, 1),
            Arrive(GroupChanged(FRIENDS, 2, BOB, [], [], [], 'The "name": Friends'), None, 2),
            Arrive(GroupChanged(FRIENDS, 3, BOB, [CAROL], [], []), None, 3),
            Arrive(DeliveredText(BOB, '"name":"Other"', group=FRIENDS), None, 4),
            Arrive(GroupChanged(other, 7, BOB, [ALICE], [], []), None, 5),
        ]
    )
    assert file.group_names() == {FRIENDS: 'The "name": Friends'}
