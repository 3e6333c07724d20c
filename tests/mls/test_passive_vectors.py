"""A client that only listens, in groups that other implementations led (`passive-client-*.json`)."""

from typing import Any

import pytest

from ironwire.crypto.signing import Identity
from ironwire.mls import Committed, KeyPackage, KeyPackagePrivate, LeafNode, MLSGroup, Policy, ProposalReceived
from ironwire.mls.framing import open_envelope
from ironwire.mls.messages import RESUME_APPLICATION, ExternalPsk, ResumptionPsk
from tests.mls.crew import stored
from tests.mls.vectors import cases

raw = bytes.fromhex


class Lenient(Policy):
    """Lets members change their credentials, as these groups do, and knows the keys that both sides have."""

    def __init__(self, psks: dict[bytes, bytes]) -> None:
        self.psks = psks

    def leaf(self, leaf: LeafNode, replaces: LeafNode | None) -> None:
        pass

    def psk(self, psk: ExternalPsk | ResumptionPsk) -> bytes | None:
        return self.psks.get(psk.encode())


def join(case: dict[str, Any]) -> tuple[MLSGroup, Identity, Lenient]:
    package = open_envelope(raw(case["key_package"]))
    assert isinstance(package, KeyPackage)
    own = KeyPackagePrivate(package, raw(case["init_priv"]), raw(case["encryption_priv"]))
    key = Identity.from_seed(raw(case["signature_priv"]))
    policy = Lenient({ExternalPsk(raw(each["psk_id"])).encode(): raw(each["psk"]) for each in case["external_psks"]})
    tree = raw(case["ratchet_tree"]) if case["ratchet_tree"] is not None else None
    group, _ = MLSGroup.join(key, own, raw(case["welcome"]), policy, tree)
    assert group.authenticator().hex() == case["initial_epoch_authenticator"]
    return group, key, policy


@pytest.mark.parametrize("case", cases("mls/passive-client-welcome.json"))
def test_a_passive_client_joins(case: dict[str, Any]) -> None:
    join(case)


@pytest.mark.parametrize("case", cases("mls/passive-client-handling-commit.json"))
def test_a_passive_client_handles_commits(case: dict[str, Any]) -> None:
    group, key, policy = join(case)
    for epoch in case["epochs"]:
        resumption = ResumptionPsk(RESUME_APPLICATION, group.group_id, group.epoch)
        policy.psks[resumption.encode()] = group.resumption_psk()
        for proposal in epoch["proposals"]:
            assert isinstance(group.process(raw(proposal)), ProposalReceived)
        group = MLSGroup.restore(*stored(group), key, policy)
        assert isinstance(group.process(raw(epoch["commit"])), Committed)
        assert group.authenticator().hex() == epoch["epoch_authenticator"]
