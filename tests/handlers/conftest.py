import pytest
import trio

from tests.house import House


@pytest.fixture
def house(nursery: trio.Nursery) -> House:
    return House(nursery)
