"""Edits, deletions and reactions, between clients with device keys, on the server of this project."""

from pathlib import Path

import pytest

from ironwire.client import Event, Received, Refused
from ironwire.e2e.bodies import AnyBody, DeleteBody, EditBody
from ironwire.ids import MessageId
from tests.client.test_encryption import Person, dial, identity_of, people, person
from tests.client.test_with_the_server import Dialler

__all__ = ["dial"]

_M = MessageId("m")


def body_of(event: Event) -> AnyBody | None:
    return event.content.body if isinstance(event, Received) and event.content is not None else None


async def hears(reader: Person, body: AnyBody) -> None:
    await reader.sees(lambda event: body_of(event) == body)


async def texts(reader: Person, other: Person) -> list[str]:
    return [getattr(entry.message, "text", "") for entry in await reader.client.history(other.id, 10)]


async def test_an_edited_text_is_shown_as_it_reads_now(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone", "alice.laptop") as (alice, bob, laptop):
        await alice.client.send_text(bob.id, "Helo", message_id=_M)
        await bob.reads("Helo")
        await laptop.reads("Helo")
        await alice.client.messages.edit(bob.id, _M, "Hello")
        for reader, other in ((bob, alice), (laptop, bob)):
            await hears(reader, EditBody(_M, "Hello"))
            assert await texts(reader, other) == ["Hello"]
        assert await texts(alice, bob) == ["Hello"]
        (entry,) = await bob.client.history(alice.id, 10)
        assert entry.is_edited
        await laptop.client.messages.edit(bob.id, _M, "Hello, Bob")
        await hears(bob, EditBody(_M, "Hello, Bob"))
        assert await texts(bob, alice) == ["Hello, Bob"], "another device of the client may"


async def test_nobody_edits_or_deletes_what_somebody_else_has_said(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "I owe you nothing", message_id=_M)
        await bob.reads("I owe you nothing")
        await bob.client.messages.edit(alice.id, _M, "I owe you a lot")
        await bob.client.messages.delete(alice.id, _M)
        await hears(alice, DeleteBody(_M))
        for reader, other in ((alice, bob), (bob, alice)):
            assert await texts(reader, other) == ["I owe you nothing"]
            (entry,) = await reader.client.history(other.id, 10)
            assert not entry.is_edited


async def test_a_deleted_message_is_gone(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "one", message_id=_M)
        await alice.client.send_text(bob.id, "two")
        await bob.reads("two")
        await alice.client.messages.delete(bob.id, _M)
        await hears(bob, DeleteBody(_M))
        assert await texts(bob, alice) == await texts(alice, bob) == ["two"]
        (conversation,) = await bob.client.conversations()
        assert (getattr(conversation.last.message, "text", None), conversation.unread) == ("two", 1)


async def test_everybody_has_one_reaction_and_may_take_it_back(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "Hello", message_id=_M)
        await bob.reads("Hello")
        await bob.client.messages.react(alice.id, alice.id, _M, "👍")
        await alice.client.messages.react(bob.id, alice.id, _M, "🎉")
        await bob.client.messages.react(alice.id, alice.id, _M, "❤")
        await alice.sees(lambda event: getattr(body_of(event), "emoji", None) == "❤")
        (entry,) = await alice.client.history(bob.id, 10)
        assert set(entry.reactions) == {(bob.id, "❤"), (alice.id, "🎉")}
        await bob.client.messages.react(alice.id, alice.id, _M, None)
        await alice.sees(lambda event: getattr(body_of(event), "emoji", "") is None)
        (entry,) = await alice.client.history(bob.id, 10)
        assert entry.reactions == ((alice.id, "🎉"),)


async def test_it_holds_in_the_next_run_of_the_program(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "Helo", message_id=_M)
        await bob.reads("Helo")
        await alice.client.messages.edit(bob.id, _M, "Hello")
        await hears(bob, EditBody(_M, "Hello"))
    async with person("bob.phone", dial, tmp_path) as bob:
        (entry,) = await bob.client.history(identity_of("alice").client_id, 10)
        assert getattr(entry.message, "text", None) == "Hello"


async def test_nothing_of_it_goes_in_the_clear(dial: Dialler, tmp_path: Path) -> None:
    async with (
        person("alice.phone", dial, tmp_path) as alice,
        person("bob.phone", dial, tmp_path, has_keys=False) as bob,
    ):
        await alice.client.send_text(bob.id, "Hello", message_id=_M)
        await bob.reads("Hello")
        with pytest.raises(Refused, match="forbidden"):
            await alice.client.messages.edit(bob.id, _M, "Hello, Bob")
        await alice.client.send_text(bob.id, "the end")
        await bob.reads("the end")
        assert await texts(bob, alice) == ["Hello", "the end"]
