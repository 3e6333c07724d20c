"""Padded sizes, docs/between-devices.md."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.crypto.padding import padded_size


@pytest.mark.parametrize(
    ("size", "padded"),
    [(0, 256), (1, 256), (256, 256), (257, 512), (4096, 4096), (4097, 5120), (5121, 6144), (8192, 8192), (8193, 10240)],
)
def test_a_size_goes_to_the_next_of_few(size: int, padded: int) -> None:
    assert padded_size(size) == padded


def test_small_sizes_are_multiples_of_256() -> None:
    assert [padded_size(size) for size in (0, 1, 256, 257, 4095, 4096)] == [256, 256, 256, 512, 4096, 4096]


def test_there_are_four_sizes_between_two_powers_of_two() -> None:
    large = sorted({padded_size(size) for size in range(4096, 2 * 1024 * 1024, 61)})
    assert large[:9] == [4096, 5120, 6144, 7168, 8192, 10_240, 12_288, 14_336, 16_384]
    assert all(following / size <= 1.25 for size, following in pairwise(large))


@given(st.integers(0, 2**50))
def test_a_padded_size_holds_the_size_and_stays_as_it_is(size: int) -> None:
    padded = padded_size(size)
    assert size <= padded <= max(256, size + 255, size * 5 // 4)
    assert padded_size(padded) == padded
