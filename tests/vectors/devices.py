"""Writes devices.json: `python -m tests.vectors.devices`. A second opinion: it uses PyNaCl, hashlib and the document
(docs/protocol.md, section 9), and nothing of IronWire.

Everything is hex but times, indexes and names. A case says what has to come of it:

    certificates    `verdict` ok or refused, for `device` at `now`
    entries         `verdict` ok or refused, of `entry` and `sig` in the log of `client`; for ok its fields and `head`
    logs            `taken` of the `entries` go into an empty log; the one behind them is refused as `misplaced` or
                    `invalid`; `current` and `removed` are the devices afterwards
    readings        `verdict` on `offered` for a reader who has `known`
    heads           `relation` of `head` to `known`
    safety, epochs  digits
    auth            the text that a device signs, and its signature
"""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

FILE = Path(__file__).with_name("devices.json")

NEVER = 2**53 - 1
T0 = 1_790_000_000_000
ZEROS = bytes(32)
SMALL_ORDER = b"\x01" + bytes(31)

Case = dict[str, Any]
Signed = tuple[bytes, bytes]


def key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


def public(name: str) -> bytes:
    return bytes(key(name).verify_key)


ALICE, BOB = key("alice"), key("bob")
PHONE, LAPTOP, WATCH = (public(name) for name in ("phone", "laptop", "watch"))
CLIENT = bytes(ALICE.verify_key)


# --- certificates ----------------------------------------------------------------------------------------------------


def certificate(identity: SigningKey, device: bytes, not_after: int = NEVER, context: bytes = b"device v1") -> bytes:
    date = struct.pack(">Q", not_after)
    signature = identity.sign(b"IronWire " + context + b"\0" + device + date).signature
    return b"\x01" + bytes(identity.verify_key) + date + signature


def certificates() -> list[Case]:
    good = certificate(ALICE, PHONE)
    dated = certificate(ALICE, PHONE, T0)

    def case(name: str, data: bytes, verdict: str, *, device: bytes = PHONE, now: int = T0) -> Case:
        return {"name": name, "certificate": data.hex(), "device": device.hex(), "now": now, "verdict": verdict}

    def flipped(place: int) -> bytes:
        return good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]

    return [
        case("one of a phone", good, "ok"),
        case("one that ends now", dated, "ok"),
        case("one that has ended", dated, "refused", now=T0 + 1),
        case("of another device", good, "refused", device=LAPTOP),
        case("signed by somebody else", good[:41] + certificate(BOB, PHONE)[41:], "refused"),
        case("of another client", good[:1] + bytes(BOB.verify_key) + good[33:], "refused"),
        case("signed for another purpose", certificate(ALICE, PHONE, context=b"device log v1"), "refused"),
        case("of a later version", b"\x02" + good[1:], "refused"),
        case("cut short", good[:-1], "refused"),
        case("too long", good + b"\0", "refused"),
        case("empty", b"", "refused"),
        case("with an end beyond 2^53", certificate(ALICE, PHONE, 2**53), "refused"),
        case("of a client that is no point", good[:1] + SMALL_ORDER + good[33:], "refused"),
        *(case(f"with byte {place} changed", flipped(place), "refused") for place in (0, 1, 32, 33, 40, 41, 72, 104)),
    ]


# --- entries ---------------------------------------------------------------------------------------------------------

ADD, REMOVE, SNAPSHOT = 1, 2, 3


def raw_entry(
    index: int,
    prev: bytes,
    op: int,
    devices: list[bytes],
    *,
    flags: int = 0,
    time: int = T0,
    client: bytes = CLIENT,
    magic: bytes = b"IWD1",
    count: int | None = None,
) -> bytes:
    number = len(devices) if count is None else count
    return (
        magic
        + client
        + struct.pack(">I", index)
        + prev
        + struct.pack(">BBQB", op, flags, time, number)
        + b"".join(devices)
    )


def signed(entry: bytes, identity: SigningKey = ALICE, context: bytes = b"IronWire device log v1\0") -> Signed:
    return entry, identity.sign(context + entry).signature


def head(entry: Signed) -> bytes:
    return hashlib.sha256(entry[0] + entry[1]).digest()


def entries() -> list[Case]:
    def ok(name: str, index: int, prev: bytes, op: int, devices: list[bytes], flags: int = 0) -> Case:
        pair = signed(raw_entry(index, prev, op, devices, flags=flags))
        return {
            **_pair(pair),
            "name": name,
            "client": CLIENT.hex(),
            "verdict": "ok",
            "index": index,
            "prev": prev.hex(),
            "op": op,
            "is_owner": bool(flags),
            "time": T0,
            "devices": [device.hex() for device in devices],
            "head": head(pair).hex(),
        }

    def refused(name: str, pair: Signed) -> Case:
        return {**_pair(pair), "name": name, "client": CLIENT.hex(), "verdict": "refused"}

    first = raw_entry(0, ZEROS, ADD, [PHONE], flags=1)
    _, signature = signed(first)
    both = sorted([PHONE, LAPTOP])
    later = b"\x77" * 32
    return [
        ok("the first: an owner is added", 0, ZEROS, ADD, [PHONE], 1),
        ok("a linked device is added", 1, later, ADD, [LAPTOP]),
        ok("a device is removed", 2, later, REMOVE, [LAPTOP]),
        ok("a snapshot of one", 0, ZEROS, SNAPSHOT, [PHONE], 1),
        ok("a snapshot of three, the last that a log can have", 4095, later, SNAPSHOT, sorted([PHONE, LAPTOP, WATCH])),
        refused("signed by somebody else", signed(first, BOB)),
        refused("signed for another purpose", signed(first, context=b"IronWire device v1\0")),
        refused("signed without a purpose", signed(first, context=b"")),
        refused("of another client", signed(raw_entry(0, ZEROS, ADD, [PHONE], client=bytes(BOB.verify_key)))),
        refused("with the signature of another entry", (raw_entry(0, ZEROS, ADD, [LAPTOP], flags=1), signature)),
        refused("cut short", (first[:-1], signature)),
        refused("cut before its header ends", (first[:82], signature)),
        refused("empty", (b"", signature)),
        refused("without a signature", (first, b"")),
        refused("with a short signature", (first, signature[:-1])),
        refused("of another format", signed(raw_entry(0, ZEROS, ADD, [PHONE], magic=b"IWD2"))),
        refused("with operation 0", signed(raw_entry(0, ZEROS, 0, [PHONE]))),
        refused("with operation 4", signed(raw_entry(0, ZEROS, 4, [PHONE]))),
        refused("with an unknown flag", signed(raw_entry(0, ZEROS, ADD, [PHONE], flags=2))),
        refused("a removal with a flag", signed(raw_entry(1, later, REMOVE, [PHONE], flags=1))),
        refused("with index 4096", signed(raw_entry(4096, later, ADD, [PHONE]))),
        refused("at a time of 2^53", signed(raw_entry(0, ZEROS, ADD, [PHONE], time=2**53))),
        refused("the first, following on something", signed(raw_entry(0, later, ADD, [PHONE]))),
        refused("not the first, following on nothing", signed(raw_entry(1, ZEROS, ADD, [PHONE]))),
        refused("adding nobody", signed(raw_entry(0, ZEROS, ADD, []))),
        refused("adding two", signed(raw_entry(0, ZEROS, ADD, both))),
        refused("removing two", signed(raw_entry(1, later, REMOVE, both))),
        refused("a snapshot of nobody", signed(raw_entry(0, ZEROS, SNAPSHOT, []))),
        refused("a snapshot out of order", signed(raw_entry(0, ZEROS, SNAPSHOT, both[::-1]))),
        refused("a snapshot that names a device twice", signed(raw_entry(0, ZEROS, SNAPSHOT, [PHONE, PHONE]))),
        refused("naming more than it holds", signed(raw_entry(0, ZEROS, SNAPSHOT, both, count=3))),
        refused("naming less than it holds", signed(raw_entry(0, ZEROS, SNAPSHOT, both, count=1))),
        refused("of a device that is no point", signed(raw_entry(0, ZEROS, ADD, [SMALL_ORDER]))),
    ]


# --- logs ------------------------------------------------------------------------------------------------------------

Change = tuple[int, list[bytes], int]


def chain(changes: list[Change], start: list[Signed] | None = None, *, time: int = T0) -> list[Signed]:
    """Entries that follow on each other, behind those of `start`."""
    log = list(start or [])
    for op, devices, flags in changes:
        prev = head(log[-1]) if log else ZEROS
        entry = raw_entry(len(log), prev, op, sorted(devices), flags=flags, time=time + len(log))
        log.append(signed(entry))
    return log


ADD_PHONE: Change = (ADD, [PHONE], 1)
ADD_LAPTOP: Change = (ADD, [LAPTOP], 0)
ADD_WATCH: Change = (ADD, [WATCH], 0)
REMOVE_LAPTOP: Change = (REMOVE, [LAPTOP], 0)
ONLY_WATCH: Change = (SNAPSHOT, [WATCH], 1)


def logs() -> list[Case]:
    def case(
        name: str, log: list[Signed], current: list[bytes], removed: list[bytes], fault: str | None = None
    ) -> Case:
        return {
            "name": name,
            "client": CLIENT.hex(),
            "entries": [_pair(pair) for pair in log],
            "taken": len(log) - (fault is not None),
            "fault": fault,
            "current": [device.hex() for device in current],
            "removed": [device.hex() for device in removed],
        }

    two = chain([ADD_PHONE, ADD_LAPTOP])
    three = [*two, *chain([REMOVE_LAPTOP], two)[2:]]
    return [
        case("an empty one", [], [], []),
        case("an owner and a linked device", two, [PHONE, LAPTOP], []),
        case("a linked device is removed", three, [PHONE], [LAPTOP]),
        case("everything was lost but the recovery code", chain([ONLY_WATCH], three), [WATCH], [PHONE, LAPTOP]),
        case("a snapshot that changes nothing", chain([(SNAPSHOT, [PHONE, LAPTOP], 0)], two), [PHONE, LAPTOP], []),
        case("the last device is removed", chain([(REMOVE, [PHONE], 0)], three), [], [PHONE, LAPTOP]),
        case("a reader begins with a snapshot", chain([ONLY_WATCH, ADD_LAPTOP], two)[2:3], [WATCH], []),
        case("adding one twice", chain([ADD_LAPTOP], two), [PHONE, LAPTOP], [], "invalid"),
        case("removing one that never was", chain([(REMOVE, [WATCH], 0)], two), [PHONE, LAPTOP], [], "invalid"),
        case("removing one twice", chain([REMOVE_LAPTOP], three), [PHONE], [LAPTOP], "invalid"),
        case("adding one that was removed", chain([ADD_LAPTOP], three), [PHONE], [LAPTOP], "invalid"),
        case(
            "a snapshot with one that was removed",
            chain([(SNAPSHOT, [PHONE, LAPTOP], 0)], three),
            [PHONE],
            [LAPTOP],
            "invalid",
        ),
        case("one index twice", [*two, chain([ADD_PHONE, ADD_WATCH])[1]], [PHONE, LAPTOP], [], "misplaced"),
        case("a hole", [*two, chain([REMOVE_LAPTOP, ADD_WATCH], two)[3]], [PHONE, LAPTOP], [], "misplaced"),
        case(
            "following on another entry",
            [*two, chain([ADD_PHONE, ADD_WATCH, ADD_LAPTOP])[2]],
            [PHONE, LAPTOP],
            [],
            "misplaced",
        ),
        case("beginning in the middle", chain([ADD_LAPTOP], two)[1:2], [], [], "misplaced"),
    ]


def readings() -> list[Case]:
    two = chain([ADD_PHONE, ADD_LAPTOP])
    three = chain([REMOVE_LAPTOP], two)
    five = chain([ADD_WATCH, (REMOVE, [PHONE], 0)], three)
    other = chain([ADD_PHONE, ADD_WATCH, (REMOVE, [WATCH], 0)])
    ended = chain([ONLY_WATCH], three)

    def case(name: str, known: list[Signed], offered: list[Signed], verdict: str) -> Case:
        return {
            "name": name,
            "client": CLIENT.hex(),
            "known": [_pair(pair) for pair in known],
            "offered": [_pair(pair) for pair in offered],
            "verdict": verdict,
        }

    return [
        case("nothing and nothing", [], [], "extended"),
        case("the first entries", [], two, "extended"),
        case("nothing new", two, two, "extended"),
        case("one more, all offered", two, three, "extended"),
        case("one more, from the last known on", two, three[1:], "extended"),
        case("three more, the news alone", two, five[2:], "extended"),
        case("a first reader begins with a snapshot", [], ended[3:], "extended"),
        case("one who began with a snapshot is offered everything", ended[3:], ended, "extended"),
        case("a revocation is hidden", three, two, "rolled_back"),
        case("a revocation is hidden from one who asks from there on", three, three[:1], "rolled_back"),
        case("everything is hidden", three, [], "rolled_back"),
        case("one who began with a snapshot is offered what was before", ended[3:], three, "rolled_back"),
        case("two entries with one index", two, other[:2], "key_copied"),
        case("two entries with one index, and a longer log", two, other, "key_copied"),
        case("two entries with one index, and a shorter log", five, other[1:2], "key_copied"),
        case("one that follows on an entry nobody has shown", two, other[2:], "forked"),
        case("one that was signed behind another, after one that is known", two, [two[1], other[2]], "forked"),
        case("two logs mixed in what is offered", [], [two[0], two[1], other[2]], "forked"),
        case("another log before a snapshot", ended[3:], [*other, ended[3]], "forked"),
        case("a hole behind the known", two, five[3:], "refused"),
        case("a hole in what is offered", [], [five[0], five[2]], "refused"),
        case("a forbidden change", two, chain([ADD_PHONE], two), "refused"),
    ]


def heads() -> list[Case]:
    two = chain([ADD_PHONE, ADD_LAPTOP])
    three = chain([REMOVE_LAPTOP], two)
    other = chain([ADD_PHONE, ADD_WATCH])
    ended = chain([ONLY_WATCH], three)

    def case(name: str, known: list[Signed], index: int, entry: Signed, relation: str) -> Case:
        claimed = [index, head(entry).hex()]
        log = [_pair(pair) for pair in known]
        return {"name": name, "client": CLIENT.hex(), "known": log, "head": claimed, "relation": relation}

    return [
        case("the last one", two, 1, two[1], "same"),
        case("an earlier one", three, 1, three[1], "older"),
        case("a later one", two, 2, three[2], "newer"),
        case("the first one, for one who knows nothing", [], 0, two[0], "newer"),
        case("another in its place", two, 1, other[1], "other"),
        case("another in an earlier place", three, 1, other[1], "other"),
        case("one before the snapshot that a reader began with", ended[3:], 1, two[1], "older"),
    ]


# --- numbers for people, and auth ------------------------------------------------------------------------------------


def fingerprint(client: bytes) -> str:
    digest = b"IronWire safety v1" + client + client
    for _ in range(5_200):
        digest = hashlib.sha512(digest).digest()
    return "".join(f"{int.from_bytes(digest[at : at + 5], 'big') % 100_000:05d}" for at in range(0, 30, 5))


def safety() -> list[Case]:
    def case(one: bytes, other: bytes) -> Case:
        digits = "".join(map(fingerprint, sorted((one, other))))
        return {"one": one.hex(), "other": other.hex(), "digits": digits}

    carol = public("carol")
    bob = bytes(BOB.verify_key)
    return [case(CLIENT, bob), case(bob, CLIENT), case(CLIENT, carol), case(CLIENT, CLIENT)]


def epochs() -> list[Case]:
    secrets = [bytes(16), b"\xff" * 16, bytes(range(16)), hashlib.sha256(b"epoch").digest()[:16]]
    return [{"secret": each.hex(), "digits": str(int.from_bytes(each, "big"))[-30:].zfill(30)} for each in secrets]


def auth() -> list[Case]:
    def case(origin: str, device: str) -> Case:
        nonce, log_head = hashlib.sha256(b"nonce").digest(), head(chain([ADD_PHONE])[0])
        names = [struct.pack(">H", len(name.encode())) + name.encode() for name in (origin, device)]
        text = b"ironwire-auth-v2\0" + names[0] + nonce + CLIENT + names[1] + PHONE + log_head
        return {
            "origin": origin,
            "nonce": nonce.hex(),
            "client": CLIENT.hex(),
            "device": device,
            "device_key": PHONE.hex(),
            "log_head": log_head.hex(),
            "text": text.hex(),
            "signature": key("phone").sign(text).signature.hex(),
        }

    return [case("https://chat.example", "phone"), case("http://localhost:8080", "a.b_C-9")]


def _pair(pair: Signed) -> Case:
    return {"entry": pair[0].hex(), "sig": pair[1].hex()}


def everything() -> Case:
    names = ("alice", "bob", "phone", "laptop", "watch")
    return {
        "keys": {name: {"seed": bytes(key(name)).hex(), "public": public(name).hex()} for name in names},
        "certificates": certificates(),
        "entries": entries(),
        "logs": logs(),
        "readings": readings(),
        "heads": heads(),
        "safety": safety(),
        "epochs": epochs(),
        "auth": auth(),
    }


def text() -> str:
    return json.dumps(everything(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
