"""A conversation with a group, and who is there: what belongs to it is shown as its own, and nothing else is."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ironwire.cli.chat.presence_view import FORGET_SECONDS, OwnTyping
from ironwire.client import (
    Connected,
    Connection,
    DeliveredFile,
    DeliveredText,
    Disconnected,
    GroupChanged,
    GroupDetails,
    GroupMember,
    Lost,
    PresenceUpdate,
    Received,
    RelayedTyping,
)
from ironwire.ids import DeviceId, GroupId, MessageId

from .table import ALICE, BOB, CAROL, FRIENDS, FakeClient, FakeGroups, Table, held

DESK = DeviceId("desk")
HIS = MessageId("his")
OTHERS = GroupId("#" + "0e" * 16)
NAMELESS = GroupId("#" + "1e" * 16)
URL = "/media/00000000-0000-4000-8000-000000000000.bin"


async def test_what_is_said_in_the_group_and_elsewhere(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient(), FRIENDS) as table:
        table.client.happen(Received(DeliveredText(BOB, "hi all", device=DESK, group=FRIENDS), HIS))
        table.client.happen(Received(DeliveredText(BOB, "psst", device=DESK), HIS))
        table.client.happen(Received(DeliveredText(BOB, "hi others", group=OTHERS)))
        table.client.happen(Received(DeliveredFile(CAROL, URL, name="cat.png", group=FRIENDS)))
        table.client.happen(Received(DeliveredText(ALICE, "from my desk", device=DESK, group=FRIENDS)))
        table.client.happen(Received(DeliveredText(ALICE, "to others", device=DESK, group=OTHERS)))
        await table.settled()
    assert [line.partition("\n")[0] for line in table.shown] == [
        "bob hi all",
        "c0c0c0c0… sends “cat.png” (file)",
        "you from my desk",
    ]
    assert table.said == [
        "elsewhere, bob: psst  (/to bob)",
        f"elsewhere, bob in #0e0e0e0…: hi others  (/to {OTHERS})",
        f"elsewhere, you → #0e0e0e0…: to others  (/to {OTHERS})",
    ]


async def test_a_group_gets_no_receipts(tmp_path: Path) -> None:
    """Neither in its own conversation, nor in one with the person who wrote to it."""
    for to in (FRIENDS, BOB):
        async with held(tmp_path, FakeClient(), to) as table:
            table.client.happen(Received(DeliveredText(BOB, "hi all", device=DESK, group=FRIENDS), HIS))
            await table.settled()
        assert table.client.receipts == []


async def test_what_is_entered_goes_to_the_group(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient(), FRIENDS) as table:
        table.enter("hello everybody")
    assert table.shown == ["you hello everybody  ✓"]
    assert table.client.sent == [("hello everybody", {})]


async def test_changes_stand_among_the_messages(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient(), FRIENDS) as table:
        change = GroupChanged(FRIENDS, 2, BOB, [CAROL], [], [GroupMember(CAROL, "member")])
        table.client.happen(Received(DeliveredText(BOB, "before", group=FRIENDS)))
        table.client.happen(Received(change))
        table.client.happen(Received(DeliveredText(CAROL, "after", group=FRIENDS)))
        await table.settled()
    assert table.shown == ["bob before", "bob added c0c0c0c0…", "c0c0c0c0… after"]


async def test_who_is_in_the_group(tmp_path: Path) -> None:
    """Lines that a narrow terminal has room for: the ids are those of people without a name here."""
    members = [GroupMember(BOB, "admin"), GroupMember(ALICE, "member"), GroupMember(CAROL, "member")]
    client = FakeClient(groups=FakeGroups(GroupDetails(FRIENDS, 4, members, "Fri\x1b[2Jends")))
    async with held(tmp_path, client, FRIENDS) as table:
        table.enter("/who")
    assert table.said == [
        f"“Fri␛[2Jends”, {FRIENDS}",
        "bob, an admin",
        "you, a member",
        f"c0c0c0c0… is {CAROL}, a member",
    ]


async def test_who_is_in_an_encrypted_group(tmp_path: Path) -> None:
    details = GroupDetails(FRIENDS, 4, [GroupMember(ALICE, "admin")])
    async with held(tmp_path, FakeClient(groups=FakeGroups(details), code="12345" * 6), FRIENDS) as table:
        table.enter("/who")
    assert table.said == [
        FRIENDS,
        "you, an admin",
        "code 12345 12345 12345 12345 12345 12345, the same for all of you",
    ]


async def test_who_is_in_a_group_that_one_has_left(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient(), FRIENDS) as table:
        table.enter("/who")
    assert table.said == ["no such group"]


async def test_who_the_other_one_is(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.enter("/who")
        await table.settled()
        table.client.happen(Received(PresenceUpdate(BOB, "busy")))
        await table.settled()
        table.enter("/who")
    assert table.said == [f"bob is {BOB}, not verified", f"bob is {BOB}, not verified, busy"]


async def test_a_group_without_a_contact_is_shown_by_its_own_name(tmp_path: Path) -> None:
    """In quotation marks, which no contact's name contains; the server is asked once about those that have none."""
    client = FakeClient(groups=FakeGroups(names={OTHERS: "Che\x1b[2Jss"}))
    async with held(tmp_path, client, OTHERS) as table:
        table.client.happen(Received(DeliveredText(BOB, "one", group=FRIENDS)))
        await table.settled()
        assert table.book.label(OTHERS) == "“Che␛[2Jss”"
        table.client.happen(Received(DeliveredText(BOB, "two", group=NAMELESS)))
        await table.settled()
        table.client.happen(Received(DeliveredText(BOB, "three", group=NAMELESS)))
        await table.settled()
        table.client.happen(Received(GroupChanged(OTHERS, 9, BOB, [], [], [], "Go")))
        await table.settled()
        assert table.book.label(OTHERS) == "“Go”"
    assert [line.partition(":")[0] for line in table.said[:1]] == ["elsewhere, bob in friends"]
    assert table.book.label(NAMELESS) == "#1e1e1e1…"
    assert client.groups.asked == 2


async def test_the_name_of_a_group_is_known_without_a_server(tmp_path: Path) -> None:
    client = FakeClient(kept_names={OTHERS: "Chess"}, connection=Connection("waiting", "nobody answers", 100.0))
    async with held(tmp_path, client, OTHERS) as table:
        await table.settled()
        assert table.book.label(OTHERS) == "“Chess”"
        table.client.happen(Received(DeliveredText(BOB, "psst")))
        table.client.happen(Lost(1, 2, "expired", (OTHERS,)))
        await table.settled()
        table.client.connection = Connection("connected")
        client.groups.names[OTHERS] = "Go"
        table.client.happen(Connected())
        await table.settled()
        assert table.book.label(OTHERS) == "“Go”"


# --- who is there, and who types -------------------------------------------------------------------------------------


def presence_view(table: Table) -> str:
    return table.conversation.presence_view.describe(table.book)


async def test_the_other_one_is_seen_while_there_is_a_connection(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        for event, seen in (
            (Received(PresenceUpdate(CAROL, "away")), ""),
            (Received(PresenceUpdate(BOB, "online")), "online"),
            (Received(PresenceUpdate(BOB, "offline")), ""),
            (Received(PresenceUpdate(BOB, "away")), "away"),
            (Disconnected("gone", 1), ""),
            (Connected(), ""),
        ):
            table.client.happen(event)
            await table.settled()
            assert presence_view(table) == seen


async def test_typing_is_seen_until_it_stops_or_the_text_comes(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        for message, seen in (
            (RelayedTyping(CAROL, True), ""),
            (RelayedTyping(BOB, True, FRIENDS), ""),
            (RelayedTyping(BOB, True), "bob is typing…"),
            (RelayedTyping(BOB, False), ""),
            (RelayedTyping(BOB, True), "bob is typing…"),
            (DeliveredText(BOB, "there"), ""),
        ):
            table.client.happen(Received(message))
            await table.settled()
            assert presence_view(table) == seen


async def test_many_may_type_in_a_group(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient(), FRIENDS) as table:
        for sender, seen in ((BOB, "bob is"), (CAROL, "bob and c0c0c0c0… are"), (ALICE, "3 are")):
            table.client.happen(Received(RelayedTyping(sender, True, FRIENDS)))
            await table.settled()
            assert presence_view(table) == f"{seen} typing…"


async def test_typing_is_forgotten_by_itself(tmp_path: Path, mock_clock: MockClock) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Received(RelayedTyping(BOB, True)))
        await table.settled()
        mock_clock.jump(FORGET_SECONDS - 0.1)
        assert presence_view(table) == "bob is typing…"
        mock_clock.jump(0.2)
        assert presence_view(table) == ""


async def test_the_others_are_told_at_once_then_now_and_then_then_that_it_is_over(mock_clock: MockClock) -> None:
    told: list[tuple[float, bool]] = []
    typing = OwnTyping(lambda is_typing: told.append((round(trio.current_time() - began, 1), is_typing)))
    began = trio.current_time()
    for text in ["", "h", *(["he", "hel"] * 5), *["hell"] * 8, "hello", ""]:
        typing.look(text)
        mock_clock.jump(1)
    assert told == [(1, True), (5, True), (9, True), (13, True), (17, True), (18, False), (20, True), (21, False)]


@pytest.mark.parametrize("line", ["", "/file secret.txt", "/"])
async def test_nobody_is_told_of_commands(line: str) -> None:
    told: list[bool] = []
    OwnTyping(told.append).look(line)
    assert told == []
