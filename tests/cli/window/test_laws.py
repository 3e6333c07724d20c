"""What holds whatever happens in the chat window, and whatever other people write."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ironwire.cli.chat.commands import Remark
from ironwire.cli.chat.transfers import Transfer
from ironwire.cli.chat.window import events as ev
from ironwire.cli.chat.window.cells import width_of
from ironwire.cli.chat.window.model import ListRow, WindowState
from ironwire.cli.chat.window.view import (
    conversation_pane,
    help_pane,
    list_pane,
    rule_pane,
    status_pane,
)
from ironwire.client import Connection, DeliveredFile, GroupChanged, HistoryEntry
from ironwire.ids import Address
from tests.cli.table import BOB, CAROL, FRIENDS
from tests.strategies import messages_of

from .screens import NOW, UNKNOWN, after, new_state, ours, said, text_of, theirs

MARKS: dict[Address, str] = {BOB: "Ω", CAROL: "Ψ", FRIENDS: "Ж", UNKNOWN: "Ю"}
"""What everything that belongs to a conversation contains, and nothing else that is shown."""

peers = st.sampled_from([*MARKS])
words = st.text(st.characters(exclude_characters="".join(MARKS.values())), max_size=60)


@cache
def blank_state() -> WindowState:
    return new_state(Path(mkdtemp()))


@st.composite
def entries(draw: st.DrawFn, peer: Address) -> HistoryEntry:
    number = draw(st.integers(1, 60))
    text = f"{draw(words)} {MARKS[peer]} {draw(words)}"
    group = FRIENDS if peer == FRIENDS else None
    match draw(st.integers(0, 3)):
        case 0:
            state = draw(st.sampled_from(["queued", "accepted", "refused"]))
            return ours(number, text, peer, state=state, receipt=draw(st.sampled_from([None, "delivered", "read"])))
        case 1:
            file = evolve(draw(messages_of(DeliveredFile)), sender=BOB, name=text, group=group)
            return said(number, file)
        case 2 if group is not None:
            return said(number, evolve(draw(messages_of(GroupChanged)), name=text))
        case _:
            return theirs(number, text, BOB if group else peer, group=group)  # type: ignore[arg-type]  # clients but one


@st.composite
def pages(draw: st.DrawFn) -> ev.Paged | ev.PagedBefore:
    peer = draw(peers)
    found = draw(st.lists(entries(peer), max_size=6, unique_by=lambda entry: entry.number))
    ordered, is_whole = tuple(sorted(found, key=lambda entry: entry.number)), draw(st.booleans())
    return (
        ev.PagedBefore(peer, draw(st.integers(1, 60)), ordered, is_whole)
        if draw(st.booleans())
        else ev.Paged(peer, ordered, is_whole)
    )


@st.composite
def lists(draw: st.DrawFn) -> ev.Listed:
    rows = [
        ListRow(peer, draw(st.none() | entries(peer)), draw(st.integers(0, 2_000)))
        for peer in draw(st.lists(peers, unique=True))
    ]
    return ev.Listed(tuple(rows), draw(st.integers(0, 9)))


def about(peer: Address) -> st.SearchStrategy[ev.Event]:
    marked = words.map(lambda text: f"{text} {MARKS[peer]}")
    transfers = st.builds(
        Transfer,
        st.integers(0, 3),
        st.just(peer),
        marked,
        st.sampled_from(["up", "down"]),
        st.just(1),
        st.integers(0, 2),
    )
    return st.one_of(
        st.builds(ev.Noted, marked.map(Remark), st.just(peer)),
        st.builds(ev.Announced, marked, st.just(peer)),
        st.builds(ev.Typed, st.just(peer), st.sampled_from([BOB, CAROL]), st.booleans()),
        st.builds(ev.Transferred, transfers, st.booleans()),
        st.builds(ev.Opened, st.just(peer)),
        st.builds(ev.Entered, st.just(peer), words.filter(lambda line: "/" not in line)),
    )


happenings: st.SearchStrategy[ev.Event] = st.one_of(
    peers.flatmap(about),
    peers.flatmap(about),
    peers.flatmap(about),
    pages(),
    pages(),
    lists(),
    st.builds(ev.Moved, st.integers(-3, 3)),
    st.builds(ev.Chosen, st.none() | st.integers(0, 9)),
    st.builds(ev.Stepped, st.integers(-2, 2)),
    st.builds(ev.WentUnread),
    st.builds(ev.FocusMoved, st.sampled_from(["list", "composer"])),
    st.builds(ev.Scrolled, st.integers(-40, 40), st.integers(1, 90), st.integers(1, 30)),
    st.builds(ev.HelpScrolled, st.none() | st.integers(-3, 3)),
    st.builds(ev.Resized, st.booleans()),
    st.builds(ev.FocusReported, st.booleans()),
    st.builds(ev.Ticked, st.just(NOW), st.floats(0, 100)),
    st.builds(
        ev.ConnectionChanged,
        st.builds(
            Connection, st.sampled_from(["connecting", "connected", "waiting", "stopped"]), words, st.floats(0, 99)
        ),
    ),
    st.builds(ev.StatusChanged, st.just(BOB), st.just("online")),
)


@given(st.lists(happenings, max_size=12), st.integers(1, 100), st.integers(1, 30))
def test_every_line_is_as_wide_as_its_pane(stream: list[ev.Event], width: int, height: int) -> None:
    state = after(blank_state(), *stream)
    for pane in (list_pane, conversation_pane, help_pane):
        lines = pane(state, width, height)
        assert len(lines) == height
        assert {width_of(line) for line in lines} == {width}
    assert width_of(rule_pane(state, width)) == width
    assert width_of(status_pane(state, width)) == width


@settings(max_examples=100)
@given(peers, st.lists(happenings, min_size=1, max_size=12))
def test_a_conversation_shows_what_was_said_in_it_and_nothing_else(peer: Address, stream: list[ev.Event]) -> None:
    state = after(blank_state(), ev.Opened(peer), *stream)
    shown = text_of(conversation_pane(state, 60, 1_000))
    assert [mark for other, mark in MARKS.items() if mark in shown and other != state.open] == []


@given(st.lists(happenings, max_size=12), st.integers(2, 100))
def test_no_character_of_others_reaches_the_terminal_that_could_command_it(stream: list[ev.Event], width: int) -> None:
    state = after(blank_state(), *stream)
    panes = (
        list_pane(state, width, 20),
        conversation_pane(state, width, 40),
        [rule_pane(state, width), status_pane(state, width)],
    )
    shown = "".join(text_of(pane) for pane in panes).replace("\n", "")
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in shown)
    assert not any(
        character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f" for character in shown
    )


@given(
    st.lists(happenings, max_size=12),
    st.lists(st.integers(-50, 50), max_size=8),
    st.integers(2, 60),
    st.integers(1, 20),
)
def test_scrolling_far_up_and_far_down_ends_where_the_conversation_does(
    stream: list[ev.Event], ways: list[int], width: int, height: int
) -> None:
    state = after(blank_state(), *stream, ev.Opened(BOB))
    everything = [
        line for line in conversation_pane(state, width, 4_000)[1:] if "".join(text for _, text in line).strip()
    ]
    for lines in ways:
        state = after(state, ev.Scrolled(lines, width, height))
    top = conversation_pane(after(state, ev.Scrolled(10_000, width, height)), width, height + 1)[1:]
    bottom = after(state, ev.Scrolled(-10_000, width, height))
    assert bottom.threads[BOB].position is None
    if len(everything) >= height:
        assert text_of(top).split("\n")[0] == text_of(everything).split("\n")[0]
