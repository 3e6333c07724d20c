"""Work goes to another thread and comes back, whole, one piece after the other, and whatever becomes of who asked."""

import threading
from collections.abc import Iterator

import pytest
import trio
from trio.testing import Sequencer

from ironwire.store.sqlite.database import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads()
    yield made
    made.close()


async def test_work_is_done_in_the_same_other_thread(threads: Threads) -> None:
    names = [await threads.write(threading.get_ident) for _ in range(3)]
    assert len({*names}) == 1
    assert names[0] != threading.get_ident()


async def test_what_it_raises_comes_back_and_the_thread_goes_on(threads: Threads) -> None:
    def fail() -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        await threads.write(fail)
    assert await threads.write(lambda: 7) == 7


async def test_the_loop_goes_on_meanwhile(threads: Threads) -> None:
    may_end = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.write, may_end.wait)
        await trio.lowlevel.checkpoint()
        may_end.set()


async def test_work_is_done_though_whoever_asked_is_cancelled(threads: Threads) -> None:
    may_end, done, order = threading.Event(), [], Sequencer()

    def work() -> None:
        may_end.wait()
        done.append(1)

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            async with order(0):
                pass
            await threads.write(work)

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(ask, scope)
        async with order(1):
            scope.cancel()
        may_end.set()
    assert done == [1]
