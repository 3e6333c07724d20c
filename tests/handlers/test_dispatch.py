"""The registry of handlers: which requests are carried out at once, what is counted, and what a failing store makes of
them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.crypto.tokens import UploadTokens
from ironwire.delivery.hub import Endpoint
from ironwire.delivery.outbox import Outbox
from ironwire.errors import StoreError
from ironwire.handlers.blocks import BlockHandler
from ironwire.handlers.calls import CallHandler
from ironwire.handlers.device_log import DeviceLogHandler
from ironwire.handlers.devices import DeviceHandler
from ironwire.handlers.dispatch import Dispatcher
from ironwire.handlers.groups import GroupHandler
from ironwire.handlers.history import HistoryHandler
from ironwire.handlers.ice import IceHandler
from ironwire.handlers.presence import PresenceHandler
from ironwire.handlers.replies import reply, verb_handler
from ironwire.handlers.uploads import UploadHandler
from ironwire.ids import MessageId
from ironwire.protocol.auth import Principal
from ironwire.protocol.holding import Hold
from ironwire.record import record
from ironwire.store.files.blobs import Blobs
from ironwire.wire import messages as msg
from ironwire.wire.messages.fields import ErrorCode
from tests.house import ALICE, BOB, LIMITS, NOW_MS, House

ID = MessageId("1")


def now_ms() -> int:
    return NOW_MS


@pytest.fixture
def make_dispatcher(house: House, tmp_path: Path) -> Callable[[], Dispatcher]:
    hub, store, delivery = house.hub, house.store, house.delivery
    presence = PresenceHandler(hub, store, now_ms)
    return lambda: Dispatcher(
        DeviceHandler(hub, delivery),
        DeviceLogHandler(hub, delivery, store, now_ms),
        HistoryHandler(store, is_kept=False),
        GroupHandler(store, delivery, now_ms, bytes, most_members=10),
        presence,
        BlockHandler(delivery, store, presence, now_ms),
        CallHandler(hub, store, IceHandler((), "", 60, now_ms, bytes), LIMITS, now_ms),
        UploadHandler(UploadTokens(bytes), Blobs(tmp_path, bytes, now_ms, None), LIMITS, now_ms),
    )


@pytest.fixture
def dispatcher(make_dispatcher: Callable[[], Dispatcher]) -> Dispatcher:
    return make_dispatcher()


@pytest.fixture
def alice() -> Endpoint:
    outbox = Outbox(most_frames=100, most_bytes=100_000, ring=lambda: None)
    return Endpoint(Principal(ALICE, None), outbox, hold=Hold())


def answers(endpoint: Endpoint) -> list[tuple[str, str | None]]:
    """Type and error code of each frame."""
    frames: list[dict[str, Any]] = [json.loads(frame) for frame in endpoint.outbox.take()]
    return [(frame["type"], frame.get("payload", {}).get("msg")) for frame in frames]


async def test_a_verb_without_a_handler_is_named_at_the_start(
    make_dispatcher: Callable[[], Dispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    @record
    class Echo(msg.ClientMessage):
        verb: ClassVar[str] = "echo"

    monkeypatch.setattr(msg, "CLIENT_MESSAGES", (*msg.CLIENT_MESSAGES, Echo))
    with pytest.raises(TypeError, match="`echo` needs one handler"):
        make_dispatcher()


async def test_a_verb_with_two_handlers_is_named_at_the_start(
    make_dispatcher: Callable[[], Dispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(self: DeviceHandler, endpoint: Endpoint, request: msg.Ping, id_: MessageId | None) -> ErrorCode | None:
        return reply(endpoint, msg.Pong(), id_)

    monkeypatch.setattr(DeviceHandler, "again", verb_handler(again), raising=False)
    with pytest.raises(TypeError, match="`ping` needs one handler"):
        make_dispatcher()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (msg.Ping(), ("pong", None)),
        (msg.Typing(BOB, typing=True), ("accepted", None)),
        (msg.Auth("0"), ("error", "invalid")),
    ],
    ids=["ping", "typing", "auth"],
)
async def test_what_waits_for_nothing_is_answered_at_once(
    dispatcher: Dispatcher, alice: Endpoint, request_: msg.ClientMessage, answer: tuple[str, str | None]
) -> None:
    assert dispatcher.answer_at_once(alice, request_, ID)
    assert answers(alice) == [answer]


@pytest.mark.parametrize("request_", [msg.Devices(), msg.Block(BOB)], ids=["devices", "block"])
async def test_what_asks_the_store_is_left_alone_until_it_is_awaited(
    dispatcher: Dispatcher, alice: Endpoint, request_: msg.ClientMessage
) -> None:
    assert not dispatcher.answer_at_once(alice, request_, ID)
    await wait_all_tasks_blocked()
    assert answers(alice) == []
    assert dispatcher.statistics().asked_total.total == 0
    await dispatcher.answer(alice, request_, ID)
    assert len(answers(alice)) == 1
    assert dispatcher.statistics().asked_total.total == 1


async def test_requests_are_counted_by_verb_and_refusals_by_code_too(dispatcher: Dispatcher, alice: Endpoint) -> None:
    statistics = dispatcher.statistics()
    assert ("ping",) in statistics.asked_total.counts, "there from the start"
    assert (msg.Text.verb,) not in statistics.asked_total.counts
    dispatcher.answer_at_once(alice, msg.Ping(), None)
    await dispatcher.answer(alice, msg.Block(ALICE), None)
    statistics = dispatcher.statistics()
    assert statistics.asked_total.counts["ping",] == statistics.asked_total.counts["block",] == 1
    assert statistics.refused_total.counts == {("block", "invalid"): 1}


@pytest.mark.parametrize(
    ("request_", "is_held"), [(msg.GroupCreate([BOB]), True), (msg.Block(BOB), False)], ids=["group_create", "block"]
)
async def test_a_store_that_fails_is_an_internal_error_and_holds_what_has_an_order(
    house: House, dispatcher: Dispatcher, alice: Endpoint, request_: msg.ClientMessage, is_held: bool
) -> None:
    house.store.fails = True
    with trio.fail_after(5):
        await dispatcher.answer(alice, request_, ID)
    assert answers(alice) == [("error", "internal")]
    assert alice.hold is not None
    assert alice.hold.is_held == is_held


async def test_a_store_that_cannot_be_read_fails_what_is_answered_at_once_too(
    house: House, dispatcher: Dispatcher, alice: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(house.store.glance, "blocks_of", fail)
    assert dispatcher.answer_at_once(alice, msg.Typing(BOB, typing=True), ID)
    assert answers(alice) == [("error", "internal")]
    assert dispatcher.statistics().refused_total.counts == {("typing", "internal"): 1}
