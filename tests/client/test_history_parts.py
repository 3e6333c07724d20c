"""What another own device has told, in a device's file: once, and before everything that came to this device itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from ironwire.client import HistoryEntry, Owner, ServerAddress, StoreKey
from ironwire.client.store import history_parts
from ironwire.client.store.file import LocalFile
from ironwire.client.store.records import ABOVE_ALL, Absorb, Arrive, Begin, Queue, Settle, TellHistory
from ironwire.e2e.archive import ArchivedMessage
from ironwire.e2e.bodies import MessageName, ReactionBody, TextBody
from ironwire.e2e.content import Content
from ironwire.e2e.conversations.events import OpenedMessage
from ironwire.ids import ClientId, DeviceId, GroupId, MessageId
from ironwire.protocol.conversations.names import pair_id
from ironwire.wire.messages import DeliveredFile, DeliveredText, GroupChanged, Text

ALICE, BOB, EVE = ClientId("a1" * 32), ClientId("b0" * 32), ClientId("e0" * 32)
FRIENDS = GroupId("#" + "0f" * 16)
PAIR = pair_id(ALICE, BOB)
OWNER = Owner(ALICE, DeviceId("laptop"), ServerAddress.parse("http://localhost:8080").origin)
SOURCE = "d0" * 32


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LocalFile]:
    opened = LocalFile.open(tmp_path / "laptop.db", OWNER, StoreKey(b"k" * 32))
    opened.apply([Begin(1, 0)])
    yield opened
    opened.close()


def said(number: int, sender: ClientId = BOB, **changes: object) -> ArchivedMessage:
    content = Content(MessageId(str(number)), number, TextBody(f"text {number}"))
    to = BOB if sender == ALICE else None
    return evolve(ArchivedMessage(PAIR, sender, number, content, to), **changes)  # type: ignore[arg-type]  # fields


def opened(number: int, seq: int) -> OpenedMessage:
    content = Content(MessageId(str(number)), number, TextBody(f"text {number}"))
    return OpenedMessage(PAIR, BOB, (1, 1), BOB, b"", DeviceId("pc"), number, content, seq)


def texts(entries: list[HistoryEntry]) -> list[str]:
    return [each.message.text for each in entries if isinstance(each.message, DeliveredText)]


def test_it_stands_before_what_came_itself_newest_last(file: LocalFile) -> None:
    file.apply([Absorb((opened(9, 1),))])
    file.apply([TellHistory(SOURCE, (said(8), said(7, ALICE)))])
    file.apply([TellHistory(SOURCE, (said(6),))])
    entries = file.history(BOB, 10)
    assert texts(entries) == ["text 6", "text 7", "text 8", "text 9"]
    assert [each.told_by for each in entries] == [SOURCE] * 3 + [None]
    assert texts(file.history(BOB, 2, before=entries[2].number)) == ["text 6", "text 7"]
    assert [(each.peer, each.unread) for each in file.conversations()] == [(BOB, 1)]


def test_what_is_there_is_not_told_and_what_comes_itself_takes_its_place(file: LocalFile) -> None:
    file.apply([Absorb((opened(1, 1),)), TellHistory(SOURCE, (said(2), said(1), said(2)))])
    assert texts(file.history(BOB, 10)) == ["text 2", "text 1"]
    file.apply([Absorb((opened(2, 2),))])
    entries = file.history(BOB, 10)
    assert (texts(entries), [each.told_by for each in entries]) == (["text 1", "text 2"], [None, None])
    file.apply([Arrive(DeliveredText(EVE, "plain", 5, DeviceId("pc")), MessageId("5"), 3)])
    plain = Content(MessageId("5"), 5, TextBody("plain"))
    file.apply([TellHistory(SOURCE, (ArchivedMessage(pair_id(ALICE, EVE), EVE, 5, plain),))])
    assert len(file.history(EVE, 10)) == 1


def test_what_is_not_of_this_client_or_no_part_of_a_history_is_left_out(file: LocalFile) -> None:
    reaction = Content(MessageId("3"), 3, ReactionBody(MessageName(BOB, MessageId("1")), "x"))
    foreign = (said(1, conversation=pair_id(BOB, EVE)), said(2, ALICE, to=None), said(3, content=reaction))
    file.apply([TellHistory(SOURCE, foreign)])
    assert file.conversations() == []


def test_what_went_in_the_clear_is_marked_so(file: LocalFile) -> None:
    file.apply([TellHistory(SOURCE, (said(2, is_plain=True), said(1)))])
    assert [each.is_encrypted for each in file.history(BOB, 10)] == [True, False]
    assert [(each.peer, each.unread) for each in file.conversations()] == [(BOB, 0)], "also in a new file"


def test_texts_are_given_and_what_has_no_words_of_people_is_not(file: LocalFile) -> None:
    file.apply(
        [
            Absorb((opened(1, 1),)),
            Queue(MessageId("2"), Text(BOB, "mine"), 2),
            Settle(MessageId("2"), 2),
            Queue(MessageId("3"), Text(BOB, "not sent"), 3),
            Arrive(DeliveredFile(BOB, "/media/123e4567-e89b-42d3-a456-426614174000.bin", ts=4), MessageId("4"), 2),
            Arrive(GroupChanged(FRIENDS, 1, BOB, [], [], [], name="Friends", ts=5), None, 3),
            Arrive(DeliveredText(BOB, "to all", 6, DeviceId("pc"), group=FRIENDS), MessageId("6"), 4),
            Queue(MessageId("7"), Text(ALICE, "a note"), 7),
            Settle(MessageId("7"), 7, is_encrypted=True),
        ]
    )
    page = history_parts.given(0, ABOVE_ALL, 10, *file.content)
    told = [(each.conversation, each.sender, each.to, each.content.id, each.is_plain) for _, each in page]
    assert told == [
        (pair_id(ALICE, ALICE), ALICE, ALICE, "7", False),
        (FRIENDS, BOB, None, "6", True),
        (PAIR, ALICE, BOB, "2", True),
        (PAIR, BOB, None, "1", False),
    ]
    assert history_parts.count_given(0, ABOVE_ALL, *file.content) == 4
    assert history_parts.count_given(6, ABOVE_ALL, *file.content) == 2
    assert [number for number, _ in history_parts.given(0, page[1][0], 10, *file.content)] == [
        number for number, _ in page[2:]
    ]
