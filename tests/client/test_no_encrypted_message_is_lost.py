"""As `test_nothing_is_lost`, between devices that encrypt, with commits in between: every text is sent in one epoch or
another, and all of them arrive once, in order, and can be read.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from ironwire.client import ClientError, DeliveredText, Identity, StoreKey, read_history
from ironwire.e2e.conversations.wishes import RenewKeys
from ironwire.limits import Limits
from ironwire.store.contract.operations import Append, Appended, Operation, Result
from ironwire.store.memory.store import MemoryStore
from tests.client.test_nothing_is_lost import (
    ALICE,
    BOB,
    DESK,
    PHONE,
    QUIET_SECONDS,
    QUOTA,
    Program,
    QueueingWriter,
    Reader,
    World,
    Writer,
    disturb,
)

T = TypeVar("T")

SETTLE_SECONDS = 30
REFUSING = Limits(messages_per_second=4, messages_at_once=60)
"""Writers hit the rate now and then; a device that comes back may ask all that it has to."""


async def no_thread(work: Callable[..., T], *arguments: Any, **_: Any) -> T:
    """For a clock that knows no threads."""
    await trio.lowlevel.checkpoint()
    return work(*arguments)


class NotingStore(MemoryStore):
    """Knows under which id a message was stored, and how often."""

    stored: Counter[str | None]

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        results = await super().apply(batch)
        for operation, result in zip(batch, results, strict=True):
            if isinstance(operation, Append) and isinstance(result, Appended):
                self.stored[operation.envelope.id] += operation.envelope.verb == "mls_message"
        return results


async def renew(program: Program, other: Identity) -> None:
    """Commit, if the conversation is there; not more than once a minute (docs/protocol.md, section 10.2)."""
    encryption = None if program.client is None else program.client._link.encryption
    if encryption is not None:
        with suppress(ClientError):
            await encryption.change(other.client_id, RenewKeys())


steps = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 40)),
    st.tuples(st.just("renew"), st.integers(0, 60)),
    st.tuples(st.sampled_from(["cut phone", "cut desk", "crash phone", "crash desk", "restart"]), st.integers(0, 90)),
    st.tuples(st.just("wait"), st.integers(1, 70)),
)

EVENTFUL = [
    *(("write", 40), ("renew", 9), ("write", 9), ("cut desk", 40), ("write", 9), ("wait", 61), ("write", 40)),
    *(("renew", 30), ("crash desk", 20), ("write", 2), ("cut phone", 7), ("restart", 30), ("write", 30)),
]


@settings(deadline=None, max_examples=2, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, max_size=12), st.sampled_from([Writer, QueueingWriter]), st.booleans())
@example(EVENTFUL, Writer, False)
@example(EVENTFUL, QueueingWriter, True)
def test_no_encrypted_message_is_lost_and_none_comes_twice(
    history: list[tuple[str, int]], writer: type[Writer], is_refused: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, patch.object(trio.to_thread, "run_sync", no_thread):
        trio.run(play, Path(folder), history, writer, is_refused, clock=MockClock())


async def play(folder: Path, history: list[tuple[str, int]], writer: type[Writer], is_refused: bool) -> None:
    store = NotingStore(QUOTA)
    store.stored = Counter()
    world = World(folder, store, is_encrypted=True)
    alice, bob = writer(ALICE, DESK, world), Reader(BOB, PHONE, world)
    written = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run_server)
        nursery.start_soon(alice.run)
        nursery.start_soon(bob.run)
        await bob.has_been_there.wait()
        await trio.sleep(SETTLE_SECONDS)  # he has published key packages
        if is_refused:
            world.limits = REFUSING
            world.restart_server()
            await trio.sleep(SETTLE_SECONDS)
        for what, count in history:
            if what == "write":
                alice.write([str(number) for number in range(written, written + count)])
                written += count
            elif what == "wait":
                await trio.sleep(count)
            else:
                for _ in range(count):
                    await trio.lowlevel.checkpoint()
                if what == "renew":
                    nursery.start_soon(renew, *((alice, BOB) if count % 2 else (bob, ALICE)))
                else:
                    await disturb(what, world, alice, bob)
        await trio.sleep(2 * QUIET_SECONDS)
        nursery.cancel_scope.cancel()

    sent = read_history(alice.path, DESK, StoreKey.of(ALICE), BOB.client_id, 1_000)
    texts = [entry.message.text for entry in sent if isinstance(entry.message, DeliveredText)]
    assert Counter((entry.state, entry.is_encrypted, entry.reason) for entry in sent).keys() <= {
        ("accepted", True, None)
    }
    assert set(alice.accepted) <= set(texts)
    assert bob.lines == texts
    got = read_history(bob.path, PHONE, StoreKey.of(BOB), ALICE.client_id, 1_000)
    assert [entry.message.text for entry in got if isinstance(entry.message, DeliveredText)] == texts
    assert all(entry.is_encrypted for entry in got)
    twice = {entry.id for entry in sent if store.stored[entry.id] != 1}
    assert not twice, "a device hides what comes twice, so it is counted where it is stored"
