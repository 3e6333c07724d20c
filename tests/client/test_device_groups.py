"""A device in groups: what is said there and what changes are kept together, in the order in which they came."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ironwire.client import (
    Accepted,
    Backoff,
    Client,
    Connected,
    DeliveredFile,
    DeliveredReceipt,
    DeliveredText,
    GroupChanged,
    GroupDetails,
    GroupMember,
    HistoryEntry,
    Identity,
    Lost,
    NotTheProtocol,
    Owner,
    Received,
    Refused,
    Said,
    StoreKey,
    connect,
    conversation_of,
    read_history,
)
from ironwire.ids import Address, DeviceId, GroupId, MessageId
from ironwire.wire.messages import Ack, Error, Gap, GroupCreate, GroupInfo

from .scripted_server import ADDRESS, Peer, ScriptedServer, scripted_server

ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32).client_id
PHONE, DESK = DeviceId("phone"), DeviceId("desk")
OWNER = Owner(ALICE.client_id, PHONE, ADDRESS.origin)
FRIENDS = GroupId("#" + "f0" * 16)
OTHERS = GroupId("#" + "0e" * 16)
URL = "/media/00000000-0000-4000-8000-000000000000.bin"
MEMBERS = [GroupMember(ALICE.client_id, "admin"), GroupMember(BOB, "member")]
MADE = GroupChanged(FRIENDS, 1, ALICE.client_id, [ALICE.client_id, BOB], [], MEMBERS, "Friends", ts=1, device=PHONE)


@asynccontextmanager
async def phone(path: Path) -> AsyncIterator[tuple[ScriptedServer, Client, Peer]]:
    backoff = Backoff(base_seconds=0)
    with trio.fail_after(10):
        async with (
            scripted_server() as server,
            connect(ADDRESS, ALICE, device=PHONE, store=path, backoff=backoff, dial=server.dial) as client,
        ):
            yield server, client, await server.accept()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "phone.db"


def history(path: Path, peer: Address) -> list[HistoryEntry]:
    return read_history(path, OWNER, StoreKey.of(ALICE), peer, 100)


async def test_changes_and_messages_are_kept_acknowledged_and_handed_out_in_order(path: Path) -> None:
    said: list[Said] = [
        MADE,
        DeliveredText(BOB, "hi all", ts=2, device=DESK, group=FRIENDS),
        GroupChanged(FRIENDS, 2, BOB, [], [BOB], [], ts=3, device=DESK),
        DeliveredFile(ALICE.client_id, URL, ts=4, device=DESK, group=FRIENDS),
    ]
    async with phone(path) as (_, client, peer):
        for seq, message in enumerate(said, start=1):
            await peer.deliver(message, seq, MessageId(f"id {seq}"))
        while await peer.receive() != (Ack(len(said)), None):
            pass
        events = [await anext(client) for _ in range(5)]
        assert Connected() in events
        events.remove(Connected())
        assert events == [Received(each, MessageId(f"id {seq}"), seq) for seq, each in enumerate(said, start=1)]
    assert [entry.message for entry in history(path, FRIENDS)] == said
    assert {entry.state for entry in history(path, FRIENDS)} == {"received"}
    assert history(path, BOB) == history(path, ALICE.client_id) == []


async def test_the_same_change_under_another_number_is_not_handed_out(path: Path) -> None:
    async with phone(path) as (_, client, peer):
        await peer.deliver(MADE, 1, MessageId("made"))
        await peer.deliver(MADE, 2, MessageId("made"))
        await peer.deliver(DeliveredText(BOB, "hi", ts=2, group=FRIENDS), 3)
        events = [await anext(client) for _ in range(3)]
        assert [event.seq for event in events if isinstance(event, Received)] == [1, 3]


async def test_what_this_device_said_in_a_group_is_in_its_history(path: Path) -> None:
    async with phone(path) as (_, client, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_text, FRIENDS, "hello")
            _, message_id = await peer.receive()
            assert message_id is not None
            await peer.send(Accepted(5), message_id)

        async def refused() -> None:
            with pytest.raises(Refused, match="not_found"):
                await client.send_file(FRIENDS, URL, name="cat.png")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused)
            _, refused_id = await peer.receive()
            assert refused_id is not None
            await peer.send(Error("not_found", "no such group"), refused_id)
        # That somebody read it belongs to no conversation of two.
        await peer.deliver(DeliveredReceipt(BOB, [message_id], "read"), 1)
        assert await anext(client) == Connected()
        await anext(client)
    first, second = history(path, FRIENDS)
    hello = DeliveredText(ALICE.client_id, "hello", ts=5, device=PHONE, group=FRIENDS)
    assert first == HistoryEntry(1, hello, message_id, "accepted")
    assert isinstance(second.message, DeliveredFile)
    assert (second.state, second.message.group, second.message.to) == ("refused", FRIENDS, None)


async def test_a_change_is_not_queued(path: Path) -> None:
    """Whoever asks for it waits for the answer; a program that ended does not know what it would have done then."""
    async with phone(path) as (_, client, peer):
        with trio.move_on_after(0.05):
            await client.groups.create([BOB])
        assert (await peer.receive())[0] == GroupCreate([BOB])
    async with phone(path) as (_, _, peer):
        with trio.move_on_after(0.05):
            pytest.fail(f"asked once more: {await peer.receive()}")


async def _asked(client: Client, peer: Peer, group: GroupId) -> None:
    """`group_info` reaches the server, which answers with epoch 4."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.groups.info, group)
        asked, message_id = await peer.receive()
        assert asked == GroupInfo(group)
        assert message_id is not None
        await peer.send(GroupDetails(group, 4, MEMBERS), message_id)


async def test_after_a_gap_the_groups_that_it_names_are_asked_for_anew_and_no_others(path: Path) -> None:
    async with phone(path) as (_, client, peer):
        await _asked(client, peer, FRIENDS)
        await _asked(client, peer, OTHERS)
        await peer.send(Gap(1, 2, "expired"))
        assert await peer.receive() == (Ack(2), None)
        assert [(await client.groups.info(group)).epoch for group in (FRIENDS, OTHERS)] == [4, 4]
        await peer.send(Gap(3, 5, "full", [FRIENDS]))
        assert await peer.receive() == (Ack(5), None)
        assert (await client.groups.info(OTHERS)).epoch == 4
        await _asked(client, peer, FRIENDS)
        await peer.send(Gap(6, 6, "full", [FRIENDS], more_groups=True))
        assert await peer.receive() == (Ack(6), None)
        await _asked(client, peer, FRIENDS)
        await _asked(client, peer, OTHERS)
        assert [await anext(client) for _ in range(4)] == [
            Connected(),
            Lost(1, 2, "expired"),
            Lost(3, 5, "full", (FRIENDS,)),
            Lost(6, 6, "full", (FRIENDS,), more_groups=True),
        ]


async def test_an_answer_that_a_gap_has_overtaken_is_not_taken_for_the_group_as_it_stands(path: Path) -> None:
    async with phone(path) as (_, client, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.groups.info, FRIENDS)
            _, message_id = await peer.receive()
            await peer.send(Gap(1, 1, "full", [FRIENDS]))
            assert await peer.receive() == (Ack(1), None)
            await peer.send(GroupDetails(FRIENDS, 4, MEMBERS), message_id)
        await _asked(client, peer, FRIENDS)


async def test_a_change_without_a_number_is_not_the_protocol(path: Path) -> None:
    async with phone(path) as (_, client, peer):
        await peer.send(MADE)
        assert await anext(client) == Connected()
        with pytest.raises(NotTheProtocol, match="without a number"):
            await anext(client)


@pytest.mark.parametrize(
    ("message", "conversation"),
    [
        (DeliveredText(BOB, "hi"), BOB),
        (DeliveredText(ALICE.client_id, "hi", to=BOB), BOB),
        (DeliveredText(ALICE.client_id, "a note"), ALICE.client_id),
        (DeliveredText(BOB, "hi", group=FRIENDS), FRIENDS),
        (DeliveredText(ALICE.client_id, "hi", group=OTHERS), OTHERS),
        (MADE, FRIENDS),
    ],
)
def test_what_belongs_where(message: DeliveredText | GroupChanged, conversation: Address) -> None:
    assert conversation_of(message, ALICE.client_id) == conversation
