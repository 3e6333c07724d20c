"""Several devices, a server that orders commits, and everything that goes wrong between them, against a model.

The server is a log of the commits that won. Each device reads it at its own pace. The model knows of each message who
was a member in its epoch: nobody else opens it, and nobody opens it twice.
"""

from unittest.mock import patch

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ironwire.errors import MLSError
from ironwire.mls import Application, Committed, OwnCommit, RemovedFromGroup, suite
from ironwire.mls.public import inspect_commit
from tests.mls.crew import Device, stored

NAMES = "abcdefgh"


@define(eq=False)
class Sent:
    """A message, and who may open it."""

    data: bytes
    plaintext: bytes
    epoch: int
    readers: set[str]
    """Members of its epoch who have not opened it."""


@define(eq=False)
class Log:
    """The server's records: the commits, one for each epoch, and the members after each."""

    commits: list[bytes] = field(factory=list)
    members: list[frozenset[str]] = field(factory=lambda: [frozenset("a")])
    removed: list[frozenset[str]] = field(factory=list)
    """By each commit; some of them may have joined again by the same one."""

    @property
    def epoch(self) -> int:
        return len(self.commits)


class GroupModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.devices: dict[str, Device] = {}
        """Those who are members as far as they know."""
        self.log = Log()
        self.sent: list[Sent] = []
        self.lost: list[tuple[str, bytes]] = []
        """Commits that lost, or never arrived, by the name of their maker."""
        self.authenticators: dict[int, bytes] = {}
        self.ghosts: list[Device] = []
        """Removed devices with the state that they had before they knew."""
        self.sealed: set[tuple[bytes, bytes]] = set()
        seal = suite.seal

        def seal_once(key: bytes, nonce: bytes, associated: bytes, plaintext: bytes) -> bytes:
            assert (key, nonce) not in self.sealed, "a key and nonce were used twice"
            self.sealed.add((key, nonce))
            return seal(key, nonce, associated, plaintext)

        self.patch = patch.object(suite, "seal", seal_once)
        self.patch.start()

    def teardown(self) -> None:
        self.patch.stop()

    @initialize(joiners=st.sets(st.sampled_from(NAMES[1:]), max_size=4), warm=st.booleans())
    def found(self, joiners: set[str], warm: bool) -> None:
        self.devices["a"] = Device("a")
        self.devices["a"].create()
        if joiners:
            self.win(self.devices["a"], joiners, set())
            self.catch_up_all()
        if warm:
            for device in list(self.devices.values()):
                self.win(device, set(), set())
                self.catch_up_all()

    # --- what members do ---

    @rule(data=st.data(), joins=st.sets(st.sampled_from(NAMES), max_size=2), path=st.booleans())
    def commit(self, data: st.DataObject, joins: set[str], path: bool) -> None:
        """Somebody who is up to date commits, and the server accepts it."""
        committer = self.someone_current(data)
        members = self.log.members[-1]
        leaving = data.draw(st.sets(st.sampled_from(sorted(members)), max_size=2)) - {committer.name}
        self.win(committer, joins - (members - leaving) - {committer.name}, leaving, path=path)

    @rule(data=st.data())
    def two_commit_at_once(self, data: st.DataObject) -> None:
        winner, loser = self.someone_current(data), self.someone_current(data)
        if winner is loser:
            return
        late = loser.group.commit(path=True)
        self.lost.append((loser.name, late.commit))
        self.win(winner, set(), set())

    @rule(data=st.data())
    def give_up_a_commit(self, data: st.DataObject) -> None:
        device = self.someone_current(data)
        self.lost.append((device.name, device.group.commit(path=True).commit))
        device.group.drop_pending()

    @rule(data=st.data(), plaintext=st.binary(max_size=300))
    def send(self, data: st.DataObject, plaintext: bytes) -> None:
        sender = self.someone(data)
        if sender.group.pending is not None:
            return
        epoch = sender.group.epoch
        readers = set(self.log.members[epoch]) - {sender.name}
        self.sent.append(Sent(sender.group.encrypt(plaintext), plaintext, epoch, readers))

    # --- what the server brings ---

    @rule(data=st.data())
    def deliver_the_next_commit(self, data: st.DataObject) -> None:
        self.step(self.someone(data))

    @rule()
    def catch_up_all(self) -> None:
        for device in list(self.devices.values()):
            while device.group.is_active and device.group.epoch < self.log.epoch:
                self.step(device)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def deliver_a_message(self, data: st.DataObject) -> None:
        """Any message to anybody, in any order, and again."""
        device, message = self.someone(data), data.draw(st.sampled_from(self.sent))
        epoch = device.group.epoch
        may_open = device.name in message.readers and epoch - 1 <= message.epoch <= epoch
        may_open = may_open and message.epoch >= device.joined_at
        if may_open:
            event = device.group.process(message.data)
            assert isinstance(event, Application)
            assert (event.data, event.epoch) == (message.plaintext, message.epoch)
            message.readers.discard(device.name)
        else:
            self.refuses(device, message.data)

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def deliver_a_commit_that_lost(self, data: st.DataObject) -> None:
        device, (maker, commit) = self.someone(data), data.draw(st.sampled_from(self.lost))
        pending = device.group.pending
        if inspect_commit(commit).epoch == device.group.epoch and maker != device.name:
            return  # a server that lets it win forks the group: the epoch authenticator shows it
        if pending is None or pending.commit != commit:
            self.refuses(device, commit)

    @precondition(lambda self: self.log.commits)
    @rule(data=st.data())
    def repeat_an_old_commit(self, data: st.DataObject) -> None:
        device = self.someone(data)
        if device.group.epoch:
            old = data.draw(st.integers(0, device.group.epoch - 1))
            self.refuses(device, self.log.commits[old])

    @rule(data=st.data())
    def skip_a_commit(self, data: st.DataObject) -> None:
        device = self.someone(data)
        for later in self.log.commits[device.group.epoch + 1 :]:
            self.refuses(device, later)

    @precondition(lambda self: self.ghosts)
    @rule(data=st.data())
    def listen_after_removal(self, data: st.DataObject) -> None:
        """A removed device with its old state gets everything that comes after its removal."""
        ghost = data.draw(st.sampled_from(self.ghosts))
        for message in self.sent:
            if message.epoch > ghost.group.epoch:
                self.refuses(ghost, message.data)
        for commit in self.log.commits[ghost.group.epoch + 1 :]:
            self.refuses(ghost, commit)

    @precondition(lambda self: self.log.commits)
    @rule(data=st.data(), flip=st.integers(1, 255))
    def forge_a_commit(self, data: st.DataObject, flip: int) -> None:
        device = self.someone(data)
        commit = bytearray(self.log.commits[min(device.group.epoch, self.log.epoch - 1)])
        commit[data.draw(st.integers(0, len(commit) - 1))] ^= flip
        self.refuses(device, bytes(commit))

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        self.someone(data).restart()

    # --- what always holds ---

    @invariant()
    def members_of_an_epoch_agree(self) -> None:
        for device in self.devices.values():
            group = device.group
            assert self.authenticators.setdefault(group.epoch, group.authenticator()) == group.authenticator()
            assert {member.identity.decode() for member in group.members()} == self.log.members[group.epoch]

    # --- parts of these ---

    def someone(self, data: st.DataObject) -> Device:
        return self.devices[data.draw(st.sampled_from(sorted(self.devices)))]

    def someone_current(self, data: st.DataObject) -> Device:
        """A member who has read everything, and has nothing pending."""
        self.catch_up_all()
        device = self.someone(data)
        device.group.drop_pending()
        return device

    def win(self, committer: Device, joins: set[str], leaving: set[str], *, path: bool = True) -> None:
        """A commit that the server accepts, with a Welcome to those who join, who are up to date at once."""
        committer.group.drop_pending()
        members = self.log.members[-1]
        joiners = [Device(name) for name in sorted(joins)]
        packages = [joiner.package() for joiner in joiners]
        places = [each.leaf for each in committer.group.members() if each.identity.decode() in leaving]
        pending = committer.group.commit(add=[own.public for own in packages], remove=places, path=path)
        self.log.commits.append(pending.commit)
        self.log.removed.append(frozenset(leaving))
        self.log.members.append(members - leaving | joins)
        for joiner in joiners:
            old = self.devices.get(joiner.name)
            while old is not None and old.group.is_active and old.group.epoch < self.log.epoch:
                self.step(old)  # a device that is removed and added again sees both
        for joiner, own in zip(joiners, packages, strict=True):
            joiner.join(own, pending.welcome)
            self.devices[joiner.name] = joiner

    def step(self, device: Device) -> None:
        """Bring `device` the next commit, if there is one."""
        group = device.group
        if group.epoch == self.log.epoch:
            return
        commit, pending, before = self.log.commits[group.epoch], group.pending, group.epoch
        if device.name in self.log.removed[before]:
            ghost = Device(device.name)
            ghost.recall(stored(group))
            self.ghosts.append(ghost)
        event = group.process(commit)
        if device.name in self.log.removed[before]:
            assert isinstance(event, RemovedFromGroup)
            del self.devices[device.name]
        elif pending is not None and pending.commit == commit:
            assert isinstance(event, OwnCommit)
        else:
            assert isinstance(event, Committed)
            assert group.pending is None

    def refuses(self, device: Device, message: bytes) -> None:
        state = stored(device.group)
        try:
            device.group.process(message)
        except MLSError:
            assert stored(device.group) == state
        else:
            raise AssertionError("the message was not refused")


GroupModel.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestGroupModel = GroupModel.TestCase
