"""Two people see the same digits, and other people others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.ids import ClientId
from ironwire.protocol.devices.safety import EPOCH_SECRET_BYTES, epoch_code, in_groups, safety_number
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
