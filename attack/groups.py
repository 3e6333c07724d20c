"""Attacks by groups, presence and calls (section 7): where one message makes many."""

import secrets
from itertools import count

import orjson
import trio

from attack.target import ONE_ADDRESS, Attack, Refused, Target, address, new_identity, reply
from bench.crowd import Identity
from tests.server.raw_client import RawClient
from tests.wire.frame_builder import TEXT, frame

AT_ONCE = 10
MEMBERS = 1_000

_NAMES = count()


async def churn(target: Target) -> None:
    """Groups of a thousand made, changed by several admins at once, and left."""

    async def once(number: int) -> str:
        admin = new_identity("phone")
        async with target.session(address(number), admin) as client:
            target.mailboxes += 1
            group = await make_group(client, 400)
            some = _names(50)
            changes = [
                ("group_add", {"group": group, "clients": some}),
                ("group_rename", {"group": group, "name": "x" * 128}),
                ("group_remove", {"group": group, "clients": some}),
                ("group_add", {"group": group, "clients": some, "if_epoch": 1}),
                ("group_info", {"group": group}),
                ("group_role", {"group": group, "client": some[0], "role": "admin"}),
                ("group_leave", {"group": group}),
            ]
            packet = b"".join(frame_of(verb, payload) for verb, payload in changes)
            return await target.flood(client, packet, len(changes))

    await target.swarm(AT_ONCE, once)


async def large_group(target: Target) -> None:
    """A thousand members, of whom a hundred are here, and ten who talk."""
    here = [new_identity("phone") for _ in range(100)]
    target.mailboxes = len(here)
    async with target.session(ONE_ADDRESS) as founder:
        clients = [each.client for each in here]
        group = await make_group(founder, 400, clients)
        await founder.send(frame_of("group_add", {"group": group, "clients": _names(499)}))
        packet = frame_of("text", {"to": group, "text": "x" * 50}) * 20

        async def talk(number: int) -> str:
            async with target.session(address(number), here[number % len(here)]) as client:
                return await target.flood(client, packet, 20)

        await target.swarm(30, talk)


async def typing(target: Target) -> None:
    here = [new_identity() for _ in range(50)]
    async with target.session(ONE_ADDRESS) as founder:
        group = await make_group(founder, 0, [each.client for each in here])
        packet = frame_of("typing", {"to": group, "typing": True}) * 200

        async def talk(number: int) -> str:
            async with target.session(address(number), here[number % len(here)]) as client:
                return await target.flood(client, packet, 200)

        await target.swarm(20, talk)


async def presence(target: Target) -> None:
    """Everybody watches everybody, and nobody can decide how they are."""
    here = [new_identity() for _ in range(100)]
    clients = [each.client for each in here]
    packet = b"".join(frame_of("presence", {"status": status}) for status in ("online", "busy", "away")) * 100

    async def flicker(number: int) -> str:
        async with target.session(address(number), here[number % len(here)]) as client:
            await client.send(
                frame_of("presence_allow", {"clients": clients}), frame_of("presence_watch", {"clients": clients})
            )
            return await target.flood(client, packet, 300)

    await target.swarm(30, flicker)


async def watching(target: Target) -> None:
    """Lists of 500, over and over."""
    packet = frame_of("presence_watch", {"clients": _names(500)}) + frame_of("presence_allow", {"clients": _names(500)})

    async def once(number: int) -> str:
        async with target.session(address(number)) as client:
            return await target.flood(client, packet, 2)

    await target.swarm(AT_ONCE, once)


async def calls(target: Target) -> None:
    """Offers, signals for calls that are not one's own, candidates without end."""
    victim = new_identity()

    async def once(number: int) -> str:
        async with target.session(address(number)) as client:
            return await target.flood(client, _signals_to(victim), 100)

    async with target.session(ONE_ADDRESS, victim) as ear, trio.open_nursery() as nursery:
        nursery.start_soon(target.drain, ear)
        await target.swarm(AT_ONCE, once)


async def blocks(target: Target) -> None:
    async def once(number: int) -> str:
        packet = b"".join(frame_of(verb, {"client": name}) for name in _names(100) for verb in ("block", "unblock"))
        async with target.session(address(number)) as client:
            return await target.flood(client, packet, 200)

    await target.swarm(AT_ONCE, once)


def _signals_to(callee: Identity) -> bytes:
    frames = []
    for _ in range(20):
        call = secrets.token_hex(16)
        to = {"to": callee.client, "call": call}
        candidate = {**to, "candidate": {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host"}}
        frames += [
            frame_of("call_offer", {**to, "sdp": "v=0\r\n" * 500, "media": "audio"}),
            frame_of("call_answer", {**to, "sdp": "v=0\r\n"}),
            frame_of("call_candidate", candidate),
            frame_of("call_update", {**to, "kind": "offer", "sdp": "v=0\r\n" * 500}),
            frame_of("call_ringing", to),
            frame_of("call_end", {**to, "reason": "hangup"}),
        ]
    return b"".join(frames)


async def make_group(client: RawClient, others: int, members: list[str] | None = None) -> str:
    """Returns the id of a group of these members and so many who exist nowhere."""
    clients = [*(members or ()), *_names(others)]
    await client.send(frame_of("group_create", {"clients": clients}, secrets.token_hex(8)))
    with trio.move_on_after(5):
        while True:
            answer = await reply(client)
            if answer.get("type") == "accepted":
                return str(answer["payload"]["group"])
    raise Refused("no group")


def _names(number: int) -> list[str]:
    """Ids that nobody has. A group does not ask who its members are."""
    return [f"{next(_NAMES):064x}" for _ in range(number)]


def frame_of(verb: str, payload: object, id_: str | None = None) -> bytes:
    """The text frame of one message."""
    message = {"type": verb, "payload": payload} if id_ is None else {"type": verb, "id": id_, "payload": payload}
    return frame(TEXT, orjson.dumps(message))


ATTACKS = (
    Attack(
        "group churn",
        "a change of membership that takes time for every member",
        "section 7.2; `limits.group_members`",
        "changes",
        churn,
        fixed="a change counted as few messages, whatever it cost; now for its members, and what is cheap goes first",
    ),
    Attack(
        "a large group",
        "a thousand copies of each text",
        "section 7.2; section 6.1",
        "texts",
        large_group,
        fixed="128 texts of each session waited for the disk, a thousand entries each, before those of everybody else; "
        "now one, which counts for its members and waits behind what is cheap",
    ),
    Attack("typing", "copies for everybody, of what is not worth one", "section 7.3", "signals", typing),
    Attack("presence", "the square of the number of watchers", "section 7.3", "changes", presence),
    Attack(
        "lists to watch",
        "time and memory for lists of 500",
        "section 7.3",
        "lists",
        watching,
        fixed="what ten clients sent at once was one turn of the loop; now two have a part of it in each turn",
    ),
    Attack(
        "calls",
        "to ring somebody without end, to hear or end the calls of others",
        "section 7.4",
        "signals",
        calls,
        fixed="as for lists to watch",
    ),
    Attack("blocks", "a transaction each, for nothing", "section 7.5", "changes", blocks),
)
