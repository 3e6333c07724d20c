"""Members with other software, whose commits a server lets through that works with them: each is refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from attrs import evolve
from trio.testing import MockClock

from ironwire.e2e.bodies import TextBody
from ironwire.e2e.content import Content, KnownHead, encode_content
from ironwire.e2e.conversations import events as ev
from ironwire.ids import ClientId, GroupId, MessageId
from ironwire.mls.nodes import BasicCredential
from ironwire.protocol.devices.log_entry import LogOp
from ironwire.wire.base64url import from_base64url
from ironwire.wire.messages import Error
from tests.e2e.conversations.devices import EngineDevice, EngineWorld, open_world
from tests.e2e.conversations.forging import Forger, answer, certificate_of, give, package_of
from tests.e2e.conversations.test_groups import begin_group
from tests.playbook import NOW_MS


@asynccontextmanager
async def a_group() -> AsyncIterator[tuple[EngineWorld, GroupId, EngineDevice, EngineDevice, EngineDevice]]:
    """Alice is its admin, Bob a member, and Carol a member whose device is away: the victim."""
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob, carol)
        await carol.leave()
        yield world, group, alice, bob, carol


def refusal(victim: EngineDevice, group: GroupId) -> str:
    """Why the victim has refused the commit; it has changed nothing."""
    (told,) = victim.told(ev.CommitRefused)
    assert isinstance(told, ev.CommitRefused)
    member = victim.member(group)
    assert member.standing == "wedged"
    assert member.group is not None
    assert member.group.epoch == 1
    return told.reason


async def test_a_member_who_is_no_admin_adds_a_client(mock_clock: MockClock) -> None:
    async with a_group() as (world, group, _, bob, carol):
        await world.link("eve.phone")
        eve = world.devices["eve.phone"]
        after = {**carol.member(group).roster, eve.client: "member"}
        forger = Forger(bob, group)
        declared = forger.declared("members", add=[eve.client], after=after)
        carol.engine._state.logs._logs[eve.client] = world.logs["eve"]
        give(carol, forger.commit(declared, add=[package_of("eve.phone")]))
        assert refusal(carol, group) == "only admins may add and remove clients"


async def test_a_member_who_is_no_admin_removes_a_client(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, alice, bob, carol):
        after = {client: role for client, role in carol.member(group).roster.items() if client != alice.client}
        forger = Forger(bob, group)
        declared = forger.declared("members", remove=[alice.client], after=after)
        give(carol, forger.commit(declared, remove=[forger.index_of(alice)]))
        assert refusal(carol, group) == "only admins may add and remove clients"


async def test_a_commit_does_something_else_than_it_declares(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, alice, bob, carol):
        forger = Forger(alice, group)
        give(carol, forger.commit(forger.declared("update"), remove=[forger.index_of(bob)]))
        assert refusal(carol, group) == "a commit for update with proposals"


async def test_a_commit_declares_nothing(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, alice, _, carol):
        give(carol, Forger(alice, group).commit(b""))
        assert refusal(carol, group) == "a commit declares what it is for"


async def test_a_commit_is_made_in_the_name_of_another_client(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, alice, bob, carol):
        forger = Forger(bob, group)
        give(carol, forger.commit(forger.declared("update", by=alice.client)))
        assert refusal(carol, group) == "a commit that names another client than its sender's"


async def test_a_revoked_device_is_added(mock_clock: MockClock) -> None:
    async with a_group() as (world, group, alice, _, carol):
        (tablet,) = await world.link("alice.tablet")
        await world.log("alice.tablet", LogOp.REMOVE, tablet.key)
        carol.engine._state.logs._logs[alice.client] = world.logs["alice"]
        forger = Forger(alice, group)
        give(carol, forger.commit(forger.declared("devices"), add=[package_of("alice.tablet")]))
        assert refusal(carol, group) == "an Add of a device that is not in the log of its client"


async def test_a_device_that_no_log_knows_is_added(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, alice, _, carol):
        forger = Forger(alice, group)
        give(carol, forger.commit(forger.declared("devices"), add=[package_of("alice.ghost")]))
        assert not carol.told(ev.CommitRefused), "the log is read first"
        answer(carol, Error("not_found"))
        assert refusal(carol, group) == "an Add of a device that is not in the log of its client"


async def test_a_device_with_a_certificate_of_somebody_else_is_added(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, alice, _, carol):
        forger = Forger(alice, group)
        package = package_of("alice.ghost", made_by="eve")
        give(carol, forger.commit(forger.declared("devices"), add=[package]))
        answer(carol, Error("not_found"))
        assert "log of its client" in refusal(carol, group)


async def test_a_member_takes_the_credential_of_another(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, alice, bob, carol):
        forger = Forger(bob, group)
        stolen = BasicCredential(certificate_of("alice.phone"))
        commit = forger.commit(forger.declared("update"), leaf=lambda leaf: evolve(leaf, credential=stolen))
        give(carol, commit)
        assert refusal(carol, group) == "a member that changes its credential"
        assert alice.client in carol.member(group).roster


async def test_a_path_secret_is_garbage_for_one_member(mock_clock: MockClock) -> None:
    async with a_group() as (world, group, alice, bob, carol):
        forger = Forger(bob, group)
        commit = forger.commit(forger.declared("update"), path=_spoiled_for_carol)
        others = Forger(alice, group).group
        others.process(from_base64url(commit.data or ""))
        assert others.epoch == 2, "Alice finds nothing wrong with it"
        give(carol, commit)
        assert refusal(carol, group) == "a ciphertext does not open"
        carol.disk.position -= 1  # the server has not really given it
        await carol.enter()
        await world.until(lambda: carol.member(group).standing == "active")
        alice.say(group, "Carol reads again")
        await world.until(lambda: carol.texts == ["Carol reads again"])


def _spoiled_for_carol(path: Any) -> Any:
    """Another byte at the end of what is encrypted for the leaf that comes last beside the committer's: Carol's."""
    *others, sealed = path.nodes[-1].path_secrets
    spoiled = evolve(sealed, ciphertext=sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1]))
    return evolve(path, nodes=(*path.nodes[:-1], evolve(path.nodes[-1], path_secrets=(*others, spoiled))))


async def test_a_device_is_added_by_a_stale_key_package(mock_clock: MockClock) -> None:
    async with a_group() as (world, group, alice, _, carol):
        await world.link("alice.tablet")
        carol.engine._state.logs._logs[alice.client] = world.logs["alice"]
        forger = Forger(alice, group)
        give(carol, forger.commit(forger.declared("devices"), add=[package_of("alice.tablet", days=-36)]))
        assert refusal(carol, group) == "an Add by a key package that was over long ago"


async def test_a_key_package_that_has_just_ended_is_no_reason_to_refuse_a_commit(mock_clock: MockClock) -> None:
    """It was claimed in time, and the commit waited in the mailbox."""
    async with a_group() as (world, group, alice, _, carol):
        await world.link("alice.tablet")
        carol.engine._state.logs._logs[alice.client] = world.logs["alice"]
        forger = Forger(alice, group)
        give(carol, forger.commit(forger.declared("devices"), add=[package_of("alice.tablet", days=-29)]))
        assert not carol.told(ev.CommitRefused)
        assert carol.member(group).place == (1, 2)


async def test_a_message_is_a_thousand_generations_ahead(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, _, bob, carol):
        forger = Forger(bob, group)
        for _ in range(1_001):
            forger.group.encrypt(b"skipped")
        give(carol, forger.message(forger.group.encrypt(b"ahead")), "ahead")
        answer_unread(carol)
        (told,) = carol.told(ev.Unreadable)
        assert isinstance(told, ev.Unreadable)
        assert "too far ahead" in told.reason
        assert carol.member(group).standing == "active"


async def test_a_member_tells_of_the_device_log_of_nobody(mock_clock: MockClock) -> None:
    """An id that is no key looks like any other, and stops no device."""
    async with a_group() as (_, group, _, bob, carol):
        forger = Forger(bob, group)
        inside = Content(MessageId("told"), NOW_MS, TextBody("Hello"), [KnownHead(ClientId("00" * 32), 3, "5a" * 32)])
        give(carol, forger.message(forger.group.encrypt(encode_content(inside))), "told")
        assert carol.texts == ["Hello"]
        assert not carol.told(ev.LogDisputed)


def answer_unread(victim: EngineDevice) -> None:
    """The harness answers from the disk by itself; nothing is left to be asked."""
    assert not victim._asked


async def test_a_member_restarts_the_group_without_being_admin(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, _, bob, carol):
        roster = dict(carol.member(group).roster)
        give(carol, Forger(bob, group).welcome(carol, roster, 2))
        (told,) = carol.told(ev.CommitRefused)
        assert isinstance(told, ev.CommitRefused)
        assert told.reason == "a restart by somebody who was no admin"
        assert carol.member(group).place == (1, 1)


async def test_a_restart_brings_in_a_client(mock_clock: MockClock) -> None:
    async with a_group() as (world, group, alice, _, carol):
        await world.link("eve.phone")
        roster = {**carol.member(group).roster, world.devices["eve.phone"].client: "member"}
        give(carol, Forger(alice, group).welcome(carol, roster, 2))
        (told,) = carol.told(ev.CommitRefused)
        assert isinstance(told, ev.CommitRefused)
        assert told.reason == "a restart that brings in a client that was not in the conversation"
        assert carol.member(group).standing == "active"


async def test_a_welcome_whose_roster_does_not_fit_to_its_leaves(mock_clock: MockClock) -> None:
    async with a_group() as (_, group, alice, bob, carol):
        give(carol, Forger(alice, group).welcome(carol, {alice.client: "admin", bob.client: "member"}, 2))
        (told,) = carol.told(ev.CommitRefused)
        assert isinstance(told, ev.CommitRefused)
        assert "nobody in its roster" in told.reason
