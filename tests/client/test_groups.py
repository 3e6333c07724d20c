"""Groups, presence and blocks as a program has them: what is asked, what is known, what a new session begins with."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from ironwire.client import (
    Accepted,
    Backoff,
    Client,
    Connected,
    DeliveredText,
    Disconnected,
    Error,
    GroupChanged,
    GroupDetails,
    GroupMember,
    GroupSummary,
    Identity,
    NotTheProtocol,
    PresenceUpdate,
    Received,
    Refused,
    RelayedTyping,
    connect,
)
from ironwire.ids import ClientId, GroupId
from ironwire.wire.messages import (
    Block,
    BlockList,
    Blocks,
    ClientMessage,
    GroupAdd,
    GroupCreate,
    GroupInfo,
    GroupLeave,
    GroupList,
    GroupRemove,
    GroupRename,
    GroupRole,
    Groups,
    Presence,
    PresenceAllow,
    PresenceWatch,
    ServerMessage,
    Text,
    Typing,
    Unblock,
)

from .scripted_server import ADDRESS, Peer, ScriptedServer, scripted_server

ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32).client_id
CAROL = Identity.from_seed(b"c" * 32).client_id
FRIENDS = GroupId("#" + "f0" * 16)
AT_ONCE = Backoff(base_seconds=0)
TWO = [GroupMember(ALICE.client_id, "admin"), GroupMember(BOB, "member")]
THREE = [*TWO, GroupMember(CAROL, "member")]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[ScriptedServer, Client, Peer]]:
    with trio.fail_after(10):
        async with scripted_server() as server, connect(ADDRESS, ALICE, backoff=AT_ONCE, dial=server.dial) as client:
            yield server, client, await server.accept()


async def answered(ask: Callable[[], Awaitable[Any]], peer: Peer, expected: ClientMessage, reply: ServerMessage) -> Any:
    """What `ask` returns when the server, which gets `expected`, says `reply`."""
    results = []

    async def run() -> None:
        results.append(await ask())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        message, message_id = await peer.receive()
        assert message == expected
        assert message_id is not None
        await peer.send(reply, message_id)
    return results[0]


async def unasked(ask: Callable[[], Awaitable[Any]], peer: Peer) -> Any:
    """What `ask` returns by itself; the server must not be asked."""
    result = None
    async with trio.open_nursery() as nursery:

        async def fail() -> None:
            raise AssertionError(f"the server was asked: {await peer.receive()}")

        nursery.start_soon(fail)
        result = await ask()
        nursery.cancel_scope.cancel()
    return result


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda client: client.groups.add(FRIENDS, [BOB], if_epoch=3), GroupAdd(FRIENDS, [BOB], 3)),
        (lambda client: client.groups.remove(FRIENDS, iter([BOB, CAROL])), GroupRemove(FRIENDS, [BOB, CAROL])),
        (lambda client: client.groups.leave(FRIENDS, if_epoch=3), GroupLeave(FRIENDS, 3)),
        (lambda client: client.groups.set_role(FRIENDS, BOB, "admin"), GroupRole(FRIENDS, BOB, "admin")),
        (lambda client: client.groups.rename(FRIENDS, "Foes", if_epoch=3), GroupRename(FRIENDS, "Foes", 3)),
    ],
)
async def test_a_change_is_accepted_with_the_epoch(
    ask: Callable[[Client], Awaitable[Accepted]], message: ClientMessage
) -> None:
    async with connected() as (_, client, peer):
        accepted = Accepted(7, group=FRIENDS, epoch=4)
        assert await answered(lambda: ask(client), peer, message, accepted) == accepted


async def test_a_new_group_has_an_id() -> None:
    async with connected() as (_, client, peer):
        expected = GroupCreate([BOB], "Friends")
        made = await answered(
            lambda: client.groups.create([BOB], "Friends"), peer, expected, Accepted(1, group=FRIENDS, epoch=1)
        )
        assert made == FRIENDS


async def test_a_server_that_does_not_say_which_group_it_made() -> None:
    async with connected() as (_, client, peer):

        async def ask() -> None:
            with pytest.raises(NotTheProtocol, match="did not say which"):
                await client.groups.create([BOB])

        await answered(ask, peer, GroupCreate([BOB]), Accepted(1))


async def test_a_change_that_is_refused_says_why() -> None:
    async with connected() as (_, client, peer):

        async def ask() -> None:
            with pytest.raises(Refused, match="conflict: the group is at epoch 5") as caught:
                await client.groups.leave(FRIENDS, if_epoch=4)
            assert caught.value.code == "conflict"

        await answered(ask, peer, GroupLeave(FRIENDS, 4), Error("conflict", "the group is at epoch 5"))


async def test_a_change_that_was_under_way_is_sent_again_with_its_id() -> None:
    async with connected() as (server, client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.groups.add, FRIENDS, [BOB])
        sent = await peer.receive()
        await peer.cut()
        returned = await server.accept()
        assert await returned.receive() == sent
        await returned.send(Accepted(1, duplicate=True, group=FRIENDS), sent[1])


async def test_the_list_of_groups_is_the_servers() -> None:
    async with connected() as (_, client, peer):
        summary = GroupSummary(FRIENDS, 4, "admin", 2, "Friends")
        assert await answered(client.groups.all, peer, Groups(), GroupList([summary])) == [summary]


async def test_what_comes_from_a_group_names_it_and_the_sender() -> None:
    async with connected() as (_, client, peer):
        pushes: list[ServerMessage] = [
            DeliveredText(BOB, "hi", group=FRIENDS),
            GroupChanged(FRIENDS, 2, BOB, [CAROL], [], [GroupMember(CAROL, "member")]),
            RelayedTyping(BOB, True, FRIENDS),
        ]
        for push in pushes:
            await peer.send(push)
        assert [await anext(client) for _ in range(4)] == [Connected(), *map(Received, pushes)]


async def test_a_text_goes_to_a_group_as_to_a_client() -> None:
    async with connected() as (_, client, peer):
        await answered(lambda: client.send_text(FRIENDS, "hi"), peer, Text(FRIENDS, "hi"), Accepted(1))


# --- what is known ---------------------------------------------------------------------------------------------------


async def info(client: Client) -> GroupDetails:
    return await client.groups.info(FRIENDS)


async def test_a_group_is_asked_for_once_and_then_followed() -> None:
    async with connected() as (_, client, peer):
        two = GroupDetails(FRIENDS, 4, TWO, "Friends")
        assert await answered(lambda: info(client), peer, GroupInfo(FRIENDS), two) == two
        assert await unasked(lambda: info(client), peer) == two
        await peer.send(GroupChanged(FRIENDS, 5, BOB, [CAROL], [], [GroupMember(CAROL, "member")]))
        await peer.send(GroupChanged(FRIENDS, 6, BOB, [], [], [], "Foes"))
        for _ in range(3):
            await anext(client)
        assert await unasked(lambda: info(client), peer) == GroupDetails(FRIENDS, 6, THREE, "Foes")


async def test_a_group_is_asked_for_anew_where_a_change_is_missing() -> None:
    async with connected() as (_, client, peer):
        await answered(lambda: info(client), peer, GroupInfo(FRIENDS), GroupDetails(FRIENDS, 4, TWO))
        await peer.send(GroupChanged(FRIENDS, 6, BOB, [CAROL], [], []))
        assert [type(await anext(client)) for _ in range(2)] == [Connected, Received]
        three = GroupDetails(FRIENDS, 6, THREE)
        assert await answered(lambda: info(client), peer, GroupInfo(FRIENDS), three) == three


async def test_the_author_of_a_change_does_not_read_what_was_before() -> None:
    async with connected() as (_, client, peer):
        await answered(lambda: info(client), peer, GroupInfo(FRIENDS), GroupDetails(FRIENDS, 4, TWO))
        accepted = Accepted(7, group=FRIENDS, epoch=5)
        await answered(lambda: client.groups.add(FRIENDS, [CAROL]), peer, GroupAdd(FRIENDS, [CAROL]), accepted)
        three = GroupDetails(FRIENDS, 5, THREE)
        assert await answered(lambda: info(client), peer, GroupInfo(FRIENDS), three) == three


async def test_a_group_is_asked_for_anew_in_a_new_session() -> None:
    async with connected() as (server, client, peer):
        two = GroupDetails(FRIENDS, 4, TWO)
        await answered(lambda: info(client), peer, GroupInfo(FRIENDS), two)
        await peer.cut()
        returned = await server.accept()
        await client.wait_connected()
        assert await answered(lambda: info(client), returned, GroupInfo(FRIENDS), two) == two


# --- presence and typing ---------------------------------------------------------------------------------------------


async def said(peer: Peer, count: int) -> list[ClientMessage]:
    messages = []
    for _ in range(count):
        message, message_id = await peer.receive()
        assert message_id is None
        messages.append(message)
    return messages


async def test_presence_is_said_again_in_every_session() -> None:
    async with connected() as (server, client, peer):
        presence = client.presence
        await answered(lambda: presence.allow([BOB]), peer, PresenceAllow([BOB]), Accepted(1))
        await answered(lambda: presence.say("online"), peer, Presence("online"), Accepted(1))
        await answered(lambda: presence.watch({BOB}), peer, PresenceWatch([BOB]), Accepted(1))
        await answered(lambda: presence.say("away"), peer, Presence("away"), Accepted(1))
        for _ in range(2):
            await trio.aclose_forcefully(server.streams[-1])
            assert await said(await server.accept(), 3) == [
                PresenceAllow([BOB]),
                Presence("away"),
                PresenceWatch([BOB]),
            ]


async def test_presence_that_is_refused_is_not_said_again() -> None:
    async with connected() as (server, client, peer):
        await answered(lambda: client.presence.say("busy"), peer, Presence("busy"), Accepted(1))

        async def ask() -> None:
            with pytest.raises(Refused, match="quota"):
                await client.presence.allow([BOB])

        await answered(ask, peer, PresenceAllow([BOB]), Error("quota"))
        await peer.cut()
        returned = await server.accept()
        assert await said(returned, 1) == [Presence("busy")]
        await client.wait_connected()
        client.presence.typing(BOB, False)
        assert await said(returned, 1) == [Typing(BOB, False)]


async def test_what_others_are_seen_as_comes_as_an_event() -> None:
    async with connected() as (_, client, peer):
        await peer.send(PresenceUpdate(BOB, "online"))
        assert [await anext(client), await anext(client)] == [Connected(), Received(PresenceUpdate(BOB, "online"))]


async def test_typing_is_told_now_or_never() -> None:
    async with connected() as (server, client, peer):
        client.presence.typing(BOB, True)
        client.presence.typing(FRIENDS, False)
        assert await said(peer, 2) == [Typing(BOB, True), Typing(FRIENDS, False)]
        await peer.cut()
        assert await anext(client) == Connected()
        assert isinstance(await anext(client), Disconnected)
        client.presence.typing(BOB, True)
        returned = await server.accept()
        await client.wait_connected()
        client.presence.typing(BOB, False)
        assert await said(returned, 1) == [Typing(BOB, False)]


# --- blocks ----------------------------------------------------------------------------------------------------------


async def test_blocks_are_the_servers() -> None:
    async with connected() as (_, client, peer):
        assert await answered(lambda: client.block(BOB), peer, Block(BOB), Accepted(1)) is None
        blocked: list[ClientId] = await answered(client.blocks, peer, Blocks(), BlockList([BOB]))
        assert blocked == [BOB]
        assert await answered(lambda: client.unblock(BOB), peer, Unblock(BOB), Accepted(1)) is None
