"""What the chat window looks like at 80 and at 40 columns, as text."""

from pathlib import Path
from textwrap import dedent

import pytest
from attrs import evolve

from ironwire.cli.chat.commands import Remark
from ironwire.cli.chat.transfers import Transfer
from ironwire.cli.chat.window.events import (
    Announced,
    ConnectionChanged,
    FocusMoved,
    HelpScrolled,
    Listed,
    Noted,
    Paged,
    Scrolled,
    StatusChanged,
    Ticked,
    Transferred,
    Typed,
)
from ironwire.cli.chat.window.history import waveform
from ironwire.cli.chat.window.model import ListRow, WindowState
from ironwire.client import Connection, DeliveredFile, GroupChanged, GroupMember
from tests.cli.table import ALICE, BOB, CAROL, FRIENDS

from .screens import NOW, UNKNOWN, after, at, conversing, new_state, ours, said, screen, theirs

URL = "/media/00000000-0000-4000-8000-000000000000.bin"
WAVE = [*range(0, 256, 8), *range(255, 0, -8)]


@pytest.fixture
def state(tmp_path: Path) -> WindowState:
    return new_state(tmp_path)


def shows(shown: str, expected: str) -> None:
    assert shown == dedent(expected).strip("\n")


TALK = (
    theirs(1, "Shall we meet at the station tomorrow, or is nine too early for you?"),
    ours(2, "Nine is fine", receipt="read"),
    ours(3, "I bring 漢字 and coffee", receipt="delivered"),
    ours(4, "and cake"),
    ours(5, "see you", state="queued"),
)


def talking(state: WindowState) -> WindowState:
    rows = (
        ListRow(FRIENDS, theirs(6, "Hello everybody", CAROL, group=FRIENDS), 2),
        ListRow(BOB, TALK[-1]),
        ListRow(CAROL),
    )
    return after(conversing(state, BOB, *TALK), Listed(rows, 1), StatusChanged(BOB, "online"))


def test_who_is_verified_is_seen_in_the_list_and_above_the_conversation(state: WindowState) -> None:
    state.book.verify(BOB, 1)
    wide, narrow = (screen(talking(state), columns, 12) for columns in (80, 40))
    assert "bob ✓" in wide
    assert " bob  ✓ verified  online" in wide
    assert " bob  ✓ verified  online" in narrow


def test_a_list_and_a_conversation_side_by_side(state: WindowState) -> None:
    shows(
        screen(talking(state), 80, 12, "half a line"),
        """
         Conversations            │ bob  online
         friends            12:06 │
          carol: Hello everybo… 2 │── Saturday, 28 November 2026 ───────────────────────
        ▌bob                12:05 │12:01 bob: Shall we meet at the station tomorrow, or
        ▌ you: see you            │      is nine too early for you?
         carol                    │12:02 you: Nine is fine ✓✓ read
          nothing said yet        │12:03 you: I bring 漢字 and coffee ✓✓
                                  │12:04 you: and cake ✓
                                  │12:05 you: see you … queued
                                  │─────────────────────────────────────────────────────
                                  │> half a line
         ● connected · 2 unread · F1 help · http://localhost:8080
        """,
    )


def test_one_pane_at_a_time_where_there_is_less_room(state: WindowState) -> None:
    narrow = evolve(talking(state), is_wide=False)
    shows(
        screen(narrow, 40, 12),
        """
         bob  online
        ── Saturday, 28 November 2026 ──────────
        12:01 bob: Shall we meet at the station
              tomorrow, or is nine too early for
              you?
        12:02 you: Nine is fine ✓✓ read
        12:03 you: I bring 漢字 and coffee ✓✓
        12:04 you: and cake ✓
        12:05 you: see you … queued
        ────────────────────────────────────────
        >
         ● connected · 2 unread · F1 help · htt…
        """,
    )
    shows(
        screen(after(narrow, FocusMoved("list")), 40, 9),
        """
         Conversations
         friends                          12:06
          carol: Hello everybody              2
        ▌bob                              12:05
        ▌ you: see you
         carol
          nothing said yet
        ────────────────────────────────────────
         ● connected · 2 unread · F1 help · htt…
        """,
    )


def test_files_voice_circles_and_changes_of_a_group(state: WindowState) -> None:
    change = GroupChanged(FRIENDS, 3, BOB, [CAROL], [], [GroupMember(CAROL, "member")], ts=at(1))
    picture = DeliveredFile(
        BOB, URL, "image", "c\x1bt.png", size=1_200_000, width=640, height=480, ts=at(2), group=FRIENDS
    )
    voice = DeliveredFile(CAROL, URL, "voice", "hi.ogg", duration_ms=12_345, waveform=WAVE, ts=at(3), group=FRIENDS)
    circle = DeliveredFile(ALICE, URL, "circle", duration_ms=60_000, caption="look!", ts=at(4), group=FRIENDS)
    messages: list[DeliveredFile | GroupChanged] = [change, picture, voice, circle]
    entries = [said(number, message) for number, message in enumerate(messages, 1)]
    state = after(
        conversing(state, FRIENDS, *entries),
        Transferred(Transfer(1, FRIENDS, "holiday pictures of last year.zip", "up", 50, 200)),
        Noted(Remark("saved as cat.png")),
    )
    shows(
        screen(evolve(state, is_wide=False), 40, 15),
        """
         friends
        ── Saturday, 28 November 2026 ──────────
        12:01 bob added carol
        12:02 bob: ▧ c␛t.png, 640x480, 1.2 MB
              /save 2
        12:03 carol: ▶ hi.ogg, 0:12
              ▁▁▂▂▃▄▄▅▆▆▇▇█▇▆▆▅▅▄▄▃▂▂▁
              /save 3
        12:04 you: ◯ a circle, 1:00
              look! ✓
              saved as cat.png
              ↑ holiday pict… ███░░░░░░░░░ 25 %
        ────────────────────────────────────────
        >
         ● connected · F1 help · http://localho…
        """,
    )


def test_an_unknown_client_cannot_look_like_a_contact_nor_write_like_one(state: WindowState) -> None:
    state = conversing(state, UNKNOWN, theirs(1, "hi\n12:01 bob: send me money\x1b[2J\u202eevil", UNKNOWN))
    shows(
        screen(state, 80, 9),
        """
         Conversations            │ e0e0e0e0…  not a contact, /who shows the id
        ▌e0e0e0e0…          12:01 │
        ▌ hi 12:01 bob: send me … │
                                  │── Saturday, 28 November 2026 ───────────────────────
                                  │12:01 e0e0e0e0…: hi
                                  │      12:01 bob: send me money␛[2J�evil
                                  │─────────────────────────────────────────────────────
                                  │>
         ● connected · F1 help · http://localhost:8080
        """,
    )


def test_a_long_name_of_a_contact_is_not_cut_like_an_id(state: WindowState) -> None:
    state.book.remove("carol")
    state.book.add("e0e0e0e0" * 4, CAROL)
    shown = screen(conversing(state, CAROL, theirs(1, "it is me", CAROL)), 80, 8)
    assert "e0e0e0e0e0e0e0e0e~ 12:01" in shown
    assert "e0e0e0e0e0e0e0e0e0e~: it is me" in shown
    assert "e0…" not in shown


def test_what_was_refused_says_why(state: WindowState) -> None:
    state = conversing(state, BOB, ours(1, "hello?", state="refused", reason="mailbox_full"))
    assert "12:01 you: hello?\n" in screen(evolve(state, is_wide=False), 40, 8)
    assert "✗ not delivered: the recipient's" in screen(evolve(state, is_wide=False), 40, 8)


def test_what_comes_elsewhere_is_announced_with_its_name(state: WindowState) -> None:
    state = after(talking(state), Announced("friends, carol: Hello everybody, how are you all today?", FRIENDS))
    lines = screen(state, 80, 14).split("\n")
    assert lines[-3].partition("│")[2] == "── friends, carol: Hello everybody, how a… ── Ctrl-G"
    assert not any("Hello everybody" in line.partition("│")[2] for line in lines[:-3])


def test_the_state_of_the_connection(state: WindowState) -> None:
    for connection, told in (
        (Connection("connecting"), "○ connecting · 3 queued · F1 help · http://localhost:8080"),
        (
            Connection("waiting", "the network went away", 12.0),
            "○ reconnecting in 12 s, F5 now · 3 queued · F1 help · the",
        ),
        (Connection("waiting", "the network\x07 went away", 0.4), "○ reconnecting · 3 queued · F1 help · the network␇"),
        (Connection("stopped", "removed"), "✗ not connected, F5 tries again · 3 queued · F1 help · removed"),
    ):
        assert (
            screen(after(state, Listed((), 3), ConnectionChanged(connection)), 80, 5)
            .split("\n")[-1]
            .startswith(f" {told}")
        )


def test_who_is_typing(state: WindowState) -> None:
    state = after(conversing(state, FRIENDS), Typed(FRIENDS, BOB, True), Typed(CAROL, CAROL, True))
    assert "bob is typing…" in screen(state, 80, 6)
    assert "carol is" not in screen(state, 80, 6)
    assert "carol and bob" not in screen(state, 80, 6)
    assert "2 are" not in screen(state, 80, 6)
    state = after(state, Typed(FRIENDS, CAROL, True))
    assert "bob and carol are typing…" in screen(state, 80, 6)
    assert "typing" not in screen(after(state, Typed(FRIENDS, BOB, False), Ticked(NOW, 10.1)), 80, 6).split("\n")[-1]


def test_an_older_part_of_a_conversation_stays_where_it_is(state: WindowState) -> None:
    many = tuple(theirs(number, f"line {number}") for number in range(1, 41))
    state = conversing(evolve(state, is_wide=False), BOB, *many)
    assert "line 40" in screen(state, 40, 10)
    older = after(state, Scrolled(6, 40, 6))
    before = screen(older, 40, 10)
    assert "line 34" in before
    assert "line 35" not in before
    came = screen(after(older, Paged(BOB, (*many, theirs(41, "something new")), True)), 40, 10)
    assert "1 new below" in came
    assert came.split("\n")[1:7] == before.split("\n")[1:7]
    bottom = after(older, Scrolled(-1_000, 40, 6))
    assert "line 40" in screen(bottom, 40, 10)
    top = screen(after(older, Scrolled(1_000, 40, 6)), 40, 10).split("\n")
    assert top[1].startswith("── Saturday")
    assert top[2] == "12:01 bob: line 1"


def test_help_fits_into_a_small_terminal(state: WindowState) -> None:
    shown = screen(after(evolve(state, is_wide=False), HelpScrolled(0)), 40, 20)
    assert "/to NAME" in shown
    rest = screen(after(evolve(state, is_wide=False), HelpScrolled(0), *[HelpScrolled(10)] * 5), 40, 20)
    assert "it was refused" in rest


def test_an_empty_device_says_what_to_do(tmp_path: Path) -> None:
    state = evolve(new_state(tmp_path), rows=())
    assert "/to NAME" in screen(state, 80, 8)
    assert "/to NAME" in screen(evolve(state, is_wide=False), 40, 8)


def test_a_waveform_shows_the_loudest_of_each_part() -> None:
    assert waveform([0, 255, 0, 0, 128, 128], 3) == "█▁▄"
    assert waveform([0, 255], 10) == "▁█"


def test_a_conversation_that_is_not_encrypted_says_so_above_it(state: WindowState) -> None:
    plain = evolve(theirs(6, "from an older program"), is_encrypted=False)
    assert " bob  not encrypted" in screen(conversing(state, BOB, plain), 80, 12)
    assert "not encrypted" not in screen(conversing(state, BOB, plain, theirs(7, "now with keys")), 80, 12)
