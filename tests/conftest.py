"""What holds for the whole suite.

A property gets half of the usual examples; `nox -s fuzz` looks longer. Tests that start real processes are marked
`system`: all of `tests/system` and `tests/calls`, and single tests elsewhere. `-m "not system"` is the daily run.
"""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("suite", max_examples=50, deadline=None)
settings.load_profile("suite")

_OF_PROCESSES = {Path(__file__).parent / room for room in ("system", "calls")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not _OF_PROCESSES.isdisjoint(item.path.parents):
            item.add_marker(pytest.mark.system)
