"""How messages look, whatever their sender put into them."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ironwire.cli import render
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.render import as_json, download_line, elsewhere, incident, notice, own, received, speaker, when
from ironwire.cli.terminal import printable
from ironwire.client import Connected, DeliveredFile, DeliveredText, Disconnected, Error, Lost, Missed
from ironwire.ids import ClientId, GroupId, MessageId

ALICE = ClientId("a1" * 32)
BOB = ClientId("b0" * 32)
NOON = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)
URL = "/media/00000000-0000-4000-8000-000000000000.bin"
TEXTS = st.text(st.characters(codec="utf-8")) | st.text(st.sampled_from("a\x1b\n\r\u202e\u2028[]"))


@pytest.fixture(autouse=True, scope="module")
def today() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "now", lambda: NOON.replace(hour=23))
        yield


def test_another_day_is_named() -> None:
    text = DeliveredText(ALICE, "Hello")
    assert received(text, "alice", NOON.replace(day=16)).plain == "2026-05-16 12:00 alice Hello"


def test_when_something_was_said() -> None:
    assert when(int(NOON.timestamp() * 1000)) == NOON
    assert when(None) == when(2**53 - 1) == NOON.replace(hour=23)


def test_who_said_it(tmp_path: Path) -> None:
    book = AddressBook.beside(tmp_path / "key")
    book.add("alice", ALICE)
    assert speaker(DeliveredText(ALICE, "Hello"), book, BOB) == "alice"
    assert speaker(DeliveredText(BOB, "Hello", to=ALICE), book, BOB) == "you → alice"
    assert speaker(DeliveredText(BOB, "a note to myself"), book, BOB) == "b0b0b0b0…"


def test_a_text() -> None:
    assert received(DeliveredText(ALICE, "Hello"), "alice", NOON).plain == "12:00 alice Hello"


def test_lines_of_a_text_stand_below_each_other() -> None:
    shown = received(DeliveredText(ALICE, "one\ntwo"), "alice", NOON).plain
    assert shown == "12:00 alice one\n            two"


def test_no_line_of_a_text_passes_for_somebody_elses() -> None:
    shown = received(DeliveredText(ALICE, "hi\n12:01 bob I owe you 100"), "alice", NOON).plain
    assert not any(line.startswith("12:01") for line in shown.splitlines())


def test_a_file() -> None:
    file = DeliveredFile(ALICE, URL, kind="image", name="cat.png", size=1_500_000, caption="my cat")
    assert received(file, "alice", NOON, fetch=download_line(URL)).plain.splitlines() == [
        "12:00 alice sends “cat.png” (image, 1.5 MB)",
        "            my cat",
        f"            ironwire download {URL}",
    ]


def test_a_file_that_says_nothing_of_itself() -> None:
    assert received(DeliveredFile(ALICE, URL), "alice", NOON).plain.splitlines() == [
        "12:00 alice sends a file (file)",
        f"            /save {URL}",
    ]


def test_what_became_of_an_own_line() -> None:
    assert own("Hello", NOON).plain == "12:00 you Hello  ✓"
    assert (
        own("Hello", NOON, "the recipient is offline").plain
        == "12:00 you Hello  ✗ not delivered: the recipient is offline"
    )


def test_an_empty_message_is_seen() -> None:
    assert received(DeliveredText(ALICE, ""), "alice", NOON).plain == "12:00 alice (empty)"
    assert own("", NOON).plain == "12:00 you (empty)  ✓"


def test_what_happens_beside_messages() -> None:
    assert incident(Connected()).plain.strip() == "connected"
    assert (
        incident(Disconnected("the network went away", 4.2)).plain.strip()
        == "the network went away; next attempt in 4 s"
    )
    assert incident(Missed(3)).plain.strip() == "3 messages came too fast and were missed"
    assert incident(Missed(1)).plain.strip() == "1 message came too fast and was missed"
    assert incident(Lost(3, 3, "expired")).plain.strip() == "1 message expired before this device came"
    assert incident(Lost(3, 9, "full", (GroupId("#" + "0" * 32),))).plain.strip() == (
        "7 messages came while this device's mailbox was full; who is in a group may have changed"
    )
    assert incident(Error("user_offline")).plain.strip() == "the server says user_offline"
    assert incident(Error("invalid", "payload.to: …")).plain.strip() == "the server says invalid: payload.to: …"


def test_lines_are_legible_on_white_and_on_black() -> None:
    """Green, yellow and cyan of a common palette are too bright for white; blue is too dark for black."""
    text = DeliveredText(ALICE, "Hello")
    lines = [
        received(text, "alice", NOON),
        elsewhere(text, "alice", "alice"),
        own("Hello", NOON),
        own("Hello", NOON, "the recipient is offline"),
        incident(Connected()),
        incident(Disconnected("the network went away", 4.2)),
        incident(Missed(3)),
        incident(Error("invalid")),
    ]
    console = Console(force_terminal=True, color_system="standard", width=200)
    with console.capture() as captured:
        for line in lines:
            console.print(line)
    codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", captured.get()) for code in found.split(";")}
    red, magenta, bright_blue = "31", "35", "94"
    assert codes == {"0", "1", "2", red, magenta, bright_blue}


@given(text=TEXTS, name=TEXTS, caption=TEXTS)
def test_nothing_from_a_peer_reaches_the_terminal_unchecked(text: str, name: str, caption: str) -> None:
    shown = [
        received(DeliveredText(ALICE, text), "alice", NOON),
        received(DeliveredFile(ALICE, URL, name=name, caption=caption), "alice", NOON),
        own(text, NOON, name),
        notice(text),
        incident(Disconnected(text, 1)),
        incident(Error("invalid", text)),
    ]
    for line in "\n".join(each.plain for each in shown).split("\n"):
        assert printable(line) == line


@given(TEXTS)
def test_json_is_the_frame_on_one_line_of_ascii(text: str) -> None:
    line = as_json(DeliveredText(ALICE, text), MessageId("m1"))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"type": "text", "id": "m1", "payload": {"from": ALICE, "text": text}}
