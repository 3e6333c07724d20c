"""Thousands of encrypted messages for a device that is away: it comes back and reads all of them, in order, through
cuts, while commits were made between them.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from attrs import frozen

from bench import cache
from bench.clients import Place, identity_of
from bench.contenders import Contender
from bench.figures import Figure
from bench.load import LoadFailed
from bench.scale import Scale
from ironwire.client import Client, DeliveredText, Event, Received, Secured, Text, Unreadable

BATCH = 500
COMMITS = 2
CUTS = 3


def returns(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """Seconds to send them, from the first call to the last answer, and to read them, from connecting on."""
    with contender.running() as server, TemporaryDirectory(prefix="away-", dir=cache.cache_folder()) as folder:
        played = trio.run(play, Place.at(server.port, Path(folder)), scale.away_messages)
    if played.lines != [str(number) for number in range(scale.away_messages)]:
        raise LoadFailed("not everything was read once, in order")
    case = f"{scale.away_messages:,} messages, {COMMITS} commits, {CUTS} cuts"
    yield Figure("away", case, "sent", played.sent_seconds, {})
    yield Figure("away", case, "read", played.read_seconds, {})


@frozen
class Played:
    lines: list[str]
    sent_seconds: float
    read_seconds: float


async def play(place: Place, messages: int) -> Played:
    """Alice writes to Bob's phone, which is away, while two more devices of hers come into the conversation."""
    async with place.device("bob.phone") as bob, place.device("alice.phone") as alice:
        await alice.send_text(bob.client_id, "they know each other")
        await _until(bob, lambda event: _text_of(event) is not None)
    began = time.perf_counter()
    async with place.device("alice.phone") as alice:
        async with trio.open_nursery() as nursery:
            await _send_all(place, alice, nursery, messages)
        sent = time.perf_counter()
        await _until(alice, lambda _: _epoch_of(alice) > COMMITS)
    again = time.perf_counter()
    lines = await _read_all(place, messages)
    return Played(lines, sent - began, time.perf_counter() - again)


async def _send_all(place: Place, alice: Client, nursery: trio.Nursery, messages: int) -> None:
    others = {messages * (number + 1) // (COMMITS + 1) // BATCH * BATCH: number for number in range(COMMITS)}
    to, turn = identity_of("bob").client_id, trio.Lock()
    for start in range(0, messages, BATCH):
        await alice.queue(*(Text(to, str(number)) for number in range(start, min(start + BATCH, messages))))
        if start in others:
            nursery.start_soon(_come_in, place, f"alice.laptop{others[start]}", turn)
    while alice.waiting:
        await alice.wait_moved()


async def _come_in(place: Place, name: str, turn: trio.Lock) -> None:
    """One after the other: devices that come at the same time come by one commit."""
    async with turn, place.device(name) as client:
        await _until(client, lambda event: isinstance(event, Secured))


async def _read_all(place: Place, messages: int) -> list[str]:
    cuts = {messages * (number + 1) // (CUTS + 1) for number in range(CUTS)}
    lines: list[str] = []
    async with place.device("bob.phone") as bob:
        async for event in bob:
            if isinstance(event, Unreadable):
                raise LoadFailed(f"a message cannot be read: {event.reason}")
            text = _text_of(event)
            if text is not None:
                lines.append(text)
                if len(lines) in cuts:
                    await place.cut("bob.phone")
                if len(lines) == messages:
                    break
    return lines


def _text_of(event: Event) -> str | None:
    if not isinstance(event, Received) or not isinstance(event.message, DeliveredText):
        return None
    if event.content is None:
        raise LoadFailed("a message came in the clear")
    return event.message.text


def _epoch_of(alice: Client) -> int:
    encryption = alice._link.encryption
    member = None if encryption is None else encryption.engine.member_of(identity_of("bob").client_id)
    return 0 if member is None else member.place[1]


async def _until(client: Client, condition: Callable[[Event], bool]) -> None:
    async for event in client:
        if condition(event):
            return
