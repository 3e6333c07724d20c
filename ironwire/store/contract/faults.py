"""Fault points: named moments of a store's work at which a test may end it, hold it up, or look at its files.

A store that keeps something for good calls `reach` at each of them, in whichever thread it is. Nothing happens there
unless a test has called `watch`: so one harness tests every such store, and replaces none of its functions.
"""

from collections.abc import Callable
from enum import Enum


class FaultPoint(Enum):
    BEFORE_OLD_FILE_COPIED = "before the copy of an old file"
    AFTER_OLD_FILE_COPIED = "after the copy of an old file"
    MIGRATING = "during a migration"
    """Before each of its statements."""
    OPENED = "after the start of the store"
    BEFORE_BEGIN = "before BEGIN"
    AFTER_BEGIN = "after BEGIN"
    APPLIED = "after the statements"
    """All operations of a batch are applied."""
    BEFORE_COMMIT = "before COMMIT"
    AFTER_COMMIT = "after COMMIT"
    BEFORE_REPLIES = "before the replies"
    """A batch is on the disk, and nobody was told."""
    AFTER_REPLIES = "after the replies"
    """The committer has told everybody."""
    EXPIRING = "before expiry commits"
    EXPIRED = "after expiry committed"
    BEFORE_SCRUB = "before the log is overwritten"
    SCRUBBING = "at the beginning of the log"
    """The log is overwritten from here on."""
    SCRUBBED = "after the log was overwritten"


Watcher = Callable[[FaultPoint], None]


def _ignore(point: FaultPoint) -> None:
    pass


_watcher: Watcher = _ignore


def reach(point: FaultPoint) -> None:
    _watcher(point)


def watch(watcher: Watcher) -> Watcher:
    """Have every point told to `watcher` from now on; returns the watcher that it replaces."""
    global _watcher  # one a process, as a crash is
    former, _watcher = _watcher, watcher
    return former
