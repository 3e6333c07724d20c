"""Attacks on authentication (docs/protocol.md, sections 2 and 3)."""

import os

import orjson

from attack.target import ONE_ADDRESS, Attack, Refused, Target, address, ending, new_identity, reply, verify
from bench.crowd import text_frame
from tests.server.raw_client import RawClient
from tests.wire.frame_builder import TEXT, frame

AT_ONCE = 30

_TOKENS = ("", "00" * 32, "01" + "00" * 31, "ff" * 32, "ec" + "ff" * 30 + "7f", "g" * 64, "ab" * 31, "\x00" * 64)
"""Small order, not canonical, not hex, not a key."""
_ORIGINS = ("https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1@evil.example", "file://")


async def bad_signatures(target: Target) -> None:
    await target.swarm(AT_ONCE, lambda number: _sign_badly(target, address(number)))


async def bad_signatures_from_one_address(target: Target) -> None:
    await target.swarm(AT_ONCE, lambda _: _sign_badly(target, ONE_ADDRESS))


async def bad_keys(target: Target) -> None:
    async def once(number: int) -> str:
        async with target.socket(address(number)) as client:
            target.tries += 1
            await client.send(_auth(_TOKENS[number % len(_TOKENS)]))
            await reply(client)
            target.breaches.append("a key that is none got a challenge")
        return "challenge"

    await target.swarm(AT_ONCE, once)


async def replays(target: Target) -> None:
    """A proof made for one connection, on another; a second attempt at one challenge; a proof for another's challenge
    that a hostile server passes on.
    """
    identity = new_identity()

    async def once(number: int) -> str:
        async with target.socket(address(number)) as first, target.socket(address(number + 1)) as second:
            target.tries += 1
            challenges = []
            for client in (first, second):
                await client.send(_auth(identity.client))
                challenges.append((await reply(client))["challenge"])
            if challenges[0] == challenges[1]:
                target.breaches.append("one challenge was given twice")
            await first.send(_bad_proof(), verify(identity, challenges[0])) if number % 2 else await first.send(
                verify(identity, challenges[1])
            )
            return await _must_not_enter(target, first, "with a proof that is not for this connection")

    await target.swarm(AT_ONCE, once)


async def other_origins(target: Target) -> None:
    """A page of another site opens a socket; a client signs the name of a server that passes challenges on."""
    identity = new_identity()

    async def once(number: int) -> str:
        target.tries += 1
        foreign = _ORIGINS[number % len(_ORIGINS)]
        if number % 2:
            async with target.socket(address(number), b"Origin: " + foreign.encode()):
                target.breaches.append(f"a page of {foreign} got a socket")
            return "101"
        async with target.socket(address(number)) as client:
            await client.send(_auth(identity.client, origin="https://evil.example"))
            challenge = (await reply(client))["challenge"]
            await client.send(verify(identity, challenge))
            return await _must_not_enter(target, client, "with the origin of another server")

    await target.swarm(AT_ONCE, once)


async def devices(target: Target) -> None:
    """Sixteen devices of each new client, from many addresses."""

    async def once(number: int) -> str:
        identity = new_identity(f"d{number}")
        async with target.session(address(number), identity):
            target.tries += 1
            target.mailboxes += 1
            return "auth_ok"

    await target.swarm(AT_ONCE, once)


async def takeovers(target: Target) -> None:
    """Sessions of one device that replace each other."""
    identity = new_identity("phone")
    target.mailboxes = 1

    async def once(number: int) -> str:
        async with target.session(address(number), identity) as client:
            target.tries += 1
            return await ending(client)

    await target.swarm(AT_ONCE, once)


async def _sign_badly(target: Target, source: bytes) -> str:
    identity = new_identity()
    async with target.socket(source) as client:
        target.tries += 1
        await client.send(_auth(identity.client))
        await reply(client)
        await client.send(_bad_proof())
        return await _must_not_enter(target, client, "with a bad signature")


async def _must_not_enter(target: Target, client: RawClient, how: str) -> str:
    try:
        answer = await reply(client)
    except Refused as refusal:
        return str(refusal)
    if answer["type"] == "auth_ok":
        target.breaches.append(f"somebody got in {how}")
    return str(answer["type"])


def _auth(token: str, **more: str) -> bytes:
    return frame(TEXT, orjson.dumps({"type": "auth", "payload": {"token": token, **more}}))


def _bad_proof() -> bytes:
    return text_frame({"type": "verify", "payload": {"attempt": os.urandom(64).hex()}})


ATTACKS = (
    Attack(
        "bad signatures",
        "the server's time, 80 µs a signature",
        "section 2; `limits.unauthenticated`",
        "attempts",
        bad_signatures,
    ),
    Attack(
        "bad signatures, one address",
        "the same, from somebody with one address",
        "`limits.attempts_per_minute`",
        "attempts",
        bad_signatures_from_one_address,
    ),
    Attack(
        "keys that are none",
        "a key for which one signature is good for several texts",
        "section 2; RFC 8032 section 8",
        "keys",
        bad_keys,
    ),
    Attack("replays", "to be somebody without their key", "section 2: one attempt a challenge", "proofs", replays),
    Attack(
        "other origins",
        "to be a slot of another site, in their browser or with their proof",
        "RFC 6455 section 10.2; section 3",
        "sockets",
        other_origins,
    ),
    Attack(
        "new devices",
        "a mailbox on the disk for every key",
        "section 5; `limits.registrations_per_hour`",
        "devices",
        devices,
    ),
    Attack("takeovers", "time, by sessions that replace each other", "section 5", "sessions", takeovers),
)
