"""`ironwire serve`, in a process that ends with SIGKILL when its work reaches a named point for the n-th time.

The points are those of `store/contract/faults.py`, whatever store the server has. One process imports everything once
and makes each server by a fork, so that a restart costs milliseconds. It is told what to start by lines of JSON on
standard input, and answers with `pid <number>` and `ended <signal>`.
"""

import json
import os
import random
import signal
import sys
import threading
import time

import hypercorn.trio.run  # noqa: F401  # imported before the fork: so no server has to wait for it
from attrs import define, frozen

from ironwire.cli import cli
from ironwire.cli.operator.serve import serve  # noqa: F401  # the same
from ironwire.delivery import janitor
from ironwire.delivery.committer import Committer, Settle
from ironwire.handlers import commits
from ironwire.protocol.bucket import Rate
from ironwire.store.contract.faults import FaultPoint, watch
from ironwire.store.contract.operations import Acked
from ironwire.store.contract.records import MailboxId

TIMED = {"during COMMIT": FaultPoint.BEFORE_COMMIT, "while the log is overwritten": FaultPoint.SCRUBBING}
"""Work that takes a while begins at a point of the store; the server dies a moment after it."""


def named(*points: FaultPoint) -> tuple[str, ...]:
    return tuple(point.value for point in points)


POINTS = (*named(*FaultPoint), *TIMED)
UPGRADE_POINTS = named(FaultPoint.BEFORE_OLD_FILE_COPIED, FaultPoint.AFTER_OLD_FILE_COPIED, FaultPoint.MIGRATING)
START_POINTS = (*UPGRADE_POINTS[:2], *named(FaultPoint.OPENED))
"""Reached once in a life."""
SLOW_POINTS = (
    *named(FaultPoint.EXPIRING, FaultPoint.EXPIRED),
    *named(FaultPoint.BEFORE_SCRUB, FaultPoint.SCRUBBING, FaultPoint.SCRUBBED),
    "while the log is overwritten",
)
"""Reached a few times a second."""

LONGEST_COMMIT_SECONDS = 0.002
SCRUB_SECONDS = 0.1
EXPIRE_SECONDS = 0.3
HISTORY_DAYS = 1 / 86_400
COMMITS = Rate(per_second=1_000, burst=1_000)
"""Of one conversation: a history has as many in seconds as others have in hours."""


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
    """Watches the fault points, and kills the process at one of them."""

    _point: str | None
    _hits_left: int

    def reach(self, point: FaultPoint) -> None:
        if self._point in TIMED:
            if TIMED[self._point] is point and self._is_due():
                threading.Thread(target=self._die_within, args=(LONGEST_COMMIT_SECONDS,), daemon=True).start()
        elif point.value == self._point and self._is_due():
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_due(self) -> bool:
        self._hits_left -= 1
        return self._hits_left == 0

    def _die_within(self, seconds: float) -> None:
        time.sleep(random.uniform(0, seconds))
        os.kill(os.getpid(), signal.SIGKILL)


def run_server(order: Order) -> None:
    """Be the server. What it prints goes to a file beside its data."""
    log = os.open(f"{order.data}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    watch(Reaper(order.point, order.hits).reach)
    janitor.SCRUB_SECONDS, janitor.EXPIRE_SECONDS = SCRUB_SECONDS, EXPIRE_SECONDS
    commits.COMMITS = commits.ATTEMPTS = COMMITS
    if order.forgets_acks:
        setattr(Committer, "ack", _answer_and_forget)  # noqa: B010  # a type checker would not have it assigned
    cli(
        [
            *("serve", "--host", "127.0.0.1", "--port", str(order.port), "--data", order.data),
            *("--history-days", str(HISTORY_DAYS), "--log-level", "warning"),
        ]
    )


def _answer_and_forget(
    _: Committer,
    mailbox: MailboxId,
    upto: int,
    cost: int = 1,
    settle: Settle | None = None,
    *,
    session: int | None = None,
) -> None:
    if settle is not None:
        settle(Acked())


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
