"""Two people see the same digits, and other people others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.errors import InvalidId
from ironwire.ids import ClientId
from ironwire.protocol.devices.safety import (
    EPOCH_SECRET_BYTES,
    compare_safety_text,
    epoch_code,
    in_groups,
    safety_number,
    safety_text,
)
from tests.protocol.devices.vectors import Case, cases


@pytest.mark.parametrize("case", cases("safety"))
def test_a_safety_number(case: Case) -> None:
    assert safety_number(ClientId(case["one"]), ClientId(case["other"])) == case["digits"]


@pytest.mark.parametrize("case", cases("epochs"))
def test_an_epoch_code(case: Case) -> None:
    assert epoch_code(bytes.fromhex(case["secret"])) == case["digits"]


@given(st.binary(min_size=EPOCH_SECRET_BYTES, max_size=EPOCH_SECRET_BYTES))
def test_every_epoch_has_thirty_digits(secret: bytes) -> None:
    code = epoch_code(secret)
    assert len(code) == 30
    assert code.isdecimal()


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_a_secret_of_another_size_has_no_code(size: int) -> None:
    with pytest.raises(ValueError, match="16 bytes long"):
        epoch_code(bytes(size))


def test_people_read_groups_of_five() -> None:
    assert in_groups("123451234512345") == "12345 12345 12345"
    assert in_groups("") == ""


ALICE, BOB, MALLORY = (ClientId(two * 32) for two in ("a1", "b0", "e7"))


def test_a_code_that_is_scanned_is_of_the_other_and_about_me() -> None:
    shown = safety_text(BOB, ALICE)
    assert shown == f"IWSAFE:1:{'B0' * 32}:{'A1' * 32}"
    assert compare_safety_text(shown, ALICE, BOB)
    assert compare_safety_text(f" {shown.lower()}\n", ALICE, BOB)
    assert not compare_safety_text(safety_text(BOB, MALLORY), ALICE, BOB), "Bob has another id for Alice"
    assert not compare_safety_text(safety_text(MALLORY, ALICE), ALICE, BOB), "Alice has another id for Bob"


@pytest.mark.parametrize("text", ["", "IWSAFE:2:", safety_text(BOB, ALICE)[:-1], f"{safety_text(BOB, ALICE)}0"])
def test_another_text_is_no_code(text: str) -> None:
    with pytest.raises(InvalidId, match="begins with IWSAFE:1:"):
        compare_safety_text(text, ALICE, BOB)


def test_ones_own_code_says_nothing() -> None:
    with pytest.raises(InvalidId, match="show yourself"):
        compare_safety_text(safety_text(ALICE, BOB), ALICE, BOB)
