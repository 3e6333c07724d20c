"""Groups as the rest of the project uses them."""

import pytest
from attrs import evolve

from ironwire.errors import MLSError
from ironwire.mls import (
    Application,
    Change,
    Committed,
    Extension,
    LeafNode,
    MLSGroup,
    OwnCommit,
    Policy,
    RemovedFromGroup,
)
from ironwire.mls.codec import opaque
from ironwire.mls.framing import open_envelope
from ironwire.mls.messages import PrivateMessage
from ironwire.mls.nodes import X509Credential
from ironwire.mls.secret_tree import APPLICATION, SecretTree
from ironwire.mls.state import NO_KEYS, MessageKeys
from tests.mls.crew import GROUP_ID, LIFETIME, Device, add, assert_agreement, crew, deliver, devices, stored
from tests.mls.forgery import edit_welcome


def test_a_group_of_one_begins_at_epoch_0() -> None:
    (alice,) = devices("alice")
    alice.create()
    assert (alice.group.epoch, alice.group.group_id, alice.leaf) == (0, GROUP_ID, 0)
    assert [each.identity for each in alice.group.members()] == [b"alice"]


def test_a_joiner_reads_messages_from_then_on() -> None:
    alice, bob = devices("alice", "bob")
    alice.create()
    before = alice.group.encrypt(b"before")
    add(alice, [alice], bob)
    event = bob.group.process(alice.group.encrypt(b"hello", b"in the clear"))
    assert event == Application(alice.group.me, 1, b"in the clear", b"hello")
    with pytest.raises(MLSError, match="another epoch"):
        bob.group.process(before)


def test_an_add_has_no_path_and_a_removal_has_one() -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    dave = Device("dave")
    pending = alice.group.commit(add=[dave.package().public], authenticated_data=b"IWC1{}")
    (event,) = deliver(pending.commit, [bob])
    assert isinstance(event, Committed)
    assert event.change == Change(
        5, alice.group.me, b"IWC1{}", (event.change.added[0],), (), (), has_path=False, extensions=None
    )
    assert event.change.added[0].identity == b"dave"
    deliver(pending.commit, [alice, carol])
    gone = bob.group.me
    (event,) = deliver(alice.group.commit(remove=[bob.leaf]).commit, [carol])
    assert isinstance(event, Committed)
    assert (event.change.removed, event.change.has_path) == ((gone,), True)


def test_a_removed_member_learns_it_and_reads_nothing_after_it() -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    commit = alice.group.commit(remove=[bob.leaf]).commit
    *_, event = deliver(commit, [alice, carol, bob])
    assert isinstance(event, RemovedFromGroup)
    assert event.change.committer.identity == b"alice"
    assert not bob.group.is_active
    for use in (lambda: bob.group.process(alice.group.encrypt(b"?")), lambda: bob.group.encrypt(b"?")):
        with pytest.raises(MLSError, match="was removed from the group"):
            use()
    bob.restart()
    assert not bob.group.is_active
    assert_agreement([alice, carol])


def test_a_removed_member_with_its_old_state_reads_nothing_after_it() -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    thief = MLSGroup.restore(*stored(bob.group), bob.key, bob.policy)
    deliver(alice.group.commit(remove=[bob.leaf]).commit, [alice, carol])
    with pytest.raises(MLSError, match="another epoch"):
        thief.process(alice.group.encrypt(b"secret"))


def test_one_commit_replaces_a_leaf_by_a_new_one_of_the_same_device() -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    own = bob.package()
    pending = alice.group.commit(remove=[bob.leaf], add=[own.public])
    *_, event = deliver(pending.commit, [alice, carol, bob])
    assert isinstance(event, RemovedFromGroup)
    bob.join(own, pending.welcome)
    assert_agreement([alice, bob, carol])
    assert isinstance(carol.group.process(bob.group.encrypt(b"again")), Application)


def test_of_two_commits_the_second_is_refused_and_its_maker_goes_on_with_the_first() -> None:
    alice, bob, carol = members = crew("alice", "bob", "carol")
    first, second = alice.group.commit(path=True), bob.group.commit(path=True)
    with pytest.raises(MLSError, match="a commit is pending"):
        bob.group.encrypt(b"too early")
    with pytest.raises(MLSError, match="a commit is pending"):
        bob.group.commit()
    deliver(first.commit, members)
    assert bob.group.pending is None
    for member in members:
        with pytest.raises(MLSError, match="another epoch"):
            member.group.process(second.commit)
    assert_agreement(members)
    assert isinstance(carol.group.process(bob.group.encrypt(b"now")), Application)


def test_an_own_commit_takes_effect_when_it_comes_back_even_after_a_restart() -> None:
    alice, bob = members = crew("alice", "bob")
    epoch = alice.group.epoch
    pending = alice.group.commit(path=True, authenticated_data=b"why")
    alice.restart()
    assert alice.group.epoch == epoch
    assert alice.group.pending is not None
    assert alice.group.pending.commit == pending.commit
    event, _ = deliver(pending.commit, members)
    assert isinstance(event, OwnCommit)
    assert (event.change.authenticated_data, event.change.epoch) == (b"why", epoch + 1)
    assert_agreement(members)
    with pytest.raises(MLSError, match="another epoch"):
        alice.group.process(pending.commit)
    assert len(pending.sha256) == 32
    assert bob.group.pending is None


def test_a_dropped_commit_is_one_of_nobody() -> None:
    alice, bob = crew("alice", "bob")
    pending = alice.group.commit(path=True)
    alice.group.drop_pending()
    with pytest.raises(MLSError, match="a commit of one's own that is not pending"):
        alice.group.process(pending.commit)
    assert isinstance(bob.group.process(alice.group.encrypt(b"as before")), Application)


def test_messages_come_in_any_order_but_none_comes_twice() -> None:
    alice, bob = crew("alice", "bob")
    sent = [alice.group.encrypt(b"%d" % number) for number in range(4)]
    for number in (2, 0, 3, 1):
        event = bob.group.process(sent[number])
        assert isinstance(event, Application)
        assert event.data == b"%d" % number
        bob.restart()
    for each in sent:
        state = stored(bob.group)
        with pytest.raises(MLSError, match="opened before"):
            bob.group.process(each)
        assert stored(bob.group) == state


def test_nobody_opens_an_own_message() -> None:
    alice, _ = crew("alice", "bob")
    with pytest.raises(MLSError, match="opened before"):
        alice.group.process(alice.group.encrypt(b"echo"))


def test_a_late_message_of_the_last_epoch_is_read_and_one_of_an_older_epoch_is_not() -> None:
    alice, bob = members = crew("alice", "bob")
    late, later = alice.group.encrypt(b"late"), alice.group.encrypt(b"later")
    deliver(alice.group.commit(path=True).commit, members)
    bob.restart()
    event = bob.group.process(late)
    assert isinstance(event, Application)
    assert (event.data, event.epoch) == (b"late", bob.group.epoch - 1)
    with pytest.raises(MLSError, match="opened before"):
        bob.group.process(late)
    deliver(alice.group.commit(path=True).commit, members)
    with pytest.raises(MLSError, match="another epoch"):
        bob.group.process(later)


def test_too_many_skipped_messages_are_refused_or_forgotten() -> None:
    alice, bob = crew("alice", "bob", warm=False)
    sent = [alice.group.encrypt(b"") for _ in range(1003)]
    with pytest.raises(MLSError, match="too far ahead"):
        bob.group.process(sent[1001])
    bob.group.process(sent[1000])
    bob.group.process(sent[999])
    bob.group.process(sent[744])
    with pytest.raises(MLSError, match="opened before, or is too old"):
        bob.group.process(sent[743])


def test_a_message_takes_its_key_away() -> None:
    alice, bob = crew("alice", "bob")
    message = alice.group.encrypt(b"secret")
    bob.group.process(message)
    alice.restart()
    bob.restart()
    opened = open_envelope(message)
    assert isinstance(opened, PrivateMessage)
    for device in (alice, bob):
        with pytest.raises(MLSError, match="opened before"):
            device.group._epoch.channel.open(opened)


def test_the_secret_of_a_used_key_is_gone() -> None:
    alice, _ = crew("alice", "bob")
    (root_secret,) = alice.group._epoch.channel.keys._nodes.values()
    assert root_secret in alice.group.message_keys()
    secrets = [root_secret]
    for _ in range(3):
        alice.group.encrypt(b"")
        secrets.append(alice.group._epoch.channel.keys._ratchets[alice.leaf, APPLICATION].secret)
        state = b"".join(stored(alice.group))
        assert [secret in state for secret in secrets] == [False] * (len(secrets) - 1) + [True]


def test_a_message_changes_nothing_but_the_message_keys() -> None:
    alice, bob = crew("alice", "bob")
    for device in (alice, bob):
        state, mark = device.group.state(), device.group.state_mark()
        keys = device.group.message_keys()
        message = alice.group.encrypt(b"x" * 1_000)
        bob.group.process(message)
        assert (device.group.state(), device.group.state_mark()) == (state, mark)
        assert device.group.message_keys() != keys
        assert len(device.group.message_keys()) < 500
        device.restart()
        assert device.group.state_mark() == mark


def test_a_late_message_of_the_last_epoch_changes_the_state() -> None:
    alice, bob = crew("alice", "bob")
    late = alice.group.encrypt(b"late")
    deliver(alice.group.commit(path=True).commit, [alice, bob])
    state, mark = bob.group.state(), bob.group.state_mark()
    bob.group.process(late)
    assert bob.group.state() != state
    assert bob.group.state_mark() > mark


def test_the_parts_of_two_states_do_not_go_together() -> None:
    alice, bob = crew("alice", "bob")
    before = stored(alice.group)
    alice.group.encrypt(b"x")
    assert MLSGroup.restore(before[0], alice.group.message_keys(), alice.key, alice.policy).mark() == alice.group.mark()
    deliver(alice.group.commit(path=True).commit, [alice, bob])
    after = stored(alice.group)
    deliver(bob.group.commit(remove=[alice.leaf]).commit, [alice])
    removed = stored(alice.group)
    for state, keys in ((before[0], after[1]), (after[0], before[1]), (after[0], removed[1]), (removed[0], after[1])):
        with pytest.raises(MLSError, match="keys of another state"):
            MLSGroup.restore(state, keys, alice.key, alice.policy)
    full = _state_with_keys(bob)
    with pytest.raises(MLSError, match="a state that has message keys"):
        MLSGroup.restore(full, bob.group.message_keys(), bob.key, bob.policy)
    without = evolve(MessageKeys.decode(bob.group.message_keys()), keys=NO_KEYS)
    with pytest.raises(MLSError, match="keys of no epoch"):
        MLSGroup.restore(bob.group.state(), without.encode(), bob.key, bob.policy)


def _state_with_keys(device: Device) -> bytes:
    """A state in which the message keys were left."""
    return device.group._state.encode()


def test_a_secret_tree_gives_what_it_has() -> None:
    empty = SecretTree.decode(b"\0\0\0\2\0\0")
    with pytest.raises(MLSError, match="the keys of this leaf are not here"):
        empty.take(0, 1, 0)
    twice = SecretTree.new(2, bytes(32)).encode()
    secret = twice[5:-1]
    with pytest.raises(MLSError, match="not in order"):
        SecretTree.decode(twice[:4] + opaque(secret + secret) + b"\0")
    (alice,) = crew("alice", warm=False)
    leaf = alice.group._epoch.tree.leaf(0)
    with pytest.raises(MLSError, match="a credential that is not basic"):
        assert evolve(leaf, credential=X509Credential(())).identity


def test_the_mark_grows_with_every_change_and_with_nothing_else() -> None:
    alice, bob = members = crew("alice", "bob")
    marks = [alice.group.mark()]

    def has_grown() -> bool:
        marks.append(alice.group.mark())
        return marks[-1] == marks[-2] + 1

    message = alice.group.encrypt(b"")
    assert has_grown()
    pending = alice.group.commit(path=True)
    assert has_grown()
    with pytest.raises(MLSError):
        alice.group.process(message)
    assert alice.group.mark() == marks[-1]
    alice.restart()
    assert alice.group.mark() == marks[-1]
    deliver(pending.commit, members)
    assert has_grown()
    alice.group.process(bob.group.encrypt(b""))
    assert has_grown()
    alice.group.drop_pending()
    assert alice.group.mark() == marks[-1]


def test_a_state_is_the_same_bytes_after_it_was_restored() -> None:
    alice, bob = crew("alice", "bob", "carol")[:2]
    bob.group.process(alice.group.encrypt(b"x"))
    alice.group.commit(path=True)
    for device in (alice, bob):
        state = stored(device.group)
        device.restart()
        assert stored(device.group) == state


def test_a_state_of_another_device_or_version_is_refused() -> None:
    alice, bob = crew("alice", "bob")
    with pytest.raises(MLSError, match="a state of another device"):
        MLSGroup.restore(*stored(alice.group), bob.key, bob.policy)
    with pytest.raises(MLSError, match="a state of another version"):
        MLSGroup.restore(b"\0\2" + alice.group.state()[2:], alice.group.message_keys(), alice.key, alice.policy)
    with pytest.raises(MLSError, match="keys of another state"):
        MLSGroup.restore(alice.group.state(), b"\0\2" + alice.group.message_keys()[2:], alice.key, alice.policy)


def test_a_welcome_tells_what_its_sender_adds() -> None:
    alice, bob = devices("alice", "bob")
    alice.create()
    own = bob.package()
    roster = Extension(0xF1A0, b"roster")
    pending = alice.group.commit(add=[own.public], info_extensions=(roster,))
    group, joined = MLSGroup.join(bob.key, own, pending.welcome, Policy())
    assert joined.extensions == {0xF1A0: b"roster"}
    assert joined.inviter == alice.group.me
    assert group.members()[1].identity == b"bob"


def test_a_tree_may_come_beside_the_welcome() -> None:
    alice, bob = devices("alice", "bob")
    alice.create()
    own = bob.package()
    pending = alice.group.commit(add=[own.public])
    alice.group.process(pending.commit)
    welcome = edit_welcome(alice, own, pending.welcome, info=lambda info: evolve(info, extensions=()))
    with pytest.raises(MLSError, match="a welcome without a tree"):
        bob.join(own, welcome)
    bob.join(own, welcome, alice.group.tree())
    assert_agreement([alice, bob])


def test_a_device_comes_back_through_its_last_resort() -> None:
    alice, bob, carol = devices("alice", "bob", "carol")
    alice.create()
    own = bob.package(last_resort=True)
    assert own.package.is_last_resort
    assert not carol.package().package.is_last_resort
    pending = alice.group.commit(add=[own.public])
    alice.group.process(pending.commit)
    bob.join(own, pending.welcome)
    assert_agreement([alice, bob])


def test_the_exporter_says_the_same_to_all_and_something_else_in_each_epoch() -> None:
    alice, bob = members = crew("alice", "bob")
    code = alice.group.export("ironwire epoch", b"", 16)
    assert bob.group.export("ironwire epoch", b"", 16) == code
    assert alice.group.export("ironwire epoch", b"x", 16) != code != alice.group.export("other", b"", 16)
    deliver(alice.group.commit(path=True).commit, members)
    assert bob.group.export("ironwire epoch", b"", 16) != code
    assert len(alice.group.export("", b"", 255 * 32)) == 255 * 32
    for size in (255 * 32 + 1, 1 << 16):
        with pytest.raises(MLSError, match=r"more than 255 blocks|does not fit"):
            alice.group.export("", b"", size)


def test_the_resumption_key_is_that_of_the_epoch() -> None:
    alice, bob = members = crew("alice", "bob")
    key = alice.group.resumption_psk()
    assert key == bob.group.resumption_psk()
    deliver(alice.group.commit(path=True).commit, members)
    assert key != alice.group.resumption_psk() == bob.group.resumption_psk()


def test_messages_of_one_bucket_are_of_one_size() -> None:
    alice, _ = crew("alice", "bob")
    assert len({len(alice.group.encrypt(b"x" * size)) for size in (0, 1, 100)}) == 1


class Refusing(Policy):
    """An application that wants nobody, and no change."""

    def __init__(self) -> None:
        self.is_on = False

    def change(self, change: Change) -> None:
        if self.is_on:
            raise MLSError("not allowed")


def test_the_policy_refuses_a_commit_of_others_and_one_of_its_own() -> None:
    alice, bob = crew("alice", "bob")
    policy = Refusing()
    bob.policy = policy
    bob.restart()
    policy.is_on = True
    state = stored(bob.group)
    with pytest.raises(MLSError, match="not allowed"):
        bob.group.process(alice.group.commit(path=True).commit)
    with pytest.raises(MLSError, match="not allowed"):
        bob.group.commit(path=True)
    alice.group.drop_pending()
    with pytest.raises(MLSError, match="not allowed"):
        bob.group.process(alice.group.commit(remove=[bob.leaf]).commit)
    assert stored(bob.group) == state
    policy.is_on = False
    bob.group.process(alice.group.pending.commit)  # type: ignore[union-attr]  # it is pending since above


def test_an_own_commit_that_was_first_takes_effect_whatever_the_policy_says_by_then() -> None:
    alice, bob = members = crew("alice", "bob")
    policy = Refusing()
    alice.policy = policy
    alice.restart()
    commit = alice.group.commit(path=True).commit
    policy.is_on = True
    deliver(commit, members)
    assert_agreement([alice, bob])


class Choosy(Policy):
    """Accepts some names only."""

    def leaf(self, leaf: LeafNode, replaces: LeafNode | None) -> None:
        super().leaf(leaf, replaces)
        if leaf.identity == b"mallory":
            raise MLSError("nobody knows mallory")


def test_the_policy_is_asked_about_every_leaf() -> None:
    mallory, bob = Device("mallory"), Device("bob", Choosy())
    own = bob.package()
    mallory.create()
    pending = mallory.group.commit(add=[own.public])
    with pytest.raises(MLSError, match="nobody knows mallory"):
        bob.join(own, pending.welcome)
    picky = Device("picky", Choosy())
    picky.create()
    with pytest.raises(MLSError, match="nobody knows mallory"):
        picky.group.commit(add=[mallory.package().public])
    with pytest.raises(MLSError, match="nobody knows mallory"):
        MLSGroup.create(mallory.key, b"", mallory.package(), Choosy())
    assert mallory.package().package.leaf.source == LIFETIME


def test_removal_of_nobody_is_refused() -> None:
    alice, _ = crew("alice", "bob")
    with pytest.raises(MLSError, match="no member at this leaf"):
        alice.group.commit(remove=[5])


def test_no_secret_is_in_a_repr() -> None:
    alice, _ = crew("alice", "bob")
    pending = alice.group.commit(path=True)
    own = alice.package()
    shown = repr((alice.group, alice.group._state, pending, own))
    epoch = alice.group._epoch
    for secret in (
        *epoch.private_keys.values(),
        epoch.secrets.init,
        own.init_private,
        own.leaf_private,
        alice.key.seed,
    ):
        assert repr(secret)[2:-1] not in shown
