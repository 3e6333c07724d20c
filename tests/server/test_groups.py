"""Groups as clients meet them: docs/protocol.md, section 7.2, each rule a conversation."""

import json
from itertools import count

import pytest
import trio
from trio.testing import MockClock

from ironwire.limits import Limits
from tests.playbook import NONCE, Stage, identity_of, open_stage

CLUB = "#" + NONCE[:16].hex()
"""The group that a stage makes, whose randomness is always the same."""
ELSEWHERE = "#" + "f" * 32
NO_SUCH_GROUP = '{"msg":"not_found","detail":"no such group"}'
ALICE = '{"client":"$alice","role":"admin"}'
BOB = '{"client":"$bob","role":"member"}'
CAROL = '{"client":"$carol","role":"member"}'
TS = 1_790_000_000_000


def changed(epoch: int, *, by: str, added: str = "", removed: str = "", roles: str = "", more: str = "") -> str:
    """The payload of a `group_changed`, as a session without a device gets it."""
    return (
        f'{{"group":"{CLUB}","epoch":{epoch},"by":"{by}","added":[{added}],"removed":[{removed}],'
        f'"roles":[{roles}]{more}}}'
    )


async def found(stage: Stage, *members: str) -> None:
    """Alice makes the group of her and these; all of them are sessions without a device."""
    clients = ",".join(f'"${member}"' for member in members)
    roles = ",".join([ALICE, *(f'{{"client":"${member}","role":"member"}}' for member in members)])
    told = changed(1, by="$alice", added=f'"$alice",{clients}'.rstrip(","), roles=roles)
    await stage.play(f"""
        alice >> {{"type":"group_create","id":"new","payload":{{"clients":[{clients}]}}}}
        alice << {{"type":"group_changed","payload":{told}}}
        alice << {{"type":"accepted","id":"new","payload":{{"ts":{TS},"group":"{CLUB}","epoch":1}}}}
    """)
    for member in members:
        await stage.play(f"""{member} << {{"type":"group_changed","payload":{told}}}""")


async def test_a_group_from_its_beginning_to_its_end(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob", "carol")
        made = changed(1, by="$alice", added='"$alice","$bob"', roles=f"{ALICE},{BOB}", more=',"name":"club"')
        joined = changed(2, by="$alice", added='"$carol"', roles=CAROL)
        promoted = changed(3, by="$alice", roles='{"client":"$bob","role":"admin"}')
        left = changed(4, by="$alice", removed='"$alice"')
        removed = changed(5, by="$bob", removed='"$carol"')
        ended = changed(6, by="$bob", removed='"$bob"')
        await stage.play(f"""
            alice >> {{"type":"group_create","id":"1","payload":{{"clients":["$bob"],"name":"club"}}}}
            alice << {{"type":"group_changed","payload":{made}}}
            alice << {{"type":"accepted","id":"1","payload":{{"ts":{TS},"group":"{CLUB}","epoch":1}}}}
            bob   << {{"type":"group_changed","payload":{made}}}
            bob   >> {{"type":"text","id":"2","payload":{{"to":"{CLUB}","text":"Hello"}}}}
            bob   << {{"type":"accepted","id":"2","payload":{{"ts":{TS}}}}}
            alice << {{"type":"text","payload":{{"from":"$bob","text":"Hello","group":"{CLUB}"}}}}
            carol << nothing
            alice >> {{"type":"group_add","payload":{{"group":"{CLUB}","clients":["$carol"]}}}}
            alice << {{"type":"group_changed","payload":{joined}}}
            bob   << {{"type":"group_changed","payload":{joined}}}
            carol << {{"type":"group_changed","payload":{joined}}}
            carol >> {{"type":"group_info","id":"3","payload":{{"group":"{CLUB}"}}}}
            carol << {{"type":"group_info","id":"3","payload":{{"group":"{CLUB}","epoch":2,"members":[{ALICE},{BOB},{CAROL}],"name":"club"}}}}
            carol >> {{"type":"groups","id":"4"}}
            carol << {{"type":"groups","id":"4","payload":{{"groups":[{{"group":"{CLUB}","epoch":2,"role":"member","members":3,"name":"club"}}]}}}}
            carol >> {{"type":"group_rename","id":"5","payload":{{"group":"{CLUB}","name":"mine"}}}}
            carol << {{"type":"error","id":"5","payload":{{"msg":"forbidden","detail":"only admins of the group may change it"}}}}
            alice >> {{"type":"group_leave","id":"6","payload":{{"group":"{CLUB}"}}}}
            alice << {{"type":"error","id":"6","payload":{{"msg":"conflict","detail":"the group would have no admin: make another member admin first"}}}}
            alice >> {{"type":"group_role","payload":{{"group":"{CLUB}","client":"$bob","role":"admin"}}}}
            alice >> {{"type":"group_leave","id":"7","payload":{{"group":"{CLUB}"}}}}
            alice << {{"type":"group_changed","payload":{promoted}}}
            alice << {{"type":"group_changed","payload":{left}}}
            alice << {{"type":"accepted","id":"7","payload":{{"ts":{TS},"group":"{CLUB}","epoch":4}}}}
            bob   << {{"type":"group_changed","payload":{promoted}}}
            bob   << {{"type":"group_changed","payload":{left}}}
            bob   >> {{"type":"text","payload":{{"to":"{CLUB}","text":"without alice"}}}}
            bob   >> {{"type":"group_remove","payload":{{"group":"{CLUB}","clients":["$carol"]}}}}
            bob   << {{"type":"group_changed","payload":{removed}}}
            bob   >> {{"type":"text","payload":{{"to":"{CLUB}","text":"alone"}}}}
            carol << {{"type":"group_changed","payload":{promoted}}}
            carol << {{"type":"group_changed","payload":{left}}}
            carol << {{"type":"text","payload":{{"from":"$bob","text":"without alice","group":"{CLUB}"}}}}
            carol << {{"type":"group_changed","payload":{removed}}}
            bob   >> {{"type":"group_leave","payload":{{"group":"{CLUB}"}}}}
            bob   << {{"type":"group_changed","payload":{ended}}}
            bob   >> {{"type":"group_info","payload":{{"group":"{CLUB}"}}}}
            bob   << {{"type":"error","payload":{NO_SUCH_GROUP}}}
            bob   >> {{"type":"groups"}}
            bob   << {{"type":"groups","payload":{{"groups":[]}}}}
            alice << nothing
            carol << nothing
        """)  # noqa: E501  # one frame, one line


@pytest.mark.parametrize("group", [CLUB, ELSEWHERE])
async def test_who_is_not_a_member_learns_nothing_of_a_group(mock_clock: MockClock, group: str) -> None:
    async with open_stage(history_days=1) as stage:
        await stage.enter("alice", "bob", "mallory")
        await found(stage, "bob")
        for verb, more in (
            ("text", f'"to":"{group}","text":"x"'),
            ("file", f'"to":"{group}","url":"/media/6f1f0f1c-9d51-4f0e-8a53-0d6b1f2d3c4e.bin"'),
            ("group_info", f'"group":"{group}"'),
            ("group_add", f'"group":"{group}","clients":["$mallory"]'),
            ("group_leave", f'"group":"{group}","if_epoch":1'),
            ("history", f'"with":"{group}","limit":1'),
        ):
            await stage.play(f"""
                mallory >> {{"type":"{verb}","id":"1{verb}","payload":{{{more}}}}}
                mallory << {{"type":"error","id":"1{verb}","payload":{NO_SUCH_GROUP}}}
            """)
        await stage.play("""
            alice << nothing
            bob << nothing
        """)


async def test_devices_get_numbered_copies_and_so_do_the_senders_others(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", device="phone")
        await stage.enter("alice.2", device="laptop")
        await stage.enter("bob", device="phone")
        await stage.enter("bob.seed")
        roles = f"{ALICE},{BOB}"
        told = changed(1, by="$alice", added='"$alice","$bob"', roles=roles, more=f',"ts":{TS},"device":"phone"')
        live = changed(1, by="$alice", added='"$alice","$bob"', roles=roles)
        text = f'{{"from":"$alice","text":"Hello","ts":{TS},"device":"phone","group":"{CLUB}"}}'
        url = "/media/6f1f0f1c-9d51-4f0e-8a53-0d6b1f2d3c4e.bin"
        await stage.play(f"""
            alice    >> {{"type":"group_create","id":"1","payload":{{"clients":["$bob"]}}}}
            alice    << {{"type":"group_changed","seq":1,"id":"1","payload":{told}}}
            alice    << {{"type":"accepted","id":"1","payload":{{"ts":{TS},"group":"{CLUB}","epoch":1}}}}
            alice.2  << {{"type":"group_changed","seq":1,"id":"1","payload":{told}}}
            bob      << {{"type":"group_changed","seq":1,"id":"1","payload":{told}}}
            bob.seed << {{"type":"group_changed","payload":{live}}}
            alice    >> {{"type":"text","id":"2","payload":{{"to":"{CLUB}","text":"Hello"}}}}
            alice    << {{"type":"accepted","id":"2","payload":{{"ts":{TS}}}}}
            alice.2  << {{"type":"text","seq":2,"id":"2","payload":{text}}}
            bob      << {{"type":"text","seq":2,"id":"2","payload":{text}}}
            bob.seed << {{"type":"text","payload":{{"from":"$alice","text":"Hello","group":"{CLUB}"}}}}
            bob.seed >> {{"type":"file","payload":{{"to":"{CLUB}","url":"{url}","kind":"image"}}}}
            alice    << {{"type":"file","seq":2,"payload":{{"from":"$bob","url":"{url}","kind":"image","ts":{TS},"group":"{CLUB}"}}}}
            bob      << {{"type":"file","seq":3,"payload":{{"from":"$bob","url":"{url}","kind":"image","ts":{TS},"group":"{CLUB}"}}}}
            bob.seed << nothing
        """)  # noqa: E501  # one frame, one line


async def test_what_waits_for_an_absent_member_is_in_one_order_with_the_changes(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob", device="phone")
        await stage.actors["bob"].hang_up()
        await stage.enter("alice")
        await found(stage, *())
        await stage.play(f"""
            alice >> {{"type":"group_add","payload":{{"group":"{CLUB}","clients":["$bob"]}}}}
            alice >> {{"type":"text","payload":{{"to":"{CLUB}","text":"Hello"}}}}
            alice >> {{"type":"group_rename","payload":{{"group":"{CLUB}","name":"club"}}}}
            alice >> {{"type":"group_remove","payload":{{"group":"{CLUB}","clients":["$bob"]}}}}
            alice >> {{"type":"text","payload":{{"to":"{CLUB}","text":"He is gone"}}}}
        """)
        await stage.connect("bob.later")
        await stage.play("""
            bob.later >> {"type":"auth","payload":{"token":"$bob","device":"phone"}}
            bob.later << {"type":"auth_challenge","challenge":"$nonce"}
            bob.later >> {"type":"verify","payload":{"attempt":"$bob_signs"}}
        """)
        frames = [json.loads(await stage.next_text("bob.later")) for _ in range(6)]
        assert [frame["type"] for frame in frames[1:]] == [
            "group_changed",
            "text",
            "group_changed",
            "group_changed",
            "caught_up",
        ]
        assert [frame["payload"]["epoch"] for frame in frames if frame["type"] == "group_changed"] == [2, 3, 4]
        assert frames[4]["payload"]["removed"] == [identity_of("bob").client_id]


async def test_the_same_id_changes_a_group_once(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await found(stage, "bob")
        again = f'{{"ts":{TS},"duplicate":true,"group":"{CLUB}"}}'
        await stage.play(f"""
            alice >> {{"type":"group_create","id":"new","payload":{{"clients":["$bob"]}}}}
            alice << {{"type":"accepted","id":"new","payload":{again}}}
            alice >> {{"type":"group_create","id":"new","payload":{{"clients":[]}}}}
            alice << {{"type":"error","id":"new","payload":{{"msg":"invalid","detail":"id was used for another message"}}}}
            bob   >> {{"type":"group_leave","id":"bye","payload":{{"group":"{CLUB}"}}}}
            bob   << {{"type":"group_changed","payload":{changed(2, by="$bob", removed='"$bob"')}}}
            bob   << {{"type":"accepted","id":"bye","payload":{{"ts":{TS},"group":"{CLUB}","epoch":2}}}}
            alice << {{"type":"group_changed","payload":{changed(2, by="$bob", removed='"$bob"')}}}
            bob   >> {{"type":"group_leave","id":"bye","payload":{{"group":"{CLUB}"}}}}
            bob   << {{"type":"accepted","id":"bye","payload":{again}}}
            bob   >> {{"type":"group_leave","id":"other","payload":{{"group":"{CLUB}"}}}}
            bob   << {{"type":"error","id":"other","payload":{NO_SUCH_GROUP}}}
            alice << nothing
        """)  # noqa: E501  # one frame, one line


async def test_what_is_so_already_is_accepted_with_the_epoch_as_it_is(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await found(stage, "bob")
        await stage.play(f"""
            alice >> {{"type":"group_add","id":"1","payload":{{"group":"{CLUB}","clients":["$bob"],"if_epoch":1}}}}
            alice << {{"type":"accepted","id":"1","payload":{{"ts":{TS},"group":"{CLUB}","epoch":1}}}}
            alice >> {{"type":"group_remove","payload":{{"group":"{CLUB}","clients":["$carol"]}}}}
            alice << nothing
            bob << nothing
        """)


async def test_of_two_changes_from_the_same_epoch_one_wins(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await found(stage, "bob")
        await stage.play(f"""
            alice >> {{"type":"group_role","payload":{{"group":"{CLUB}","client":"$bob","role":"admin"}}}}
            alice << {{"type":"group_changed","payload":{changed(2, by="$alice", roles='{"client":"$bob","role":"admin"}')}}}
            bob   << {{"type":"group_changed","payload":{changed(2, by="$alice", roles='{"client":"$bob","role":"admin"}')}}}
            alice >> {{"type":"group_add","id":"a","payload":{{"group":"{CLUB}","clients":["$carol"],"if_epoch":2}}}}
            bob   >> {{"type":"group_add","id":"b","payload":{{"group":"{CLUB}","clients":["$dave"],"if_epoch":2}}}}
        """)  # noqa: E501  # one frame, one line
        answers = {}
        for actor in ("alice", "bob"):
            while (frame := json.loads(await stage.next_text(actor)))["type"] == "group_changed":
                assert frame["payload"]["epoch"] == 3
            answers[frame["type"]] = frame["payload"]
        assert answers == {
            "accepted": {"ts": TS, "group": CLUB, "epoch": 3},
            "error": {"msg": "conflict", "detail": "the group is at epoch 3: look at it again"},
        }


async def test_changes_that_name_no_epoch_all_win(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        await found(stage, *())
        await stage.enter(*(f"alice.{number}" for number in range(5)))
        for number in range(5):
            client = identity_of(f"friend{number}").client_id
            payload = f'{{"group":"{CLUB}","clients":["{client}"]}}'
            await stage.play(f"""alice.{number} >> {{"type":"group_add","id":"1{number}","payload":{payload}}}""")
        await stage.play("... 0.1 s")
        await stage.play("""alice >> {"type":"groups","payload":{}}""")
        epochs = [json.loads(await stage.next_text("alice"))["payload"].get("epoch") for _ in range(5)]
        assert epochs == [2, 3, 4, 5, 6]
        (group,) = json.loads(await stage.next_text("alice"))["payload"]["groups"]
        assert (group["epoch"], group["members"]) == (6, 6)


async def test_a_group_has_so_many_members_and_a_client_so_many_groups(mock_clock: MockClock) -> None:
    numbers = count()

    def random_bytes(size: int) -> bytes:
        return next(numbers).to_bytes(size, "big") if size == 16 else NONCE[:size]

    limits = Limits(group_members=2, groups_per_client=1)
    async with open_stage(limits=limits, random_bytes=random_bytes) as stage:
        await stage.enter("alice", "bob")
        group = "#" + "0" * 32
        too_many = '{"msg":"quota","detail":"a group has at most 2 members"}'
        await stage.play(f"""
            alice >> {{"type":"group_create","id":"1","payload":{{"clients":["$bob","$carol"]}}}}
            alice << {{"type":"error","id":"1","payload":{too_many}}}
            alice >> {{"type":"group_create","payload":{{"clients":["$carol"]}}}}
        """)
        group = json.loads(await stage.next_text("alice"))["payload"]["group"]
        await stage.play(f"""
            alice >> {{"type":"group_add","id":"1","payload":{{"group":"{group}","clients":["$bob"]}}}}
            alice << {{"type":"error","id":"1","payload":{too_many}}}
            bob   >> {{"type":"group_create","id":"1","payload":{{"clients":["$carol"]}}}}
            bob   << {{"type":"error","id":"1","payload":{{"msg":"quota","detail":"this client is in as many groups as one may be","user":"$carol"}}}}
            bob   >> {{"type":"groups"}}
            bob   << {{"type":"groups","payload":{{"groups":[]}}}}
        """)  # noqa: E501  # one frame, one line


async def test_the_history_of_a_group_begins_for_each_when_they_joined(mock_clock: MockClock) -> None:
    async with open_stage(history_days=1) as stage:
        await stage.enter("alice", "bob")
        await found(stage, *())
        await stage.play(f"""
            alice >> {{"type":"text","id":"1","payload":{{"to":"{CLUB}","text":"before"}}}}
            alice << {{"type":"accepted","id":"1","payload":{{"ts":{TS}}}}}
            alice >> {{"type":"group_add","payload":{{"group":"{CLUB}","clients":["$bob"]}}}}
            alice << {{"type":"group_changed","payload":{changed(2, by="$alice", added='"$bob"', roles=BOB)}}}
            bob   << {{"type":"group_changed","payload":{changed(2, by="$alice", added='"$bob"', roles=BOB)}}}
            alice >> {{"type":"text","id":"2","payload":{{"to":"{CLUB}","text":"after"}}}}
            alice << {{"type":"accepted","id":"2","payload":{{"ts":{TS}}}}}
            bob   << {{"type":"text","payload":{{"from":"$alice","text":"after","group":"{CLUB}"}}}}
            bob   >> {{"type":"history","payload":{{"with":"{CLUB}","limit":9}}}}
            bob   << {{"type":"history","payload":{{"with":"{CLUB}","envelopes":[{{"id":"2","text":{{"from":"$alice","text":"after","ts":{TS},"group":"{CLUB}"}}}}]}}}}
            alice >> {{"type":"history","payload":{{"with":"{CLUB}","limit":9}}}}
            alice << {{"type":"history","payload":{{"with":"{CLUB}","envelopes":[{{"id":"2","text":{{"from":"$alice","text":"after","ts":{TS},"group":"{CLUB}"}}}},{{"id":"1","text":{{"from":"$alice","text":"before","ts":{TS},"group":"{CLUB}"}}}}]}}}}
        """)  # noqa: E501  # one frame, one line


async def test_a_full_mailbox_of_a_member_refuses_nothing_and_is_told_of_what_it_lost(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(mailbox_envelopes=2, window_envelopes=1)) as stage:
        await stage.enter("bob", device="phone")
        await stage.enter("alice")
        await found_with_devices(stage)
        for number in range(2, 5):
            await stage.play(f"""
                alice >> {{"type":"text","id":"{number}","payload":{{"to":"{CLUB}","text":"{number}"}}}}
                alice << {{"type":"accepted","id":"{number}","payload":{{"ts":{TS}}}}}
            """)
        await stage.play("""bob >> {"type":"ack","payload":{"upto":1}}""")
        await trio.testing.wait_all_tasks_blocked()
        await stage.play(f"""
            alice >> {{"type":"text","id":"5","payload":{{"to":"{CLUB}","text":"5"}}}}
            bob   << {{"type":"text","seq":2,"id":"2","payload":{{"from":"$alice","text":"2","ts":{TS},"group":"{CLUB}"}}}}
            bob   >> {{"type":"ack","payload":{{"upto":2}}}}
            bob   << {{"type":"gap","payload":{{"from":3,"to":4,"reason":"full"}}}}
            bob   << {{"type":"text","seq":5,"id":"5","payload":{{"from":"$alice","text":"5","ts":{TS},"group":"{CLUB}"}}}}
        """)  # noqa: E501  # one frame, one line


async def found_with_devices(stage: Stage) -> None:
    """Alice, without a device, makes a group with Bob, who has one."""
    roles = f"{ALICE},{BOB}"
    told = changed(1, by="$alice", added='"$alice","$bob"', roles=roles, more=f',"ts":{TS}')
    await stage.play(f"""
        alice >> {{"type":"group_create","payload":{{"clients":["$bob"]}}}}
        alice << {{"type":"group_changed","payload":{changed(1, by="$alice", added='"$alice","$bob"', roles=roles)}}}
        bob   << {{"type":"group_changed","seq":1,"payload":{told}}}
    """)
