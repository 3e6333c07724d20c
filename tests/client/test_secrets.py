"""What a device's file keeps of encrypted conversations."""

from pathlib import Path

import pytest
from attrs import evolve

from ironwire.client import Owner, ServerAddress, StoreKey
from ironwire.client.store.file import LocalFile
from ironwire.client.store.records import Absorb, Begin, Queue, Settle
from ironwire.e2e.bodies import FileBody, MessageName, ReactionBody, ReceiptBody, SealedFile, TextBody
from ironwire.e2e.content import Content
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.ids import ClientId, DeviceId, GroupId, MessageId
from ironwire.protocol.conversations.names import pair_id
from ironwire.wire.messages import DeliveredFile, DeliveredReceipt, DeliveredText, File, Gap, Text
from ironwire.wire.messages.conversations import MlsMessage

ALICE, BOB = ClientId("a1" * 32), ClientId("b0" * 32)
PAIR, CLUB = pair_id(ALICE, BOB), GroupId("#" + "f0" * 16)
OWNER = Owner(ALICE, DeviceId("phone"), ServerAddress.parse("http://localhost:8080").origin)
KEY = StoreKey(b"k" * 32)
NOW = 1_790_000_000_000
SEALED = SealedFile("/media/123e4567-e89b-42d3-a456-426614174000.bin", "A" * 43, 100, "5a" * 32)


def opened(body: object, number: int, sender: ClientId = BOB, peer: ClientId | None = BOB) -> ev.OpenedMessage:
    content = Content(MessageId(f"m{number}"), NOW, body)  # type: ignore[arg-type]  # a body
    conversation = PAIR if peer is not None else CLUB
    return ev.OpenedMessage(conversation, peer, (1, 2), sender, b"k" * 32, DeviceId("tablet"), NOW, content, number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "phone.db"


def test_secrets_and_the_position_come_back_as_they_were_kept_in_one_transaction(path: Path) -> None:
    file = LocalFile.open(path, OWNER, KEY)
    file.apply([Begin(1, 0)])
    membership = fx.SavedMembership(PAIR, fx.SavedGroup(b"the first state", b"keys"), None, b"{}")
    package = fx.SavedPackage(b"r" * 32, b"private", True, NOW, NOW + 1, is_published=True)
    log, missing = fx.SavedLog(BOB, b"entries"), fx.Missing(PAIR, BOB, MessageId("m9"), NOW)
    file.apply([Absorb((membership, package, log, missing, opened(TextBody("Hello"), 1), fx.Passed(1, 1)))])
    next_group = fx.SavedGroup(b"next", b"its keys")
    later = fx.SavedMembership(PAIR, fx.SavedGroup(b"later", b"first keys"), next_group, b"{}")
    over = fx.SavedMembership(CLUB, None, None, b"{}")
    file.apply([Absorb((later, fx.SavedMembership(CLUB, fx.SavedGroup(b"club", b"club keys"), None, b"{}")))])
    file.apply([Absorb((over, fx.SavedPackage(b"s" * 32, b"", False, 0, 0)))])
    file.apply([Absorb((fx.SavedKeys(PAIR, b"second keys"),))])
    file.apply([Absorb((fx.DropPackage(b"s" * 32), fx.NoLongerMissing(PAIR, BOB, MessageId("m9"))))])
    file.close()
    file = LocalFile.open(path, OWNER, KEY)
    assert file._database.execute("PRAGMA secure_delete").fetchone() == (1,), "what a new state replaces is overwritten"
    kept = file.secrets()
    assert kept.memberships == [evolve(later, group=fx.SavedGroup(b"later", b"second keys")), over]
    assert file._database.execute("SELECT count(*) FROM message_keys").fetchone() == (1,)
    assert kept.packages == [package]
    assert kept.logs == [log]
    assert kept.missing == []
    assert file.position() == 1
    file.close()


def test_a_batch_that_fails_leaves_nothing(path: Path) -> None:
    file = LocalFile.open(path, OWNER, KEY)
    file.apply([Begin(1, 0)])
    broken = fx.SavedMembership(PAIR, None, None, None)  # type: ignore[arg-type]  # no facts: the table refuses it
    with pytest.raises(Exception, match="NOT NULL"):
        file.apply([Absorb((opened(TextBody("Hello"), 1), fx.Passed(1, 1), broken))])
    assert file.position() == 0
    assert file.unseen(0, 10) == []
    file.close()


def test_encrypted_messages_stand_in_the_history_beside_others(path: Path) -> None:
    file = LocalFile.open(path, OWNER, KEY)
    file.apply([Begin(1, 0)])
    file_body = FileBody(SEALED, name="cat.jpg")
    bodies = [TextBody("Hello"), file_body, ReceiptBody([MessageId("mine")], "read")]
    writes = [opened(body, number) for number, body in enumerate(bodies, 1)]
    reaction = opened(ReactionBody(MessageName(ALICE, MessageId("mine")), "👍"), 4)
    own_copy = opened(TextBody("from my laptop"), 5, sender=ALICE)
    file.apply([Absorb((*writes, reaction, own_copy, fx.Passed(1, 5)))])
    unseen = file.unseen(0, 10)
    kinds = [DeliveredText, DeliveredFile, DeliveredReceipt, MlsMessage, DeliveredText]
    assert [type(kept.frame.message) for kept in unseen] == kinds
    assert [kept.content for kept in unseen] == [each.content for each in (*writes, reaction, own_copy)]
    history = file.history(BOB, 10)
    assert [type(entry.message) for entry in history] == [DeliveredText, DeliveredFile, DeliveredText]
    assert all(entry.is_encrypted for entry in history)
    assert history[1].content is not None
    assert history[1].content.body == file_body
    assert isinstance(history[0].message, DeliveredText)
    assert history[0].message.to is None, "who else it went to is said of one's own messages alone"
    last = history[2].message
    assert isinstance(last, DeliveredText)
    assert (last.sender, last.to) == (ALICE, BOB)
    file.close()


def test_a_message_that_came_again_is_kept_once(path: Path) -> None:
    file = LocalFile.open(path, OWNER, KEY)
    file.apply([Begin(1, 0)])
    file.apply([Absorb((opened(TextBody("Hello"), 1), fx.Passed(1, 1)))])
    again = evolve(opened(TextBody("Hello"), 1), place=(1, 3), ts=NOW + 9, seq=2)
    file.apply([Absorb((again, fx.Passed(2, 2)))])
    assert len(file.history(BOB, 10)) == 1
    assert file.position() == 2
    file.close()


def test_what_is_passed_together_is_no_gap(path: Path) -> None:
    file = LocalFile.open(path, OWNER, KEY)
    file.apply([Begin(1, 0), Absorb((fx.Passed(1, 1),))])
    file.apply([Absorb((fx.Passed(2, 2), opened(TextBody("Hello"), 3), fx.Passed(3, 3)))])
    assert [type(kept.frame.message) for kept in file.unseen(0, 10)] == [DeliveredText]
    assert file.position() == 3
    file.close()


def test_a_file_that_was_put_back_from_a_copy_is_noticed(path: Path) -> None:
    file = LocalFile.open(path, OWNER, KEY)
    file.apply([Begin(1, 0)])
    file.apply([Absorb((opened(TextBody("one"), 1), fx.Passed(1, 1)))])
    file.apply([Absorb((opened(TextBody("five"), 5), fx.Passed(5, 5)))])
    (gap,) = [kept.frame.message for kept in file.unseen(0, 10) if isinstance(kept.frame.message, Gap)]
    assert gap == Gap(2, 4, "expired", more_groups=True)
    file.close()


def test_own_messages_are_recalled_with_what_the_frame_has_no_room_for(path: Path) -> None:
    file = LocalFile.open(path, OWNER, KEY)
    body = FileBody(SEALED)
    text, sealed = Text(BOB, "Hello"), File(BOB, SEALED.url)
    file.apply([Queue(MessageId("t"), text, NOW), Queue(MessageId("f"), sealed, NOW, None, body)])
    assert [(each.id, each.body) for each in file.queued(10)] == [("t", None), ("f", body)]
    file.apply([Settle(MessageId("t"), NOW + 1, is_encrypted=True), Settle(MessageId("f"), NOW + 2, is_encrypted=True)])
    ids = [MessageId("t"), MessageId("f"), MessageId("unknown")]
    assert file.recall(BOB, ids) == [
        fx.Recalled(MessageId("t"), TextBody("Hello"), NOW + 1),
        fx.Recalled(MessageId("f"), body, NOW + 2),
    ]
    assert file.recall(CLUB, ids) == []
    assert [entry.is_encrypted for entry in file.history(BOB, 10)] == [True, True]
    file.close()
