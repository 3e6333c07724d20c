"""A device's file, held against the simplest model of it: after any changes and any reopening both say the same."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ironwire.client import HistoryEntry, LocalStoreError, Owner, ServerAddress, StoreKey
from ironwire.client.store.file import LocalFile, as_local_store_error
from ironwire.client.store.reading import read_history
from ironwire.client.store.records import Arrive, Begin, Change, Finish, GiveNumber, MarkRead, Queue, Settle
from ironwire.ids import ClientId, DeviceId, MessageId
from ironwire.store.sqlite.migrations import load_migrations
from ironwire.wire.messages import DeliveredText, Gap, Receipt, Text

ALICE = ClientId("a1" * 32)
BOB = ClientId("b0" * 32)
OWNER = Owner(ALICE, DeviceId("phone"), ServerAddress.parse("http://localhost:8080").origin)
KEY = StoreKey(b"k" * 32)

numbers = st.integers(1, 12)


@define
class Model:
    """What the file has to hold. Everything is written as the pair of a kind and a word."""

    epoch: int = 0
    seq: int = 0
    unseen: list[str] = field(factory=list)
    """In the order of arrival: what came and is not finished."""
    queued: dict[str, str] = field(factory=dict)
    numbers: dict[int, str] = field(factory=dict)
    """The queued messages, by the number under which each may have been sent."""
    highest: int = 0
    history: list[list[str]] = field(factory=list)
    """State and text of each entry of the conversation."""
    unread: int = 0


class FileMachine(RuleBasedStateMachine):
    """Batches of changes gather in `batch`; `commit` applies them, `crash` loses them and closes the file."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "phone.db")
        self.file = LocalFile.open(self.path, OWNER, KEY)
        self.model = Model()
        self.words = 0

    def teardown(self) -> None:
        self.file.close()
        self.folder.cleanup()

    def word(self) -> str:
        self.words += 1
        return f"word {self.words}"

    @rule(epoch=st.integers(1, 3), tail=numbers, sent=st.integers(0, 5))
    def begin(self, epoch: int, tail: int, sent: int) -> None:
        self.file.apply([Begin(epoch, tail, sent)])
        if epoch != self.model.epoch or sent > self.model.highest:
            self.model.numbers, self.model.highest = {}, sent
        if epoch != self.model.epoch or self.model.seq > tail:
            self.model.epoch, self.model.seq = epoch, 0

    @rule(first=numbers, count=st.integers(1, 5))
    def deliver(self, first: int, count: int) -> None:
        changes: list[Change] = []
        for seq in range(first, first + count):
            word = self.word()
            changes.append(Arrive(DeliveredText(BOB, word), None, seq))
            if seq > self.model.seq:
                if 0 < self.model.seq < seq - 1:
                    self.model.unseen.append(f"gap {self.model.seq + 1} {seq - 1}")
                self.model.seq = seq
                self.model.unseen.append(word)
                self.model.unread += 1
                self.model.history.append(["received", word])
        self.file.apply(changes)

    @rule(first=numbers, length=st.integers(0, 5))
    def miss(self, first: int, length: int) -> None:
        self.file.apply([Arrive(Gap(first, first + length, "expired"), None, first + length)])
        if first + length > self.model.seq:
            self.model.unseen.append(f"gap {max(first, self.model.seq + 1)} {first + length}")
            self.model.seq = first + length

    @rule(is_receipt=st.booleans(), n=st.none() | st.integers(1, 5))
    def queue(self, is_receipt: bool, n: int | None) -> None:
        word = self.word()
        message = Receipt(BOB, [MessageId(word)], "read") if is_receipt else Text(BOB, word)
        self.file.apply([Queue(MessageId(word), message, 0, n)])
        if n is not None:
            self.model.numbers[n] = word
            self.model.highest = max(self.model.highest, n)
        self.model.queued[word] = "receipt" if is_receipt else "text"
        if not is_receipt:
            self.model.history.append(["queued", word])

    @rule(n=st.integers(1, 5), data=st.data())
    def number(self, n: int, data: st.DataObject) -> None:
        if self.model.queued:
            word = data.draw(st.sampled_from([*self.model.queued]))
            self.file.apply([GiveNumber(MessageId(word), n)])
            self.model.numbers = {each: other for each, other in self.model.numbers.items() if other != word}
            self.model.numbers[n] = word
            self.model.highest = max(self.model.highest, n)

    @rule(is_accepted=st.booleans(), data=st.data())
    def settle(self, is_accepted: bool, data: st.DataObject) -> None:
        word = data.draw(st.sampled_from([*self.model.queued, "nobody knows"]))
        self.file.apply([Settle(MessageId(word), 1) if is_accepted else Settle(MessageId(word), None, "quota")])
        self.model.numbers = {n: each for n, each in self.model.numbers.items() if each != word}
        self.model.queued.pop(word, None)
        for entry in self.model.history:
            if entry == ["queued", word]:
                entry[0] = "accepted" if is_accepted else "refused"

    @rule(count=st.integers(1, 4))
    def finish(self, count: int) -> None:
        unseen = self.file.unseen(0, count)
        if unseen:
            self.file.apply([Finish(unseen[-1].number)])
            del self.model.unseen[:count]

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        history = self.file.history(BOB, 1_000)
        place = data.draw(st.integers(0, len(history)))
        upto = history[place].number if place < len(history) else 1_000_000
        self.file.apply([MarkRead(BOB, upto)])
        left = sum(entry.state == "received" and entry.number > upto for entry in history)
        self.model.unread = min(self.model.unread, left)

    @rule()
    def fail(self) -> None:
        """A batch of which the last change cannot be made is not made at all."""
        broken = Settle(MessageId("x"), 2**80)  # more than SQLite holds
        arrival = Arrive(DeliveredText(BOB, "lost"), None, 99)
        with pytest.raises(OverflowError):
            self.file.apply([Queue(MessageId("lost"), Text(BOB, "lost"), 0), arrival, broken])

    @rule()
    def reopen(self) -> None:
        self.file.close()
        self.file = LocalFile.open(self.path, OWNER, KEY)

    @invariant()
    def both_say_the_same(self) -> None:
        frames = [kept.frame.message for kept in self.file.unseen(0, 1_000)]
        said = [
            f"gap {each.first} {each.last}" if isinstance(each, Gap) else getattr(each, "text", "") for each in frames
        ]
        assert said == self.model.unseen
        numbered = self.file.numbered()
        assert (numbered.epoch, numbered.highest) == (self.model.epoch, self.model.highest)
        assert {each.n: each.id for each in numbered.queued if each.n is not None} == self.model.numbers
        assert [each.id for each in numbered.queued] == self.sent_or_before()
        assert [each.id for each in self.file.queued(1_000)] == [*self.model.queued]
        history = [[entry.state, getattr(entry.message, "text", "")] for entry in self.file.history(BOB, 1_000)]
        assert history == self.model.history
        assert read_history(self.path, OWNER, KEY, BOB, 3) == self.file.history(BOB, 3)
        assert [*self.pages(3)] == self.file.history(BOB, 1_000)[::-1]
        found = [(each.peer, each.last, each.unread) for each in self.file.conversations()]
        assert found == [(BOB, entry, self.model.unread) for entry in self.file.history(BOB, 1)]

    def sent_or_before(self) -> list[str]:
        """What has a number, and the texts, which all go to Bob, before the last of that. Receipts keep no order."""
        ids, kinds, numbered = [*self.model.queued], self.model.queued, set(self.model.numbers.values())
        upto = max((ids.index(each) + 1 for each in numbered), default=0)
        kept = "text" if any(kinds[each] == "text" for each in numbered) else None
        return [each for each in ids[:upto] if each in numbered or kinds[each] == kept]

    def pages(self, size: int) -> Iterator[HistoryEntry]:
        """Everything, the newest first, read backwards page by page."""
        before = None
        while page := self.file.history(BOB, size, before):
            assert len(page) <= size
            yield from reversed(page)
            before = page[0].number


def _said(message: object) -> str:
    return f"gap {message.first} {message.last}" if isinstance(message, Gap) else getattr(message, "text", "")


TestFile = FileMachine.TestCase
TestFile.settings = settings(max_examples=20, deadline=None)  # every change waits for the disk


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    file = LocalFile.open(path, OWNER, KEY)
    newest = max(load_migrations("ironwire.client.store"))
    file._database.execute(f"PRAGMA user_version = {newest + 1}")
    file.close()
    with pytest.raises(LocalStoreError, match="install the newer one"), as_local_store_error(path):
        LocalFile.open(path, OWNER, KEY)
    with pytest.raises(LocalStoreError, match="install the newer one"):
        read_history(path, OWNER, KEY, BOB, 1)
