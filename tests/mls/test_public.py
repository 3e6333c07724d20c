"""Messages as a server reads them, without any key."""

import pytest
from attrs import evolve

from ironwire.errors import MLSError
from ironwire.mls.framing import PublicMessage, envelope, open_envelope
from ironwire.mls.messages import (
    AddProposal,
    ByReference,
    Commit,
    NewMemberCommit,
    PrivateMessage,
    RemoveProposal,
    StandaloneProposal,
    Welcome,
)
from ironwire.mls.public import (
    PublicCommit,
    cut_welcome,
    inspect_application,
    inspect_commit,
    open_key_package,
    sew_welcome,
)
from tests.mls.crew import GROUP_ID, Device, assert_agreement, crew, deliver, devices
from tests.mls.forgery import content_of, sign


def test_a_commit_says_what_it_changes_and_why() -> None:
    alice, _, carol = crew("alice", "bob", "carol")
    own = Device("dave").package()
    pending = alice.group.commit(add=[own.public], remove=[carol.leaf], authenticated_data=b"IWC1{}")
    proposals = (RemoveProposal(carol.leaf), AddProposal(own.package))
    expected = PublicCommit(GROUP_ID, alice.group.epoch, alice.leaf, b"IWC1{}", proposals, has_path=True)
    assert inspect_commit(pending.commit) == expected


def test_only_commits_of_members_pass_that_say_all_they_do() -> None:
    alice, _ = crew("alice", "bob")
    commit = Commit((), None)
    message = content_of(sign(alice, commit))
    outside = envelope(PublicMessage(evolve(message.content, sender=NewMemberCommit()), message.auth, None))
    for data, why in (
        (sign(alice, StandaloneProposal(RemoveProposal(0))), "not a public commit"),
        (alice.group.encrypt(b""), "not a public commit"),
        (sign(alice, Commit((ByReference(b"ref"),), None)), "refers to proposals outside of it"),
        (outside, "a message of somebody who is no member"),
    ):
        with pytest.raises(MLSError, match=why):
            inspect_commit(data)
    assert not inspect_commit(sign(alice, commit)).has_path


def test_an_application_message_names_its_group_and_epoch() -> None:
    alice, _ = crew("alice", "bob")
    assert inspect_application(alice.group.encrypt(b"secret")) == (GROUP_ID, alice.group.epoch)
    message = open_envelope(alice.group.encrypt(b"secret"))
    assert isinstance(message, PrivateMessage)
    for data in (alice.package().public, envelope(evolve(message, content_type=3))):
        with pytest.raises(MLSError, match="not an application message"):
            inspect_application(data)


def test_a_key_package_is_checked() -> None:
    own = Device("alice").package()
    assert open_key_package(own.public) == own.package
    altered = bytearray(own.public)
    altered[-1] ^= 1
    with pytest.raises(MLSError, match="KeyPackageTBS: the signature"):
        open_key_package(bytes(altered))
    with pytest.raises(MLSError, match="not a key package"):
        open_key_package(envelope(Welcome(3, (), b"")))


def test_a_welcome_is_cut_and_sewn_for_each_key_package() -> None:
    alice, bob, carol = members = devices("alice", "bob", "carol")
    alice.create()
    packages = [bob.package(), carol.package()]
    pending = alice.group.commit(add=[own.public for own in packages])
    deliver(pending.commit, [alice])
    secrets, shared = cut_welcome(pending.welcome)
    assert set(secrets) == {own.ref for own in packages}
    for device, own in zip((bob, carol), packages, strict=True):
        part = sew_welcome(secrets[own.ref], shared)
        assert len(part) < len(pending.welcome)
        device.join(own, part)
    assert_agreement(members)


def test_what_cannot_be_cut() -> None:
    alice, _ = crew("alice", "bob")
    pending = alice.group.commit(add=[Device("dave").package().public])
    welcome = open_envelope(pending.welcome)
    assert isinstance(welcome, Welcome)
    twice = envelope(Welcome(3, welcome.secrets * 2, welcome.encrypted_group_info))
    with pytest.raises(MLSError, match="two secrets for one key package"):
        cut_welcome(twice)
    with pytest.raises(MLSError, match="a welcome of another cipher suite"):
        cut_welcome(envelope(evolve(welcome, cipher_suite=1)))
    with pytest.raises(MLSError, match="not a welcome"):
        cut_welcome(pending.commit)
