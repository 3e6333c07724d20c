"""Devices as keys, each rule of docs/protocol.md, section 9, a conversation."""

import json
from pathlib import Path

import trio.testing
from attrs import evolve
from trio.testing import MockClock

from ironwire.crypto.signing import DeviceKey, PublicKey, certified_auth_text
from ironwire.ids import Origin
from ironwire.limits import Limits
from ironwire.protocol.devices.certificate import NEVER_MS, issue_certificate
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogEntry, LogHead, LogOp, SignedEntry, sign_entry
from ironwire.server.operator.config import AuthSettings
from ironwire.store.sqlite.store import SqliteStore
from tests.playbook import NONCE, NOW_MS, Stage, auth_frame, identity_of, open_stage, verify_frame
from tests.server.test_limits import coming_from
from tests.wire import frame_builder

ORIGIN = Origin("https://chat.example")
AUTH = AuthSettings(origins=(ORIGIN,))
PHONE, LAPTOP, THIEF = (DeviceKey.from_seed(name.ljust(32)) for name in (b"phone", b"laptop", b"thief"))
ALICE = identity_of("alice")


def log_of(*changes: tuple[LogOp, DeviceKey], actor: str = "alice") -> DeviceLog:
    identity = identity_of(actor)
    log = DeviceLog(identity.public_key)
    for op, key in changes:
        entry = log.next_entry(op, [key.public_key], time_ms=NOW_MS + log.next_index)
        log = log.append(sign_entry(identity, entry))
    return log


TWO = log_of((LogOp.ADD, PHONE), (LogOp.ADD, LAPTOP))
REVOKED = log_of((LogOp.ADD, PHONE), (LogOp.ADD, LAPTOP), (LogOp.REMOVE, LAPTOP))


def append_json(signed: SignedEntry, id_: str = "1") -> str:
    payload = {"entry": signed.entry.encode().hex(), "sig": signed.signature.hex()}
    return json.dumps({"type": "device_log_append", "id": id_, "payload": payload})


def certified_auth(
    key: DeviceKey,
    device: str = "phone",
    *,
    actor: str = "alice",
    not_after_ms: int = NEVER_MS,
    head: bytes = bytes(32),
) -> bytes:
    certificate = issue_certificate(identity_of(actor), key.public_key, not_after_ms)
    payload = {
        "token": identity_of(actor).client_id,
        "device": device,
        "origin": ORIGIN,
        "cert": certificate.encode().hex(),
        "device_key": key.public_key.raw.hex(),
        "log_head": head.hex(),
    }
    return frame_builder.text(json.dumps({"type": "auth", "payload": payload}))


def certified_verify(
    key: DeviceKey, device: str = "phone", *, client: PublicKey = ALICE.public_key, head: bytes = bytes(32)
) -> bytes:
    text = certified_auth_text(
        origin=ORIGIN, nonce=NONCE, public_key=client.raw, device=device, device_key=key.public_key.raw, log_head=head
    )
    return frame_builder.text(json.dumps({"type": "verify", "payload": {"attempt": key.sign(text).hex()}}))


async def present(stage: Stage, actor: str, key: DeviceKey, device: str) -> None:
    """Connect with a certificate; the next frame is the server's verdict."""
    await stage.connect(actor)
    await stage.actors[actor].send(certified_auth(key, device), certified_verify(key, device))
    assert json.loads(await stage.next_text(actor))["type"] == "auth_challenge"


async def enter_certified(stage: Stage, actor: str, key: DeviceKey, device: str) -> None:
    await present(stage, actor, key, device)
    assert json.loads(await stage.next_text(actor))["type"] == "auth_ok"
    await stage.next_text(actor)  # caught_up, or the first delivery


async def append(stage: Stage, actor: str, *entries: SignedEntry) -> None:
    """Append from a session without a mailbox."""
    for signed in entries:
        await stage.actors[actor].send(frame_builder.text(append_json(signed)))
        answers = [json.loads(await stage.next_text(actor))["type"] for _ in range(2)]
        assert sorted(answers) == ["accepted", "device_log_changed"]


def changed(head: LogHead | None, device: str | None = None, seq: int | None = None) -> str:
    assert head is not None
    payload = f'"client":"$alice","index":{head.index},"head":"{head.hash.hex()}"'
    if seq is not None:
        payload += f',"ts":{NOW_MS}' + ("" if device is None else f',"device":"{device}"')
    number = "" if seq is None else f'"seq":{seq},'
    return f'{{"type":"device_log_changed",{number}"payload":{{{payload}}}}}'


# --- reading and appending -------------------------------------------------------------------------------------------


async def test_a_log_grows_entry_by_entry_and_anybody_reads_it(mock_clock: MockClock) -> None:
    first, second = TWO.entries
    entry, sig = second.entry.encode().hex(), second.signature.hex()
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play(f"""
            bob   >> {{"type":"device_log","id":"0","payload":{{"client":"$alice"}}}}
            bob   << {{"type":"error","id":"0","payload":{{"msg":"not_found","detail":"this client has no device log"}}}}
            alice >> {append_json(first)}
            alice << {changed(first.head)}
            alice << {{"type":"accepted","id":"1","payload":{{"ts":{NOW_MS},"index":0}}}}
            alice >> {append_json(second)}
            alice << {changed(second.head)}
            alice << {{"type":"accepted","id":"1","payload":{{"ts":{NOW_MS},"index":1}}}}
            alice >> {append_json(first)}
            alice << {{"type":"accepted","id":"1","payload":{{"ts":{NOW_MS},"duplicate":true,"index":0}}}}
            bob   >> {{"type":"device_log","id":"1","payload":{{"client":"$alice","from":1}}}}
            bob   << {{"type":"device_log","id":"1","payload":{{"client":"$alice","entries":[{{"entry":"{entry}","sig":"{sig}"}}],"index":1,"head":"{second.head.hash.hex()}"}}}}
            bob   >> {{"type":"device_log","id":"2","payload":{{"client":"$alice","from":2}}}}
            bob   << {{"type":"device_log","id":"2","payload":{{"client":"$alice","entries":[],"index":1,"head":"{second.head.hash.hex()}"}}}}
            bob   << nothing
        """)  # noqa: E501  # one frame, one line


async def test_a_long_log_is_read_in_pages(mock_clock: MockClock) -> None:
    keys = [DeviceKey.from_seed(bytes([number]) * 32) for number in range(33)]
    log = log_of(*((op, key) for key in keys for op in (LogOp.ADD, LogOp.REMOVE)))
    assert log.head is not None
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await append(stage, "alice", *log.entries)
        frames = []
        for first in (0, 64):
            ask = {"type": "device_log", "payload": {"client": ALICE.client_id, "from": first}}
            await stage.actors["bob"].send(frame_builder.text(json.dumps(ask)))
            frames.append(json.loads(await stage.next_text("bob"))["payload"])
        assert [len(frame["entries"]) for frame in frames] == [64, 2]
        assert [frame.get("more") for frame in frames] == [True, None]
        assert {(frame["index"], frame["head"]) for frame in frames} == {(65, log.head.hash.hex())}


async def test_what_is_no_next_entry_is_refused(mock_clock: MockClock) -> None:
    first, second = TWO.entries
    other = log_of((LogOp.ADD, LAPTOP)).entries[0]
    again = sign_entry(ALICE, _forced(TWO, LogOp.ADD, PHONE))
    foreign = log_of((LogOp.ADD, PHONE), actor="bob").entries[0]
    forged = SignedEntry(first.entry, other.signature)
    half = json.loads(append_json(first))
    half["payload"]["entry"] += "0"

    def error(msg: str, detail: str) -> str:
        return f'{{"type":"error","id":"1","payload":{{"msg":"{msg}","detail":"{detail}"}}}}'

    async with open_stage() as stage:
        await stage.enter("alice")
        await stage.play(f"""
            alice >> {append_json(second)}
            alice << {error("conflict", "the next entry has index 0, and follows on the last one of the log")}
            alice >> {append_json(foreign)}
            alice << {error("invalid", "the bytes are no entry of this client's device log")}
            alice >> {append_json(forged)}
            alice << {error("invalid", "the client did not sign the entry")}
            alice >> {json.dumps(half)}
            alice << {error("invalid", "the entry has half a byte")}
        """)
        await append(stage, "alice", first, second)
        await stage.play(f"""
            alice >> {append_json(other)}
            alice << {error("conflict", "the next entry has index 2, and follows on the last one of the log")}
            alice >> {append_json(again)}
            alice << {error("invalid", "the device is in the log already")}
        """)


def _forced(log: DeviceLog, op: LogOp, key: DeviceKey) -> LogEntry:
    """The next entry, whether the rules allow it or not."""
    entry = log.next_entry(LogOp.ADD, [THIEF.public_key], time_ms=NOW_MS)
    return evolve(entry, op=op, devices=(key.public_key,))


async def test_a_client_has_as_many_devices_as_it_may(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(devices_per_client=1)) as stage:
        await stage.enter("alice")
        await append(stage, "alice", TWO.entries[0])
        await stage.play(f"""
            alice >> {append_json(TWO.entries[1])}
            alice << {{"type":"error","id":"1","payload":{{"msg":"quota","detail":"this client has as many devices as one may: remove one first"}}}}
        """)  # noqa: E501  # one frame, one line


async def test_entries_count_as_new_devices_do(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(registrations_per_hour=1)) as stage:
        await stage.connect("alice", headers=coming_from("192.0.2.1"))
        await stage.authenticate("alice")
        await append(stage, "alice", TWO.entries[0])
        await stage.actors["alice"].send(frame_builder.text(append_json(TWO.entries[1])))
        answer = json.loads(await stage.next_text("alice"))
        assert answer["payload"]["msg"] == "rate_limited"
        assert answer["payload"]["retry_after_ms"] > 3_000_000


async def test_devices_hear_of_a_change_in_one_order_with_their_mail(mock_clock: MockClock) -> None:
    first, second = TWO.entries
    async with open_stage(auth=AUTH) as stage:
        await stage.enter("alice.tablet", device="tablet")
        await stage.enter("alice")
        await append(stage, "alice", first)
        await stage.play(f"""
            alice.tablet << {changed(first.head, seq=1)}
        """)
        await enter_certified(stage, "alice.phone", PHONE, "phone")
        await stage.play(f"""
            alice.phone  >> {append_json(second)}
            alice.phone  << {changed(second.head, "phone", seq=1)}
            alice.phone  << {{"type":"accepted","id":"1","payload":{{"ts":{NOW_MS},"index":1}}}}
            alice.tablet << {changed(second.head, "phone", seq=2)}
            alice        << {changed(second.head)}
        """)


# --- authentication with a certificate -------------------------------------------------------------------------------


async def test_a_device_enters_by_its_own_key(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await stage.enter("alice", "bob")
        await append(stage, "alice", *TWO.entries)
        await enter_certified(stage, "alice.phone", PHONE, "phone")
        await enter_certified(stage, "alice.laptop", LAPTOP, "laptop")
        await stage.play(f"""
            alice.phone  >> {{"type":"text","id":"1","payload":{{"to":"$bob","text":"Hello"}}}}
            alice.phone  << {{"type":"accepted","id":"1","payload":{{"ts":{NOW_MS}}}}}
            bob          << {{"type":"text","payload":{{"from":"$alice","text":"Hello"}}}}
            alice.laptop << {{"type":"text","seq":1,"id":"1","payload":{{"from":"$alice","text":"Hello","ts":{NOW_MS},"device":"phone","to":"$bob"}}}}
        """)  # noqa: E501  # one frame, one line


async def test_a_device_that_the_log_does_not_know_is_refused(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await present(stage, "alice.thief", THIEF, "phone")
        await stage.play("alice.thief << close 1008 Device not in the device log")
        await stage.enter("alice")
        await append(stage, "alice", *TWO.entries)
        await present(stage, "alice.thief", THIEF, "phone")
        await stage.play("alice.thief << close 1008 Device not in the device log")


async def test_a_mailbox_belongs_to_the_key_that_came_first(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await stage.enter("alice")
        await append(stage, "alice", *TWO.entries)
        await enter_certified(stage, "alice.phone", PHONE, "phone")
        await present(stage, "alice.laptop", LAPTOP, "phone")
        await stage.play("alice.laptop << close 1008 Device name of another device key")
        await present(stage, "alice.again", PHONE, "desk")
        await stage.play("alice.again << close 1008 Device name of another device key")
        await enter_certified(stage, "alice.again", PHONE, "phone")
        await stage.play("alice.phone << close 4409 replaced by a newer session of this device")


async def test_a_device_without_a_key_gets_one_and_keeps_its_mailbox(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await stage.enter("alice.phone", device="phone")
        await stage.play(f"""
            alice.phone >> {append_json(TWO.entries[0])}
            alice.phone << {changed(TWO.entries[0].head, "phone", seq=1)}
            alice.phone << {{"type":"accepted","id":"1","payload":{{"ts":{NOW_MS},"index":0}}}}
        """)
        await present(stage, "alice.new", PHONE, "phone")
        welcome = json.loads(await stage.next_text("alice.new"))["payload"]
        assert (welcome["device"], welcome["epoch"], welcome["seq"]) == ("phone", 1, 1)
        await stage.play(f"""
            alice.new   << {changed(TWO.entries[0].head, "phone", seq=1)}
            alice.phone << close 4409 replaced by a newer session of this device
        """)


async def test_a_certificate_that_has_ended_is_refused(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await stage.connect("alice")
        await stage.actors["alice"].send(certified_auth(PHONE, not_after_ms=NOW_MS - 1), certified_verify(PHONE))
        await stage.next_text("alice")
        await stage.play("alice << close 1008 Invalid certificate")


async def test_new_clients_need_an_invite_with_a_certificate_too(mock_clock: MockClock) -> None:
    async with open_stage(auth=AuthSettings(origins=(ORIGIN,), registration="invite")) as stage:
        await present(stage, "alice.phone", PHONE, "phone")
        await stage.play("alice.phone << close 1008 Not registered here: an invite is needed")


# --- revocation ------------------------------------------------------------------------------------------------------


async def test_a_revoked_device_is_put_out_and_stays_out(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await stage.enter("alice")
        await append(stage, "alice", *TWO.entries)
        await enter_certified(stage, "alice.laptop", LAPTOP, "laptop")
        await enter_certified(stage, "alice.phone", PHONE, "phone")
        await stage.play(f"""
            alice.phone  >> {append_json(REVOKED.entries[2])}
            alice.phone  << {changed(REVOKED.head, "phone", seq=1)}
            alice.phone  << {{"type":"accepted","id":"1","payload":{{"ts":{NOW_MS},"index":2}}}}
            alice.laptop << close 4403 this device was revoked
        """)
        await present(stage, "alice.laptop", LAPTOP, "laptop")
        await stage.play("""
            alice.laptop << close 4403 this device was revoked
            alice.phone >> {"type":"devices","id":"2"}
        """)
        devices = json.loads(await stage.next_text("alice.phone"))["payload"]["devices"]
        assert [device["device"] for device in devices] == ["phone"]


async def test_a_device_that_revokes_itself_gets_its_answer_first(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await stage.enter("alice")
        await append(stage, "alice", *TWO.entries)
        await enter_certified(stage, "alice.laptop", LAPTOP, "laptop")
        await stage.play(f"""
            alice.laptop >> {append_json(REVOKED.entries[2])}
            alice.laptop << {{"type":"accepted","id":"1","payload":{{"ts":{NOW_MS},"index":2}}}}
            alice.laptop << close 4403 this device was revoked
        """)


async def test_whoever_holds_the_identity_key_comes_in_as_before(mock_clock: MockClock) -> None:
    async with open_stage(auth=AUTH) as stage:
        await stage.enter("alice")
        await append(stage, "alice", *REVOKED.entries)
        await stage.connect("alice.laptop")
        await stage.actors["alice.laptop"].send(auth_frame("alice", device="laptop"), verify_frame("alice", NONCE))
        assert [json.loads(await stage.next_text("alice.laptop"))["type"] for _ in range(2)] == [
            "auth_challenge",
            "auth_ok",
        ]


async def test_a_revocation_survives_a_restart(mock_clock: MockClock, tmp_path: Path) -> None:
    for run in range(2):
        async with open_stage(
            auth=AUTH, open_store=lambda quota: SqliteStore(tmp_path / "ironwire.db", quota)
        ) as stage:
            mock_clock.autojump_threshold = float("inf")  # no time passes while a thread waits for the disk
            if run == 0:
                await stage.enter("alice")
                await append(stage, "alice", *REVOKED.entries)
                await stage.actors["alice"].hang_up()
            await present(stage, "alice.laptop", LAPTOP, "laptop")
            await stage.play("alice.laptop << close 4403 this device was revoked")
            await present(stage, "alice.phone", PHONE, "phone")
            assert json.loads(await stage.next_text("alice.phone"))["type"] == "auth_ok"
            await stage.actors["alice.phone"].hang_up()
            await trio.testing.wait_all_tasks_blocked()
