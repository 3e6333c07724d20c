import pytest
import trio

from tests.hub.house import House


@pytest.fixture
def house(nursery: trio.Nursery) -> House:
    return House(nursery)
