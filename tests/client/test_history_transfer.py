"""History for a newly linked device, on the server of this project: after a yes, through cuts, and nothing twice."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from attrs import evolve

from ironwire.client import (
    Client,
    DeliveredFile,
    DeliveredText,
    Event,
    HistoryEntry,
    HistoryProgress,
    OwnRecordsChanged,
    upload,
)
from ironwire.client import history as transfer
from ironwire.client.store.records import Absorb
from ironwire.e2e.bodies import FileBody, HistoryManifest, HistoryPart
from ironwire.e2e.conversations.effects import SavedManifest
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from tests.client.test_encryption import ADDRESS, SEALED, Person, identity_of, people, person
from tests.client.test_with_the_server import Dialler
from tests.server.in_process import serve_in_process

BOB = identity_of("bob").client_id
ALICE = identity_of("alice").client_id


@pytest.fixture
async def dial(tmp_path: Path) -> AsyncIterator[Dialler]:
    settings = Settings(data=tmp_path / "data", auth=AuthSettings(origins=(ADDRESS.origin,)))
    with trio.fail_after(60):
        async with serve_in_process(create_app(settings), limits=settings.limits) as server:
            yield Dialler(server)


def key_of(client: Client) -> str:
    key = client.device_log.device_key
    assert key is not None
    return key


def is_complete(event: Event) -> bool:
    return isinstance(event, HistoryProgress) and event.is_complete


async def comes_in(phone: Person, device: str) -> None:
    """The own device with this key reads what `phone` says to its client's devices."""
    encryption = phone.client._link.encryption
    assert encryption is not None
    while not encryption.engine.own_devices.is_everywhere(bytes.fromhex(device)):  # noqa: ASYNC110 - nobody is told
        await trio.sleep(0.1)


async def texts(client: Client, peer: str = BOB) -> list[str]:
    entries: list[HistoryEntry] = await client.history(peer, 1000)  # type: ignore[arg-type]  # an address
    return [entry.message.text for entry in entries if isinstance(entry.message, DeliveredText)]


async def test_a_new_device_gets_what_was_said_and_marks_it(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (phone, bob):
        await phone.client.send_text(BOB, "Hello, Bob")
        await bob.reads("Hello, Bob")
        await bob.client.send_text(ALICE, "Hello, Alice")
        await phone.reads("Hello, Alice")
        await phone.client.send_sealed_file(BOB, FileBody(SEALED, "file", "plan.pdf", caption="The plan"))
        await phone.client.send_text(ALICE, "a note")
        async with person("alice.laptop", dial, tmp_path) as laptop:
            assert await texts(laptop.client) == [], "nothing is given without a yes"
            await phone.client.own_history.give(key_of(laptop.client), 0)
            given = await phone.sees(is_complete)
            told = await laptop.sees(is_complete)
            assert (given, told) == (
                HistoryProgress(key_of(laptop.client), True, 4, 4, True),
                HistoryProgress(key_of(phone.client), False, 4, 4, True),
            )
            entries = await laptop.client.history(BOB, 10)
            assert [entry.told_by for entry in entries] == [key_of(phone.client)] * 3
            assert [(entry.message.sender, entry.message.to) for entry in entries] == [  # type: ignore[union-attr]
                (ALICE, BOB),
                (BOB, None),
                (ALICE, BOB),
            ]
            assert [entry.is_encrypted for entry in entries] == [True] * 3
            file = entries[-1]
            assert isinstance(file.message, DeliveredFile)
            assert (file.message.name, file.message.caption) == ("plan.pdf", "The plan")
            assert file.content is not None
            assert isinstance(file.content.body, FileBody)
            assert file.content.body.file == SEALED, "the key of the file came too"
            assert await texts(laptop.client, ALICE) == ["a note"]
            assert [each.unread for each in await laptop.client.conversations()] == [0, 0]
            await bob.client.send_text(ALICE, "to both")
            await laptop.reads("to both")
            assert (await texts(laptop.client))[-1] == "to both"
            (last,) = await laptop.client.history(BOB, 1)
            assert last.told_by is None


async def test_nothing_is_there_twice_however_often_it_is_told(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (phone, bob):
        await bob.client.send_text(ALICE, "before")
        await phone.reads("before")
        async with person("alice.laptop", dial, tmp_path) as laptop:
            await phone.client.own_history.give(key_of(laptop.client), 0)
            await laptop.sees(is_complete)
            await bob.client.send_text(ALICE, "after")
            await laptop.reads("after")
            await phone.reads("after")
            laptop.events.clear()
            await phone.client.own_history.give(key_of(laptop.client), 0)
            await laptop.sees(is_complete)
            assert await texts(laptop.client) == ["before", "after"]
            entries = await laptop.client.history(BOB, 10)
            assert [entry.told_by is None for entry in entries] == [False, True]


async def test_only_the_last_days_where_that_was_the_yes(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (phone, bob):
        await bob.client.send_text(ALICE, "long ago")
        await phone.reads("long ago")
        accepted = await phone.client.send_text(BOB, "today")
        async with person("alice.laptop", dial, tmp_path) as laptop:
            await phone.client.own_history.give(key_of(laptop.client), accepted.ts)
            await laptop.sees(is_complete)
            assert await texts(laptop.client) == ["today"]


async def test_an_empty_history_is_complete_too(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "alice.laptop") as (phone, laptop):
        await phone.client.own_history.give(key_of(laptop.client), 0)
        assert await phone.sees(is_complete) == HistoryProgress(key_of(laptop.client), True, 0, 0, True)


async def test_both_sides_go_on_after_they_ended_in_between(
    dial: Dialler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PART_BYTES", 20_000)
    monkeypatch.setattr(transfer, "PAGE_MESSAGES", 7)
    said = [f"{number} {identity_of(str(number)).client_id * 20}" for number in range(60)]
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (phone, bob):
        for text in said:
            await bob.client.send_text(ALICE, text)
        await phone.reads(said[-1])
    async with people(dial, tmp_path, "alice.phone", "alice.laptop") as (phone, laptop):
        new = key_of(laptop.client)
        await comes_in(phone, new)
    async with person("alice.phone", dial, tmp_path) as phone:
        await phone.client.own_history.give(new, 0)
        await phone.sees(lambda event: isinstance(event, HistoryProgress) and not event.is_complete)
    async with person("alice.laptop", dial, tmp_path) as laptop:
        await laptop.sees(lambda event: isinstance(event, HistoryProgress))
        some = await texts(laptop.client)
        assert 0 < len(some) < 60
        assert some == said[-len(some) :], "the newest come first, in their order"
    async with person("alice.phone", dial, tmp_path) as phone:
        given = await phone.sees(is_complete)
        assert isinstance(given, HistoryProgress)
        assert (given.done, given.total) == (60, 60)
    async with person("alice.laptop", dial, tmp_path) as laptop:
        await laptop.sees(is_complete)
        assert await texts(laptop.client) == said
        assert not [*(tmp_path / "alice.laptop").glob("*.history-*")]


async def test_a_revoked_device_gets_nothing(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (phone, bob):
        await bob.client.send_text(ALICE, "secret")
        await phone.reads("secret")
        async with person("alice.laptop", dial, tmp_path) as laptop:
            stranger = key_of(laptop.client)
        await phone.client.device_log.revoke(stranger)
        await phone.client.own_history.give(stranger, 0)
        await trio.sleep(1)
        assert not [event for event in phone.events if isinstance(event, HistoryProgress)]


@pytest.mark.parametrize("what", ["gone", "another"])
async def test_a_part_that_cannot_be_had_is_given_up_and_said(
    dial: Dialler, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "RETRY_SECONDS", 0.1)
    async with people(dial, tmp_path, "alice.phone", "alice.laptop") as (phone, laptop):
        url = SEALED.url
        if what == "another":
            (tmp_path / "file").write_bytes(b"something else" * 100)
            url = (await upload(ADDRESS, tmp_path / "file", token=await phone.client.upload_token(), dial=dial)).url
        manifest = HistoryManifest(key_of(laptop.client), [HistoryPart(evolve(SEALED, url=url), 1, 1, 1)], 1, True)
        link = laptop.client._link
        await link.write_queue.commit(Absorb((SavedManifest(b"p" * 32, manifest),)))  # type: ignore[union-attr]
        link.encryption.note_history()  # type: ignore[union-attr]
        event = await laptop.sees(lambda event: isinstance(event, HistoryProgress) and bool(event.problem))
        assert isinstance(event, HistoryProgress)
        assert (event.done, event.is_complete) == (0, True)


async def test_names_given_on_one_device_come_to_the_other(dial: Dialler, tmp_path: Path) -> None:
    async with person("alice.phone", dial, tmp_path) as phone:
        await phone.client.change_own([("contact", "bob", BOB), ("verified", BOB, "yes")])
    async with people(dial, tmp_path, "alice.phone", "alice.laptop") as (phone, laptop):
        await laptop.sees(lambda event: isinstance(event, OwnRecordsChanged))
        assert [(each.kind, each.key, each.value) for each in laptop.client.own_records] == [
            ("contact", "bob", BOB),
            ("verified", BOB, "yes"),
        ]
    async with person("alice.laptop", dial, tmp_path) as laptop:
        assert len(laptop.client.own_records) == 2, "it is in the file"


async def test_what_one_device_says_is_the_own_word_on_the_other(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "alice.laptop", "bob.phone") as (phone, laptop, bob):
        await phone.client.send_text(BOB, "from the phone")
        await bob.reads("from the phone")
        await laptop.reads("from the phone")
        group = await phone.client.groups.create([BOB], "Friends")
        await phone.client.send_text(group, "to the group")
        await laptop.reads("to the group")
        for peer in (BOB, group):
            (entry,) = [
                each for each in await laptop.client.history(peer, 10) if isinstance(each.message, DeliveredText)
            ]
            assert isinstance(entry.message, DeliveredText)
            assert (entry.message.sender, entry.message.device, entry.told_by) == (ALICE, "phone", None)
            assert peer in (entry.message.to, entry.message.group)
