"""Encrypted conversations with the server in this process, by devices that speak MLS in earnest (section 10)."""

import hashlib
import math
import os
import re
from itertools import count

import pytest
import trio
from trio.testing import MockClock

from ironwire.ids import ClientId, ConversationId, Role, media_path, parse_blob_name
from ironwire.limits import Limits
from ironwire.mls import Lifetime
from ironwire.protocol.conversations.declaration import roster_hash
from ironwire.protocol.conversations.names import Generation, pair_id
from ironwire.server.operator.config import UploadSettings
from ironwire.store.files.folder import BlobFolder
from ironwire.store.survey import MEDIA
from ironwire.wire.base64url import to_base64url
from tests.playbook import NONCE, NOW_MS, Stage, identity_of, open_stage
from tests.server.mls_devices import DAY, MlsActor, enter_all
from tests.server.test_device_log import AUTH
from tests.server.test_links import get

ALICE, BOB, CAROL = (identity_of(name).client_id for name in ("alice", "bob", "carol"))
PAIR = pair_id(ALICE, BOB)
BOTH: dict[ClientId, Role] = {ALICE: "admin", BOB: "admin"}


async def begin_pair(alice: MlsActor, *others: MlsActor) -> None:
    """Alice's device writes to Bob first; the others are his devices, and hers."""
    claimed = await alice.accepted("mls_claim", group=PAIR, clients=[BOB, ALICE])
    assert claimed["missing"] == []
    alice.found(PAIR)
    pending = alice.prepare("members", add=claimed["packages"], roles={BOB: "admin"})
    answer = await alice.accepted("mls_create", **alice.said(PAIR, pending))
    assert (answer["generation"], answer["epoch"]) == (1, 1)
    await alice.take_commit()
    for other in others:
        await other.join(BOTH)


async def begin_group(admin: MlsActor, *others: MlsActor) -> ConversationId:
    """A group of the admin and the clients of the others, with a device each."""
    made = await admin.accepted("group_create", clients=[])
    group: ConversationId = made["group"]
    claimed = await admin.accepted("mls_claim", group=group, clients=sorted({each.client for each in others}))
    admin.found(group)
    pending = admin.prepare("members", add=claimed["packages"])
    await admin.accepted("mls_create", **admin.said(group, pending))
    await admin.take_commit()
    for other in others:
        await other.join(admin.roster)
    return group


# --- a conversation from its first message ---------------------------------------------------------------------------


async def test_two_clients_with_three_devices_write_to_each_other(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        phone, laptop, bob = await enter_all(stage, "alice.phone", "alice.laptop", "bob.phone")
        await begin_pair(phone, laptop, bob)
        answer = await phone.accepted("mls_send", **phone.sealed(PAIR, "Hello, Bob"))
        assert answer == {"ts": NOW_MS}
        assert await bob.read() == await laptop.read() == "Hello, Bob"
        await bob.accepted("mls_send", **bob.sealed(PAIR, "Hello, Alice"))
        assert await phone.read() == await laptop.read() == "Hello, Alice"
        assert phone.mls.authenticator() == laptop.mls.authenticator() == bob.mls.authenticator()


async def test_a_device_that_was_away_finds_all_of_it_in_order(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await stage.actors[bob.name].hang_up()
        await begin_pair(alice)
        await alice.accepted("mls_send", **alice.sealed(PAIR, "one"))
        pending = alice.prepare("update")
        await alice.accepted("mls_commit", **alice.said(PAIR, pending))
        await alice.take_commit()
        await alice.accepted("mls_send", **alice.sealed(PAIR, "two"))
        await bob.enter()
        assert [frame["type"] for frame in bob.arrived if frame["type"].startswith("mls")] == [
            "mls_welcome",
            "mls_message",
            "mls_committed",
            "mls_message",
        ]
        await bob.join(BOTH)
        assert await bob.read() == "one"
        committed = await bob.take_commit(roster=BOTH)
        assert (committed["from"], committed["device"], committed["epoch"]) == (ALICE, "phone", 2)
        assert committed["sha256"] == pending.sha256.hex()
        assert await bob.read() == "two"


async def test_of_two_who_begin_one_wins(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        claimed = await bob.accepted("mls_claim", group=PAIR, clients=[ALICE])
        bob.found(PAIR)
        late = bob.said(PAIR, bob.prepare("members", add=claimed["packages"], roles={ALICE: "admin"}))
        await begin_pair(alice)
        answer = await bob.ask("mls_create", **late)
        assert answer["payload"]["msg"] == "conflict"
        assert (answer["payload"]["generation"], answer["payload"]["epoch"]) == (1, 1)
        await bob.join(BOTH)
        await bob.accepted("mls_send", **bob.sealed(PAIR, "yours, then"))
        assert await alice.read() == "yours, then"


async def test_a_commit_of_an_epoch_that_is_over_is_told_the_one_that_is(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await begin_pair(alice, bob)
        mine, theirs = alice.prepare("update"), bob.prepare("update")
        await alice.accepted("mls_commit", **alice.said(PAIR, mine))
        answer = (await bob.ask("mls_commit", **bob.said(PAIR, theirs)))["payload"]
        assert (answer["msg"], answer["generation"], answer["epoch"]) == ("conflict", 1, 2)
        stale = dict(bob.said(PAIR, theirs), generation=2)
        assert (await bob.refused("mls_commit", **stale))[0] == "conflict"
        bob.mls.drop_pending()
        stale_text = bob.sealed(PAIR, "too late")
        answer = (await bob.ask("mls_send", **stale_text))["payload"]
        assert (answer["msg"], answer["generation"], answer["epoch"]) == ("conflict", 1, 2)
        await bob.take_commit(roster=BOTH)
        await alice.take_commit()
        await bob.accepted("mls_send", **bob.sealed(PAIR, "in time"))
        assert await alice.read() == "in time"


async def test_a_commit_that_is_asked_for_again_is_the_same(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await begin_pair(alice, bob)
        said = alice.said(PAIR, alice.prepare("update"))
        first = await alice.accepted("mls_commit", **said)
        alice._ids -= 1
        again = await alice.accepted("mls_commit", **said)
        assert again == {"ts": first["ts"], "duplicate": True}
        alice._ids -= 1
        assert (await alice.refused("mls_commit", **{**said, "generation": 9}))[0] == "invalid"


# --- groups ----------------------------------------------------------------------------------------------------------


async def test_a_commit_changes_the_group_and_the_members(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob, carol = await enter_all(stage, "alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(alice, bob)
        info = await alice.accepted("group_info", group=group)
        assert {(each["client"], each["role"]) for each in info["members"]} == {(ALICE, "admin"), (BOB, "member")}
        claimed = await alice.accepted("mls_claim", group=group, clients=[CAROL])
        pending = alice.prepare("members", add=claimed["packages"], remove=[bob])
        await alice.accepted("mls_commit", **alice.said(group, pending))
        await alice.take_commit()
        await carol.join(alice.roster)
        await bob.take_commit(roster={})
        assert not bob.mls.is_active
        info = await carol.accepted("group_info", group=group)
        assert {(each["client"], each["role"]) for each in info["members"]} == {(ALICE, "admin"), (CAROL, "member")}
        await carol.accepted("mls_send", **carol.sealed(group, "who else is here?"))
        assert await alice.read() == "who else is here?"
        assert (await bob.refused("group_info", group=group))[0] == "not_found"
        assert (await bob.refused("mls_commits", group=group, generation=1, **{"from": 1}))[0] == "not_found"


async def test_a_member_who_cannot_read_hears_of_changes_as_before(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await stage.enter("dave")
        alice, _ = await enter_all(stage, "alice.phone", "bob.phone")
        dave = identity_of("dave").client_id
        made = await alice.accepted("group_create", clients=[BOB, dave])
        group = made["group"]
        await stage.next_text("dave")
        claimed = await alice.accepted("mls_claim", group=group, clients=[BOB, dave])
        assert claimed["missing"] == [dave]
        alice.found(group)
        pending = alice.prepare("members", add=claimed["packages"])
        await alice.accepted("mls_create", **alice.said(group, pending))
        told = await stage.next_text("dave")
        assert '"type":"group_changed"' in told
        assert '"epoch":2' in told
        info = await alice.accepted("group_info", group=group)
        assert len(info["members"]) == 3


async def test_what_is_encrypted_is_not_changed_or_said_in_the_clear(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        group = await begin_group(alice, bob)
        await begin_pair(alice, bob)
        for verb, payload in (
            ("text", {"to": group, "text": "hello"}),
            ("text", {"to": BOB, "text": "hello"}),
            ("group_add", {"group": group, "clients": [CAROL]}),
            ("group_remove", {"group": group, "clients": [BOB]}),
            ("group_role", {"group": group, "client": BOB, "role": "admin"}),
            ("group_rename", {"group": group, "name": "club"}),
        ):
            assert (await alice.refused(verb, **payload))[0] == "forbidden"
        await bob.accepted("group_leave", group=group)


async def test_members_may_not_do_what_admins_may(mock_clock: MockClock) -> None:
    numbers = count()
    async with open_stage(
        auth=AUTH, random_bytes=lambda size: NONCE if size == len(NONCE) else next(numbers).to_bytes(size, "big")
    ) as stage:
        alice, bob, carol = await enter_all(stage, "alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(alice, bob)
        assert (await bob.refused("mls_claim", group=group, clients=[CAROL]))[0] == "forbidden"
        pending = bob.prepare("members", remove=[alice])
        assert await bob.refused("mls_commit", **bob.said(group, pending)) == (
            "forbidden",
            "only admins may add and remove clients",
        )
        bob.mls.drop_pending()
        pending = bob.prepare("roles", roles={BOB: "admin"})
        assert (await bob.refused("mls_commit", **bob.said(group, pending)))[0] == "forbidden"
        assert (await carol.refused("mls_claim", group=group, clients=[CAROL]))[0] == "not_found"
        made = await alice.accepted("group_create", clients=[BOB])
        bob.found(made["group"])
        assert await bob.refused("mls_create", **bob.said(made["group"], bob.prepare("update"))) == (
            "forbidden",
            "only admins of the group may encrypt it",
        )


# --- commits that lie ------------------------------------------------------------------------------------------------


async def test_a_package_that_was_not_claimed_for_it_brings_nobody_in(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob, carol = await enter_all(stage, "alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(alice, bob)
        own = carol.package()
        package = {"client": CAROL, "device_key": "", "package": to_base64url(own.public)}
        pending = alice.prepare("members", add=[package])
        code, detail = await alice.refused("mls_commit", **alice.said(group, pending))
        assert (code, "has not claimed" in detail) == ("invalid", True)


async def test_a_declaration_of_something_else_is_refused(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob, _ = await enter_all(stage, "alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(alice, bob)
        claimed = await alice.accepted("mls_claim", group=group, clients=[CAROL])
        for said, why in (
            ({"roster": roster_hash({})}, "a commit that declares another roster than it leads to"),
            ({"by": BOB}, "a commit that names another client than its sender's"),
            ({"op": "devices", "add": ()}, "an Add of a client that is not in the roster"),
        ):
            pending = alice.prepare("members", add=claimed["packages"], said=said)
            assert (await alice.refused("mls_commit", **alice.said(group, pending)))[1] == why
            alice.mls.drop_pending()


async def test_a_welcome_that_does_not_belong_to_the_commit_is_refused(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob, _ = await enter_all(stage, "alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(alice, bob)
        claimed = await alice.accepted("mls_claim", group=group, clients=[CAROL])
        said = alice.said(group, alice.prepare("members", add=claimed["packages"]))
        without = {key: value for key, value in said.items() if key != "welcome"}
        for wrong in (without, {**said, "welcome": said["commit"]}, {**said, "welcome": "AAAA"}):
            assert (await alice.refused("mls_commit", **wrong))[0] == "invalid"
        alice.mls.drop_pending()
        other = alice.prepare("update")
        assert (await alice.refused("mls_commit", **{**alice.said(group, other), "welcome": said["welcome"]}))[
            0
        ] == "invalid"


@pytest.mark.parametrize("data", ["AAAA", "A", "_-__", "AAEAAQ"])
async def test_bytes_that_are_no_commit_or_message_are_refused(mock_clock: MockClock, data: str) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await begin_pair(alice, bob)
        place = {"group": PAIR, "generation": 1}
        assert (await alice.refused("mls_commit", **place, commit=data))[0] == "invalid"
        assert (await alice.refused("mls_send", **place, epoch=1, data=data))[0] == "invalid"
        assert (await alice.refused("mls_signal", **place, epoch=1, data=data))[0] == "invalid"
        assert (await alice.refused("mls_publish", packages=[data]))[0] == "invalid"
        assert (await alice.refused("mls_commit", **place))[0] == "invalid"


async def test_another_device_of_the_client_commits_for_itself_alone(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        phone, laptop, bob = await enter_all(stage, "alice.phone", "alice.laptop", "bob.phone")
        await begin_pair(phone, laptop, bob)
        said = phone.said(PAIR, phone.prepare("update"))
        assert await laptop.refused("mls_commit", **said) == ("invalid", "a commit of another device's leaf")
        assert (await bob.refused("mls_commit", **said))[0] == "invalid"


async def test_sessions_without_a_certificate_take_no_part(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await stage.enter("dave")
        for verb, payload in (
            ("mls_packages", "{}"),
            ("mls_publish", '{"packages":["AAAA"]}'),
            ("mls_claim", f'{{"group":"{PAIR}","clients":["$alice"]}}'),
            ("mls_create", f'{{"group":"{PAIR}","generation":1}}'),
            ("mls_commit", f'{{"group":"{PAIR}","generation":1}}'),
            ("mls_send", f'{{"group":"{PAIR}","generation":1,"epoch":1,"data":"AAAA"}}'),
            ("mls_signal", f'{{"group":"{PAIR}","generation":1,"epoch":1,"data":"AAAA"}}'),
            ("mls_commits", f'{{"group":"{PAIR}","generation":1,"from":1}}'),
            ("mls_nack", f'{{"group":"{PAIR}","generation":1,"epoch":1,"sha256":"{"0" * 64}","reason":""}}'),
            ("mls_rejoin", f'{{"groups":["{PAIR}"]}}'),
            ("mls_groups", "{}"),
        ):
            await stage.play(f'dave >> {{"type":"{verb}","id":"1","payload":{payload}}}')
            assert '"msg":"forbidden","detail":"this session has no certificate' in await stage.next_text("dave")


# --- key packages ----------------------------------------------------------------------------------------------------


async def test_packages_are_published_counted_and_claimed(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone", packages=0)
        assert await bob.accepted("mls_packages") == {"count": 0, "last_resort": False}
        assert await bob.publish(2, last_resort=True) == {"ts": NOW_MS, "count": 2}
        assert await bob.accepted("mls_packages") == {"count": 2, "last_resort": True}
        given = [await alice.accepted("mls_claim", group=PAIR, clients=[BOB]) for _ in range(3)]
        assert [each["packages"][0].get("last", False) for each in given] == [False, False, True]
        assert given[0]["packages"][0]["device_key"] == bob.key.public_key.raw.hex()
        assert given[0]["logs"][0]["index"] == 0
        assert (await bob.delivery("mls_low"))["count"] == 1
        missing = await bob.accepted("mls_claim", group=PAIR, clients=[ALICE])
        assert (missing["packages"], missing["missing"]) == ([], [ALICE])


async def test_a_package_has_to_be_this_devices_and_valid(mock_clock: MockClock) -> None:
    now = NOW_MS // 1000
    async with open_stage(auth=AUTH) as stage:
        phone, laptop = await enter_all(stage, "alice.phone", "alice.laptop", packages=0)
        for own, why in (
            (laptop.package(), "it is not certified for this device"),
            (phone.package(lifetime=Lifetime(now - DAY, now)), "it has expired"),
            (phone.package(lifetime=Lifetime(now, now + 91 * DAY)), "it is valid for too long"),
        ):
            good = phone.package()
            answer = await phone.refused("mls_publish", packages=[to_base64url(each.public) for each in (good, own)])
            assert answer == ("invalid", f"packages[1]: {why}")
        altered = bytearray(phone.package().public)
        altered[-1] ^= 1
        assert (await phone.refused("mls_publish", packages=[to_base64url(bytes(altered))]))[0] == "invalid"
        await phone.publish(20)
        assert (await phone.refused("mls_publish", packages=[to_base64url(phone.package().public)]))[0] == "quota"
        two = [to_base64url(laptop.package(last_resort=True).public) for _ in range(2)]
        assert (await laptop.refused("mls_publish", packages=two))[0] == "invalid"


async def test_packages_are_for_those_who_are_to_be_in_the_conversation(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, _, carol = await enter_all(stage, "alice.phone", "bob.phone", "carol.phone")
        assert (await carol.refused("mls_claim", group=PAIR, clients=[BOB]))[0] == "forbidden"
        assert (await alice.refused("mls_claim", group=PAIR, clients=[CAROL]))[0] == "forbidden"
        assert (await alice.refused("mls_claim", group=PAIR))[0] == "invalid"
        device = {"client": BOB, "device_key": "0" * 64}
        assert (await alice.accepted("mls_claim", group=PAIR, devices=[device]))["missing"] == [BOB]


async def test_whoever_is_blocked_takes_nothing_and_learns_nothing(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await bob.accepted("block", client=ALICE)
        claimed = await alice.accepted("mls_claim", group=PAIR, clients=[BOB])
        assert [each["last"] for each in claimed["packages"]] == [True]
        alice.found(PAIR)
        pending = alice.prepare("members", add=claimed["packages"], roles={BOB: "admin"})
        await alice.accepted("mls_create", **alice.said(PAIR, pending))
        await alice.take_commit()
        await alice.accepted("mls_send", **alice.sealed(PAIR, "can you hear me?"))
        await bob.accepted("ping")
        assert [frame for frame in bob.arrived if frame["type"] in ("mls_welcome", "mls_message")] == []
        page = (await get(stage, "/metrics")).body
        assert b'ironwire_packages_claimed_total{kind="fresh"} 0.0\n' in page
        assert b'ironwire_packages_claimed_total{kind="last_resort"} 1.0\n' in page


# --- where things stand ----------------------------------------------------------------------------------------------


async def test_commits_that_were_missed_are_read_page_by_page(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await begin_pair(alice, bob)
        for _ in range(3):
            await alice.accepted("mls_commit", **alice.said(PAIR, alice.prepare("update")))
            await alice.take_commit()
        page = await bob.accepted("mls_commits", group=PAIR, generation=1, **{"from": 2})
        assert [each["epoch"] for each in page["commits"]] == [2, 3, 4]
        assert "more" not in page
        told = [await bob.delivery("mls_committed") for _ in range(3)]
        assert page["commits"] == told
        for first in (5, 99):
            assert (await bob.refused("mls_commits", group=PAIR, generation=1, **{"from": first}))[0] == "not_found"
        assert (await bob.refused("mls_commits", group=PAIR, generation=2, **{"from": 1}))[0] == "not_found"
        place = {"group": PAIR, "generation": 1, "epoch": 4}
        await bob.accepted("mls_nack", **place, sha256=told[2]["sha256"], reason="the tag is wrong")


async def test_a_commit_that_cannot_be_applied_is_told_to_the_operator(
    mock_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await begin_pair(alice, bob)
        pending = alice.prepare("update")
        await alice.accepted("mls_commit", **alice.said(PAIR, pending))
        said = {
            "group": PAIR,
            "generation": 1,
            "epoch": 2,
            "sha256": pending.sha256.hex(),
            "reason": "the tag is wrong",
        }
        for other in ({"epoch": 1}, {"epoch": 3}, {"generation": 2}, {"sha256": "0" * 64}):
            assert (await bob.refused("mls_nack", **{**said, **other}))[0] == "not_found"
        capsys.readouterr()
        await bob.accepted("mls_nack", **said)
        assert f"committer={ALICE[:8]}" in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert b'ironwire_conversations_nacks_total{kind="pair"} 1.0\n' in (await get(stage, "/metrics")).body
        await bob.accepted("mls_nack", **said)
        assert (await bob.refused("mls_nack", **said))[0] == "rate_limited"
        assert (await bob.refused("mls_nack", **{**said, "group": pair_id(ALICE, CAROL)}))[0] == "not_found"


async def test_a_device_asks_which_conversations_there_are(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        assert await alice.accepted("mls_groups") == {"groups": []}
        await begin_pair(alice, bob)
        group = await begin_group(alice, bob)
        found = (await bob.accepted("mls_groups"))["groups"]
        assert [each["group"] for each in found] == [group, PAIR]
        assert found[1] == {"group": PAIR, "generation": 1, "epoch": 1, "devices": 2, "is_in": True}
        assert [each["group"] for each in (await bob.accepted("mls_groups", after=group))["groups"]] == [PAIR]


async def test_signals_reach_who_is_here_and_nobody_else(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await begin_pair(alice, bob)
        await alice.accepted("mls_signal", **alice.sealed(PAIR, "typing"))
        told = await bob.delivery("mls_signal")
        assert (told["from"], told["epoch"], "ts" in told) == (ALICE, 1, False)
        late = dict(alice.sealed(PAIR, "typing"), generation=2)
        assert (await alice.refused("mls_signal", **late))[0] == "invalid"


async def test_a_restart_begins_the_next_generation(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await begin_pair(alice, bob)
        claimed = await bob.accepted("mls_claim", group=PAIR, clients=[ALICE])
        bob.found(PAIR, generation=4)
        pending = bob.prepare("members", add=claimed["packages"], roles={ALICE: "admin"})
        answer = await bob.accepted("mls_create", **bob.said(PAIR, pending, generation=4))
        assert (answer["generation"], answer["epoch"]) == (4, 1)
        await bob.take_commit()
        assert (await alice.refused("mls_send", **alice.sealed(PAIR, "too late")))[0] == "conflict"
        await alice.join(BOTH)
        await alice.accepted("mls_send", **alice.sealed(PAIR, "again", generation=4))
        assert await bob.read() == "again"


async def test_a_restart_leaves_members_out_and_lets_nobody_back_in(mock_clock: MockClock) -> None:
    """Bob is left out and stays a member; Carol has left, and the restart does not bring her back."""
    async with open_stage(auth=AUTH) as stage:
        alice, bob, carol = await enter_all(stage, "alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(alice, bob, carol)
        await carol.accepted("group_leave", group=group)
        for verb in ("mls_signal", "mls_send"):
            assert (await carol.refused(verb, **carol.sealed(group, "still here?")))[0] == "not_found"
        claimed = await alice.accepted("mls_claim", group=group, clients=[CAROL])
        alice.found(group, generation=2)
        pending = alice.prepare("members", add=claimed["packages"])
        await alice.accepted("mls_create", **alice.said(group, pending, generation=2))
        info = await alice.accepted("group_info", group=group)
        assert {each["client"] for each in info["members"]} == {ALICE, BOB}
        assert (await bob.refused("mls_send", **bob.sealed(group, "and I?")))[0] == "not_found"


async def test_a_generation_begins_as_it_says(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        claimed = await alice.accepted("mls_claim", group=PAIR, clients=[BOB])
        alice.found(PAIR)
        said = alice.said(PAIR, alice.prepare("members", add=claimed["packages"], roles={BOB: "admin"}))
        assert (await alice.refused("mls_create", **{**said, "generation": 2}))[0] == "invalid"
        own = pair_id(ALICE, ALICE)
        assert (await alice.refused("mls_create", **{**said, "group": own}))[0] == "invalid"
        await alice.accepted("mls_create", **said)
        assert Generation(PAIR, 1).is_named_by(alice.mls.group_id)
        assert (await bob.refused("mls_send", group=own, generation=1, epoch=1, data="AAAA"))[0] == "invalid"


# --- blobs -----------------------------------------------------------------------------------------------------------


def upload(stage: Stage, data: bytes) -> dict[str, object]:
    """The `ref` of bytes that were uploaded."""
    digest = hashlib.sha256(data).hexdigest()
    name = parse_blob_name(f"123e4567-e89b-42d3-a456-{digest[:12]}.bin")
    (stage.data / MEDIA / name).write_bytes(data)
    return {"url": media_path(name), "sha256": digest, "size": len(data)}


def stored_ms(stage: Stage, ref: dict[str, object]) -> int:
    """The time from which the blob's age counts."""
    return (stage.data / str(ref["url"]).removeprefix("/")).stat().st_mtime_ns // 1_000_000


async def test_what_is_too_large_for_a_frame_is_uploaded(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All joiners get the same blob, and every device the commit as it was named. Both stay as long as the commit."""
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        claimed = await alice.accepted("mls_claim", group=PAIR, clients=[BOB])
        alice.found(PAIR)
        pending = alice.prepare("members", add=claimed["packages"], roles={BOB: "admin"})
        mock_clock.autojump_threshold = math.inf  # blobs are read in threads, during which no time may pass
        commit, welcome = upload(stage, pending.commit), upload(stage, pending.welcome)
        place = {"group": PAIR, "generation": 1}
        for wrong, why in (
            ({**commit, "size": 2 * 1024 * 1024}, "commit may have 1048576 bytes at most"),
            ({**commit, "size": 5}, "there is no commit of this size at its url"),
            ({**commit, "sha256": "0" * 64}, "the commit at the url has another hash"),
        ):
            assert await alice.refused("mls_create", **place, commit_ref=wrong) == ("invalid", why)
        both = {"commit": to_base64url(pending.commit), "commit_ref": commit}
        assert await alice.refused("mls_create", **place, **both) == ("invalid", "there are two of commit")
        refs = {"commit_ref": commit, "welcome_ref": welcome}
        with monkeypatch.context() as expired:
            expired.setattr(BlobFolder, "keep", lambda *_: False)
            assert await alice.refused("mls_create", **place, **refs) == (
                "invalid",
                "a file of this commit has expired",
            )
        for ref in (commit, welcome):
            os.utime(stage.data / str(ref["url"]).removeprefix("/"), (0, 0))
        await alice.accepted("mls_create", **place, **refs)
        for ref in (commit, welcome):
            expires_ms = stored_ms(stage, ref) + int(UploadSettings().expire_days) * DAY * 1000
            assert expires_ms == NOW_MS + (30 * DAY + 3600) * 1000
        told = await alice.delivery("mls_committed")
        assert (told["ref"], told["sha256"], "data" in told) == (commit, commit["sha256"], False)
        alice.mls.process(pending.commit)
        assert (await bob.delivery("mls_welcome"))["ref"] == welcome


async def test_messages_are_numbered_like_others(mock_clock: MockClock) -> None:
    """After a reconnect the device knows which of them were accepted, and encrypts the others again."""
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await begin_pair(alice, bob)
        early = alice.sealed(PAIR, "one")
        late = bob.prepare("update")
        await bob.accepted("mls_commit", **bob.said(PAIR, late))
        answer = await alice.ask_numbered(1, "mls_send", **early)
        assert (answer["payload"]["msg"], answer["payload"]["epoch"]) == ("conflict", 2)
        await alice.take_commit(roster=BOTH)
        await bob.take_commit(roster=BOTH)
        damaged = {**alice.sealed(PAIR, ""), "data": "AAAA"}
        assert (await alice.ask_numbered(2, "mls_send", **damaged))["payload"]["msg"] == "invalid"
        said = alice.sealed(PAIR, "one")
        assert (await alice.ask_numbered(3, "mls_send", **said))["payload"] == {"ts": NOW_MS}
        assert (await alice.ask_numbered(3, "mls_send", **said))["payload"] == {"ts": NOW_MS, "duplicate": True}
        hole = (await alice.ask_numbered(9, "mls_send", **said))["payload"]
        assert hole == {"msg": "invalid", "detail": "the next n of this device is 4"}
        alice.arrived.clear()
        await alice.enter()
        told = next(frame for frame in alice.arrived if frame["type"] == "auth_ok")["payload"]
        refused = [{"from": 1, "to": 1, "msg": "conflict"}, {"from": 2, "to": 2, "msg": "invalid"}]
        assert (told["sent"], told["refused"]) == (3, refused)
        assert await bob.read() == "one"


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_conversation_has_so_many_devices_and_no_more(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH, limits=Limits(mls_leaves=2)) as stage:
        alice, bob, _ = await enter_all(stage, "alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(alice, bob)
        claimed = await alice.accepted("mls_claim", group=group, clients=[CAROL])
        pending = alice.prepare("members", add=claimed["packages"])
        assert await alice.refused("mls_commit", **alice.said(group, pending)) == (
            "quota",
            "a conversation has at most 2 devices",
        )


async def test_a_conversation_moves_six_times_a_minute(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        group = await begin_group(alice, bob)
        for number in range(5):
            pending = alice.prepare("rename", said={"name": f"{number}" * 64})
            await alice.accepted("mls_commit", **alice.said(group, pending))
            await alice.take_commit()
        said = alice.said(group, alice.prepare("rename", said={"name": "f" * 64}))
        answer = (await alice.ask("mls_commit", **said))["payload"]
        assert answer["msg"] == "rate_limited"
        assert 9_000 < answer["retry_after_ms"] <= 10_001
        alice.mls.drop_pending()
        await alice.accepted("mls_send", **alice.sealed(group, "a commit that waits holds nothing up"))


async def test_updates_leave_room_for_others_and_so_do_commits_that_are_refused(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        group = await begin_group(alice, bob)
        for _ in range(3):
            await bob.accepted("mls_commit", **bob.said(group, bob.prepare("update")))
            await bob.take_commit()
            await alice.take_commit(roster=alice.roster)
        for _ in range(9):
            wish = bob.prepare("roles", roles={BOB: "admin"})
            assert (await bob.refused("mls_commit", **bob.said(group, wish)))[0] == "forbidden"
            bob.mls.drop_pending()
        for op in ("update", "roles"):
            wish = bob.prepare(op, roles={BOB: "admin"} if op == "roles" else None)
            code, _ = await bob.refused("mls_commit", **bob.said(group, wish))
            assert code == "rate_limited"
            bob.mls.drop_pending()
        pending = alice.prepare("rename", said={"name": "1" * 64})
        await alice.accepted("mls_commit", **alice.said(group, pending))


# --- tasks -----------------------------------------------------------------------------------------------------------


async def test_a_new_device_is_added_by_another_of_its_client(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        phone, bob, laptop = await enter_all(stage, "alice.phone", "bob.phone", "alice.laptop", packages=0)
        for each in (phone, bob):
            await each.publish(3, last_resort=True)
        await begin_pair(phone, bob)
        await laptop.publish(3, last_resort=True)
        task = await phone.delivery("mls_task")
        device = {"client": ALICE, "device_key": laptop.key.public_key.raw.hex()}
        assert task == {"group": PAIR, "lease_ms": 30_000, "add": [device]}
        claimed = await phone.accepted("mls_claim", group=PAIR, devices=task["add"])
        pending = phone.prepare("devices", add=claimed["packages"])
        await phone.accepted("mls_commit", **phone.said(PAIR, pending))
        await phone.take_commit()
        await laptop.join(BOTH)
        await bob.take_commit(roster=BOTH)
        await laptop.accepted("mls_send", **laptop.sealed(PAIR, "from the laptop"))
        assert await bob.read() == await phone.read() == "from the laptop"


async def test_a_device_that_does_nothing_is_followed_by_the_next(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    async with open_stage(auth=AUTH) as stage:
        alice, bob, carol = await enter_all(stage, "alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(alice, bob, carol)
        await bob.accepted("group_leave", group=group)
        expected = {"group": group, "lease_ms": 30_000, "left": [BOB]}
        assert await alice.delivery("mls_task") == expected
        await trio.sleep(20)
        await alice.accepted("ping")
        await carol.accepted("ping")
        assert await carol.delivery("mls_task") == expected
        pending = carol.prepare("leave", remove=[bob])
        await carol.accepted("mls_commit", **carol.said(group, pending))
        await carol.take_commit()
        await alice.take_commit(roster=carol.roster)
        found = (await alice.accepted("mls_groups"))["groups"]
        assert [each["devices"] for each in found] == [2]


async def test_a_device_that_lost_its_state_is_added_again(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        alice, bob = await enter_all(stage, "alice.phone", "bob.phone")
        await begin_pair(alice, bob)
        await bob.accepted("mls_rejoin", groups=[PAIR, pair_id(ALICE, CAROL)])
        task = await alice.delivery("mls_task")
        assert [each["client"] for each in task["readd"]] == [BOB]
        claimed = await alice.accepted("mls_claim", group=PAIR, devices=task["readd"])
        pending = alice.prepare("readd", add=claimed["packages"], remove=[bob])
        await alice.accepted("mls_commit", **alice.said(PAIR, pending))
        await alice.take_commit()
        await bob.join(BOTH)
        await bob.accepted("mls_send", **bob.sealed(PAIR, "back again"))
        assert await alice.read() == "back again"
        for _ in range(2):
            await bob.accepted("mls_rejoin", groups=[PAIR])
        assert (await bob.refused("mls_rejoin", groups=[PAIR]))[0] == "rate_limited"
        other = pair_id(ALICE, CAROL)
        for _ in range(3):
            refused = await bob.refused("mls_rejoin", groups=[other, PAIR])
            assert refused[0] == "rate_limited", "one of the two is too much"
        for _ in range(2):
            await bob.accepted("mls_rejoin", groups=[other])
        assert (await bob.refused("mls_rejoin", groups=[other]))[0] == "rate_limited"


async def test_a_device_that_is_removed_is_taken_out_by_whoever_is_here(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        phone, laptop, bob = await enter_all(stage, "alice.phone", "alice.laptop", "bob.phone")
        await begin_pair(phone, laptop, bob)
        await stage.actors[phone.name].hang_up()
        await laptop.ask("device_remove", device="phone")
        await stage.actors[laptop.name].hang_up()
        await laptop.enter()
        task = await laptop.delivery("mls_task")
        assert task["remove"] == [{"client": ALICE, "device_key": phone.key.public_key.raw.hex()}]
        pending = laptop.prepare("devices", remove=[bob])
        assert (await laptop.refused("mls_commit", **laptop.said(PAIR, pending)))[0] == "forbidden"
        laptop.mls.drop_pending()
        pending = laptop.prepare("devices", remove=[phone])
        await laptop.accepted("mls_commit", **laptop.said(PAIR, pending))
        await laptop.take_commit()
        await bob.take_commit(roster=BOTH)
        assert len(bob.mls.members()) == 2
