"""A backup that is made under load and put back passes the oracle of the crash tests.

What waited when it was begun is there, in order, and once unless its sender repeats it because it had no answer; nobody
gets what nobody sent; and what is sent afterwards has no trouble with numbers and ids that were given out in the time
that is lost.
"""

import random
import shutil
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGTERM

import trio

from tests.system.crash.device import Counters, Device, Key, Violation
from tests.system.crash.history import Servers, free_port, open_servers
from tests.system.crash.server import Order
from tests.system.crash.world import World, check_database
from tests.system.processes import ROOT, environment

SETTLE_SECONDS = 60.0
LIFE_SECONDS = 0.7
LATER_SECONDS = 0.4

PutBack = Callable[[Path, Path], Awaitable[None]]
"""From a backup into a data folder."""

Owed = dict[Device, set[Key]]


async def ironwire(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "ironwire", *arguments]
    await trio.run_process(command, env=environment(folder), cwd=ROOT, capture_stdout=True)


async def test_a_backup_under_load_is_put_back_and_nothing_that_waited_is_lost(tmp_path: Path) -> None:
    async def restore(backup: Path, data: Path) -> None:
        await ironwire(tmp_path, "restore", str(backup), "--data", str(data))

    counters = await live_on(tmp_path, restore)
    assert counters.accepted > 100
    assert counters.delivered > 100


async def test_a_copy_that_is_put_back_by_hand_is_found_out(tmp_path: Path) -> None:
    """Without new epochs, numbers come again that devices know."""

    async def copy(backup: Path, data: Path) -> None:
        await trio.to_thread.run_sync(shutil.copytree, backup, data)

    noticed = []
    try:
        await live_on(tmp_path, copy)
    except* Violation as violations:
        noticed.append(violations)
    assert len(noticed) == 1
    assert noticed[0].subgroup(lambda error: "came again, with another numbering" in str(error)) is not None


async def live_on(folder: Path, put_back: PutBack) -> Counters:
    """Chat, make a backup meanwhile, chat on, lose the machine, put the backup back, and settle."""
    world = World(folder / "data", Counters())
    backup, restored = folder / "backup", folder / "restored"
    port = free_port()
    async with open_servers() as servers:
        await servers.start(Order(str(world.data), port, None, 0))
        waiting = await chat_and_back_up(world, port, backup)
        await servers.end(SIGKILL)
        await put_back(backup, restored)
        world.data = restored
        await settle_anew(servers, world, waiting)
        await servers.end(SIGTERM)
    check_database(world.data)
    return world.counters


async def chat_and_back_up(world: World, port: int, backup: Path) -> Owed:
    """What waited for each device when the backup was begun, and was not acknowledged before it ended."""
    absent = world.devices[0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.chat_for_ever)
        presence = trio.CancelScope()

        async def come_and_go() -> None:
            with presence:
                await absent.run(port, is_restless=False)

        nursery.start_soon(come_and_go)
        for device in world.devices[1:]:
            nursery.start_soon(partial(device.run, port, is_restless=True))
        await trio.sleep(LIFE_SECONDS)
        presence.cancel()  # so that something waits for it
        await trio.sleep(LIFE_SECONDS)
        accepted = {device: accepted_for(world, device) for device in world.devices}
        await ironwire(backup.parent, "backup", str(backup), "--data", str(world.data))
        acked = {device: {sent.key for sent in device.stored[: device.acked_ever]} for device in world.devices}
        await trio.sleep(random.uniform(0, LATER_SECONDS))
        nursery.cancel_scope.cancel()
    assert len(accepted[absent] - acked[absent]) > 10, "the test wants something that waits"
    return {device: accepted[device] - acked[device] for device in world.devices}


def accepted_for(world: World, device: Device) -> set[Key]:
    """What the device is owed of what its senders know to be accepted."""
    unaccepted = {sent.key for sender in world.devices for sent in sender.unaccepted}
    return world._owed[device] - unaccepted


async def settle_anew(servers: Servers, world: World, waiting: Owed) -> None:
    """Every device starts anew and everything comes that has to; then new messages pass as ever."""
    had = {device: {sent.key for sent in device.stored} for device in world.devices}
    repeated = {sent.key for device in world.devices for sent in device.unaccepted}
    for device, must_come in waiting.items():
        # What is repeated may be known to the backup as acknowledged: then it was there before.
        world._owed[device] = must_come | ((world._owed[device] & repeated) - had[device])
        device.may_come_again = repeated
        device.start_anew()
    port = free_port()
    await servers.start(Order(str(world.data), port, None, 0))
    async with trio.open_nursery() as nursery:
        for device in world.devices:
            nursery.start_soon(partial(device.run, port, is_restless=False))
        await reach(world)
        for _ in range(20):
            world.chat()
            await trio.sleep(0.01)
        await reach(world)
        nursery.cancel_scope.cancel()


async def reach(world: World) -> None:
    with trio.move_on_after(SETTLE_SECONDS):
        while not all(is_settled(device, owed) for device, owed in world._owed.items()):  # noqa: ASYNC110  # as in `World`
            await trio.sleep(0.02)
        return
    lost = {str(device): len(owed - {sent.key for sent in device.stored}) for device, owed in world._owed.items()}
    raise Violation(f"not settled: {lost}")


def is_settled(device: Device, owed: set[Key]) -> bool:
    return not device.unaccepted and device.is_caught_up and owed <= {sent.key for sent in device.stored}
