"""`kill -9` of the real server under load, in short: every named point, and a few times at random. And of devices that
encrypt, which are programs of their own.

The long form is `nox -s crash -- SECONDS`; docs/reports/durability.md holds its last result.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from ironwire.ids import parse_group_id
from tests.system.crash.device import Violation
from tests.system.crash.encrypted import live_through_encrypted
from tests.system.crash.history import ANY_TIME, Tally, live_through, open_servers
from tests.system.crash.laws import Story, Word, broken
from tests.system.crash.member import CAME, GOES, HEARD, MANAGER, READY, SILENT
from tests.system.crash.server import POINTS


async def test_no_promise_is_broken_wherever_the_server_dies(tmp_path: Path) -> None:
    tally = Tally()
    points = [*POINTS, ANY_TIME, ANY_TIME, ANY_TIME]
    async with open_servers() as servers:
        await live_through(servers, tmp_path, points, tally)
    assert set(tally.kills) == set(points), "a point was not reached"
    assert tally.counters.accepted > 100
    assert tally.counters.redelivered > 0
    assert tally.counters.answered > 10


async def test_a_commit_that_does_not_last_is_found_out(tmp_path: Path) -> None:
    """The same without the log of what was committed last, as after a power failure on a disk that lies."""
    async with open_servers() as servers:
        with pytest.raises(Violation):
            await live_through(servers, tmp_path, [ANY_TIME] * 10, Tally(), fault="loses its log")


async def test_an_answered_ack_that_does_not_last_is_found_out(tmp_path: Path) -> None:
    async with open_servers() as servers:
        with pytest.raises(Violation, match="came again after its ack was answered"):
            await live_through(servers, tmp_path, [ANY_TIME] * 10, Tally(), fault="forgets acks")


async def test_encrypted_conversations_outlive_kills_of_servers_and_devices(tmp_path: Path) -> None:
    tally = Tally()
    async with open_servers() as servers:
        await live_through_encrypted(servers, tmp_path, ["before COMMIT", "before the replies"], tally)
    assert tally.kills.total() == 2
    assert tally.encrypted.device_kills > 12
    assert tally.encrypted.accepted > 20


# --- the laws of encrypted histories ---------------------------------------------------------------------------------


def settled() -> dict[str, Story]:
    """Three people in a group, the last of whom was in it between two words of the manager."""
    group = parse_group_id("#" + "0" * 32)
    words = [
        Word(MANAGER, "one"),
        Word(MANAGER, f"{CAME} 1"),
        Word("carol.phone", "two"),
        Word(MANAGER, f"{GOES} 1"),
        Word(MANAGER, "three"),
    ]
    stories = {name: Story(name) for name in (MANAGER, SILENT, "carol.phone", "dave.phone")}
    for story in stories.values():
        story.said[group] = [word.text for word in words if word.by == story.name]
        story.heard[group] = [word for word in words if word.by != story.name]
    stories["dave.phone"].heard[group] = words[1:4]
    for story in stories.values():
        story.came = [word.text for word in story.heard[group]]
        story.handed_out = [READY, *(HEARD + text for text in story.came)]
    return stories


def test_the_laws_hold_where_everything_came() -> None:
    stories = settled()
    assert [*broken([*stories.values()])] == []
    stories["carol.phone"].handed_out += [READY, stories["carol.phone"].handed_out[-1]]
    assert [*broken([*stories.values()])] == [], "what was handed out last before a kill may come again"


def _lose(story: Story) -> None:
    del _heard(story)[1]


def _double(story: Story) -> None:
    _heard(story).insert(1, _heard(story)[1])


def _swap(story: Story) -> None:
    _heard(story)[0], _heard(story)[1] = _heard(story)[1], _heard(story)[0]


def _invent(story: Story) -> None:
    _heard(story).append(Word(MANAGER, "never said"))


def _hand_out_twice(story: Story) -> None:
    story.handed_out.insert(1, story.handed_out[1])


def _wait(story: Story) -> None:
    story.waiting = 1


def _cannot_read(story: Story) -> None:
    story.faults.append("Unreadable")


def _heard(story: Story) -> list[Word]:
    (words,) = story.heard.values()
    return words


@pytest.mark.parametrize("fault", [_lose, _double, _swap, _invent, _hand_out_twice, _wait, _cannot_read])
@pytest.mark.parametrize("name", ["carol.phone", "dave.phone", SILENT])
def test_the_laws_find_what_is_wrong(fault: Callable[[Story], None], name: str) -> None:
    stories = settled()
    fault(stories[name])
    assert [*broken([*stories.values()])] != []
