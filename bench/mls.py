"""The work of one device in an MLS group, the bytes that it makes, and what it keeps: no server, no network.

Nobody but the creator has committed before, so every node is blank, and a commit with a path is as large as it can be.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from bench import cache
from bench.contenders import Contender
from bench.device import OWNER
from bench.figures import Figure
from bench.scale import Scale
from ironwire.client import StoreKey
from ironwire.client.store.file import LocalFile
from ironwire.client.store.records import Absorb
from ironwire.crypto.signing import SEED_BYTES, Identity
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.ids import ClientId, GroupId
from ironwire.mls import Lifetime, MLSGroup, Policy, make_key_package

MESSAGES = 100
BATCH = 20

_T = TypeVar("_T")
_GROUP_ID = b"a group"
_LIFETIME = Lifetime(1_000, 2_000)
_POLICY = Policy()
_CREDENTIAL = b"c" * 105
"""As long as the certificate of a device."""
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
    changed, keys_ms = _timed(bob.message_keys)
    yield figure("mls", "keys after a message", keys_ms)
    yield figure("mls_bytes", "message", len(messages[-1]))
    yield figure("mls_bytes", "keys that it changes", len(changed))
    yield figure("mls_bytes", "state", len(bob.state()))
    yield from _kept(alice, leaves)

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


def _kept(group: MLSGroup, leaves: int) -> Iterator[Figure]:
    """As a device keeps a message that it sends: in a transaction of its own, or as one of twenty in one."""
    member = DeviceMembership(GroupId("#" + "f0" * 16), group=group)
    member.have_roster({ClientId(f"{number:064x}"): "member" for number in range(leaves)}, 1)
    key = StoreKey(b"k" * 32)

    def encrypted() -> Absorb:
        group.encrypt(_TEXT)
        member.is_dirty = True
        return Absorb((member.saved(),))

    with (
        TemporaryDirectory(prefix="kept-", dir=cache.cache_folder()) as folder,
        closing(LocalFile.open(Path(folder, "bench.db"), OWNER, key)) as file,
    ):
        file.apply([encrypted()])
        for batch, subject in ((1, "one in a transaction"), (BATCH, f"{BATCH} in one")):
            started = time.perf_counter()
            for _ in range(MESSAGES // batch):
                file.apply([encrypted() for _ in range(batch)])
            ms = (time.perf_counter() - started) * 1_000 / MESSAGES
            yield Figure("kept", f"{leaves:,} leaves", subject, ms, {})


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    """The result of `work`, and how many milliseconds it took."""
    started = time.perf_counter()
    result = work()
    return result, (time.perf_counter() - started) * 1000
