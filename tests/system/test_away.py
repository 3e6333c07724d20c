"""Thousands of encrypted messages for a device that was away, through cuts and commits, with a server and files as they
are. Ten thousand of them: `python -m bench --only away`.
"""

from pathlib import Path

import trio

from bench.away import play
from bench.clients import Place
from tests.system.conftest import IRONWIRE_SERVE, running_server

MESSAGES = 2_000
SECONDS = 100
"""Many times what a quiet machine needs."""


async def test_thousands_of_messages_to_a_device_that_was_away(tmp_path: Path) -> None:
<<<<<<< HEAD
    with running_server(IRONWIRE_SERVE, tmp_path) as server, trio.fail_after(120 + MESSAGES / 25):
        place = Place(ServerAddress.parse(f"http://127.0.0.1:{server.port}"), tmp_path)
        async with place.device("bob.phone") as bob, place.device("alice.phone") as alice:
            await alice.send_text(BOB.client_id, "they know each other")
            await until(bob, lambda event: text_of(event) is not None)
        began = time.perf_counter()
        async with place.device("alice.phone") as alice:
            async with trio.open_nursery() as nursery:
                await send_all(place, alice, nursery)
            while epoch_with(alice, BOB) < 3:  # noqa: ASYNC110  # the library tells of no epoch; one has begun it, two follow
                await trio.sleep(0.01)
        sent = time.perf_counter()
        lines = await read_all(place, {MESSAGES // 5, MESSAGES // 2, MESSAGES * 4 // 5})
        done = time.perf_counter()
    print(f"\n{MESSAGES:,} messages: sent in {sent - began:.1f} s, read in {done - sent:.1f} s")
    assert lines == [str(number) for number in range(MESSAGES)]
    assert done - sent < 5 + MESSAGES * MILLISECONDS_EACH / 1_000


async def send_all(place: Place, alice: Client, nursery: trio.Nursery) -> None:
    """Two devices of Alice come into the conversation while she writes: two commits."""
    laptops = {MESSAGES // 3 // BATCH * BATCH: "alice.laptop", MESSAGES * 2 // 3 // BATCH * BATCH: "alice.tablet"}
    for start in range(0, MESSAGES, BATCH):
        numbers = range(start, min(start + BATCH, MESSAGES))
        await alice.queue(*(Text(BOB.client_id, str(number)) for number in numbers))
        if start in laptops:
            nursery.start_soon(come_in, place, laptops[start])
    while alice.waiting:
        await alice.wait_moved()


async def come_in(place: Place, name: str) -> None:
    async with place.device(name) as client:
        await until(client, lambda event: isinstance(event, Secured))


async def read_all(place: Place, cuts: set[int]) -> list[str]:
    lines: list[str] = []
    async with place.device("bob.phone") as bob:
        async for event in bob:
            assert not isinstance(event, Unreadable)
            text = text_of(event)
            if text is not None:
                lines.append(text)
                if len(lines) in cuts:
                    await place.cut("bob.phone")
                if len(lines) == MESSAGES:
                    return lines
    raise AssertionError("the session ended before everything was read")


def epoch_with(client: Client, other: Identity) -> int:
    encryption = client._link.encryption
    member = None if encryption is None else encryption.engine.member_of(other.client_id)
    return 0 if member is None else member.place[1]


def text_of(event: Event) -> str | None:
    if isinstance(event, Received) and isinstance(event.message, DeliveredText):
        assert event.content is not None, "it came encrypted"
        return event.message.text
    return None


async def until(client: Client, condition: Callable[[Event], bool]) -> None:
    async for event in client:
        if condition(event):
            return
=======
    with running_server(IRONWIRE_SERVE, tmp_path) as server, trio.fail_after(SECONDS):
        played = await play(Place.at(server.port, tmp_path), MESSAGES)
    assert played.lines == [str(number) for number in range(MESSAGES)]
>>>>>>> join
