"""One run of a busy server, told step by step: the same for the same seed.

Clients come, talk, stall and vanish all at once, so that the order in which tasks run decides what happens. All chance
comes from the seed: the scheduler's, the clients', and the randomness and the wall clock that the server is given.
"""

import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256

import trio
from trio.testing import MockClock

from ironwire.limits import Limits
from tests.bounded_stream import bounded
from tests.playbook import NOW_MS, Stage, auth_frame, identity_of, open_stage, told, verify_frame
from tests.simulation.stores import Kind, stores
from tests.wire.frame_builder import text

CLIENTS = ["alice", "bob", "carol", "dave"]
ABSENT = "zoe"  # who never comes
DEVICES = [None, None, "phone", "laptop"]
LIMITS = Limits(outbox_frames=16, window_envelopes=4)
VISITS = 4
PIPE_BYTES = 2_000

_ADDRESS = re.compile(r"0x[0-9a-f]+")


def trace_of(seed: int, kind: Kind = "memory") -> list[str]:
    """Everything that happened, in order: each turn of the event loop, and each frame that a client got."""
    trace: list[str] = []
    with seeded_scheduler(seed):
        trio.run(_run, seed, kind, trace, clock=MockClock())
    return trace


def digest_of(trace: list[str]) -> str:
    return sha256("\n".join(trace).encode()).hexdigest()


class _Recorder(trio.abc.Instrument):
    def __init__(self, trace: list[str]) -> None:
        self._trace = trace

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._trace.append(f"{trio.current_time():.6f} {_ADDRESS.sub('', task.name)}")


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[None]:
    """Have Trio order its tasks by the seed (there is no public way; Trio's own Hypothesis plugin does the same)."""
    run = trio._core._run
    was_deterministic, state = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # see above
    run._r.seed(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = was_deterministic  # type: ignore[misc]  # see above
        run._r.setstate(state)


async def _run(seed: int, kind: Kind, trace: list[str]) -> None:
    chance = random.Random(seed)

    def now_ms() -> int:
        return NOW_MS + int(trio.current_time() * 1000)

    with stores(kind, random.Random(seed)) as open_store:
        async with open_stage(
            limits=LIMITS, now_ms=now_ms, random_bytes=chance.randbytes, open_store=open_store
        ) as stage:
            trio._core._run._r.seed(seed)  # the threads of the start may have taken any number of turns
            trio.lowlevel.add_instrument(_Recorder(trace))
            async with trio.open_nursery() as nursery:
                for home, client in enumerate(CLIENTS * 2):
                    nursery.start_soon(_live, stage, client, home, random.Random(chance.random()), trace)


async def _live(stage: Stage, client: str, home: int, chance: random.Random, trace: list[str]) -> None:
    """A client that comes and goes."""
    for visit in range(VISITS):
        actor = f"{client}.{home}.{visit}"
        await stage.connect(actor, stream_pair=bounded(PIPE_BYTES))
        with suppress(trio.BrokenResourceError):  # the server has closed the connection
            await _visit(stage, actor, chance)
        await stage.actors[actor].hang_up()
        trace += [f"{actor} got {told(event)}" for event in stage.actors[actor].take_events()]


async def _visit(stage: Stage, actor: str, chance: random.Random) -> None:
    here = stage.actors[actor]
    await here.send(auth_frame(actor, device=chance.choice(DEVICES)))
    challenge = json.loads(await stage.next_text(actor))["challenge"]
    await here.send(verify_frame(actor, bytes.fromhex(challenge)))
    for number in range(chance.randint(1, 30)):
        payload = {
            "to": identity_of(chance.choice([*CLIENTS, ABSENT])).client_id,
            "text": "x" * chance.choice([1, 1, 400]),
        }
        await here.send(text(json.dumps({"type": "text", "id": f"{actor}-{number}", "payload": payload})))
        if chance.random() < 0.1:
            here.stall()
        if chance.random() < 0.3:
            await trio.sleep(chance.choice([0, 0.5, 3, 40]))
