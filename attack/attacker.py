"""`python -m attack.attacker NAME PORT SECONDS`: one attack in a process of its own, that runs when nobody else does.

It says `ready`, begins with the first line that it reads, and prints one line of JSON, its `Record`. Attackers far away
do not take the server's processor from it; here all share one machine, so the attacker gives way at once. With a low
priority alone it would go on to the end of its slice, for milliseconds in which the server waits.
"""

import json
import os
import sys

import trio
from attrs import asdict, frozen

from attack.catalogue import ATTACKS
from attack.target import Target
from bench.__main__ import raise_open_files


@frozen
class Record:
    """What was done, and what the server did about it."""

    tries: int
    outcomes: dict[str, int]
    """The most frequent first."""
    mailboxes: int
    stalled: int
    breaches: list[str]


async def attack(name: str, port: int, seconds: float) -> Record:
    target = Target(port)
    with trio.move_on_after(seconds):
        await ATTACKS[name].run(target)
    breaches = sorted(set(target.breaches))
    return Record(target.tries, dict(target.outcomes.most_common()), target.mailboxes, target.stalled, breaches)


if __name__ == "__main__":
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    raise_open_files()
    name, port, seconds = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asdict(trio.run(attack, name, int(port), float(seconds)))))
