"""The work of one device in an MLS group, and the bytes that it makes: no server, no network, no disk.

Nobody but the creator has committed before, so every node is blank, and a commit with a path is as large as it can be.
"""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from bench.contenders import Contender
from bench.figures import Figure
from bench.scale import Scale
from ironwire.crypto.signing import SEED_BYTES, Identity
from ironwire.mls import Lifetime, MLSGroup, Policy, make_key_package

MESSAGES = 100

_T = TypeVar("_T")
_GROUP_ID = b"a group"
_LIFETIME = Lifetime(1_000, 2_000)
_POLICY = Policy()
_CREDENTIAL = b"c" * 105
"""As long as a certificate of a device will be."""
_TEXT = b"x" * 100


def groups(_: Contender, scale: Scale) -> Iterator[Figure]:
    """Time and bytes of joining, messages, an added member and a new path, at each size of group."""
    for leaves in scale.group_leaves:
        yield from _group(leaves)


def _group(leaves: int) -> Iterator[Figure]:
    def figure(measure: str, subject: str, value: float) -> Figure:
        return Figure(measure, f"{leaves:,} leaves", subject, value, {})

    keys = [Identity.from_seed(number.to_bytes(SEED_BYTES, "big")) for number in range(leaves + 1)]
    packages = [make_key_package(key, _CREDENTIAL, _LIFETIME) for key in keys]
    alice = MLSGroup.create(keys[0], _GROUP_ID, packages[0], _POLICY)
    first = alice.commit(add=[package.public for package in packages[1:leaves]])
    alice.process(first.commit)
    (bob, _), join_ms = _timed(lambda: MLSGroup.join(keys[1], packages[1], first.welcome, _POLICY))
    yield figure("mls", "join", join_ms)

    bob.state()  # joining ends with it, and it encodes the nodes that all later states share
    messages, seal_ms = _timed(lambda: [alice.encrypt(_TEXT) for _ in range(MESSAGES)])
    _, open_ms = _timed(lambda: [bob.process(message) for message in messages])
    yield figure("mls", "make a message", seal_ms / MESSAGES)
    yield figure("mls", "open a message", open_ms / MESSAGES)
    state, state_ms = _timed(bob.state)
    yield figure("mls", "state after a message", state_ms)
    yield figure("mls_bytes", "message", len(messages[-1]))
    yield figure("mls_bytes", "state", len(state))

    added = alice.commit(add=[packages[leaves].public])
    yield figure("mls_bytes", "commit that adds", len(added.commit))
    yield figure("mls_bytes", "welcome", len(added.welcome))
    alice.drop_pending()

    renewed, commit_ms = _timed(lambda: alice.commit(path=True))
    _, process_ms = _timed(lambda: bob.process(renewed.commit))
    _, state_ms = _timed(bob.state)
    yield figure("mls", "make a path", commit_ms)
    yield figure("mls", "process a path", process_ms)
    yield figure("mls", "state after a path", state_ms)
    yield figure("mls_bytes", "commit with a path", len(renewed.commit))


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    """The result of `work`, and how many milliseconds it took."""
    started = time.perf_counter()
    result = work()
    return result, (time.perf_counter() - started) * 1000
