"""Attacks by clients, who have authenticated: on mailboxes, acks, ids and outboxes (sections 4 and 5)."""

from collections.abc import Sequence
from itertools import count, cycle

import orjson
import trio

from attack.target import Attack, Target, address, new_identity
from bench.crowd import Identity, text_frame
from tests.wire.frame_builder import TEXT, frame

AT_ONCE = 10
LARGE = "x" * 60_000
STALL_SECONDS = 2.0
"""How long somebody reads nothing before they come again, whether or not they were thrown out."""

_IDS = count()


async def texts(target: Target) -> None:
    """Each to a client of the attacker's own, who is here and reads."""

    async def once(number: int) -> str:
        listener = new_identity()
        async with (
            target.session(address(number), listener) as ear,
            target.session(address(number)) as client,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(target.drain, ear)
            ended = await target.flood(client, _texts_to(listener, "x" * 50, 300), 300)
            nursery.cancel_scope.cancel()
        return ended

    await target.swarm(AT_ONCE, once)


async def large_durable_texts(target: Target) -> None:
    """Faster than the disk takes them."""

    async def once(number: int) -> str:
        victim = new_identity("phone")
        async with target.session(address(number), victim):
            target.mailboxes += 1
        async with target.session(address(number)) as client:
            return await target.flood(client, _texts_to(victim, LARGE, 10), 10)

    await target.swarm(AT_ONCE, once)


async def small_durable_texts(target: Target) -> None:
    async def once(number: int) -> str:
        victim = new_identity("phone")
        async with target.session(address(number), victim):
            target.mailboxes += 1
        async with target.session(address(number)) as client:
            return await target.flood(client, _texts_to(victim, "x", 400), 400)

    await target.swarm(AT_ONCE, once)


async def one_mailbox(target: Target) -> None:
    """Many identities fill the mailbox of somebody who is away."""
    victim = new_identity("phone")
    async with target.session(address(0), victim):
        target.mailboxes = 1

    async def once(number: int) -> str:
        async with target.session(address(number)) as client:
            return await target.flood(client, _texts_to(victim, LARGE, 10), 10)

    await target.swarm(AT_ONCE, once)


async def duplicate_ids(target: Target) -> None:
    """One id, with the same text and with others."""
    victim = new_identity("phone")
    async with target.session(address(0), victim):
        target.mailboxes = 1
    messages = [{"type": "text", "id": "1", "payload": {"to": victim.client, "text": str(n % 2)}} for n in range(300)]
    packet = b"".join(map(text_frame, messages))

    async def once(number: int) -> str:
        async with target.session(address(number)) as client:
            return await target.flood(client, packet, len(messages))

    await target.swarm(AT_ONCE, once)


async def acks(target: Target) -> None:
    """Of the past over and over, and of the future, which ends the session."""
    packets = cycle(text_frame({"type": "ack", "payload": {"upto": upto}}) * 400 for upto in (0, 1, 2**53 - 1, 0, 0))

    async def once(number: int) -> str:
        identity = new_identity("phone")
        async with target.session(address(number), identity) as client:
            target.mailboxes += 1
            await client.send(_texts_to(identity, "to myself", 1))
            return await target.flood(client, next(packets), 400)

    await target.swarm(AT_ONCE, once)


async def readers_who_stall(target: Target) -> None:
    """Sessions that are sent more than their connections hold, and read nothing."""
    await _feed_those_who_stall(target, [new_identity() for _ in range(40)])


async def devices_that_stall(target: Target) -> None:
    """The same of devices, which never acknowledge."""
    victims = [new_identity("phone") for _ in range(20)]
    target.mailboxes = len(victims)
    await _feed_those_who_stall(target, victims)


async def unknown_clients_asked_for(target: Target) -> None:
    """Texts to clients who do not exist."""

    async def once(number: int) -> str:
        packet = b"".join(
            text_frame({"type": "text", "payload": {"to": f"{next(_IDS):064x}", "text": "?"}}) for _ in range(300)
        )
        async with target.session(address(number)) as client:
            return await target.flood(client, packet, 300)

    await target.swarm(AT_ONCE, once)


async def questions(target: Target) -> None:
    """The verbs that ask the store."""
    verbs = ({"type": "devices", "payload": {}}, {"type": "groups", "payload": {}}, {"type": "blocks", "payload": {}})
    packet = b"".join(map(text_frame, verbs)) * 50

    async def once(number: int) -> str:
        async with target.session(address(number)) as client:
            return await target.flood(client, packet, 150)

    await target.swarm(AT_ONCE, once)


async def _feed_those_who_stall(target: Target, victims: Sequence[Identity]) -> None:
    target.stalled = len(victims)
    names, addressees = cycle(victims), cycle(victims)

    async def stall(number: int) -> str:
        async with target.session(address(number), next(names)):
            await trio.sleep(STALL_SECONDS)
        return "stalled"

    async def feed(number: int) -> str:
        async with target.session(address(number)) as client:
            return await target.flood(client, _texts_to(next(addressees), LARGE, 10), 10, pause_seconds=0.02)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(target.swarm, len(victims), stall)
        nursery.start_soon(target.swarm, AT_ONCE, feed)


def _texts_to(recipient: Identity, text: str, number: int) -> bytes:
    """Texts without an id, in one packet."""
    message = {"type": "text", "payload": {"to": recipient.client, "text": text}}
    return frame(TEXT, orjson.dumps(message)) * number


ATTACKS = (
    Attack(
        "texts",
        "the server's time",
        "`limits.messages_per_second`",
        "texts",
        texts,
        fixed="a read of a thousand texts was one turn of the loop; now 100, and one client with more has each turn",
    ),
    Attack(
        "small durable texts",
        "the disk's time, by its transactions",
        "section 4; `limits.messages_per_second`",
        "texts",
        small_durable_texts,
        fixed="1,000 texts of each session waited for the disk, before those of everybody else; now 100, in fair order",
    ),
    Attack(
        "large durable texts",
        "memory for texts that wait for the disk",
        "`limits.bytes_per_second`, `limits.unsettled_envelopes`",
        "texts",
        large_durable_texts,
        fixed="1,000 texts of 60 KB of each session waited in memory, and a batch of 60 MB was one turn; now 1 MiB",
    ),
    Attack(
        "one mailbox",
        "somebody who is away gets nothing from anybody else",
        "section 4: `mailbox_full`",
        "texts",
        one_mailbox,
        fixed="as for large durable texts",
    ),
    Attack("one id for all", "texts delivered twice", "section 4", "texts", duplicate_ids),
    Attack("acks", "an envelope that is erased before it was delivered", "section 5", "acks", acks),
    Attack(
        "readers who stall",
        "memory for what they do not read; everybody waits for them",
        "section 6: 4508; `limits.outbox_bytes`",
        "texts",
        readers_who_stall,
    ),
    Attack(
        "devices that stall",
        "the same, with mailboxes",
        "section 5: window; `limits.window_bytes`",
        "texts",
        devices_that_stall,
    ),
    Attack(
        "texts to nobody",
        "a cache that grows with every name",
        "section 4: `user_offline`",
        "texts",
        unknown_clients_asked_for,
    ),
    Attack("questions", "the store's time", "section 5; `limits.messages_per_second`", "questions", questions),
)
