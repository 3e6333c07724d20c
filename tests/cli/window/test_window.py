"""The whole chat window over a device's own file: keys in, what the terminal shows, what reaches the server."""

import io
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from ironwire import client as library
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat import transfers
from ironwire.cli.chat.window import hold_window
from ironwire.cli.scripting.outbound import Outgoing
from ironwire.client import (
    Accepted,
    Client,
    ConnectionFailed,
    Downloaded,
    GroupDetails,
    GroupMember,
    GroupSummary,
    Identity,
    TransferFailed,
    open_device,
)
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.wire.messages import (
    Block,
    ClientMessage,
    DeliveredFile,
    DeliveredText,
    File,
    GroupInfo,
    GroupList,
    Groups,
    PresenceAllow,
    PresenceWatch,
    Receipt,
    RelayedTyping,
    Text,
    Typing,
)
from tests.client.scripted_server import ADDRESS, Peer, ScriptedServer, scripted_server

SECONDS = 20
ENTER, CTRL_C, CTRL_G = "\r", "\x03", "\x07"
BLUR = "\x1b[O"
ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32).client_id
CAROL = Identity.from_seed(b"c" * 32).client_id
FRIENDS = GroupId("#" + "f0" * 16)
CHESS = GroupId("#" + "0e" * 16)
DESK = DeviceId("desk")
URL = "/media/00000000-0000-4000-8000-000000000000.bin"


@define(eq=False, slots=False)
class Glass(io.StringIO):
    """What was written to the terminal, and somebody who waits for some of it."""

    columns: int = 80
    _token: trio.lowlevel.TrioToken = field(factory=trio.lowlevel.current_trio_token)
    _written: trio.Event = field(factory=trio.Event)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def write(self, text: str) -> int:
        count = super().write(text)
        self._token.run_sync_soon(self._tell)
        return count

    def _tell(self) -> None:
        self._written.set()
        self._written = trio.Event()

    async def shows(self, text: str) -> None:
        """Wait until `text`, a word, is written."""
        while text not in self.getvalue():
            await self._written.wait()

    def forget(self) -> None:
        self.truncate(0)
        self.seek(0)


@define(eq=False)
class Window:
    """Alice's, as her server and her eyes have it."""

    client: Client
    keyboard: PipeInput
    glass: Glass

    def type(self, keys: str) -> None:
        self.keyboard.send_text(keys)


async def nobody(_: object) -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    raise ConnectionFailed("unreachable")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    with trio.fail_after(SECONDS):
        async with scripted_server() as server:
            yield server


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as keyboard:
        yield keyboard


@asynccontextmanager
async def window(
    tmp_path: Path, keyboard: PipeInput, dial: Any, to: Address | None = None, *, columns: int = 80, **options: bool
) -> AsyncIterator[Window]:
    """It is left with Ctrl-C at the end of the block, if it has not been before."""
    book = AddressBook.beside(tmp_path / "key")
    for name, address in (("bob", BOB), ("carol", CAROL), ("friends", FRIENDS)):
        book.add(name, address)
    glass = Glass(columns)
    output = Vt100_Output(glass, lambda: Size(24, glass.columns), term="xterm", enable_cpr=False)
    with trio.fail_after(SECONDS), create_app_session(input=keyboard, output=output):
        async with (
            open_device(ADDRESS, ALICE, DESK, store=tmp_path / "desk.db", dial=dial) as client,
            trio.open_nursery() as nursery,
        ):
            read_book = partial(AddressBook.beside, tmp_path / "key")
            nursery.start_soon(partial(hold_window, client, read_book, to, news=None, **options))
            await glass.shows("F1")
            yield Window(client, keyboard, glass)
            keyboard.send_text(CTRL_C)


async def received(peer: Peer, *kinds: type) -> ClientMessage:
    """The next message of these kinds; whatever wants an answer gets one."""
    while True:
        message, message_id = await peer.receive()
        if isinstance(message, GroupInfo):
            members = [GroupMember(BOB, "admin"), GroupMember(ALICE.client_id, "member")]
            await peer.send(GroupDetails(FRIENDS, 4, members, "Friends"), message_id)
        elif isinstance(message, Groups):
            await peer.send(GroupList([GroupSummary(CHESS, 1, "member", 2, "Chess")]), message_id)
        elif message_id is not None:
            await peer.send(Accepted(ts=1), message_id)
        if isinstance(message, kinds):
            return message


async def test_one_writes_and_reads_without_a_server(tmp_path: Path, keyboard: PipeInput, capsys: Any) -> None:
    async with window(tmp_path, keyboard, nobody) as there:
        await there.glass.shows("Conversations")
        # A command begun in the list is one: what follows it goes where it says.
        there.type(f"/to bob{ENTER}Unterwegs{ENTER}")
        await there.glass.shows("Unterwegs")
        await there.glass.shows("queued")
        there.type("half a line")
        await there.glass.shows("half")
    assert "not sent to bob:\nhalf a line\n1 queued" in capsys.readouterr().err
    async with window(tmp_path, keyboard, nobody, BOB) as again:
        await again.glass.shows("Unterwegs")
        assert again.client.waiting == 1


async def test_lines_that_were_entered_before_the_window_opened_are_sent(
    tmp_path: Path, keyboard: PipeInput, server: ScriptedServer
) -> None:
    """A terminal that still edits lines by itself hands them over with a line feed."""
    async with window(tmp_path, keyboard, server.dial, BOB) as there:
        peer = await server.accept()
        there.type("first\nsecond\n")
        assert [await received(peer, Text) for _ in range(2)] == [Text(BOB, "first"), Text(BOB, "second")]


async def test_what_comes_elsewhere_is_announced_and_a_key_goes_there(
    tmp_path: Path, keyboard: PipeInput, server: ScriptedServer
) -> None:
    async with window(tmp_path, keyboard, server.dial, BOB) as there:
        peer = await server.accept()
        await there.glass.shows("connected")
        await peer.deliver(DeliveredText(CAROL, "Psst", device=DESK, ts=1), 1, MessageId("hers"))
        await there.glass.shows("Ctrl-G")
        await there.glass.shows("\x07")
        assert await received(peer, Receipt) == Receipt(CAROL, [MessageId("hers")], "delivered")
        there.type(f"{CTRL_G}Yes?{ENTER}")
        frames = [await received(peer, Receipt, Text) for _ in range(2)]
        assert Text(CAROL, "Yes?") in frames
        assert Receipt(CAROL, [MessageId("hers")], "read") in frames


async def test_what_nobody_looks_at_is_not_read(tmp_path: Path, keyboard: PipeInput, server: ScriptedServer) -> None:
    async with window(tmp_path, keyboard, server.dial, BOB) as there:
        peer = await server.accept()
        there.type(f"{BLUR}Hello{ENTER}")
        assert await received(peer, Text) == Text(BOB, "Hello")
        await peer.deliver(DeliveredText(BOB, "Moin", device=DESK, ts=1), 1, MessageId("his"))
        await there.glass.shows("Moin")
        assert await received(peer, Receipt) == Receipt(BOB, [MessageId("his")], "delivered")
        there.type("\x1b[I")
        assert await received(peer, Receipt) == Receipt(BOB, [MessageId("his")], "read")


async def test_a_quiet_window_rings_no_bell(tmp_path: Path, keyboard: PipeInput, server: ScriptedServer) -> None:
    async with window(tmp_path, keyboard, server.dial, BOB, is_quiet=True) as there:
        peer = await server.accept()
        await peer.deliver(DeliveredText(CAROL, "Psst", ts=1), 1)
        await there.glass.shows("Psst")
        assert "\x07" not in there.glass.getvalue()


async def test_nobody_but_the_one_in_the_conversation_sees_who_wants_to_be_seen(
    tmp_path: Path, keyboard: PipeInput, server: ScriptedServer
) -> None:
    async with window(tmp_path, keyboard, server.dial, BOB, is_visible=True) as there:
        peer = await server.accept()
        assert await received(peer, PresenceWatch) == PresenceWatch([BOB])
        assert await received(peer, PresenceAllow) == PresenceAllow([BOB])
        there.type("Hel")
        assert await received(peer, Typing) == Typing(BOB, True)
        await peer.send(RelayedTyping(BOB, True))
        await there.glass.shows("typing")


async def test_a_narrow_window_has_one_pane_at_a_time(tmp_path: Path, keyboard: PipeInput) -> None:
    async with window(tmp_path, keyboard, nobody, columns=40) as there:
        await there.glass.shows("Conversations")
        assert "Choose" not in there.glass.getvalue()
        there.type(f"{ENTER}ab\x1b\rcd\x1b[A\x01X")
        await there.glass.shows("Xab")
        there.glass.forget()
        there.type("\t")
        await there.glass.shows("nversations")  # what differs from what stood there
        there.type("?")
        await there.glass.shows("Alt-Enter")
        there.type("qr")
        there.glass.columns = 80
        await there.glass.shows("│")
        there.type("\x1b[5~\x1b[6~\x1b[1;5F\x1b[<64;60;5M\x1b[<65;60;5M\x1b[<64;5;5M\x1b[<0;5;4M\x1b[<0;5;4m")
        there.type("/quit\r")


async def test_the_server_is_asked_who_is_in_a_group(
    tmp_path: Path, keyboard: PipeInput, server: ScriptedServer
) -> None:
    async with window(tmp_path, keyboard, server.dial, FRIENDS) as there:
        peer = await server.accept()
        there.type(f"/who{ENTER}")
        await received(peer, GroupInfo)
        await there.glass.shows("admin")
        there.type(f"/to bob{ENTER}/block{ENTER}")
        assert await received(peer, Block) == Block(BOB)
        await there.glass.shows("sends")
        there.type(f"/who{ENTER}")
        await there.glass.shows(BOB[:20])


async def test_files_go_and_come(
    tmp_path: Path, keyboard: PipeInput, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def attach(_: Client, to: Address, path: Path, kind: str, report: Any) -> Outgoing:
        report(50, 200)
        await there.glass.shows("25 %")
        if path.name == "gone":
            raise TransferFailed("unreadable")
        return Outgoing(File(to, URL, name=path.name))

    async def download(_: object, url: str, target: Path, report: Any, **expected: object) -> Downloaded:
        assert (url, expected) == (URL, {"expected_size": 3, "expected_sha256": None})
        report(1, 4)
        await trio.lowlevel.checkpoint()
        if target.name == "taken":
            raise TransferFailed("occupied")
        return Downloaded(3, "")

    monkeypatch.setattr(transfers, "attach", attach)
    monkeypatch.setattr(library, "download", download)
    monkeypatch.chdir(tmp_path)
    async with window(tmp_path, keyboard, server.dial, BOB) as there:
        peer = await server.accept()
        there.type(f"/file cat.png{ENTER}")
        assert await received(peer, File) == File(BOB, URL, name="cat.png")
        there.type(f"/file gone{ENTER}")
        await there.glass.shows("unreadable")
        there.type(f"/save{ENTER}")
        await there.glass.shows("yet")
        await peer.deliver(DeliveredFile(BOB, URL, name="../secret.txt", size=3, ts=1), 1)
        await there.glass.shows("secret.txt")
        there.type(f"/save 999{ENTER}")
        await there.glass.shows("999")
        there.type(f"/save{ENTER}")
        await there.glass.shows("saved")
        number = (await there.client.history(BOB, 1))[0].number
        there.type(f"/save {number} taken{ENTER}")
        await there.glass.shows("occupied")


async def test_a_file_that_is_on_its_way_is_dropped_only_by_leaving_twice(
    tmp_path: Path, keyboard: PipeInput, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    async def attach(_: Client, to: Address, path: Path, kind: str, report: Any) -> Outgoing:
        report(50, 200)
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(transfers, "attach", attach)
    async with window(tmp_path, keyboard, server.dial, BOB) as there:
        there.type(f"/file cat.png{ENTER}")
        await there.glass.shows("25 %")
        there.type(CTRL_C)
        await there.glass.shows("leave again")
    assert "not sent to bob: cat.png" in capsys.readouterr().err


async def test_a_group_that_is_no_contact_is_shown_by_its_own_name(
    tmp_path: Path, keyboard: PipeInput, server: ScriptedServer
) -> None:
    async with window(tmp_path, keyboard, server.dial) as there:
        peer = await server.accept()
        await peer.deliver(DeliveredText(BOB, "hi", ts=1, group=CHESS), 1)
        await received(peer, Groups)
        await there.glass.shows("“Chess”")


@pytest.mark.parametrize("is_plain", [False, True])
async def test_colours_are_legible_on_white_and_on_black_or_left_out(
    tmp_path: Path, keyboard: PipeInput, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, is_plain: bool
) -> None:
    """By the palette of xterm, whose green, yellow and cyan are too bright for white. No background is set."""
    monkeypatch.setenv("NO_COLOR", "1" if is_plain else "")
    async with window(tmp_path, keyboard, server.dial, BOB) as there:
        peer = await server.accept()
        there.type(f"Hello{ENTER}/nope{ENTER}")
        await received(peer, Text)
        await peer.deliver(DeliveredText(CAROL, "Psst", ts=1), 1)
        await there.glass.shows("Ctrl-G")
        await there.glass.shows("✓")
        written = re.findall(r"\x1b\[([0-9;]*)m", there.glass.getvalue())
    attributes = {code for codes in written for code in codes.split(";")}
    plain = {"0", "1", "3", "4", "7", ""}
    red, magenta, bright_black, bright_blue = "31", "35", "90", "94"
    assert attributes <= plain | (set() if is_plain else {red, magenta, bright_black, bright_blue, "39", "49"})
    assert is_plain or magenta in attributes


async def test_what_no_server_takes_can_be_written_again(tmp_path: Path, keyboard: PipeInput) -> None:
    async with window(tmp_path, keyboard, nobody, BOB) as there:
        there.keyboard.send_bytes(b"no UTF-8: \xff\r")
        await there.glass.shows("brings")
        assert await there.client.history(BOB, 1) == []
        assert there.client.waiting == 0
        there.type("Shorter" + ENTER)
        await there.glass.shows("Shorter")


async def test_contacts_that_another_command_adds_are_known(tmp_path: Path, keyboard: PipeInput) -> None:
    async with window(tmp_path, keyboard, nobody) as there:
        AddressBook.beside(tmp_path / "key").add("dave", ClientId("d0" * 32))
        await there.glass.shows("dave")


async def test_a_client_that_is_cancelled_leaves_the_terminal_as_it_was(tmp_path: Path, keyboard: PipeInput) -> None:
    with trio.CancelScope() as scope:
        async with window(tmp_path, keyboard, nobody) as there:
            glass = there.glass
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert "\x1b[?1049l" in glass.getvalue()
    assert "\x1b[?1004l" in glass.getvalue()
