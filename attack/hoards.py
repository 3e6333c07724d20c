"""Attacks in two steps: something is heaped up within all limits, and then a small request makes the server handle all
of it (docs/protocol.md, sections 5, 7.2 and 7.4).
"""

import secrets
from contextlib import suppress

import trio

from attack.groups import frame_of, make_group
from attack.target import ANSWER_SECONDS, ONE_ADDRESS, Attack, Target, address, new_identity, reply
from bench.crowd import Identity, text_frame
from tests.server.raw_client import RawClient

AT_ONCE = 10
DEVICES = 16
LARGE = "x" * 60_000


async def many_groups(target: Target) -> None:
    """Ten accomplices are in the same forty groups, of 500 each, and ask which groups they are in."""
    here = [new_identity() for _ in range(AT_ONCE)]
    async with target.session(ONE_ADDRESS) as founder:
        for _ in range(40):
            await make_group(founder, 490, [each.client for each in here])

        async def ask(number: int) -> str:
            async with target.session(address(number), here[number % AT_ONCE]) as client:
                return await target.flood(client, frame_of("groups", {}), 1)

        await target.swarm(AT_ONCE, ask)


async def full_mailboxes(target: Target) -> None:
    """A client fills the mailboxes of its own devices, and removes the devices."""

    async def once(number: int) -> str:
        names = [f"d{each}" for each in range(4)]
        owner = await _with_devices(target, address(number), names)
        packet = _text_to(owner, "x") * 500
        async with target.session(address(number), owner) as client, trio.open_nursery() as nursery:
            nursery.start_soon(target.drain, client)
            for _ in range(6):
                await client.stream.send_all(packet)
            await client.send(*(frame_of("device_remove", {"device": name}) for name in names))
            target.tries += len(names)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        return "removed"

    await target.swarm(2, once)


async def many_devices(target: Target) -> None:
    """Texts between clients of sixteen devices each: every one has thirty-one entries."""
    names = [f"d{each}" for each in range(DEVICES)]

    async def once(number: int) -> str:
        speaker, listener = [await _with_devices(target, address(number), names) for _ in range(2)]
        async with target.session(address(number), speaker) as client:
            return await target.flood(client, _text_to(listener, "x") * 100, 100, pause_seconds=1)

    await target.swarm(AT_ONCE, once)


async def hoarded_calls(target: Target) -> None:
    """Calls that ring for a long time, with as much in each as may be; then the callee comes back."""
    victim = new_identity()

    async def call(number: int) -> str:
        async with target.session(address(number)) as client, trio.open_nursery() as nursery:
            nursery.start_soon(_call, target, client, victim)
            ended = await target.drain(client)
            nursery.cancel_scope.cancel()
        return ended

    async with trio.open_nursery() as nursery:
        nursery.start_soon(target.swarm, 50, call)
        while True:
            await _visit(target, victim)
            await trio.sleep(0.1)


async def _call(target: Target, client: RawClient, victim: Identity) -> None:
    """As often as it may be, again and again."""
    with suppress(trio.BrokenResourceError):
        while True:
            for _ in range(8):
                await client.send(*_long_call(victim))
                target.tries += 65
                await trio.sleep(0.1)


async def _visit(target: Target, victim: Identity) -> None:
    """Be here for a while, and read everything."""
    ended = ""
    with trio.move_on_after(1), suppress(trio.BrokenResourceError):
        async with target.session(ONE_ADDRESS, victim) as ear:
            ended = await target.drain(ear)
    if ended:
        target.breaches.append(f"somebody who reads everything was thrown out, because of calls: {ended}")


async def large_mail(target: Target) -> None:
    """Devices for which large texts wait acknowledge one at a time."""

    async def once(number: int) -> str:
        owner = new_identity("phone")
        async with target.session(address(number), owner):
            target.mailboxes += 1
        async with target.session(address(number)) as feeder:
            await feeder.send(_text_to(owner, LARGE) * 40)
            await trio.sleep(1)
        async with target.session(address(number), owner) as client:
            with trio.fail_after(ANSWER_SECONDS):
                while (message := await reply(client))["type"] == "text":
                    target.tries += 1
                    await client.send(frame_of("ack", {"upto": message["seq"]}))
        return "read"

    await target.swarm(AT_ONCE, once)


async def _with_devices(target: Target, source: bytes, names: list[str]) -> Identity:
    """A client that has registered these devices, as the first of them."""
    owner = new_identity(names[0])
    for name in names:
        async with target.session(source, Identity(owner.key, owner.client, name)):
            target.mailboxes += 1
    return owner


def _long_call(callee: Identity) -> list[bytes]:
    call = {"to": callee.client, "call": secrets.token_hex(16)}
    # One character beyond the BMP makes every character of a Python string take four bytes.
    candidate = {**call, "candidate": {"candidate": "\U0001f4de" + "x" * 2047}}
    offer = frame_of("call_offer", {**call, "sdp": "\U0001f4de" + "x" * 30_000, "media": "audio"})
    return [offer, *[frame_of("call_candidate", candidate)] * 64]


def _text_to(recipient: Identity, text: str) -> bytes:
    return text_frame({"type": "text", "payload": {"to": recipient.client, "text": text}})


ATTACKS = (
    Attack(
        "many groups",
        "the server's time, by a list of groups",
        "section 7.2; `limits.groups_per_client`",
        "questions",
        many_groups,
        fixed="a list of groups read every member of each, 2.8 s of everybody's time for a thousand of them; now 4 ms",
    ),
    Attack(
        "full mailboxes removed",
        "the server's time, by one small request",
        "section 5; `limits.mailbox_envelopes`",
        "devices",
        full_mailboxes,
        fixed="a mailbox of 100,000 was erased in one turn of the loop, of 0.8 s; now in parts of 250",
    ),
    Attack(
        "many devices",
        "thirty-one copies of each text",
        "section 5; `limits.devices_per_client`",
        "texts",
        many_devices,
        fixed="a text counted as one, whatever it cost: a batch of 250 was 7,750 entries, and one turn of 0.2 s; now "
        "each counts for its mailboxes",
    ),
    Attack(
        "calls that wait",
        "memory; and to keep somebody out",
        "section 7.4; `limits.call_bytes`",
        "signals",
        hoarded_calls,
        fixed="8 calls of a client held 4.7 MB while they rang, and who came back was sent all of that, from everybody "
        "who called, until its outbox was full: 4508; now 128 KiB, and half an outbox",
    ),
    Attack(
        "large mail",
        "the disk's time, for what does not fit the window",
        "section 5; `limits.window_bytes`",
        "acks",
        large_mail,
        fixed="for each ack of a large text a hundred were read, 5 MB in 7 ms; now those that may go out. What acks "
        "erase has its share of a batch",
    ),
)
