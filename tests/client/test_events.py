"""The queue never makes anybody wait but the one who reads, and it says what it left out."""

from contextlib import suppress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ironwire.client import Connected, Disconnected, Event, Missed, Received, RelayedTyping, SessionEnded, events
from ironwire.client.events import EventQueue
from ironwire.ids import ClientId

LIMIT = 4


@given(st.lists(st.tuples(st.integers(0, 2 * LIMIT), st.integers(0, 2 * LIMIT)), max_size=5))
async def test_what_was_put_is_got_or_counted(steps: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "EVENT_LIMIT", LIMIT)
        await check_steps(steps)


async def test_nobody_types_anothers_messages_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENT_LIMIT", LIMIT)
    queue = EventQueue()
    typing = Received(RelayedTyping(ClientId("b0" * 32), True))
    queue.put(typing)
    for number in range(3):
        queue.put(Disconnected(str(number), 0))
        queue.put(typing)
    queue.end(SessionEnded(1000, "over"))
    assert await everything(queue) == [typing, *(Disconnected(str(number), 0) for number in range(3))]


async def check_steps(steps: list[tuple[int, int]]) -> None:
    queue = EventQueue()
    number = 0
    got: list[Event] = []
    for puts, gets in steps:
        for _ in range(puts):
            queue.put(Disconnected(str(number), 0))
            number += 1
        for _ in range(gets):
            with trio.move_on_after(0):
                got.append(await queue.get())
    queue.end(SessionEnded(1000, "over"))
    rest = await everything(queue)
    assert len(rest) <= LIMIT + 1

    position = 0
    for event in [*got, *rest]:
        if isinstance(event, Missed):
            position += event.count
        else:
            assert event == Disconnected(str(position), 0)
            position += 1
    assert position == number


async def everything(queue: EventQueue) -> list[Event]:
    got: list[Event] = []
    with suppress(SessionEnded):
        while True:
            got.append(await queue.get())
    return got


async def test_a_reader_waits_for_the_next_event(autojump_clock: trio.testing.MockClock) -> None:
    queue = EventQueue()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert await queue.get() == Connected()
            assert trio.current_time() - started == pytest.approx(5)

        started = trio.current_time()
        nursery.start_soon(read)
        await trio.sleep(5)
        queue.put(Connected())


async def test_every_reader_learns_of_the_end() -> None:
    queue = EventQueue()
    ended = []

    async def read() -> None:
        with pytest.raises(SessionEnded):
            await queue.get()
        ended.append(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        queue.end(SessionEnded(4409, ""))
    assert ended == [1, 1]
