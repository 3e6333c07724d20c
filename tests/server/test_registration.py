"""Who is taken that the server does not know: by a list, or by an invite."""

import os
from pathlib import Path

import pytest
from attrs import define
from structlog.testing import capture_logs

from ironwire.errors import StoreError
from ironwire.ids import ClientId
from ironwire.server.session.registration import AllowList, Registration
from ironwire.store.invites import DAY_MS, Invites

ALICE, BOB = ClientId("a1" * 32), ClientId("b0" * 32)


@define
class Clock:
    now_ms: int = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def invites(tmp_path: Path, clock: Clock) -> Invites:
    return Invites(tmp_path / "invites", clock)


def test_the_list_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    path.write_text(f"# my friends\n\n{ALICE.upper()}  # Alice\n")
    allowed = AllowList(path)
    assert ALICE in allowed
    assert BOB not in allowed
    path.write_text(f"{BOB}\n{ALICE}\n")
    assert BOB in allowed
    path.write_text(f"{BOB}\n")
    assert ALICE not in allowed


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    path.write_bytes(f"\ufeff{ALICE}\r\n{BOB}\r\n".encode())
    with capture_logs() as events:
        allowed = AllowList(path)
        assert ALICE in allowed
        assert BOB in allowed
    assert not events


def test_a_list_that_cannot_be_read_or_understood_lets_nobody_else_in(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    path.write_text(f"{ALICE}\nbob\n")
    allowed = AllowList(path)
    with capture_logs() as events:
        assert ALICE in allowed
        path.unlink()
        assert ALICE in allowed
        assert BOB not in allowed
    assert [event.get("line") for event in events] == [2, None, None]


def test_an_invite_is_good_as_often_as_it_says(invites: Invites) -> None:
    twice, once = invites.make(2, 1), invites.make(1, 1)
    assert [is_use(invites.redeem(twice)) for _ in range(3)] == [True, True, False]
    assert [is_use(invites.redeem(once)) for _ in range(2)] == [True, False]
    assert invites.redeem(once) == "spent"
    assert invites.redeem("another") == "unknown"


def test_an_invite_ends_and_leaves_nothing(invites: Invites, clock: Clock, tmp_path: Path) -> None:
    invite = invites.make(3, 2)
    assert isinstance(invites.redeem(invite), Path)
    clock.now_ms += 2 * DAY_MS
    assert invites.redeem(invite) == "spent"
    invites.make(1, 1)
    assert len(os.listdir(tmp_path / "invites")) == 1


def test_an_invite_outlives_a_clock_that_is_wrong(clock: Clock, tmp_path: Path) -> None:
    invites = Invites(tmp_path / "invites", clock, is_clock_believed=lambda: False)
    invite = invites.make(1, 2)
    clock.now_ms += 40 * DAY_MS
    assert invites.redeem(invite) == "spent"
    invites.make(1, 2)
    clock.now_ms -= 40 * DAY_MS
    assert invites.redeem(invite)


def test_the_folder_does_not_tell_the_invite(invites: Invites, tmp_path: Path) -> None:
    invite = invites.make(1, 1)
    (path,) = (tmp_path / "invites").iterdir()
    assert invite not in path.name
    assert path.read_bytes() == b""
    assert path.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(StoreError, match="folder of invites"):
        Invites(tmp_path / "missing" / "invites", clock).make(1, 1)


def test_who_may_come(tmp_path: Path, invites: Invites) -> None:
    path = tmp_path / "clients"
    path.write_text(ALICE)
    allowed = AllowList(path)
    everybody = Registration("open", None, invites)
    listed = Registration("allow-list", allowed, invites)
    invited = Registration("invite", allowed, invites)
    invite = invites.make(1, 1)
    assert [policy.admits(ALICE) for policy in (everybody, listed, invited)] == [True] * 3
    assert [policy.admits(BOB) for policy in (everybody, listed, invited)] == [True, False, False]
    assert (listed.refusal, invited.refusal) == ("not listed", "no invite")
    assert refusal_of(listed, invite) == "not listed"
    assert refusal_of(invited, None) == "no invite"
    assert refusal_of(invited, "a guess") == "unknown invite"
    assert [refusal_of(invited, invite) for _ in range(2)] == [None, "spent invite"]


def is_use(redeemed: object) -> bool:
    return isinstance(redeemed, Path)


def refusal_of(registration: Registration, invite: str | None) -> str | None:
    with registration.invited(invite) as refusal:
        return refusal


def fail_to_register(registration: Registration, invite: str) -> None:
    with registration.invited(invite) as refusal:
        assert refusal is None
        raise StoreError("the disk is gone")


def test_an_invite_that_came_to_nothing_is_good_for_as_long_as_before(invites: Invites, clock: Clock) -> None:
    registration = Registration("invite", None, invites)
    invite = invites.make(1, 1)
    for _ in range(2):
        with pytest.raises(StoreError, match="the disk is gone"):
            fail_to_register(registration, invite)
    clock.now_ms += DAY_MS
    assert refusal_of(registration, invite) == "spent invite"
