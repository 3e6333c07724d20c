"""A group in a storm, in short: `nox -s simulate` has a hundred clients in it."""

from typing import Any

import pytest

from ironwire.ids import ClientId, GroupId
from ironwire.store.contract.operations import Append, Appended
from ironwire.store.memory import operations
from tests.simulation.crowd import Plan, Violation, stage_crowd
from tests.simulation.stores import KINDS, Kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_every_device_of_every_member_gets_everything_once_in_one_order(seed: int, kind: Kind) -> None:
    tally = stage_crowd(Plan(clients=6), seed, kind)
    assert tally.messages > 50
    assert tally.changes > 5
    assert tally.redeliveries > 10


def test_the_judge_notices_a_place_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    fan_out = operations._spread_in_group

    def forgetful(state: Any, envelope: Any, clients: list[ClientId], *rest: Any, **more: Any) -> Appended:
        is_forgotten = envelope.verb == "text" and envelope.id == "9"
        return fan_out(state, envelope, clients[:-1] if is_forgotten else clients, *rest, **more)

    monkeypatch.setattr(operations, "_spread_in_group", forgetful)
    with pytest.raises(Violation):
        stage_crowd(Plan(clients=6), 0, "memory")


def test_the_judge_notices_a_removed_member_who_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    append_to_group = operations._append_to_group
    ever: dict[GroupId, dict[ClientId, Any]] = {}

    def nostalgic(state: Any, append: Append, to: GroupId, quota: Any) -> Any:
        group = state.groups.get(to)
        if group is None:
            return append_to_group(state, append, to, quota)
        members = dict(group.members)
        ever.setdefault(group.id, {}).update(members)
        group.members = ever[group.id]
        result = append_to_group(state, append, to, quota)
        group.members = members
        return result

    monkeypatch.setattr(operations, "_append_to_group", nostalgic)
    with pytest.raises(Violation):
        stage_crowd(Plan(clients=6), 0, "memory")
