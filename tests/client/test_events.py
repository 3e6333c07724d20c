"""The queue never makes anybody wait but the one who reads, and it says what it left out."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ironwire.client import Connected, Disconnected, Missed, SessionEnded
from ironwire.client.events import EVENT_LIMIT, EventQueue

LAST = EVENT_LIMIT + 1


@given(st.lists(st.integers(0, 3 * EVENT_LIMIT), max_size=6), st.integers(0, EVENT_LIMIT))
async def test_what_was_put_is_got_or_counted(puts: list[int], gets_between: int) -> None:
    queue = EventQueue()
    number = 0
    got = []
    for count in puts:
        for _ in range(count):
            queue.put(Disconnected(str(number), 0))
            number += 1
        waiting = len(queue._events)
        assert waiting <= LAST
        for _ in range(min(gets_between, waiting)):
            got.append(await queue.get())
    queue.end(SessionEnded(1000, "over"))
    with pytest.raises(SessionEnded):
        while True:
            got.append(await queue.get())

    position = 0
    for event in got:
        if isinstance(event, Missed):
            position += event.count
        else:
            assert event == Disconnected(str(position), 0)
            position += 1
    assert position == number


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
