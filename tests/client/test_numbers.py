"""The numbers of a device (docs/protocol.md, section 4.1): what the server has settled is not sent again, whatever ends
the session or the program; what it has not is, in order. The scripted server refuses a hole.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock

from ironwire.client import Accepted, Client, Error, Refused, Settled, connect
from ironwire.client.connection.repeats import PAUSE_SECONDS
from ironwire.client.store.file import LocalFile
from ironwire.client.store.records import Begin, GiveNumber, Queue
from ironwire.ids import ClientId, MessageId
from ironwire.limits import UNANSWERED_ENVELOPES
from ironwire.wire.messages import Resume, Text
from tests.client.scripted_server import ADDRESS, FRAME_BYTES, Peer, scripted_server
from tests.client.test_device import ALICE, AT_ONCE, BOB, KEY, OWNER, RtcPeer

T = TypeVar("T")

CAROL = ClientId("c0" * 32)


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[RtcPeer]:
    with trio.fail_after(10_000 if isinstance(trio.lowlevel.current_clock(), MockClock) else 20):
        async with scripted_server() as server:
            yield RtcPeer(tmp_path / "phone.db", server)


async def no_thread(work: Callable[[], T], /) -> T:
    """A disk for a clock that knows no threads."""
    await trio.lowlevel.checkpoint()
    return work()


async def receive_texts(peer: Peer, count: int) -> list[tuple[str, MessageId]]:
    got = []
    for _ in range(count):
        message, message_id = await peer.receive()
        assert isinstance(message, Text)
        assert message_id is not None
        got.append((message.text, message_id))
    return got


async def settled(client: Client) -> Settled:
    while not isinstance(event := await anext(client), Settled):
        pass
    return event


async def test_what_was_settled_unheard_is_not_sent_again(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await client.queue(Text(BOB, "1"), Text(BOB, "2"), Text(BOB, "3"))
        (_, first), (_, second), _ = await receive_texts(peer, 3)
        peer.ledger.answered(first, None)
        peer.ledger.answered(second, "user_offline")
        await peer.cut()
        again = await phone.server.accept()
        assert [text for text, _ in await receive_texts(again, 1)] == ["3"]
        told = [await settled(client), await settled(client)]
        assert [(each.message, type(each.reply)) for each in told] == [
            (Text(BOB, "1"), Accepted),
            (Text(BOB, "2"), Error),
        ]
    assert phone.history() == [("accepted", "1"), ("refused", "2"), ("queued", "3")]


async def test_what_was_refused_for_now_is_sent_again_before_what_came_after_it(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await client.queue(Text(BOB, "1"), Text(BOB, "2"), Text(BOB, "3"))
        (_, first), (_, second), _ = await receive_texts(peer, 3)
        peer.ledger.answered(first, "rate_limited")
        peer.ledger.answered(second, "rate_limited")
        await peer.cut()
        again = await phone.server.accept()
        assert [text for text, _ in await receive_texts(again, 3)] == ["1", "2", "3"]


async def test_a_program_that_crashed_knows_what_it_had_sent(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await client.queue(Text(BOB, "1"), Text(BOB, "2"))
        (_, first), _ = await receive_texts(peer, 2)
        peer.ledger.answered(first, None)
        await peer.cut()
    async with phone.on() as (client, peer):
        assert [text for text, _ in await receive_texts(peer, 1)] == ["2"]
        assert (await settled(client)).message == Text(BOB, "1")
    assert phone.history() == [("accepted", "1"), ("queued", "2")]


async def test_a_mailbox_that_was_made_anew_gets_everything_that_had_no_answer(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await client.queue(Text(BOB, "1"), Text(BOB, "2"))
        sent = await receive_texts(peer, 2)
        peer.ledger.answered(sent[0][1], None)
        phone.server.epoch = 2
        await peer.cut()
        again = await phone.server.accept()
        assert await receive_texts(again, 2) == sent
        assert again.ledger.sent == 0


async def test_a_file_that_was_put_back_from_a_copy_knows_nothing_of_its_numbers(phone: RtcPeer) -> None:
    """It is not told by numbers that were given to other messages meanwhile."""
    file = LocalFile.open(phone.path, OWNER, KEY)
    file.apply([Begin(1, 0), Queue(MessageId("a"), Text(BOB, "1"), 0), GiveNumber(MessageId("a"), 3)])
    file.close()
    phone.server.ledgers[1].sent = 7
    async with phone.on() as (_, peer):
        assert await receive_texts(peer, 1) == [("1", "a")]


async def test_a_number_that_was_never_used_stands_for_nothing(phone: RtcPeer) -> None:
    """The program ended between keeping two numbers and sending them, and comes back to a server that had neither."""
    file = LocalFile.open(phone.path, OWNER, KEY)
    file.apply([Begin(1, 0), *(Queue(MessageId(name), Text(BOB, name), 0, n) for n, name in enumerate("ab", 4))])
    file.close()
    phone.server.ledgers[1].sent = 3
    async with phone.on() as (client, peer):
        await client.queue(Text(BOB, "c"))
        assert [text for text, _ in await receive_texts(peer, 3)] == ["a", "b", "c"]


async def test_after_a_refusal_the_numbers_go_on_where_the_server_says(
    phone: RtcPeer, autojump_clock: MockClock
) -> None:
    async with phone.on(no_thread) as (client, peer):
        await client.queue(*(Text(BOB, str(number)) for number in range(5)))
        sent = await receive_texts(peer, 5)
        await peer.send(Accepted(1), sent[0][1])
        await peer.send(Error("rate_limited", retry_after_ms=100), sent[1][1])
        for _, message_id in sent[2:]:
            await peer.send(Error("rate_limited", retry_after_ms=100, held=True), message_id)
        resume, resume_id = await peer.receive()
        assert resume == Resume()
        await client.queue(Text(BOB, "5"))
        await peer.send(Accepted(2), resume_id)
        assert [text for text, _ in await receive_texts(peer, 5)] == ["1", "2", "3", "4", "5"]
        assert peer.ledger.sent == 5


async def test_what_the_server_could_not_write_down_keeps_its_number(phone: RtcPeer, autojump_clock: MockClock) -> None:
    async with phone.on(no_thread) as (client, peer):
        await client.queue(Text(BOB, "1"), Text(BOB, "2"))
        sent = await receive_texts(peer, 2)
        await peer.send(Error("internal"), sent[0][1])
        await peer.send(Error("internal", held=True), sent[1][1])
        began = trio.current_time()
        _, resume_id = await peer.receive()
        await peer.send(Error("internal"), resume_id)
        _, resume_id = await peer.receive()
        assert trio.current_time() - began >= 2 * PAUSE_SECONDS
        await peer.send(Accepted(2), resume_id)
        assert await receive_texts(peer, 2) == sent


async def test_who_rests_leaves_no_hole(phone: RtcPeer, autojump_clock: MockClock) -> None:
    async with phone.on(no_thread) as (client, peer):
        await client.queue(Text(BOB, "1"), Text(CAROL, "2"), Text(BOB, "3"), Text(CAROL, "4"))
        sent = await receive_texts(peer, 4)
        await peer.send(Error("mailbox_full", user=BOB), sent[0][1])
        for _, message_id in sent[1:]:
            await peer.send(Error("mailbox_full", user=BOB, held=True), message_id)
        _, resume_id = await peer.receive()
        await peer.send(Accepted(2), resume_id)
        assert [text for text, _ in await receive_texts(peer, 2)] == ["2", "4"]
        assert [text for text, _ in await receive_texts(peer, 2)] == ["1", "3"], "a minute later"


async def test_no_more_is_unanswered_than_the_server_remembers(phone: RtcPeer, autojump_clock: MockClock) -> None:
    """Those of a mailbox that was full come when it has room again, beside as many others as the window holds."""
    others = UNANSWERED_ENVELOPES
    async with phone.on(no_thread) as (client, peer):
        await client.queue(*(Text(BOB, "to him") for _ in range(10)))
        full = await receive_texts(peer, 10)
        for index, (_, message_id) in enumerate(full):
            await peer.send(Error("mailbox_full", user=BOB, held=index > 0), message_id)
        _, resume_id = await peer.receive()
        await peer.send(Accepted(2), resume_id)
        await client.queue(*(Text(CAROL, str(number)) for number in range(others)))
        to_her = await receive_texts(peer, others)
        with trio.move_on_after(3_600):
            pytest.fail(f"one too many: {await peer.receive()}")
        for number, (_, message_id) in enumerate(to_her):
            await peer.send(Accepted(3), message_id)
            if number < 10:
                assert [text for text, _ in await receive_texts(peer, 1)] == ["to him"]


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_refusal_is_not_forgotten_when_auth_ok_no_longer_tells_it(
    phone: RtcPeer, autojump_clock: MockClock, is_restarted: bool
) -> None:
    """It rests for a minute because its recipient's mailbox is full, while more numbers are settled than are told."""
    async with phone.on(no_thread) as (client, peer):
        await client.queue(Text(BOB, "to him"))
        ((_, message_id),) = await receive_texts(peer, 1)
        await peer.send(Error("mailbox_full", user=BOB), message_id)
        _, resume_id = await peer.receive()
        await peer.send(Accepted(2), resume_id)
        for _ in range(UNANSWERED_ENVELOPES):
            await client.queue(Text(CAROL, "to her"))
            ((_, message_id),) = await receive_texts(peer, 1)
            await peer.send(Accepted(3), message_id)
            await settled(client)
        assert peer.ledger.refused == []
        if not is_restarted:
            await peer.cut()
            again = await phone.server.accept()
            assert [text for text, _ in await receive_texts(again, 1)] == ["to him"]
    if is_restarted:
        async with phone.on(no_thread) as (_, peer):
            assert [text for text, _ in await receive_texts(peer, 1)] == ["to him"]


async def test_a_message_that_is_too_large_uses_no_number_up(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await client.queue(Text(BOB, "x" * FRAME_BYTES), Text(BOB, "2"))
        refusal = (await settled(client)).reply
        assert isinstance(refusal, Error)
        assert refusal.msg == "too_large"
        assert [text for text, _ in await receive_texts(peer, 1)] == ["2"]


async def test_a_program_that_is_refused_goes_on_without_a_hole(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def refuse() -> None:
            ((_, message_id),) = await receive_texts(peer, 1)
            await peer.send(Error("user_offline", user=BOB), message_id)
            ((_, message_id),) = await receive_texts(peer, 1)
            await peer.send(Accepted(1), message_id)

        with pytest.raises(Refused):
            await client.send_text(BOB, "1")
        await client.send_text(BOB, "2")
        assert (peer.ledger.sent, len(peer.ledger.refused)) == (2, 1)


async def test_a_client_without_a_device_has_no_numbers(phone: RtcPeer) -> None:
    async with (
        connect(ADDRESS, ALICE, backoff=AT_ONCE, dial=phone.server.dial) as client,
        trio.open_nursery() as nursery,
    ):
        peer = await phone.server.accept()
        nursery.start_soon(client.send_text, BOB, "1")
        ((_, message_id),) = await receive_texts(peer, 1)
        await peer.send(Accepted(1), message_id)
        assert peer.ledger.sent == 0
