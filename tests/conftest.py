"""Rules for the whole suite.

A property gets half of the usual examples; `nox -s fuzz` looks longer. Tests that start real processes are marked
`system`: all of `tests/system` and `tests/calls`, and single tests elsewhere. `-m "not system"` is the daily run.

Workers of pytest-xdist begin with the system tests, which take longest, and take over each other's tests: module by
module, so that a module's server is seldom started twice.
"""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

settings.register_profile("suite", max_examples=50, deadline=None)
settings.load_profile("suite")
# The default shows the variables of every frame of a traceback, which takes seconds.
_plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _plain])

_OF_PROCESSES = {Path(__file__).parent / room for room in ("system", "calls")}
_BYTECODE = Path(__file__).parents[1] / ".pytest_cache" / "bytecode"

if sys.dont_write_bytecode:
    # Without it, every worker and every process of a test compiles all that it imports. Here it is in nobody's way.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(_BYTECODE)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(_BYTECODE)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """For tests that configure the log of this process: the next test finds it as it was."""
    root = logging.getLogger()
    level, handlers, config = root.level, list(root.handlers), structlog.get_config()
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not _OF_PROCESSES.isdisjoint(item.path.parents):
            item.add_marker(pytest.mark.system)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("system") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """`--dist` other than its default is left alone."""
    from xdist.scheduler import WorkStealingScheduling  # type: ignore[import-untyped]  # it has no types

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None
