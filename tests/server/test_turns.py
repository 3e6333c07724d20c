"""Nobody holds the event loop, and nobody has more waiting than they may: docs/protocol.md, section 6.1."""

import json

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from ironwire.delivery.envelopes import Envelopes
from ironwire.delivery.hub import Endpoint
from ironwire.handlers.history import HistoryHandler
from ironwire.handlers.replies import verb_handler
from ironwire.ids import MessageId
from ironwire.limits import Limits
from ironwire.server.session.direct import DirectTransport
from ironwire.server.session.scheduler import PART_CHARS, PART_MESSAGES, PART_SURCHARGE, PROMPT_MESSAGES, SHARES, Work
from ironwire.wire.codec import Sendable
from ironwire.wire.messages import History, Text
from tests.bounded_stream import socket_stream_pair
from tests.playbook import Stage, identity_of, open_stage
from tests.server.in_process import StreamPair
from tests.server.slow_store import SlowStore, slow_stores
from tests.turns import counted_by_turn
from tests.wire.frame_builder import text

HEAVY_SLOTS = SHARES[Work.HEAVY].slots
FLOODERS = [f"flooder{number}" for number in range(10)]


def text_to(actor: str, content: str) -> bytes:
    return text(json.dumps({"type": "text", "payload": {"to": identity_of(actor).client_id, "text": content}}))


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The characters of every text that sessions submit."""
    texts: list[int] = []
    submit = Envelopes.submit

    def noting(
        envelopes: Envelopes, sender: Endpoint, message: Sendable, id_: MessageId | None, n: int | None = None
    ) -> None:
        if isinstance(message, Text):
            texts.append(len(message.text))
        submit(envelopes, sender, message, id_, n)

    monkeypatch.setattr(Envelopes, "submit", noting)
    return texts


async def send_together(stage: Stage, data: bytes) -> None:
    async with trio.open_nursery() as nursery:
        for flooder in FLOODERS:
            nursery.start_soon(stage.actors[flooder].send, data)
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("stream_pair", [memory_stream_pair, socket_stream_pair])
@pytest.mark.parametrize(("count", "chars"), [(640, 1), (20, PART_CHARS // 4)])
async def test_of_many_who_send_much_at_once_a_few_have_each_turn(
    count: int, chars: int, stream_pair: StreamPair, mock_clock: MockClock, submitted: list[int]
) -> None:
    async with open_stage() as stage:
        await stage.enter(*FLOODERS, stream_pair=stream_pair)
        with counted_by_turn(lambda: len(submitted)) as texts, counted_by_turn(lambda: sum(submitted)) as size:
            await send_together(stage, text_to("nobody", "x" * chars) * count)
    assert len(submitted) == len(FLOODERS) * count
    assert max(texts) <= HEAVY_SLOTS * PART_MESSAGES
    assert max(size) <= HEAVY_SLOTS * PART_CHARS


@pytest.mark.parametrize("stream_pair", [memory_stream_pair, socket_stream_pair])
async def test_those_who_send_little_do_not_wait_for_each_other(
    stream_pair: StreamPair, mock_clock: MockClock, submitted: list[int]
) -> None:
    async with open_stage() as stage:
        await stage.enter(*FLOODERS, stream_pair=stream_pair)
        with counted_by_turn(lambda: len(submitted)) as texts:
            await send_together(stage, text_to("nobody", "Hello") * PROMPT_MESSAGES)
    assert max(texts) == len(FLOODERS) * PROMPT_MESSAGES


async def test_a_crowd_whose_time_is_up_leaves_a_few_in_each_turn(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = 0
    close = DirectTransport.close

    async def noting(transport: DirectTransport, code: int, reason: str) -> None:
        nonlocal closed
        closed += 1
        await close(transport, code, reason)

    monkeypatch.setattr(DirectTransport, "close", noting)
    async with open_stage() as stage:
        await stage.connect(*FLOODERS)
        await wait_all_tasks_blocked()
        with counted_by_turn(lambda: closed) as left:
            mock_clock.jump(Limits().auth_seconds + 1)
            await wait_all_tasks_blocked()
    assert closed == len(FLOODERS)
    assert max(left) <= SHARES[Work.UNAUTHENTICATED].slots


async def test_of_requests_that_cost_much_fewer_have_each_turn(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Endpoint] = []

    @verb_handler
    async def noting(handler: HistoryHandler, endpoint: Endpoint, request: History, id_: MessageId | None) -> None:
        asked.append(endpoint)

    monkeypatch.setattr(HistoryHandler, "page", noting)
    page = text(json.dumps({"type": "history", "payload": {"with": "0" * 64, "limit": 100}}))
    async with open_stage() as stage:
        await stage.enter(*FLOODERS)
        with counted_by_turn(lambda: len(asked)) as by_turn:
            await send_together(stage, page * 150)
    assert len(asked) == len(FLOODERS) * 150
    assert max(by_turn) <= HEAVY_SLOTS * PART_SURCHARGE // 100


async def test_what_one_session_has_waiting_for_the_disk_is_bounded_within_one_read_too(mock_clock: MockClock) -> None:
    stores: list[SlowStore] = []
    limits = Limits(unsettled_envelopes=3)
    async with open_stage(limits=limits, open_store=slow_stores(stores)) as stage:
        await stage.enter("bob", device="phone")
        await stage.enter("alice")
        await stage.actors["alice"].send(text_to("bob", "Hello") * 12)
        for _ in range(12):
            await stage.next_text("bob")
    assert sum(stores[0].envelopes) == 12
    assert max(stores[0].envelopes) <= 3
