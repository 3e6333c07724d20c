"""`protocol/membership.py` against its laws, whoever commits whatever; and `protocol/slots.py` against real trees."""

from collections.abc import Sequence

from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ironwire.ids import ClientId, GroupId, Role
from ironwire.mls import KeyPackagePrivate
from ironwire.protocol.conversations.declaration import Declaration, roster_hash
from ironwire.protocol.conversations.membership import (
    MOST_PROPOSALS,
    AddedLeaf,
    Checked,
    ConversationState,
    Logs,
    Proposed,
    RemovedLeaf,
    check,
)
from ironwire.protocol.conversations.slots import Leaf, Slots, change_slots, leaf_at, leaves_in, leaves_of
from ironwire.protocol.group import ChangeRefused
from tests.mls.crew import Device, crew, deliver

GROUP = GroupId("#" + "0" * 32)
ANN, BOB, CAT, DAN = CLIENTS = [ClientId(digit * 64) for digit in "abcd"]
LEAVES = [Leaf(client, bytes([number, digit]) * 16) for number, client in enumerate(CLIENTS) for digit in range(3)]
LISTED = {client: {leaf.device for leaf in LEAVES if leaf.client == client and leaf.device[1]} for client in CLIENTS}
"""One device of each client is in no log."""

clients = st.sampled_from(CLIENTS)
leaves = st.sampled_from(LEAVES)
subsets = st.sets(clients, max_size=2).map(sorted)
ops = st.sampled_from(["members", "members", "roles", "rename", "devices", "devices", "leave", "readd", "update"])


class Groups(RuleBasedStateMachine):
    """A group that takes whatever `check` lets pass."""

    def __init__(self) -> None:
        super().__init__()
        self.standing = ConversationState(GROUP, (LEAVES[1],), {ANN: "admin"})

    @rule(data=st.data(), op=ops)
    def commit(self, data: st.DataObject, op: str) -> None:
        """Mostly the proposals that go with the declaration."""
        before = self.standing
        present = [index for index, leaf in enumerate(before.slots) if leaf is not None]
        assume(present)
        committer = data.draw(st.sampled_from(present))
        sender = leaf_at(before.slots, committer)
        assert sender is not None
        add = data.draw(subsets) if op == "members" else []
        remove = data.draw(subsets) if op in ("members", "leave") else []
        roles: dict[ClientId, Role] = {}
        if op in ("members", "roles"):
            roles = data.draw(st.dictionaries(st.sampled_from(add or CLIENTS), st.sampled_from(["admin", "member"])))
        proposals: list[Proposed] = [AddedLeaf(Leaf(client, min(LISTED[client]))) for client in add]
        proposals += [RemovedLeaf(index) for client in remove for index in leaves_of(before.slots, client)]
        if op == "devices":
            proposals += [AddedLeaf(leaf) for leaf in data.draw(st.lists(leaves, max_size=2))]
        if op == "readd":
            index = data.draw(st.sampled_from(present))
            again = leaf_at(before.slots, index)
            proposals += [RemovedLeaf(index)] + ([AddedLeaf(again)] if again is not None else [])
        if data.draw(st.integers(0, 4)) == 0:
            proposals += data.draw(st.lists(st.builds(AddedLeaf, leaves) | st.builds(RemovedLeaf, st.integers(0, 9))))
        declared = Declaration(
            by=sender.client,
            op=op,  # type: ignore[arg-type]  # one of them
            add=tuple(add),
            remove=tuple(remove),
            roles=roles,
            name="1" * 64 if op == "rename" else None,
            roster="",
        )
        logs = Logs(LISTED)
        # The roster that it leads to is found by asking for all.
        for roster in self._rosters(declared):
            outcome = check(
                evolve(declared, roster=roster_hash(roster)), proposals, committer, before, logs, has_path=True
            )
            if isinstance(outcome, Checked):
                self._take(declared, outcome)
                return

    def _rosters(self, declared: Declaration) -> list[dict[ClientId, Role]]:
        roster: dict[ClientId, Role] = {
            client: role for client, role in self.standing.roster.items() if client not in declared.remove
        }
        roster.update({**_as_members(declared.add), **declared.roles})
        promoted: dict[ClientId, Role] = {**roster, min(roster, default=ANN): "admin"}
        return [roster, promoted]

    def _take(self, declared: Declaration, outcome: Checked) -> None:
        before = self.standing
        new_clients = outcome.roster.keys() - before.roster.keys()
        if new_clients:
            assert before.roster[declared.by] == "admin"
            assert new_clients == {*declared.add}
        if declared.op != "leave":
            promoted = {
                client for client, role in outcome.roster.items() if role == "admin" != before.roster.get(client)
            }
            assert not promoted or before.roster[declared.by] == "admin"
        assert all(leaf.device in LISTED[leaf.client] for leaf in outcome.added)
        self.standing = ConversationState(GROUP, outcome.slots, outcome.roster)

    @invariant()
    def every_leaf_is_of_a_member_and_there_once(self) -> None:
        present = leaves_in(self.standing.slots)
        assert {leaf.client for leaf in present} <= self.standing.roster.keys()
        assert len({leaf.device for leaf in present}) == len(present)
        assert self.standing.slots[-1] is not None

    @invariant()
    def there_is_an_admin(self) -> None:
        assert "admin" in self.standing.roster.values()


def _as_members(clients: Sequence[ClientId]) -> dict[ClientId, Role]:
    return dict.fromkeys(clients, "member")


TestGroups = Groups.TestCase


def test_a_commit_has_so_many_proposals_and_no_more() -> None:
    many = [Leaf(ANN, number.to_bytes(32, "big")) for number in range(MOST_PROPOSALS + 1)]
    logs = Logs({ANN: {leaf.device for leaf in many}})
    before = ConversationState(GROUP, (LEAVES[1],), {ANN: "admin"})
    declared = Declaration(by=ANN, op="devices", roster=roster_hash(before.roster))
    for proposals, outcome in ((many[:-1], Checked), (many, ChangeRefused)):
        assert isinstance(check(declared, [*map(AddedLeaf, proposals)], 0, before, logs, has_path=True), outcome)


@given(st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(1, 9), max_size=3), st.integers(0, 3)), max_size=6))
def test_slots_are_the_leaves_of_the_tree(steps: list[tuple[int, set[int], int]]) -> None:
    """Whoever commits removes and adds at random; a removed device never comes back."""
    members = crew("0", "1", "2", warm=False)
    slots: Slots = tuple(Leaf(ANN, member.key.public_key.raw) for member in members)
    count = len(members)
    for who, places, coming in steps:
        committer = members[who % len(members)]
        gone = {member.leaf for member in members if member is not committer and member.leaf in places}
        joiners: list[tuple[Device, KeyPackagePrivate]] = []
        for _ in range(coming):
            device = Device(str(count))
            joiners.append((device, device.package()))
            count += 1
        packages = [own.public for _, own in joiners]
        pending = committer.group.commit(add=packages, remove=sorted(gone), path=True)
        members = [member for member in members if member.leaf not in gone]
        deliver(pending.commit, members)
        for device, own in joiners:
            device.join(own, pending.welcome)
            members.append(device)
        slots = change_slots(slots, gone, [Leaf(ANN, device.key.public_key.raw) for device, _ in joiners])
        tree = {member.leaf: member.signature_key for member in committer.group.members()}
        assert {index: leaf.device for index, leaf in leaves_of(slots, ANN).items()} == tree
