"""A conversation without terminal and network: what is entered, what becomes of it, what is shown."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ironwire import client as library
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.commands import COMMANDS
from ironwire.cli.options import ANSWER_SECONDS
from ironwire.cli.render import remembered
from ironwire.cli.scripting import files
from ironwire.cli.scripting.outbound import OFFLINE_SECONDS
from ironwire.client import (
    Accepted,
    Amendment,
    AuthenticationRefused,
    Connected,
    Connection,
    Content,
    DeleteBody,
    DeliveredFile,
    DeliveredText,
    Disconnected,
    Downloaded,
    EditBody,
    Error,
    FileBody,
    HistoryEntry,
    Lost,
    MessageName,
    Missed,
    MlsMessage,
    ReactionBody,
    Received,
    Refused,
    SealedFile,
    ServerAddress,
    SessionEnded,
    Settled,
    TransferFailed,
    Uploaded,
    file_link,
)
from ironwire.e2e.bodies import TextBody
from ironwire.ids import DeviceId, MessageId
from ironwire.protocol.conversations.names import pair_id
from ironwire.wire.messages import DeliveredReceipt, File, Receipt, Text

from .table import ALICE, BOB, CAROL, FRIENDS, FakeClient, Table, held

DESK = DeviceId("desk")
HIS = MessageId("his")
URL = "/media/00000000-0000-4000-8000-000000000000.bin"
SHA256 = "5a" * 32


async def test_what_was_said_is_shown_once_it_is_accepted(tmp_path: Path) -> None:
    accept = trio.Event()
    async with held(tmp_path, FakeClient(accept.wait)) as table:
        table.enter("  Hello Bob ")
        await table.settled()
        assert table.shown == []
        assert [pending.text for pending in table.conversation.pending] == ["Hello Bob"]
        accept.set()
        await table.settled()
        assert table.shown == ["you Hello Bob  ✓"]
        assert table.conversation.pending == ()


async def test_texts_leave_in_the_order_in_which_they_were_entered(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        for number in range(20):
            table.enter(str(number))
    assert [text for text, _ in table.client.sent] == [str(number) for number in range(20)]


async def test_the_end_of_the_lines_waits_for_the_answers(tmp_path: Path) -> None:
    accept = trio.Event()
    async with trio.open_nursery() as nursery, held(tmp_path, FakeClient(accept.wait)) as table:
        table.enter("last words")
        nursery.start_soon(_later, accept)
    assert table.shown == ["you last words  ✓"]


async def _later(accept: trio.Event) -> None:
    await trio.testing.wait_all_tasks_blocked()
    accept.set()


async def test_answers_that_never_come_are_not_waited_for_without_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    async with held(tmp_path, FakeClient(trio.sleep_forever)) as table:
        table.enter("hello?")
    assert trio.current_time() - began == pytest.approx(ANSWER_SECONDS, abs=1)
    assert table.said == ["1 message waits on this device, to be sent with its next connection"]


async def test_the_end_waits_as_long_as_answers_come(tmp_path: Path, autojump_clock: MockClock) -> None:
    """However long that takes as a whole."""

    async def answer_slowly() -> None:
        await trio.sleep(ANSWER_SECONDS - 1)

    async with held(tmp_path, FakeClient(answer_slowly)) as table:
        for number in range(10):
            table.enter(str(number))
    assert len(table.client.sent) == 10
    assert (table.said, len(table.shown)) == ([], 10)


async def test_the_end_waits_for_a_server_that_asked_for_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    client = FakeClient()

    async def be_limited() -> None:
        client.hold_until = trio.current_time() + 10 * ANSWER_SECONDS
        await trio.sleep(10 * ANSWER_SECONDS)

    client.answer = be_limited
    async with held(tmp_path, client) as table:
        table.enter("slowly")
    assert table.shown == ["you slowly  ✓"]


@pytest.mark.parametrize(
    ("connection", "seconds"),
    [
        (Connection("waiting", "nobody answers", 100.0), OFFLINE_SECONDS),
        (Connection("stopped", "the server refused the identity: no", error=AuthenticationRefused("no")), 0),
    ],
)
async def test_the_end_does_not_wait_for_a_server_that_is_away(
    tmp_path: Path, autojump_clock: MockClock, connection: Connection, seconds: float
) -> None:
    began = trio.current_time()
    with pytest.RaisesGroup(AuthenticationRefused, flatten_subgroups=True) if not seconds else nullcontext():
        async with held(tmp_path, FakeClient(trio.sleep_forever, connection=connection)) as table:
            table.enter("one")
            table.enter("two")
    assert trio.current_time() - began == pytest.approx(seconds, abs=1)
    reason = connection.reason
    assert table.said == [f"2 messages wait on this device, to be sent with its next connection ({reason})"]
    assert table.conversation.failures == 0


async def test_the_end_does_not_wait_for_keys_of_the_other_side(tmp_path: Path, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with held(tmp_path, FakeClient(trio.sleep_forever, is_holding=True)) as table:
        table.enter("one")
    assert trio.current_time() - began == pytest.approx(OFFLINE_SECONDS, abs=1)
    assert table.said == ["1 message waits on this device, to be sent with its next connection"]


async def test_what_was_refused_is_shown_with_the_reason(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise Refused("user_offline", user=BOB)

    async with held(tmp_path, FakeClient(refuse)) as table:
        table.enter("hello?")
        table.enter("anybody?")
    reason = "✗ not delivered: the recipient is offline"
    assert table.shown == [f"you hello?  {reason}", f"you anybody?  {reason}"]
    assert table.conversation.failures == 2


async def test_quit_leaves_what_comes_after_it(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.enter("before")
        table.enter("/quit")
        table.enter("after")
    assert [text for text, _ in table.client.sent] == ["before"]


async def test_what_looks_like_a_command_is_not_sent(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        for line in ("/nope", "", "   ", "/help", "//not a command"):
            table.enter(line)
    assert [text for text, _ in table.client.sent] == ["/not a command"]
    assert "there is no /nope" in table.said[0]
    assert any("/file PATH" in line for line in table.said)


async def test_messages_come_with_the_name_of_their_sender(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Received(DeliveredText(BOB, "hi")))
        table.client.happen(Received(DeliveredText(CAROL, "psst")))
        await table.settled()
    assert table.shown == ["bob hi"]
    assert table.said == [f"elsewhere, c0c0c0c0…: psst  (/to {CAROL})"]


async def test_what_another_device_of_ours_said_is_ours(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Received(DeliveredText(ALICE, "from my desk", device=DESK, to=BOB), HIS))
        table.client.happen(Received(DeliveredText(ALICE, "to her", device=DESK, to=CAROL)))
        await table.settled()
    assert table.shown == ["you from my desk"]
    assert table.said == [f"elsewhere, you → c0c0c0c0…: to her  (/to {CAROL})"]
    assert table.client.receipts == []


async def test_what_comes_elsewhere_is_never_shown_among_what_is_said_here(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Received(DeliveredText(CAROL, "two\nlines\x1b[2J")))
        table.client.happen(Received(DeliveredFile(CAROL, URL, name="cat.png")))
        table.client.happen(Settled(HIS, Text(CAROL, "late"), Accepted(1)))
        await table.settled()
    assert table.shown == []
    assert table.said == [
        f"elsewhere, c0c0c0c0…: two lines␛[2J  (/to {CAROL})",
        f"elsewhere, c0c0c0c0…: sends “cat.png”  (/to {CAROL})",
        "you → c0c0c0c0… late  ✓",
    ]


async def test_one_turns_to_somebody_else(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.enter("for Bob")
        table.enter(f"/to {CAROL}")
        table.enter("for Carol")
        table.enter("/to nobody")
        await table.settled()
        table.client.happen(Received(DeliveredText(BOB, "hello?")))
        table.client.happen(Received(DeliveredText(CAROL, "yes?")))
        await table.settled()
        assert table.conversation.to == CAROL
    assert table.client.addressees == [BOB, CAROL]
    assert table.shown[-1] == "c0c0c0c0… yes?"
    assert f"to c0c0c0c0…, {CAROL}" in table.said
    assert "elsewhere, bob: hello?  (/to bob)" in table.said
    assert any("'nobody' is neither a contact" in line for line in table.said)


async def test_a_conversation_begins_with_how_it_ended_last(tmp_path: Path) -> None:
    client = FakeClient()
    client.kept += [
        HistoryEntry(1, DeliveredText(BOB, "the first"), MessageId("1"), "received"),
        HistoryEntry(2, DeliveredText(ALICE, "and I", to=BOB), MessageId("2"), "queued"),
        HistoryEntry(3, DeliveredText(BOB, "the last"), HIS, "received"),
    ]
    async with held(tmp_path, client, recalls=2) as table:
        await table.settled()
        assert table.shown == ["you and I  … not sent yet", "bob the last"]
        table.client.happen(Received(client.kept[-1].message, HIS))
        table.client.happen(Received(DeliveredText(BOB, "something new"), MessageId("4")))
        await table.settled()
    assert table.shown[2:] == ["bob something new"]
    assert client.read == [(BOB, 3), (BOB, 3)]


async def test_the_other_one_learns_what_was_shown_and_nobody_else(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Received(DeliveredText(BOB, "hi", device=DESK), HIS))
        table.client.happen(Received(DeliveredText(BOB, "from a session that takes no receipts"), HIS))
        table.client.happen(Received(DeliveredText(CAROL, "psst", device=DESK), HIS))
        await table.settled()
    assert table.client.receipts == [(BOB, [HIS], "delivered")]


async def test_a_receipt_that_is_refused_disturbs_nobody(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise Refused("user_offline", user=BOB)

    async with held(tmp_path, FakeClient(refuse)) as table:
        table.client.happen(Received(DeliveredText(BOB, "hi", device=DESK), HIS))
        await table.settled()
    assert table.shown == ["bob hi"]
    assert table.said == []


async def test_what_became_of_the_last_message(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        said = DeliveredText(ALICE, "hello", to=BOB)
        table.client.kept.append(HistoryEntry(1, said, HIS, "accepted", "read"))
        table.client.happen(Received(DeliveredReceipt(CAROL, [HIS], "read")))
        await table.settled()
        assert _mark(table) is None
        table.client.happen(Received(DeliveredReceipt(BOB, [HIS], "read")))
        await table.settled()
        assert _mark(table) == "read"
        table.enter("and then?")
        await table.settled()
        assert _mark(table) is None


def _mark(table: Table) -> str | None:
    return table.conversation.receipt


async def test_what_was_left_from_an_earlier_conversation_is_answered_for(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Settled(HIS, Text(BOB, "late"), Accepted(1)))
        table.client.happen(Settled(HIS, File(BOB, URL, name="cat.png"), Error("mailbox_full")))
        table.client.happen(Settled(HIS, Receipt(BOB, [HIS], "read"), Error("user_offline")))
        await table.settled()
    assert table.shown == [
        "you late  ✓",
        "you sends “cat.png”  ✗ not delivered: the recipient's mailbox is full",
    ]


async def test_a_lost_connection_is_said_once(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Connected())
        table.client.happen(Disconnected("the network went away", 2))
        table.client.happen(Disconnected("still away", 4))
        table.client.happen(Connected())
        await table.settled()
    assert table.said == ["connected", "the network went away; trying again", "connected again"]


async def test_what_no_server_takes_is_shown_and_the_rest_is_sent(tmp_path: Path) -> None:
    client = FakeClient(poison="evil")
    async with held(tmp_path, client) as table:
        table.enter_batch(["one", "evil", "two"])
    assert [text for text, _ in client.sent] == ["one", "two"]
    assert "you evil  ✗ not delivered: invalid: poison" in table.shown
    assert table.conversation.failures == 1


async def test_that_the_client_has_stopped_is_said(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Disconnected("the network went away", 2))
        table.client.happen(Disconnected("the session is over (replaced)", None))
        await table.settled()
    assert table.said == ["the network went away; trying again", "the session is over (replaced)"]


async def test_what_another_command_sends_is_shown_where_it_belongs(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        await table.client.queue(Text(BOB, "from elsewhere"), Text(CAROL, "to her"))
        await table.settled()
    assert table.shown == ["you from elsewhere  ✓"]
    assert table.said == ["you → c0c0c0c0… to her  ✓"]


async def test_what_another_command_sent_just_before_is_not_waited_for_once_it_is_answered(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    began, client = trio.current_time(), FakeClient()
    await client.queue(Text(BOB, "from elsewhere"), Text(CAROL, "to her"))
    async with held(tmp_path, client) as table:
        await table.settled()
    assert table.shown == ["you from elsewhere  ✓"]
    assert trio.current_time() == pytest.approx(began, abs=1)


async def test_what_went_wrong_beside_messages_is_said(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Received(Error("rate_limited")))
        table.client.happen(Missed(7))
        table.client.happen(Lost(5, 9, "expired"))
        await table.settled()
    assert table.said == [
        "the server says rate_limited",
        "7 messages came too fast and were missed",
        "5 messages expired before this device came",
    ]


async def test_a_client_that_has_stopped_ends_the_conversation(tmp_path: Path) -> None:
    with pytest.RaisesGroup(SessionEnded, flatten_subgroups=True):
        async with held(tmp_path, FakeClient(trio.sleep_forever)) as table:
            table.enter("hello?")
            await table.settled()
            table.client.end()
            await trio.sleep_forever()


async def test_a_file_is_uploaded_and_then_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def upload(_: ServerAddress, path: Path, progress: Callable[[int, int], None]) -> Uploaded:
        assert path == tmp_path / "my cat.png"
        progress(50, 200)
        assert [pending.progress for pending in table.conversation.pending] == ["25 %"]
        await trio.lowlevel.checkpoint()
        return Uploaded(URL, 200, SHA256)

    monkeypatch.setattr(files, "put", upload)
    (tmp_path / "my cat.png").touch()
    async with held(tmp_path, FakeClient()) as table:
        table.enter(f'/file "{tmp_path}/my cat.png"')
    expected = {"name": "my cat.png", "size": 200, "sha256": SHA256, "mime": "image/png", "kind": "image"}
    assert table.client.sent == [(URL, expected)]
    assert table.shown == ["you sends “my cat.png”  ✓"]


async def test_a_file_that_cannot_be_uploaded(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.enter(f"/file {tmp_path}/nothing here")
        table.enter("/file")
    assert [line.partition(":")[0] for line in table.shown] == ["you sends “nothing here”  ✗ not delivered"]
    assert table.client.sent == []
    assert table.conversation.failures == 1


async def test_a_file_is_saved_under_a_safe_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[str, Path, object, object]] = []

    async def download(_: ServerAddress, url: str, target: Path, report: object, **expected: object) -> Downloaded:
        await trio.lowlevel.checkpoint()
        saved.append((url, target, expected["expected_size"], expected["expected_sha256"]))
        return Downloaded(200, SHA256)

    monkeypatch.setattr(library, "download", download)
    monkeypatch.chdir(tmp_path)
    other = URL.replace("0000.bin", "0001.bin")
    async with held(tmp_path, FakeClient()) as table:
        table.enter("/save")
        await table.settled()
        table.client.happen(Received(DeliveredFile(BOB, URL, name="../../.bashrc", size=200, sha256=SHA256)))
        await table.settled()
        table.enter("/save")
        await table.settled()
        table.enter(f"/save http://localhost:8080{URL} elsewhere.txt")
        await table.settled()
        table.enter(f"/save {other}")
    assert saved == [
        (URL, Path("bashrc"), 200, SHA256),
        (URL, Path("elsewhere.txt"), 200, SHA256),
        (other, Path(other.rpartition("/")[2]), None, None),
    ]
    assert table.said[0] == "/save: no file has come yet"
    assert table.said[1] == f"saved as {tmp_path / 'bashrc'}"


async def test_a_file_that_cannot_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def download(*_: object, **__: object) -> Downloaded:
        await trio.lowlevel.checkpoint()
        raise TransferFailed("not found", 404)

    monkeypatch.setattr(library, "download", download)
    async with held(tmp_path, FakeClient()) as table:
        table.enter(f"/save {URL}")
        await table.settled()
    assert table.said == ["not saved: not found (HTTP status 404)"]
    assert table.conversation.failures == 1


async def test_a_file_that_is_on_its_way_is_waited_for_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = trio.Event()

    async def upload(*_: object) -> Uploaded:
        await arrived.wait()
        return Uploaded(URL, 0, SHA256)

    monkeypatch.setattr(files, "put", upload)
    (tmp_path / "cat").touch()
    async with trio.open_nursery() as nursery, held(tmp_path, FakeClient()) as table:
        table.enter(f"/file {tmp_path}/cat")
        table.enter("/quit")
        nursery.start_soon(_later, arrived)
    assert table.said == ["1 file still on the way; Ctrl-C drops it"]
    assert table.shown == ["you sends “cat”  ✓"]


async def test_a_file_that_is_dropped_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def upload(*_: object) -> Uploaded:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(files, "put", upload)
    (tmp_path / "cat").touch()
    with trio.CancelScope() as interrupt:
        async with held(tmp_path, FakeClient()) as table:
            table.enter(f"/file {tmp_path}/cat")
            await table.settled()
            interrupt.cancel()
    assert table.said == ["not sent to bob: cat"]
    assert table.client.sent == []


async def test_somebody_is_blocked_and_unblocked(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.enter("/block")
        await table.settled()
        assert table.client.blocked == [BOB]
        table.enter("/unblock")
        await table.settled()
        assert table.client.blocked == []
        table.enter(f"/to {FRIENDS}")
        table.enter("/block")
    assert table.said == [
        "nothing that bob sends comes any more; /unblock ends it",
        "you get again what bob sends from now on",
        f"to friends, {FRIENDS}",
        "a group cannot be blocked; `ironwire group leave` leaves it",
    ]


async def test_a_server_that_does_not_answer_blocks_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with held(tmp_path, FakeClient(trio.sleep_forever)) as table:
        table.enter("/block")
    assert table.said == ["the server does not answer"]


async def test_a_connection_is_tried_again_at_once(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.enter("/reconnect")
    assert table.client.reconnects == 1


async def test_every_command_of_the_table_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with held(tmp_path, FakeClient()) as table:
        for command in COMMANDS:
            table.enter(command)
    assert not any("there is no /" in line for line in table.said)


async def test_a_conversation_says_once_whether_it_is_encrypted(tmp_path: Path) -> None:
    async with held(tmp_path, FakeClient()) as table:
        table.client.happen(Connected())
        for text in ("one", "two"):
            table.client.happen(Received(DeliveredText(BOB, text, device=DESK), MessageId(text)))
        await table.settled()
        assert table.secrecy == ["not encrypted: the server can read the conversation with bob"]
        content = Content(MessageId("three"), 0, TextBody("three"))
        table.client.happen(Received(DeliveredText(BOB, "three", device=DESK), MessageId("three"), content=content))
        table.client.happen(Received(DeliveredText(CAROL, "psst"), MessageId("four")))
        await table.settled()
    assert [line.partition(":")[0] for line in table.secrecy[1:]] == ["encrypted", "not encrypted"]


async def test_an_encrypted_file_goes_and_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[SealedFile, Path]] = []
    sealed = SealedFile(URL, "A" * 43, 200, SHA256)

    async def upload(_: ServerAddress, path: Path, report: object, *, most_bytes: int) -> SealedFile:
        await trio.lowlevel.checkpoint()
        assert (path.name, most_bytes) == ("cat.png", 1_000_000)
        return sealed

    async def download(_: ServerAddress, file: SealedFile, target: Path, report: object) -> None:
        await trio.lowlevel.checkpoint()
        saved.append((file, target))

    monkeypatch.setattr(files, "put_sealed", upload)
    monkeypatch.setattr(library, "download_sealed", download)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.png").touch()
    async with held(tmp_path, FakeClient(is_encrypted=True)) as table:
        table.enter("/file cat.png")
        await table.settled()
        body = FileBody(sealed, name="hers.png", caption="look")
        content = Content(MessageId("hers"), 0, body)
        message = DeliveredFile(BOB, URL, name="hers.png", size=200, device=DESK)
        table.client.happen(Received(message, MessageId("hers"), content=content))
        await table.settled()
        table.enter("/save")
        await table.settled()
        table.enter(f"/save {file_link(sealed)} again.png")
    assert table.client.bodies == [FileBody(sealed, kind="image", name="cat.png", mime="image/png")]
    assert saved == [(sealed, Path("hers.png")), (sealed, Path("again.png"))]


async def test_edits_deletions_and_reactions_are_told(tmp_path: Path) -> None:
    said: list[Amendment] = [EditBody(HIS, "on Friday"), DeleteBody(HIS), ReactionBody(MessageName(ALICE, HIS), "👍")]
    said.append(ReactionBody(MessageName(CAROL, HIS)))
    async with held(tmp_path, FakeClient()) as table:
        for number, body in enumerate(said):
            message = MlsMessage(BOB, DeviceId("phone"), pair_id(ALICE, BOB), 1, 1, 0, "AAAA")
            table.client.happen(Received(message, content=Content(MessageId(f"{number}"), 0, body)))
        await table.settled()
    assert [line.split(maxsplit=2)[2] for line in table.said] == [
        "bob changed a message: on Friday",
        "bob deleted a message",
        "bob reacted to your message: 👍",
        "bob took back the reaction to a message",
    ]


def test_what_was_said_of_a_message_stands_beside_it(tmp_path: Path) -> None:
    book = AddressBook.beside(tmp_path / "key")
    book.add("bob", BOB)
    entry = HistoryEntry(
        1, DeliveredText(BOB, "on Friday"), HIS, "received", is_edited=True, reactions=((ALICE, "👍"), (BOB, "🎉"))
    )
    shown = remembered(entry, book, ALICE, BOB).plain
    assert shown.endswith("bob on Friday  (edited, you 👍, bob 🎉)")
