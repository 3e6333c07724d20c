"""What keys, the device's file and the client change, and what is to be done then."""

from pathlib import Path

import pytest
from attrs import evolve

from ironwire.cli.chat.commands import Remark
from ironwire.cli.chat.transfers import Transfer
from ironwire.cli.chat.window.events import (
    Announced,
    Ask,
    BookChanged,
    Chosen,
    ConnectionChanged,
    Effect,
    Entered,
    FocusMoved,
    FocusReported,
    GroupsNamed,
    Leave,
    LeavingAsked,
    Listed,
    Load,
    LoadBefore,
    Moved,
    Noted,
    Opened,
    Paged,
    PagedBefore,
    Reconnect,
    Resized,
    Save,
    Say,
    Scrolled,
    SendFile,
    StatusChanged,
    Stepped,
    Transferred,
    Typed,
    WentUnread,
)
from ironwire.cli.chat.window.model import ListRow, WindowState
from ironwire.cli.chat.window.view import status_pane
from ironwire.client import Connection
from ironwire.ids import GroupId
from tests.cli.table import BOB, CAROL, FRIENDS

from .screens import UNKNOWN, after, conversing, effects_of, new_state, text_of, theirs


@pytest.fixture
def state(tmp_path: Path) -> WindowState:
    rows = (ListRow(FRIENDS, theirs(3, "all", group=FRIENDS), 2), ListRow(BOB, theirs(2, "hi")), ListRow(CAROL))
    return after(new_state(tmp_path), Listed(rows, 0))


def test_the_list_is_walked_and_a_conversation_opened(state: WindowState) -> None:
    assert state.selected == FRIENDS
    state = after(state, Moved(1))
    assert (state.selected, state.open) == (BOB, None)
    assert after(state, Moved(50)).selected == CAROL
    assert after(state, Moved(-50)).selected == FRIENDS
    assert effects_of(state, Chosen()) == [Load(BOB)]
    opened = after(state, Chosen())
    assert (opened.open, opened.focus) == (BOB, "composer")


def test_conversations_are_reached_by_number_by_step_and_by_what_is_unread(state: WindowState) -> None:
    assert after(state, Chosen(2)).open == CAROL
    assert after(state, Chosen(7)).open is None
    assert after(state, Opened(BOB), Stepped(1)).open == CAROL
    assert after(state, Opened(BOB), Stepped(-1)).open == FRIENDS
    assert after(state, Opened(BOB), WentUnread()).open == FRIENDS
    read = after(state, Listed((ListRow(BOB), ListRow(CAROL)), 0), Opened(BOB))
    assert after(read, WentUnread()).open == BOB


def test_a_key_goes_to_what_was_announced_before_it_goes_to_what_is_unread(state: WindowState) -> None:
    """An announced change of a group is nothing unread, and the line that announces it names the key."""
    told = after(state, Opened(BOB), Announced("carol: hi", CAROL))
    assert after(told, WentUnread()).open == CAROL
    assert after(told, WentUnread(), WentUnread()).open == FRIENDS
    assert after(state, Opened(BOB), Announced("that concerns nobody"), WentUnread()).open == FRIENDS


def test_a_conversation_that_changes_its_place_stays_selected(state: WindowState) -> None:
    state = after(state, Moved(1), Listed((ListRow(CAROL), ListRow(FRIENDS), ListRow(BOB)), 0))
    assert state.selected == BOB


@pytest.mark.parametrize(
    ("line", "effects"),
    [
        ("  Hello  ", [Say(BOB, "Hello")]),
        ("two\nlines", [Say(BOB, "two\nlines")]),
        ("//slash", [Say(BOB, "/slash")]),
        ("   ", []),
        ("/file my cat.png", [SendFile(BOB, "file", "my cat.png")]),
        ("/voice hi.ogg", [SendFile(BOB, "voice", "hi.ogg")]),
        ("/circle me.mp4", [SendFile(BOB, "circle", "me.mp4")]),
        ("/file", []),
        ("/save", [Save(BOB, "")]),
        ("/save 7 cat.png", [Save(BOB, "7 cat.png")]),
        ("/who", [Ask(BOB, "/who")]),
        ("/block", [Ask(BOB, "/block")]),
        ("/unblock", [Ask(BOB, "/unblock")]),
        ("/reconnect", [Reconnect()]),
        ("/quit", [Leave()]),
        ("/nope", []),
        ("/to", []),
        ("/to nobody", []),
        (f"/to {UNKNOWN}", [Load(UNKNOWN)]),
        ("/to carol", [Load(CAROL)]),
    ],
)
def test_what_is_entered(state: WindowState, line: str, effects: list[Effect]) -> None:
    assert effects_of(after(state, Opened(BOB)), Entered(BOB, line)) == effects


def test_what_is_entered_goes_where_it_was_written(state: WindowState) -> None:
    assert effects_of(state, Opened(BOB), Opened(CAROL), Entered(BOB, "for Bob"))[2:] == [Say(BOB, "for Bob")]


def test_a_mistake_is_explained_in_its_conversation(state: WindowState) -> None:
    for line, told in (("/nope", "there is no /nope"), ("/file", "which file"), ("/to nobody", "neither a contact")):
        thread = after(state, Opened(BOB), Entered(BOB, line)).threads[BOB]
        assert told in thread.notes[-1].remark.text
    told_in_list = after(state, Entered(None, "hello?")).announcement
    assert told_in_list is not None
    assert "/to NAME" in told_in_list.text


def test_an_announcement_goes_when_its_conversation_is_opened(state: WindowState) -> None:
    state = after(state, Opened(BOB), Announced("friends, carol: hi", FRIENDS))
    assert state.announcement is not None
    assert after(state, Opened(CAROL)).announcement is not None
    assert after(state, Opened(FRIENDS)).announcement is None
    assert after(state, Opened(FRIENDS), Announced("friends, carol: again", FRIENDS)).announcement is None


def test_pages_come_before_what_is_there(state: WindowState) -> None:
    newest = tuple(theirs(number, str(number)) for number in range(11, 21))
    state = conversing(state, BOB, *newest, is_whole=False)
    up = Scrolled(1_000, 40, 5)
    assert effects_of(state, up) == [LoadBefore(BOB, 11)]
    waiting = after(state, up)
    assert effects_of(waiting, up) == []
    older = tuple(theirs(number, str(number)) for number in range(1, 11))
    whole = after(waiting, PagedBefore(BOB, 11, older, is_whole=True))
    assert [entry.number for entry in whole.threads[BOB].entries] == [*range(1, 21)]
    assert effects_of(whole, up) == []
    again = after(whole, Paged(BOB, (*newest, theirs(21, "21")), is_whole=False))
    assert [entry.number for entry in again.threads[BOB].entries] == [*range(1, 22)]
    assert again.threads[BOB].is_whole


def test_there_is_never_a_hole_between_two_pages(state: WindowState) -> None:
    newest = tuple(theirs(number, str(number)) for number in range(31, 41))
    older = tuple(theirs(number, str(number)) for number in range(1, 11))
    state = conversing(state, BOB, *newest, is_whole=False)
    late = after(state, PagedBefore(BOB, 11, older, is_whole=True))
    assert late.threads[BOB].entries == newest
    far = tuple(theirs(number, str(number)) for number in range(91, 95))
    jumped = after(state, Scrolled(3, 40, 5), Paged(BOB, far, is_whole=False)).threads[BOB]
    assert (jumped.entries, jumped.position) == (far, None)


def test_what_came_meanwhile_is_read_at_the_bottom(state: WindowState) -> None:
    state = conversing(state, BOB, *(theirs(number, str(number)) for number in range(1, 41)))
    assert effects_of(state, Scrolled(3, 40, 5)) == []
    assert effects_of(after(state, Scrolled(3, 40, 5)), Scrolled(-3, 40, 5)) == [Load(BOB)]


def test_at_the_bottom_old_pages_are_forgotten(state: WindowState) -> None:
    many = tuple(theirs(number, str(number)) for number in range(1, 41))
    state = after(conversing(state, BOB, *many, is_whole=True), Paged(BOB, many[30:], is_whole=False))
    assert state.threads[BOB].entries == many[30:]
    assert not state.threads[BOB].is_whole


def test_what_is_not_seen_is_not_read(state: WindowState) -> None:
    many = tuple(theirs(number, str(number)) for number in range(1, 30))
    state = conversing(state, BOB, *many)
    assert state.is_read
    assert not after(state, FocusReported(is_focused=False)).is_read
    assert not after(state, Scrolled(5, 40, 5)).is_read
    assert not after(state, Resized(is_wide=False), FocusMoved("list")).is_read
    assert after(state, FocusMoved("list")).is_read
    assert effects_of(state, FocusReported(is_focused=True)) == [Load(BOB)]


def test_nobody_is_seen_without_a_connection(state: WindowState) -> None:
    state = after(state, Typed(BOB, BOB, is_typing=True), StatusChanged(BOB, "online"))
    assert state.typists(BOB) == [BOB]
    state = after(state, ConnectionChanged(Connection("waiting", "gone", 3.0)))
    assert state.typists(BOB) == []
    assert state.statuses == {}


def test_a_note_without_a_conversation_is_announced(state: WindowState) -> None:
    told = after(state, Noted(Remark("5 messages expired"))).announcement
    assert told is not None
    assert (told.text, told.peer) == ("5 messages expired", None)


def test_an_empty_list_is_no_obstacle(tmp_path: Path) -> None:
    state = new_state(tmp_path)
    for event in (Moved(1), Chosen(), Chosen(0), Stepped(1), WentUnread(), Scrolled(5, 40, 5)):
        assert evolve(after(state, event)) == state


# --- leaving ---------------------------------------------------------------------------------------------------------


def test_leaving_drops_files_that_are_on_their_way_only_when_it_is_asked_for_twice(state: WindowState) -> None:
    up, down = Transfer(1, BOB, "cat.png", "up", 50, 200), Transfer(2, CAROL, "dog.png", "down")
    state = after(state, Opened(BOB), Transferred(up))
    assert effects_of(state, LeavingAsked()) == []
    assert effects_of(state, LeavingAsked(), LeavingAsked()) == [Leave()]
    assert effects_of(state, Entered(BOB, "/quit")) == []
    warned = after(state, LeavingAsked())
    assert "1 file still on the way; leave again to drop it" in text_of([status_pane(warned, 120)])
    assert effects_of(warned, Transferred(down), LeavingAsked()) == []
    assert "2 files" in text_of([status_pane(after(warned, Transferred(down)), 120)])
    assert effects_of(warned, Transferred(up, is_over=True), LeavingAsked()) == [Leave()]
    assert "still on the way" not in text_of([status_pane(after(warned, Transferred(up, is_over=True)), 120)])


# --- names of groups -------------------------------------------------------------------------------------------------


def test_a_group_without_a_contact_has_its_own_name(state: WindowState) -> None:
    nameless = GroupId("#" + "0e" * 16)
    state = after(state, GroupsNamed({nameless: "Chess \U0001f468\u200d\U0001f469\x1b[2J", FRIENDS: "Other"}))
    assert state.label(nameless) == "“Chess \U0001f468\U0001f469␛[2J”"
    assert state.label(FRIENDS) == "friends"
    assert after(state, BookChanged(evolve(state.book, group_names={}))).label(nameless) == state.label(nameless)
