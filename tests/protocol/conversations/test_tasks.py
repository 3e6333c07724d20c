"""`protocol/tasks.py`: what is due, who is asked, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.ids import ClientId, GroupId, Role
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.conversations.tasks import LEASE_SECONDS, Leases, Task, TaskKind, due_after, helpers, is_due

CLUB, CHOIR = GroupId("#" + "0" * 32), GroupId("#" + "1" * 32)
ANN, BOB, CAT = [ClientId(digit * 64) for digit in "abc"]
ANN_1, ANN_2, ANN_3 = [Leaf(ANN, bytes([0xA0 + number]) * 32) for number in (1, 2, 3)]
BOB_1, CAT_1 = Leaf(BOB, b"b" * 32), Leaf(CAT, b"c" * 32)
EVERYBODY = [ANN_1, ANN_2, BOB_1, CAT_1]
ROSTER: dict[ClientId, Role] = {ANN: "member", BOB: "member", CAT: "admin"}


def task(kind: TaskKind, leaf: Leaf) -> Task:
    return Task(kind, leaf.client, b"" if kind == "left" else leaf.device)


@pytest.mark.parametrize(
    ("asked", "due"),
    [
        (task("add", ANN_3), True),
        (task("add", ANN_2), False),
        (task("add", Leaf(ClientId("d" * 64), b"d" * 32)), False),
        (task("remove", ANN_2), True),
        (task("remove", ANN_3), False),
        (task("readd", BOB_1), True),
        (task("readd", ANN_3), False),
        (task("left", BOB_1), True),
        (Task("left", ClientId("d" * 64)), False),
    ],
)
def test_a_task_is_due_until_the_conversation_is_so(asked: Task, *, due: bool) -> None:
    assert is_due(asked, tuple(EVERYBODY), ROSTER) == due


def test_a_commit_does_what_it_does() -> None:
    asked = [task("add", ANN_3), task("remove", CAT_1), task("readd", BOB_1), task("readd", ANN_1), task("left", BOB_1)]
    after = due_after(asked, (ANN_1, ANN_2, BOB_1, ANN_3), {ANN: "admin", BOB: "member"}, [BOB_1, ANN_3])
    assert after == (task("readd", ANN_1), task("left", BOB_1))


@pytest.mark.parametrize(
    ("asked", "order"),
    [
        ([task("add", ANN_3)], [ANN_1, ANN_2, CAT_1, BOB_1]),
        ([task("remove", ANN_1)], [ANN_2, CAT_1, BOB_1]),
        ([task("readd", BOB_1), task("remove", ANN_1)], [CAT_1, ANN_2]),
        ([task("left", CAT_1)], [ANN_1, ANN_2, BOB_1]),
        ([task("readd", ANN_1)], [ANN_2, CAT_1, BOB_1]),
        ([task("readd", ANN_1), task("readd", BOB_1)], [CAT_1, ANN_2]),
    ],
)
def test_helpers_are_asked_best_first_and_none_that_is_concerned(asked: list[Task], order: list[Leaf]) -> None:
    assert helpers(asked, ROSTER, EVERYBODY) == order


def test_one_device_at_a_time_is_asked_and_then_the_next() -> None:
    leases, asked = Leases(), [task("add", ANN_3)]
    assert leases.offer(CLUB, asked, ROSTER, EVERYBODY, 0.0) == ANN_1
    assert leases.offer(CLUB, asked, ROSTER, EVERYBODY, LEASE_SECONDS - 0.1) is None
    assert leases.over(LEASE_SECONDS - 0.1) == []
    assert leases.over(LEASE_SECONDS) == [CLUB]
    order = [leases.offer(CLUB, asked, ROSTER, EVERYBODY, LEASE_SECONDS * turn) for turn in range(1, 5)]
    assert order == [ANN_2, CAT_1, BOB_1, ANN_1]


def test_who_is_at_it_is_asked_again_when_more_is_to_be_done() -> None:
    leases, first = Leases(), task("remove", ANN_2)
    assert leases.offer(CLUB, [first], ROSTER, EVERYBODY, 0.0) == ANN_1
    both = [first, task("add", ANN_3)]
    assert leases.offer(CLUB, both, ROSTER, EVERYBODY, 1.0) == ANN_1
    assert leases.offer(CLUB, both, ROSTER, EVERYBODY, 2.0) is None
    assert leases.offer(CLUB, both[1:], ROSTER, EVERYBODY, 3.0) is None, "it was asked for that as well"


def test_the_work_is_done_whoever_did_it() -> None:
    leases = Leases()
    assert leases.offer(CLUB, [task("add", ANN_3)], ROSTER, EVERYBODY, 0.0) == ANN_1
    assert leases.offer(CLUB, [], ROSTER, EVERYBODY, 1.0) is None
    assert leases.offer(CLUB, [task("remove", ANN_2)], ROSTER, EVERYBODY, 2.0) == ANN_1


def test_who_is_at_it_is_told_of_another_task_at_once() -> None:
    leases, asked = Leases(), [task("remove", BOB_1)]
    assert leases.offer(CLUB, asked, ROSTER, [ANN_1, ANN_2], 0.0) == ANN_1
    asked.append(task("add", ANN_3))
    assert leases.offer(CLUB, asked, ROSTER, [ANN_2, ANN_1], 1.0) == ANN_1
    assert leases.offer(CLUB, asked[1:], ROSTER, [ANN_1, ANN_2], 2.0) is None, "a part of it is done"
    assert leases.over(LEASE_SECONDS) == []
    asked.append(task("remove", ANN_1))
    assert leases.offer(CLUB, asked, ROSTER, [ANN_1, ANN_2], 3.0) == ANN_2, "nobody removes itself"


def test_a_lease_ends_with_its_session() -> None:
    leases, asked = Leases(), [task("add", ANN_3)]
    assert leases.offer(CLUB, asked, ROSTER, EVERYBODY, 0.0) == ANN_1
    assert leases.offer(CHOIR, asked, ROSTER, [BOB_1], 0.0) == BOB_1
    assert leases.end(ANN_1, 1.0) == [CLUB]
    assert leases.offer(CLUB, asked, ROSTER, EVERYBODY[1:], 1.0) == ANN_2
    assert leases.end(ANN_1, 2.0) == []


def test_where_nobody_is_the_next_who_comes_is_asked() -> None:
    leases, asked = Leases(), [task("add", ANN_3)]
    assert leases.offer(CLUB, asked, ROSTER, [], 0.0) is None
    assert leases.over(1e9) == []
    assert leases.offer(CLUB, asked, ROSTER, [BOB_1], 1.0) == BOB_1
    assert leases.offer(CLUB, asked, ROSTER, [], LEASE_SECONDS + 2) is None
    assert leases.over(1e9) == []


@given(st.lists(st.tuples(st.sampled_from([CLUB, CHOIR]), st.sets(st.sampled_from(EVERYBODY)), st.floats(0, 20))))
def test_nobody_is_asked_while_somebody_else_has_the_lease(steps: list[tuple[GroupId, set[Leaf], float]]) -> None:
    leases, asked, now = Leases(), [task("add", ANN_3)], 0.0
    until = {CLUB: 0.0, CHOIR: 0.0}
    for conversation, live, passed in steps:
        now += passed
        holder = leases.offer(conversation, asked, ROSTER, sorted(live, key=EVERYBODY.index), now)
        assert (holder is None) == (now < until[conversation] or not live)
        if holder is not None:
            assert holder in live
            until[conversation] = now + LEASE_SECONDS
