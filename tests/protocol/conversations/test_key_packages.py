"""`protocol/key_packages.py`: which packages may be published, and who may take them."""

import pytest
from attrs import evolve

from ironwire.ids import ClientId
from ironwire.protocol.conversations.key_packages import EARLY_SECONDS, LIFETIME_SECONDS, ClaimRules, Offer, fault_of
from ironwire.protocol.conversations.slots import Leaf

ANN, BOB = ClientId("a" * 64), ClientId("b" * 64)
PHONE, LAPTOP = Leaf(ANN, b"p" * 32), Leaf(ANN, b"l" * 32)
NOW = 1_790_000_000
GOOD = Offer(
    PHONE,
    has_our_capabilities=True,
    not_before=NOW - 3_600,
    not_after=NOW - 3_600 + LIFETIME_SECONDS,
)


def test_a_device_publishes_its_own_packages() -> None:
    assert fault_of(GOOD, PHONE, NOW) is None
    for device in (LAPTOP, Leaf(BOB, PHONE.device)):
        assert fault_of(GOOD, device, NOW) == "it is not certified for this device"


@pytest.mark.parametrize(
    ("offer", "fault"),
    [
        (evolve(GOOD, has_our_capabilities=False), "it has other capabilities than those of this protocol"),
        (evolve(GOOD, not_before=NOW + EARLY_SECONDS, not_after=NOW + EARLY_SECONDS + 1), None),
        (evolve(GOOD, not_before=NOW + EARLY_SECONDS + 1, not_after=2 * NOW), "it is not valid yet"),
        (evolve(GOOD, not_after=NOW), "it has expired"),
        (evolve(GOOD, not_after=NOW + 1), None),
        (evolve(GOOD, not_after=GOOD.not_after + 1), "it is valid for too long"),
    ],
)
def test_a_package_is_ours_and_valid_for_a_while(offer: Offer, fault: str | None) -> None:
    assert fault_of(offer, PHONE, NOW) == fault


def test_a_client_claims_thirty_times_an_hour() -> None:
    rules = ClaimRules()
    assert [rules.begin(BOB, 0.0) for _ in range(31)] == [True] * 30 + [False]
    assert rules.begin(ANN, 0.0)
    assert not rules.begin(BOB, 119.0)
    assert rules.begin(BOB, 241.0)


def test_a_client_takes_three_packages_of_one_device_a_day() -> None:
    rules = ClaimRules()
    assert [rules.may_take(BOB, PHONE, 0.0) for _ in range(4)] == [True, True, True, False]
    assert rules.may_take(BOB, LAPTOP, 0.0)
    assert not rules.may_take(BOB, PHONE, 86_400 / 3 - 1)
    assert rules.may_take(BOB, PHONE, 86_400 / 3 + 1)


def test_ones_own_devices_are_not_counted() -> None:
    rules = ClaimRules()
    assert all(rules.may_take(ANN, PHONE, 0.0) for _ in range(50))
