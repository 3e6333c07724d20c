"""The names beside key files, on several computers of one person: all come to say the same."""

import os
import tempfile
from pathlib import Path

import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.devicebook import DeviceBook
from ironwire.cli.shared_books import bring_together, changes_here, take_changes
from ironwire.client import Identity
from ironwire.e2e.own_records import OwnRecords
from ironwire.ids import ClientId, DeviceId

PEOPLE = [Identity.from_seed(name.ljust(32, b".")).client_id for name in (b"bob", b"eve")]
KEYS = ["a1" * 32, "b2" * 32, "c3" * 32]
NAMES = ["bob", "eve"]
DESK = DeviceId("desk")


@define(eq=False)
class Computer:
    """A folder with books, and what its device knows. It stands for the client too."""

    key: Path
    device_key: str
    records: OwnRecords = field(factory=OwnRecords)
    now_ms: int = 0
    device: DeviceId = DESK

    @property
    def device_log(self) -> "Computer":
        return self

    @property
    def own_records(self) -> list[iw.OwnRecord]:
        return list(self.records)

    async def change_own(self, changes: list[tuple[iw.OwnKind, str, str]]) -> None:
        await trio.lowlevel.checkpoint()
        for kind, key, value in changes:
            self.records.change(kind, key, value, self.now_ms, self.device_key)

    async def look(self) -> None:
        await bring_together(self, self.key)  # type: ignore[arg-type]  # as much of a client as is asked for

    def content(self) -> tuple[dict[str, str], list[ClientId], dict[str, str]]:
        book = AddressBook.beside(self.key)
        return dict(book.all()), book.verified(), DeviceBook.beside(self.key).given_names()


COMPUTERS = st.integers(0, 2)
ADD = st.tuples(st.just("add"), COMPUTERS, st.sampled_from(NAMES), st.sampled_from(PEOPLE))
REMOVE = st.tuples(st.just("remove"), COMPUTERS, st.sampled_from(NAMES), st.none())
VERIFY = st.tuples(st.just("verify"), COMPUTERS, st.sampled_from(PEOPLE), st.sampled_from([7, None]))
RENAME = st.tuples(st.just("rename"), COMPUTERS, st.sampled_from(KEYS), st.sampled_from(["my phone", "my desk"]))
LOOK = st.tuples(st.just("look"), COMPUTERS, st.none(), st.none())
MEET = st.tuples(st.just("meet"), COMPUTERS, COMPUTERS, st.none())


def act(computers: list[Computer], step: tuple[object, ...]) -> None:
    kind, index, one, two = step
    computer = computers[int(str(index))]
    book = AddressBook.beside(computer.key)
    if kind == "add":
        book.add(str(one), ClientId(str(two)))
    elif kind == "remove" and one in book.all():
        book.remove(str(one))
    elif kind == "verify":
        book.verify(ClientId(str(one)), 7 if two else None)
    elif kind == "rename":
        devices = DeviceBook.beside(computer.key)
        if two not in devices.names:
            devices.rename(str(one), str(two))
    elif kind == "look":
        trio.run(computer.look)
    elif kind == "meet":
        computer.records.merge(computers[int(str(one))].records)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(ADD, REMOVE, VERIFY, RENAME, LOOK, MEET), max_size=15))
def test_all_computers_come_to_say_the_same(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        computers = [Computer(Path(folder, str(number), "key"), key) for number, key in enumerate(KEYS)]
        for number, step in enumerate(steps):
            for computer in computers:
                computer.now_ms = number
            act(computers, step)
        for _ in range(2):
            for computer in computers:
                trio.run(computer.look)
            for one in computers:
                for other in computers:
                    one.records.merge(other.records)
            for computer in computers:
                trio.run(computer.look)
        people = [computer.content()[:2] for computer in computers]
        assert people[0] == people[1] == people[2]
        for computer in computers:
            assert changes_here(computer.key) == [], "nothing is left to be said"


async def test_the_last_word_on_a_computer_is_the_one_that_holds(tmp_path: Path) -> None:
    desk, laptop = Computer(tmp_path / "desk" / "key", KEYS[0]), Computer(tmp_path / "laptop" / "key", KEYS[1])
    AddressBook.beside(desk.key).add("bob", PEOPLE[0])
    await desk.look()
    laptop.records.merge(desk.records)
    await laptop.look()
    assert AddressBook.beside(laptop.key).all() == {"bob": PEOPLE[0]}
    AddressBook.beside(laptop.key).remove("bob")
    await laptop.look()
    desk.records.merge(laptop.records)
    await desk.look()
    assert AddressBook.beside(desk.key).all() == {}


async def test_what_a_person_says_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    desk = Computer(tmp_path / "desk" / "key", KEYS[0])
    desk.records.change("contact", "bob", PEOPLE[0], 1, KEYS[1])
    AddressBook.beside(desk.key).add("bob", PEOPLE[1])
    take_changes(desk.own_records, desk.key)
    assert AddressBook.beside(desk.key).all() == {"bob": PEOPLE[1]}
    await desk.look()
    assert [each.value for each in desk.own_records] == [PEOPLE[1]]


async def test_names_that_these_files_do_not_allow_stay_with_the_device(tmp_path: Path) -> None:
    desk = Computer(tmp_path / "desk" / "key", KEYS[0])
    for kind, key, value in (("contact", "two words", PEOPLE[0]), ("device", KEYS[1], "deadbeef")):
        desk.records.change(kind, key, value, 1, KEYS[1])  # type: ignore[arg-type]  # kinds
    await desk.look()
    assert desk.content() == ({}, [], {})
    assert len(desk.own_records) == 2


async def test_a_device_tells_how_it_calls_itself(tmp_path: Path) -> None:
    desk = Computer(tmp_path / "desk" / "key", KEYS[0])
    await desk.look()
    assert desk.own_records == [], "with an empty book nothing in the device log is news"
    DeviceBook.beside(desk.key).rename(KEYS[1], "laptop")
    await desk.look()
    assert {each.key: each.value for each in desk.own_records} == {KEYS[0]: "desk", KEYS[1]: "laptop"}
    assert os.stat(desk.key.with_name("key.shared")).st_mode & 0o077 == 0
