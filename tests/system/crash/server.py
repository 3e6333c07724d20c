"""`ironwire serve`, in a process that ends with SIGKILL when its work reaches a named point for the n-th time.

The product knows nothing of this: its methods are wrapped here. One process imports everything once and makes each
server by a fork, so that a restart costs milliseconds. It is told what to start by lines of JSON on standard input, and
answers with `pid <number>` and `ended <signal>`.
"""

import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import hypercorn.trio.run  # noqa: F401  # imported before the fork: so no server has to wait for it
from attrs import define, frozen

from ironwire.cli import cli
from ironwire.cli.operator.serve import serve  # noqa: F401  # the same
from ironwire.delivery import janitor
from ironwire.delivery.committer import Committer
from ironwire.store.contract.operations import Acked
from ironwire.store.sqlite import migrations
from ironwire.store.sqlite.store import SqliteStore
from ironwire.store.sqlite.writer import Writer

POINTS = (
    "before the copy of an old file",
    "after the copy of an old file",
    "during a migration",
    "after the start of the store",
    "before BEGIN",
    "after BEGIN",
    "after the statements",
    "before COMMIT",
    "during COMMIT",
    "after COMMIT",
    "before the replies",
    "after the replies",
    "before expiry commits",
    "after expiry committed",
    "before the log is overwritten",
    "while the log is overwritten",
    "after the log was overwritten",
)
UPGRADE_POINTS = POINTS[:3]
START_POINTS = (*POINTS[:2], POINTS[3])
"""Reached once in a life."""
SLOW_POINTS = POINTS[12:]
"""Reached a few times a second."""

LONGEST_COMMIT_SECONDS = 0.002
SCRUB_SECONDS = 0.1
EXPIRE_SECONDS = 0.3
HISTORY_DAYS = 1 / 86_400


@frozen
class Order:
    """What to start: a server for `data` on `port` that dies when `point` is reached for the `hits`-th time; with a
    store that forgets acks, to see that it is found out.
    """

    data: str
    port: int
    point: str | None
    hits: int
    forgets_acks: bool = False


@define
class Reaper:
    _point: str | None
    _hits_left: int

    def reach(self, point: str) -> None:
        if self._is_due(point):
            os.kill(os.getpid(), signal.SIGKILL)

    def reach_within(self, point: str, seconds: float) -> None:
        """Die at some time within `seconds` from now, while this thread goes on."""
        if self._is_due(point):
            threading.Thread(target=self._die_after, args=(random.uniform(0, seconds),), daemon=True).start()

    def _is_due(self, point: str) -> bool:
        if point != self._point:
            return False
        self._hits_left -= 1
        return self._hits_left == 0

    def _die_after(self, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)


def wrap(reaper: Reaper) -> None:
    """Put the named points into the store and what drives it."""
    reach = reaper.reach

    def around(owner: Any, name: str, before: str | None, after: str | None) -> None:
        wrapped: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                reach(before)
            result = wrapped(*args, **kwargs)
            if after is not None:
                reach(after)
            return result

        setattr(owner, name, call)

    def around_async(owner: Any, name: str, before: str | None, after: str | None) -> None:
        wrapped: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                reach(before)
            result = await wrapped(*args, **kwargs)
            if after is not None:
                reach(after)
            return result

        setattr(owner, name, call)

    around(migrations, "_copy", "before the copy of an old file", "after the copy of an old file")
    around(SqliteStore, "_prepare", None, "after the start of the store")
    around_async(SqliteStore, "_begin", "before BEGIN", "after BEGIN")
    around(Writer, "apply", None, "after the statements")
    around(Writer, "expire", None, "before expiry commits")
    around_async(SqliteStore, "apply", None, "before the replies")
    around_async(SqliteStore, "expire", None, "after expiry committed")
    around_async(SqliteStore, "scrub", "before the log is overwritten", "after the log was overwritten")
    around_async(Committer, "_wait", "after the replies", None)

    apply_migration = migrations._apply

    def apply_traced(database: sqlite3.Connection, number: int, sql: str) -> None:
        database.set_trace_callback(lambda _: reach("during a migration"))
        apply_migration(database, number, sql)
        database.set_trace_callback(None)

    in_thread = SqliteStore._in_thread

    async def in_thread_watched(store: SqliteStore, work: Callable[[], Any]) -> Any:
        if work != store._changes.commit:
            return await in_thread(store, work)

        def commit() -> None:
            reach("before COMMIT")
            reaper.reach_within("during COMMIT", LONGEST_COMMIT_SECONDS)
            work()
            reach("after COMMIT")

        return await in_thread(store, commit)

    patiently = SqliteStore._patiently

    def patiently_watched(store: SqliteStore, statement: str) -> Any:
        if "checkpoint" in statement:
            reaper.reach_within("while the log is overwritten", LONGEST_COMMIT_SECONDS)
        return patiently(store, statement)

    replacements: list[tuple[Any, str, object]] = [
        (migrations, "_apply", apply_traced),
        (SqliteStore, "_in_thread", in_thread_watched),
        (SqliteStore, "_patiently", patiently_watched),
        (janitor, "SCRUB_SECONDS", SCRUB_SECONDS),
        (janitor, "EXPIRE_SECONDS", EXPIRE_SECONDS),
    ]
    for owner, name, replacement in replacements:
        setattr(owner, name, replacement)


def run_server(order: Order) -> None:
    """Be the server. What it prints goes to a file beside its data."""
    log = os.open(f"{order.data}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    wrap(Reaper(order.point, order.hits))
    if order.forgets_acks:
        setattr(Writer, "_ack", lambda *_: Acked())  # noqa: B010  # a type checker would not have it assigned
    cli(
        [
            *("serve", "--host", "127.0.0.1", "--port", str(order.port), "--data", order.data),
            *("--history-days", str(HISTORY_DAYS), "--log-level", "warning"),
        ]
    )


def main() -> None:
    for line in sys.stdin:
        order = Order(**json.loads(line))
        child = os.fork()
        if child == 0:
            sys.stdin.close()
            run_server(order)
            os._exit(0)
        print("pid", child, flush=True)
        _, status = os.waitpid(child, 0)
        print("ended", os.WTERMSIG(status), flush=True)


if __name__ == "__main__":
    main()
