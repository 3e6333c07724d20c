"""Devices with fixed keys, and groups of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import shake_128
from itertools import count
from unittest.mock import patch

from attrs import define, field

from ironwire.crypto.signing import SEED_BYTES, Identity
from ironwire.mls import Event, KeyPackagePrivate, Lifetime, MLSGroup, PendingCommit, Policy, make_key_package, suite

Stored = tuple[bytes, bytes]
"""The two parts of a stored group."""

GROUP_ID = b"conversation, generation, random"
LIFETIME = Lifetime(1_000, 2_000)


@contextmanager
def counted_randomness() -> Iterator[None]:
    """The same random bytes in every run."""
    numbers = count()
    with patch.object(suite, "random", lambda size: shake_128(next(numbers).to_bytes(8, "big")).digest(size)):
        yield


@define(eq=False)
class Device:
    """One installation: its key, its key packages, and its place in one group."""

    name: str
    policy: Policy = field(factory=Policy)
    key: Identity = field(init=False)
    _group: MLSGroup | None = field(init=False, default=None)
    joined_at: int = field(init=False, default=0)
    """The first epoch that it was in."""

    @key.default
    def _derived(self) -> Identity:
        return Identity.from_seed(self.name.encode().ljust(SEED_BYTES, b"."))

    @property
    def group(self) -> MLSGroup:
        assert self._group is not None, f"{self.name} is in no group"
        return self._group

    @property
    def leaf(self) -> int:
        return self.group.me.leaf

    def package(self, *, last_resort: bool = False) -> KeyPackagePrivate:
        return make_key_package(self.key, self.name.encode(), LIFETIME, last_resort=last_resort)

    def create(self) -> None:
        self._group = MLSGroup.create(self.key, GROUP_ID, self.package(), self.policy)

    def join(self, own: KeyPackagePrivate, welcome: bytes, tree: bytes | None = None) -> None:
        self._group, _ = MLSGroup.join(self.key, own, welcome, self.policy, tree)
        self.joined_at = self._group.epoch

    def restart(self) -> None:
        """Lose everything but the stored state."""
        self.recall(stored(self.group))

    def recall(self, state: Stored) -> None:
        self._group = MLSGroup.restore(*state, self.key, self.policy)


def stored(group: MLSGroup) -> Stored:
    return group.state(), group.message_keys()


def devices(*names: str) -> list[Device]:
    return [Device(name) for name in names]


def deliver(commit: bytes, members: Sequence[Device]) -> list[Event]:
    return [member.group.process(commit) for member in members]


def add(committer: Device, members: Sequence[Device], *joiners: Device, path: bool = False) -> PendingCommit:
    """One commit that adds `joiners`, delivered to `members`, of whom the committer is one."""
    packages = [joiner.package() for joiner in joiners]
    pending = committer.group.commit(add=[own.public for own in packages], path=path)
    deliver(pending.commit, members)
    for joiner, own in zip(joiners, packages, strict=True):
        joiner.join(own, pending.welcome)
    return pending


def crew(*names: str, warm: bool = True) -> list[Device]:
    """Devices in one group. Where it is `warm`, everybody has committed once, so that no node is blank for long."""
    members = devices(*names)
    members[0].create()
    add(members[0], members[:1], *members[1:])
    if warm:
        for member in members:
            deliver(member.group.commit(path=True).commit, members)
    return members


def assert_agreement(members: Sequence[Device]) -> None:
    groups = [member.group for member in members]
    assert len({(group.epoch, group.authenticator(), group.tree_hash(), group.members()) for group in groups}) == 1
    assert {each.signature_key for each in groups[0].members()} == {each.key.public_key.raw for each in members}
