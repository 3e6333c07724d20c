"""Conversations of two clients, from the first message on, with the server in this process."""

import pytest
from trio.testing import MockClock

from ironwire.e2e.bodies import MessageName, ReactionBody, TypingBody
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.ids import ClientId, MessageId
from ironwire.protocol.devices.log_entry import LogOp
from ironwire.wire.messages import Accepted, Error
from tests.e2e.conversations.devices import open_world
from tests.playbook import identity_of


async def test_the_first_message_begins_to_encrypt(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        sent = alice.say(bob.client, "Hello, Bob")
        await world.until(lambda: bob.texts == ["Hello, Bob"])
        report = alice.reports[sent]
        assert isinstance(report, fx.Sent)
        assert isinstance(report.reply, Accepted)
        bob.say(alice.client, "Hello, Alice")
        await world.until(lambda: alice.texts == ["Hello, Alice"])
        assert alice.member(bob.client).place == bob.member(alice.client).place == (1, 1)
        (told,) = bob.told(ev.Secured)
        assert told == ev.Secured(alice.member(bob.client).id, 1, alice.client)


async def test_all_devices_of_both_read_everything(mock_clock: MockClock) -> None:
    async with open_world() as world:
        phone, laptop, bob, tablet = await world.enter("alice.phone", "alice.laptop", "bob.phone", "bob.tablet")
        phone.say(bob.client, "one")
        await world.until(lambda: bob.texts == tablet.texts == laptop.texts == ["one"])
        tablet.say(phone.client, "two")
        await world.until(lambda: bob.texts == laptop.texts == ["one", "two"] and phone.texts == ["two"])
        opened = laptop.disk.opened[0]
        assert (opened.sender, opened.peer, opened.device) == (phone.client, bob.client, "phone")


async def test_both_write_first_at_once_and_one_generation_remains(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "from Alice")
        bob.say(alice.client, "from Bob")
        await world.until(lambda: bob.texts == ["from Alice"] and alice.texts == ["from Bob"])
        assert alice.member(bob.client).place == bob.member(alice.client).place == (1, 1)


async def test_messages_keep_their_order_across_commits(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        for number in range(20):
            alice.say(bob.client, str(number))
        (tablet,) = await world.enter("bob.tablet")
        for number in range(20, 40):
            alice.say(bob.client, str(number))
        await world.until(lambda: len(bob.texts) == 40)
        assert bob.texts == [str(number) for number in range(40)]
        await world.until(lambda: alice.member(bob.client).place[1] > 1)
        alice.say(bob.client, "for the tablet too")
        await world.until(lambda: "for the tablet too" in tablet.texts)


async def test_a_device_that_was_away_reads_it_later(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        await bob.leave()
        alice.say(bob.client, "two")
        await world.quiet()
        await bob.enter()
        assert bob.texts == ["one", "two"]
        assert not bob.told(ev.Unreadable)


async def test_a_client_without_certificates_gets_it_in_the_clear(mock_clock: MockClock) -> None:
    async with open_world() as world:
        (alice,) = await world.enter("alice.phone")
        carol = identity_of("carol").client_id
        sent = alice.say(carol, "Hello")
        await world.until(lambda: sent in alice.reports)
        assert alice.reports[sent] == fx.GoesPlain(sent)
        again = alice.say(carol, "Hello again")
        assert alice.reports[again] == fx.GoesPlain(again), "nobody is asked twice within minutes"


async def test_what_is_for_somebody_without_published_keys_waits_for_them(mock_clock: MockClock) -> None:
    """Bob's first visit was too short for more than the device log."""
    async with open_world() as world:
        (alice,) = await world.enter("alice.phone")
        (bob,) = await world.link("bob.phone")
        sent = alice.say(bob.client, "Hello")
        await world.until(lambda: bool(alice.told(ev.MessagesHeld)))
        assert alice.told(ev.MessagesHeld) == [ev.MessagesHeld(alice.member(bob.client).id, bob.client, "keys")]
        await world.quiet(600)
        await alice.leave()
        await alice.enter()
        await world.quiet(60)
        assert alice.reports == {}, "nothing is refused, nothing is said in the clear"
        await bob.enter()
        await world.until(lambda: bob.texts == ["Hello"])
        assert isinstance(alice.reports[sent], fx.Sent)
        assert alice.told(ev.MessagesHeld)[-1] == ev.MessagesHeld(alice.member(bob.client).id, bob.client, None)
        assert len(alice.told(ev.MessagesHeld)) == 2


async def test_who_waits_for_keys_is_written_to_by_the_other_side_first(mock_clock: MockClock) -> None:
    async with open_world() as world:
        (alice,) = await world.enter("alice.phone")
        (bob,) = await world.link("bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bool(alice.told(ev.MessagesHeld)))
        await world.quiet(120)
        await bob.enter()
        bob.say(alice.client, "two")
        await world.until(lambda: bob.texts == ["one"] and alice.texts == ["two"])
        await world.quiet(120)
        assert alice.member(bob.client).place[0] == 1, "nobody began another generation"


async def test_an_id_that_is_no_key_is_nobodys(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        nobody = ClientId("00" * 32)
        sent = alice.say(nobody, "Hello")
        await world.until(lambda: sent in alice.reports)
        report = alice.reports[sent]
        assert isinstance(report, fx.Sent)
        assert isinstance(report.reply, Error)
        assert (report.reply.msg, report.reply.user) == ("not_found", nobody)
        alice.say(bob.client, "Hello, Bob")
        await world.until(lambda: bob.texts == ["Hello, Bob"])


async def test_a_program_that_crashes_sends_what_had_no_answer_and_reads_nothing_twice(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        alice.say(bob.client, "two")
        await alice.crash()
        await bob.crash()
        await alice.enter()
        await bob.enter()
        bob.say(alice.client, "three")
        await world.until(lambda: bob.texts == ["one", "two"] and alice.texts == ["three"])
        assert not alice.disk.outbox
        assert not bob.told(ev.Unreadable)


@pytest.mark.parametrize("is_kept", [False, True])
async def test_who_crashes_while_the_conversation_begins_finishes_it(mock_clock: MockClock, is_kept: bool) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")

        def at_the_commit(effects: fx.Effects, **point: bool) -> bool:
            has_it = any(isinstance(each, fx.SavedMembership) and each.founding for each in effects.writes)
            return has_it and point == {"is_kept": is_kept}

        alice.fails = at_the_commit
        alice.say(bob.client, "Hello")
        await world.until(lambda: alice.is_cut)
        await alice.crash()
        await alice.enter()
        await world.until(lambda: bob.texts == ["Hello"])
        assert alice.member(bob.client).place == (1, 1)


async def test_reactions_are_messages_and_typing_is_not_kept(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        sent = alice.say(bob.client, "Hello")
        await world.until(lambda: bob.texts == ["Hello"])
        bob.send(alice.client, ReactionBody(MessageName(alice.client, sent), "👍"))
        await world.until(lambda: bool(alice.disk.opened))
        assert alice.disk.opened[0].content.body == ReactionBody(MessageName(alice.client, sent), "👍")
        bob.do(bob.engine.signal(alice.client, TypingBody(True)))
        await world.until(lambda: len(alice.told(ev.OpenedMessage)) == 2)
        assert len(alice.disk.opened) == 1


async def test_a_revoked_device_is_taken_out(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, tablet = await world.enter("alice.phone", "bob.phone", "bob.tablet")
        alice.say(bob.client, "one")
        await world.until(lambda: tablet.texts == bob.texts == ["one"])
        await world.log("bob.tablet", LogOp.REMOVE, tablet.key)
        await world.until(lambda: len(alice.member(bob.client).group.members()) == 2)  # type: ignore[union-attr]
        alice.say(bob.client, "two")
        await world.until(lambda: bob.texts == ["one", "two"])
        assert tablet.texts == ["one"]


async def test_a_message_whose_fate_the_next_session_tells_is_not_sent_again(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        await alice.leave()
        told, unknown, waiting = alice.say(bob.client, "two"), MessageId("unknown"), alice.say(bob.client, "three")
        alice.do(alice.engine.settle(told, Accepted(1)))
        alice.do(alice.engine.settle(unknown, Accepted(1)))
        assert alice.reports[told] == fx.Sent(told, Accepted(1))
        await alice.enter()
        await world.until(lambda: waiting in alice.reports)
        await world.until(lambda: bob.texts == ["one", "three"])


async def test_a_message_changes_no_more_in_the_store_than_its_keys(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        bob.say(alice.client, "two")
        await world.until(lambda: alice.texts == ["two"])
        written: list[fx.Write] = []

        def noted(effects: fx.Effects, *, is_kept: bool) -> bool:
            written.extend(effects.writes if is_kept else ())
            return False

        alice.fails = bob.fails = noted
        alice.say(bob.client, "three")
        await world.until(lambda: bob.texts == ["one", "three"])
        kinds = {type(each) for each in written}
        assert fx.SavedKeys in kinds
        assert fx.SavedMembership not in kinds
