"""A conversation that was encrypted once stays so, whatever server comes, and a call of it does too."""

from pathlib import Path

import pytest
import trio.testing

from ironwire.client import NotEncrypted, Received, RelayedAnswer, RelayedCandidate, RelayedOffer, Text, encryption
from ironwire.wire.messages import Candidate
from tests.client.test_encryption import Person, dial, people, person
from tests.client.test_with_the_server import Dialler

__all__ = ["dial"]


async def hears(who: Person, kind: type[object]) -> Received:
    event = await who.sees(lambda event: isinstance(getattr(event, "message", None), kind))
    assert isinstance(event, Received)
    return event


async def test_a_server_that_knows_no_encryption_any_more_gets_nothing(
    dial: Dialler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was replaced by an older one, or says so."""
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        await alice.client.send_text(bob.id, "one")
        await bob.reads("one")
    with monkeypatch.context() as older:
        older.setattr(encryption, "FEATURE", "something else")
        async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
            await alice.client.queue(Text(bob.id, "two"))
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert alice.client.waiting == 1, "it waits for a server that takes it encrypted"
            assert not any(getattr(getattr(event, "message", None), "text", None) == "two" for event in bob.events)
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        assert (await bob.reads("two")).content is not None


async def test_how_a_call_is_reached_is_encrypted(dial: Dialler, tmp_path: Path) -> None:
    async with people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob):
        call = await alice.client.calls.offer(bob.id, "v=0 the offer", "audio")
        offered = await hears(bob, RelayedOffer)
        assert offered.message == RelayedOffer(alice.id, call, "v=0 the offer", "audio")
        assert offered.content is not None, "it came encrypted"
        await bob.client.calls.answer(alice.id, call, "v=0 the answer")
        answered = await hears(alice, RelayedAnswer)
        assert (answered.message, answered.content is not None) == (RelayedAnswer(bob.id, call, "v=0 the answer"), True)
        way = Candidate("candidate:1 1 udp 1 192.0.2.1 9 typ host", "0", 0)
        await alice.client.calls.candidate(bob.id, call, way)
        named = await hears(bob, RelayedCandidate)
        assert named.message == RelayedCandidate(alice.id, call, way)


async def test_a_call_in_the_clear_is_not_taken_where_there_is_encryption(dial: Dialler, tmp_path: Path) -> None:
    """Its certificate may be the server's own."""
    async with (
        people(dial, tmp_path, "alice.phone", "bob.phone") as (alice, bob),
        person("alice.old", dial, tmp_path, has_keys=False) as old,
    ):
        await alice.client.send_text(bob.id, "one")
        await bob.reads("one")
        await old.client.calls.offer(bob.id, "v=0 a strange offer", "audio")
        await bob.sees(lambda event: isinstance(event, NotEncrypted))
        assert not any(isinstance(getattr(event, "message", None), RelayedOffer) for event in bob.events)


async def test_those_who_cannot_encrypt_call_as_ever(dial: Dialler, tmp_path: Path) -> None:
    async with (
        person("alice.phone", dial, tmp_path) as alice,
        person("carol.phone", dial, tmp_path, has_keys=False) as carol,
    ):
        call = await carol.client.calls.offer(alice.id, "v=0 the offer", "audio")
        offered = await hears(alice, RelayedOffer)
        assert (offered.message, offered.content) == (RelayedOffer(carol.id, call, "v=0 the offer", "audio"), None)
        await alice.client.calls.answer(carol.id, call, "v=0 the answer")
        answered = await hears(carol, RelayedAnswer)
        assert answered.message == RelayedAnswer(alice.id, call, "v=0 the answer")
