"""`python -m tests.mls.interop FOLDER [--seeds N] [--first N]`: random groups of members in Python and in ts-mls.

FOLDER has `node_modules` with what `package.json` names. After every commit all members have the same epoch, epoch
authenticator and tree hash. Exit status 1 means that they had not.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import click
from attrs import define, field

from ironwire.crypto.signing import Identity
from ironwire.errors import MLSError
from ironwire.mls import (
    Application,
    KeyPackagePrivate,
    Lifetime,
    MLSGroup,
    Policy,
    RemovedFromGroup,
    make_key_package,
)

HERE = Path(__file__).parent
STEPS = 40
MOST_MEMBERS = 16
GROUP_ID = b"interop"

WRONGLY_REFUSED_TREE = "non-blank intermediate node must list leaf node in its unmerged_leaves"
"""ts-mls 1.6.4 compares whole `unmerged_leaves` up to the root, so it refuses valid trees when it joins."""


class OracleRefused(Exception):
    """ts-mls could not do what was asked."""


@define(eq=False)
class Oracle:
    """The process that runs ts-mls."""

    _process: "subprocess.Popen[str]"

    def ask(self, op: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise OracleRefused(answer["error"])
        return answer


State = tuple[int, str, str]


class Peer(Protocol):
    """A member, in either implementation. Commits take effect by `take` at the committer."""

    name: str

    def package(self) -> bytes: ...
    def create(self) -> None: ...
    def join(self, welcome: bytes) -> None: ...
    def commit(self, add: list[bytes], remove: list[int]) -> tuple[bytes, bytes]: ...
    def take(self, commit: bytes) -> None: ...
    def process(self, commit: bytes) -> bool: ...
    def encrypt(self, data: bytes) -> bytes: ...
    def decrypt(self, message: bytes) -> bytes: ...
    def state(self) -> State: ...


@define(eq=False)
class OurPeer:
    name: str
    _key: Identity = field(init=False, factory=Identity.generate)
    _own: KeyPackagePrivate | None = field(init=False, default=None)
    group: MLSGroup | None = field(init=False, default=None)

    @property
    def _group(self) -> MLSGroup:
        assert self.group is not None
        return self.group

    def _package(self) -> KeyPackagePrivate:
        now = int(time.time())
        return make_key_package(self._key, self.name.encode(), Lifetime(now - 3600, now + 86400))

    def package(self) -> bytes:
        self._own = self._package()
        return self._own.public

    def create(self) -> None:
        self.group = MLSGroup.create(self._key, GROUP_ID, self._package(), Policy())

    def join(self, welcome: bytes) -> None:
        assert self._own is not None
        self.group, _ = MLSGroup.join(self._key, self._own, welcome, Policy())

    def commit(self, add: list[bytes], remove: list[int]) -> tuple[bytes, bytes]:
        pending = self._group.commit(add=add, remove=remove, authenticated_data=b"aad")
        return pending.commit, pending.welcome

    def take(self, commit: bytes) -> None:
        self._group.process(commit)

    def process(self, commit: bytes) -> bool:
        """Whether this member is removed."""
        return isinstance(self._group.process(commit), RemovedFromGroup)

    def encrypt(self, data: bytes) -> bytes:
        return self._group.encrypt(data)

    def decrypt(self, message: bytes) -> bytes:
        event = self._group.process(message)
        assert isinstance(event, Application)
        try:
            self._group.process(message)
        except MLSError:
            return event.data
        raise AssertionError("a replay was accepted")

    def state(self) -> State:
        group = self._group
        return group.epoch, group.authenticator().hex(), group.tree_hash().hex()


@define(eq=False)
class TheirPeer:
    name: str
    _oracle: Oracle

    def package(self) -> bytes:
        return bytes.fromhex(self._oracle.ask("package", name=self.name)["package"])

    def create(self) -> None:
        self.package()
        self._oracle.ask("create", name=self.name, group=GROUP_ID.hex())

    def join(self, welcome: bytes) -> None:
        self._oracle.ask("join", name=self.name, welcome=welcome.hex())

    def commit(self, add: list[bytes], remove: list[int]) -> tuple[bytes, bytes]:
        packages = [each.hex() for each in add]
        answer = self._oracle.ask("commit", name=self.name, add=packages, remove=remove, data=b"aad".hex())
        return bytes.fromhex(answer["commit"]), bytes.fromhex(answer["welcome"])

    def take(self, commit: bytes) -> None:
        self._oracle.ask("take", name=self.name)

    def process(self, commit: bytes) -> bool:
        return bool(self._oracle.ask("process", name=self.name, message=commit.hex())["removed"])

    def encrypt(self, data: bytes) -> bytes:
        return bytes.fromhex(self._oracle.ask("encrypt", name=self.name, data=data.hex())["message"])

    def decrypt(self, message: bytes) -> bytes:
        return bytes.fromhex(self._oracle.ask("process", name=self.name, message=message.hex())["data"])

    def state(self) -> State:
        answer = self._oracle.ask("state", name=self.name)
        return answer["epoch"], answer["authenticator"], answer["tree_hash"]


@define(eq=False)
class Run:
    """One random group."""

    oracle: Oracle
    chance: random.Random
    peers: list[Peer] = field(factory=list)
    """Members that follow the group. A member that could not join stands in the tree only."""
    slots: list[str | None] = field(factory=list)
    """Names by leaf, as a server counts them."""
    made: int = 0
    wrongly_refused: int = 0

    def peer(self) -> Peer:
        self.made += 1
        name = f"{self.made}"
        return OurPeer(name) if self.chance.random() < 0.5 else TheirPeer(name, self.oracle)

    def run(self) -> None:
        founder = self.peer()
        founder.create()
        self.peers, self.slots = [founder], [founder.name]
        for _ in range(STEPS):
            self.step()

    def step(self) -> None:
        committer = self.chance.choice(self.peers)
        places = [leaf for leaf, name in enumerate(self.slots) if name not in (None, committer.name)]
        room = MOST_MEMBERS - len(places) - 1
        removed = self.chance.sample(places, self.chance.choice([0, 0, 1, 2]) if len(places) > 2 else 0)
        joiners = [self.peer() for _ in range(min(room, self.chance.choice([0, 0, 1, 1, 2, 3])))]
        slots = slots_after(self.slots, removed, joiners)
        if has_empty_half(slots):
            return
        commit, welcome = committer.commit([joiner.package() for joiner in joiners], removed)
        names = {self.slots[leaf] for leaf in removed}
        committer.take(commit)
        for peer in list(self.peers):
            if peer.name in names:
                self.leave(peer, commit, has_refilled=bool(joiners))
            elif peer is not committer:
                assert not peer.process(commit), "a member thinks that it was removed"
        self.slots = slots
        for joiner in joiners:
            self.enter(joiner, welcome)
        self.compare()
        self.talk()

    def leave(self, peer: Peer, commit: bytes, *, has_refilled: bool) -> None:
        """ts-mls 1.6.4 throws where the same commit gives the place of who is removed to somebody else."""
        self.peers.remove(peer)
        try:
            assert peer.process(commit), "a member does not know that it was removed"
        except OracleRefused:
            assert has_refilled

    def enter(self, peer: Peer, welcome: bytes) -> None:
        try:
            peer.join(welcome)
        except OracleRefused as refused:
            if WRONGLY_REFUSED_TREE not in str(refused):
                raise
            self.wrongly_refused += 1
        else:
            self.peers.append(peer)

    def compare(self) -> None:
        states = {peer.name: peer.state() for peer in self.peers}
        assert len(set(states.values())) == 1, f"the members disagree: {states}"
        for peer in self.peers:
            if isinstance(peer, OurPeer):
                assert peer.group is not None
                seen = {member.leaf: member.identity.decode() for member in peer.group.members()}
                assert seen == {leaf: name for leaf, name in enumerate(self.slots) if name is not None}

    def talk(self) -> None:
        sender = self.chance.choice(self.peers)
        data = self.chance.randbytes(self.chance.randrange(600))
        message = sender.encrypt(data)
        for peer in self.peers:
            if peer is not sender:
                assert peer.decrypt(message) == data, "another plaintext came out"


def slots_after(slots: list[str | None], removed: list[int], joiners: list[Peer]) -> list[str | None]:
    """The leaves after a commit, by RFC 9420, section 7.7."""
    slots = [None if leaf in removed else name for leaf, name in enumerate(slots)]
    for joiner in joiners:
        free = next((leaf for leaf, name in enumerate(slots) if name is None), len(slots))
        slots[free : free + 1] = [joiner.name]
    while slots[-1] is None:
        slots.pop()
    return slots


def has_empty_half(slots: list[str | None]) -> bool:
    """Whether the root is on nobody's path, because the lower half of the tree is empty.

    There ts-mls 1.6.4 derives the commit secret from the root. Section 12.4.2 derives it from the end of the path.
    """
    half = 1 << (len(slots) - 1).bit_length() - 1 if len(slots) > 1 else 0
    return half > 0 and not any(slots[:half])


@contextmanager
def oracle(folder: Path) -> Iterator[Oracle]:
    """ts-mls, from the packages in `folder`."""
    shutil.copy(HERE / "oracle.mjs", folder)  # Node looks for packages from where the script stands
    with subprocess.Popen(
        ["node", "oracle.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Oracle(process)
        finally:
            process.kill()


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--seeds", default=20, help="How many groups.")
@click.option("--first", default=0, help="The seed of the first one.")
def main(folder: Path, seeds: int, first: int) -> None:
    """Random groups of members in Python and in ts-mls, with the packages in FOLDER."""
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for told in processes.map(partial(play, folder), range(first, first + seeds)):
            click.echo(told)


def play(folder: Path, seed: int) -> str:
    """One group, and what there is to tell of it."""
    with oracle(folder) as process:
        run = Run(process, random.Random(seed))
        run.run()
    return (
        f"seed {seed}: {STEPS} commits, {run.made} members, {len(run.peers)} at the end,"
        f" {run.wrongly_refused} valid trees refused by ts-mls"
    )


if __name__ == "__main__":
    sys.exit(main())
