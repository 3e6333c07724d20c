"""Nothing is kept for a session that is not admitted: no device, no invite that is used up."""

import json
from collections.abc import Sequence
from pathlib import Path

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.errors import StoreError
from ironwire.limits import Limits
from ironwire.server.operator.config import AuthSettings
from ironwire.store.contract.operations import Operation, Result
from ironwire.store.contract.records import Quota
from ironwire.store.invites import Invites
from ironwire.store.memory.store import MemoryStore
from tests.playbook import NOW_MS, Stage, identity_of, open_stage


class GatedStore(MemoryStore):
    """Commits while `release` is set, or fails if told to."""

    def __init__(self, quota: Quota) -> None:
        super().__init__(quota)
        self.release = trio.Event()
        self.release.set()
        self.fails = False

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        await self.release.wait()
        if self.fails:
            raise StoreError("the disk is gone")
        return await super().apply(batch)


async def prove(stage: Stage, actor: str, more: str, *, ending: str | None = None) -> None:
    """The actor connects and authenticates, with `more` in `auth`, and is told that ending, if there is one."""
    client = actor.partition(".")[0]
    await stage.connect(actor)
    await stage.play(f"""
        {actor} >> {{"type":"auth","payload":{{"token":"${client}"{more}}}}}
        {actor} << {{"type":"auth_challenge","challenge":"$nonce"}}
        {actor} >> {{"type":"verify","payload":{{"attempt":"${client}_signs"}}}}
    """)
    if ending is not None:
        await stage.play(f"{actor} << close {ending}")


async def test_an_invite_is_not_used_up_where_the_device_could_not_be_registered(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    store = GatedStore(Quota.of(Limits()))
    auth = AuthSettings(registration="invite")
    async with open_stage(auth=auth, data=tmp_path, open_store=lambda quota: store) as stage:
        invite = Invites(tmp_path / "invites", lambda: NOW_MS).make(1, 1)
        brings = f',"device":"phone","invite":"{invite}"'
        store.fails = True
        await prove(stage, "alice", brings, ending="1011 internal error")
        store.fails = False
        await prove(stage, "alice", brings)
        assert json.loads(await stage.next_text("alice"))["type"] == "auth_ok"
        await prove(stage, "bob", brings, ending="1008 Not registered here: the invite is used up or has ended")


async def test_a_session_too_many_registers_no_device(mock_clock: MockClock) -> None:
    store = GatedStore(Quota.of(Limits()))
    async with open_stage(limits=Limits(sessions_per_client=2), open_store=lambda quota: store) as stage:
        await stage.enter("alice.seed")
        await stage.enter("alice", device="phone")
        await prove(stage, "alice.new", ',"device":"tablet"', ending="1013 too many sessions of this client")
        assert [box.device for box in await store.mailboxes_of(identity_of("alice").client_id)] == ["phone"]
        await stage.enter("alice.again", device="phone")
        await stage.play("alice << close 4409 replaced by a newer session of this device")


async def test_sessions_that_wait_for_their_registration_count_as_sessions(mock_clock: MockClock) -> None:
    """Three at once for one place: two are refused before anything is kept for them."""
    store = GatedStore(Quota.of(Limits()))
    async with open_stage(limits=Limits(sessions_per_client=1), open_store=lambda quota: store) as stage:
        store.release = trio.Event()
        await prove(stage, "alice.one", ',"device":"one"')
        await wait_all_tasks_blocked()
        for actor, device in (("alice.two", ',"device":"two"'), ("alice.seed", "")):
            await prove(stage, actor, device, ending="1013 too many sessions of this client")
        store.release.set()
        assert json.loads(await stage.next_text("alice.one"))["type"] == "auth_ok"
        assert [box.device for box in await store.mailboxes_of(identity_of("alice").client_id)] == ["one"]


async def test_a_client_that_is_banned_while_it_authenticates_registers_no_device(mock_clock: MockClock) -> None:
    store = GatedStore(Quota.of(Limits()))
    alice = identity_of("alice").client_id
    async with open_stage(open_store=lambda quota: store) as stage:
        await stage.connect("alice")
        await stage.play("""
            alice >> {"type":"auth","payload":{"token":"$alice","device":"phone"}}
            alice << {"type":"auth_challenge","challenge":"$nonce"}
        """)
        await store.ban(alice, NOW_MS)
        await stage.play("""
            alice >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            alice << close 4403 banned by the operator
        """)
        assert await store.mailboxes_of(alice) == []
