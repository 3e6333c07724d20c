import pytest
import trio

from tests.delivery.house import House


@pytest.fixture
def house(nursery: trio.Nursery) -> House:
    return House(nursery)
