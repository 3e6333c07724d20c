"""Sessions as docs/protocol.md has them, sections 1 to 4 and 6, each rule a conversation with the server."""

import json
from collections.abc import Sequence

import pytest
import structlog
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.events import CloseConnection

from ironwire.crypto.signing import auth_text
from ironwire.limits import Limits
from ironwire.server.operator.config import AuthSettings
from ironwire.server.session.refusals import REFUSALS
from ironwire.store.contract.operations import Operation, Result
from ironwire.store.memory.store import MemoryStore
from tests.playbook import NONCE, NOW_MS, auth_frame, identity_of, open_stage, verify_frame
from tests.wire.frame_builder import TEXT, fragments, frame, text

ORIGIN = "http://localhost"  # where the streams of a stage say they arrive
CHALLENGE = '{"type":"auth_challenge","challenge":"$nonce"}'


def signed_text(actor: str, *, origin: str, device: str = "") -> bytes:
    return auth_text(origin=origin, nonce=NONCE, public_key=identity_of(actor).public_key.raw, device=device)


def text_to(actor: str, content: str) -> bytes:
    return text(json.dumps({"type": "text", "payload": {"to": identity_of(actor).client_id, "text": content}}))


# --- section 1: frames -----------------------------------------------------------------------------------------------


async def test_what_cannot_be_understood_is_answered_and_the_session_goes_on(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            alice >> []
            alice << {"type":"error","payload":{"msg":"invalid","detail":"a frame must be one JSON object"}}
            alice >> {"type":"dance","id":"7","payload":{}}
            alice << {"type":"error","id":"7","payload":{"msg":"invalid","detail":"type 'dance' is not a verb"}}
            alice >> {"type":"text","payload":{"to":"$bob","text":5}}
            alice << {"type":"error","payload":{"msg":"invalid","detail":"payload.text must be a string"}}
            alice >> {"type":"text","payload":{"to":"$bob","text":"x","more":1}}
            alice << {"type":"error","payload":{"msg":"invalid","detail":"payload.'more' is not a known key"}}
            alice >> binary 00ff
            alice << {"type":"error","payload":{"msg":"invalid","detail":"binary frames are not part of the protocol"}}
            alice >> {"type":"auth","payload":{"token":"$alice"}}
            alice << {"type":"error","payload":{"msg":"invalid","detail":"this session is authenticated already"}}
            alice >> {"type":"text","payload":{"to":"$bob","text":"still here"}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"still here"}}
            bob   << nothing
        """)


async def test_a_message_at_the_limit_passes_and_one_byte_more_closes_with_1009(mock_clock: MockClock) -> None:
    limits = Limits(frame_bytes=1024)
    around_bytes = len(json.dumps({"type": "text", "payload": {"to": identity_of("bob").client_id, "text": ""}}))
    largest = "x" * (limits.frame_bytes - around_bytes)
    async with open_stage(limits=limits) as stage:
        await stage.enter("alice", "bob")
        await stage.actors["alice"].send(text_to("bob", largest))
        assert json.loads(await stage.next_text("bob"))["payload"]["text"] == largest
        await stage.actors["alice"].send(text_to("bob", largest + "x"))
        assert getattr(await stage.actors["alice"].event(), "code", None) == 1009
        await stage.play("bob << nothing")


async def test_fragments_count_as_one_message(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(frame_bytes=1024)) as stage:
        await stage.connect("alice")
        await stage.actors["alice"].send(*fragments(TEXT, b"x" * 600, b"x" * 600))
        await stage.play("alice << close 1009 message is over 1024 bytes")


async def test_text_that_is_not_utf8_closes_with_1007(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        await stage.actors["alice"].send(frame(TEXT, b"\xff"))
        await stage.play("alice << close 1007 text is not UTF-8")


@pytest.mark.parametrize("is_authenticated", [False, True])
async def test_a_breach_of_rfc_6455_closes_with_1002_after_what_came_before_it(
    is_authenticated: bool, mock_clock: MockClock
) -> None:
    async with open_stage() as stage:
        await stage.connect("alice")
        if is_authenticated:
            await stage.authenticate("alice")
        await stage.actors["alice"].send(text("[]"), frame(TEXT, b"x", mask=None))
        await stage.play("""
            alice << {"type":"error","payload":{"msg":"invalid","detail":"a frame must be one JSON object"}}
            alice << close 1002 frame is not masked
        """)


async def test_a_close_frame_is_answered(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        await stage.play("""
            alice >> close 1000
            alice << close 1000
        """)


# --- section 2: authentication, byte for byte ------------------------------------------------------------------------


async def test_the_seed_protocol_byte_for_byte(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice", "bob")
        await stage.play("""
            alice >> {"type":"auth","payload":{"token":"$alice"}}
            alice << {"type":"auth_challenge","challenge":"$nonce"}
            alice >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            alice << {"type":"auth_ok"}
            alice >> {"type":"text","payload":{"to":"$bob","text":"Hello"}}
            alice << {"type":"error","payload":{"msg":"user_offline","user":"$bob"}}
            bob   >> {"type":"auth","payload":{"token":"$bob"}}
            bob   << {"type":"auth_challenge","challenge":"$nonce"}
            bob   >> {"type":"verify","payload":{"attempt":"$bob_signs"}}
            bob   << {"type":"auth_ok"}
            alice >> {"type":"text","payload":{"to":"$bob","text":"Hello"}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"Hello"}}
            alice >> {"type":"file","payload":{"to":"$bob","url":"/media/6f1f0f1c-9d51-4f0e-8a53-0d6b1f2d3c4e.bin"}}
            bob   << {"type":"file","payload":{"from":"$alice","url":"/media/6f1f0f1c-9d51-4f0e-8a53-0d6b1f2d3c4e.bin"}}
            alice << nothing
            bob   << nothing
        """)


async def test_every_verb_has_its_time(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice")
        await stage.play("""
            alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"Hello"}}
            alice << {"type":"error","id":"1","payload":{"msg":"auth_required"}}
            alice >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            alice << {"type":"error","payload":{"msg":"auth_required"}}
            alice >> binary 00
            alice << {"type":"error","payload":{"msg":"invalid","detail":"binary frames are not part of the protocol"}}
            alice >> {"type":"auth","payload":{"token":"$alice"}}
            alice << {"type":"auth_challenge","challenge":"$nonce"}
            alice >> {"type":"auth","id":"2","payload":{"token":"$alice"}}
            alice << {"type":"error","id":"2","payload":{"msg":"expected_verify"}}
            alice >> {"type":"text","payload":{"to":"$bob","text":"Hello"}}
            alice << {"type":"error","payload":{"msg":"expected_verify"}}
            alice >> []
            alice << {"type":"error","payload":{"msg":"invalid","detail":"a frame must be one JSON object"}}
            alice >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            alice << {"type":"auth_ok"}
        """)


async def test_a_token_in_upper_case_is_the_same_client(mock_clock: MockClock) -> None:
    token = identity_of("alice").client_id.upper()
    async with open_stage() as stage:
        await stage.enter("bob")
        await stage.connect("alice")
        await stage.actors["alice"].send(text(json.dumps({"type": "auth", "payload": {"token": token}})))
        await stage.play("""
            alice << {"type":"auth_challenge","challenge":"$nonce"}
            alice >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            alice << {"type":"auth_ok"}
            bob   >> {"type":"text","payload":{"to":"$alice","text":"Hello"}}
            alice << {"type":"text","payload":{"from":"$bob","text":"Hello"}}
        """)


@pytest.mark.parametrize(
    "token",
    ["", "00" * 31, "zz" * 32, "01" + "00" * 31, "ff" * 32],
    ids=["empty", "short", "not hex", "small order", "not canonical"],
)
async def test_a_bad_key_is_refused_before_any_challenge(token: str, mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice")
        await stage.actors["alice"].send(text(json.dumps({"type": "auth", "payload": {"token": token}})))
        await stage.play("alice << close 1008 Invalid public key")


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        ("00" * 63, "Invalid signature length"),
        ("zz" * 64, "Invalid signature length"),
        ("00" * 64, "Signature verification failed"),
        ("$mallory_signs", "Signature verification failed"),
    ],
    ids=["short", "not hex", "forged", "by another key"],
)
async def test_a_bad_signature_is_refused(attempt: str, reason: str, mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice")
        await stage.play(f"""
            alice >> {{"type":"auth","payload":{{"token":"$alice"}}}}
            alice << {CHALLENGE}
            alice >> {{"type":"verify","payload":{{"attempt":"{attempt}"}}}}
            alice << close 1008 {reason}
        """)


async def test_a_challenge_is_fresh_so_an_old_answer_is_worth_nothing(mock_clock: MockClock) -> None:
    nonces = iter(bytes([number]) * 32 for number in range(4))
    async with open_stage(random_bytes=lambda _: next(nonces)) as stage:
        await stage.connect("alice", "mallory")
        await stage.actors["alice"].send(auth_frame("alice"))
        challenge = json.loads(await stage.next_text("alice"))["challenge"]
        overheard = verify_frame("alice", bytes.fromhex(challenge))
        await stage.actors["alice"].send(overheard)
        await stage.play('alice << {"type":"auth_ok"}')
        await stage.actors["mallory"].send(auth_frame("alice"))
        assert json.loads(await stage.next_text("mallory"))["challenge"] != challenge
        await stage.actors["mallory"].send(overheard)
        await stage.play("mallory << close 1008 Signature verification failed")


@pytest.mark.parametrize("has_begun", [False, True])
async def test_ten_seconds_without_success_close_with_1002(has_begun: bool, mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await trio.sleep(3.25)
        opened = trio.current_time()
        await stage.connect("alice")
        if has_begun:
            await stage.play("""
                ... 9 s
                alice >> {"type":"auth","payload":{"token":"$alice"}}
                alice << {"type":"auth_challenge","challenge":"$nonce"}
            """)
        await stage.play("alice << close 1002 Authentication timeout")
        assert trio.current_time() == opened + 10


async def test_a_client_may_write_behind_its_verify_without_waiting(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob")
        await stage.connect("alice")
        await stage.play("""
            alice >> {"type":"auth","payload":{"token":"$alice"}}
            alice << {"type":"auth_challenge","challenge":"$nonce"}
            alice >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            alice >> {"type":"text","payload":{"to":"$bob","text":"one"}}
            alice >> []
            alice >> {"type":"text","payload":{"to":"$bob","text":"two"}}
            alice << {"type":"auth_ok"}
            alice << {"type":"error","payload":{"msg":"invalid","detail":"a frame must be one JSON object"}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"one"}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"two"}}
        """)


async def test_a_frame_in_the_same_packet_as_the_upgrade_counts(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice", trailing=auth_frame("alice"))
        await stage.play(f"alice << {CHALLENGE}")


# --- section 3: newer clients ----------------------------------------------------------------------------------------


async def test_a_client_that_names_its_origin_signs_it_and_is_told_more(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice")
        await stage.actors["alice"].send(auth_frame("alice", origin=ORIGIN))
        await stage.play(f"alice << {CHALLENGE}")
        await stage.actors["alice"].send(verify_frame("alice", signed_text("alice", origin=ORIGIN)))
        welcome = json.loads(await stage.next_text("alice"))
        assert welcome["type"] == "auth_ok"
        assert welcome["payload"]["client"] == identity_of("alice").client_id
        assert welcome["payload"]["server_time"] == NOW_MS
        limits = welcome["payload"]["limits"]
        assert (limits["frame_bytes"], limits["window_envelopes"], limits["group_members"]) == (65536, 100, 1_000)
        assert welcome["payload"]["protocol"] == 1
        assert not {"device", "epoch", "seq"} & welcome["payload"].keys()


async def test_a_device_is_told_where_its_mailbox_stands(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice")
        await stage.actors["alice"].send(auth_frame("alice", origin=ORIGIN, device="phone"))
        await stage.play(f"alice << {CHALLENGE}")
        signed = signed_text("alice", origin=ORIGIN, device="phone")
        await stage.actors["alice"].send(verify_frame("alice", signed))
        welcome = json.loads(await stage.next_text("alice"))["payload"]
        assert (welcome["device"], welcome["seq"]) == ("phone", 0)
        await stage.play("""
            alice << {"type":"caught_up","payload":{"seq":0}}
            alice << nothing
        """)


async def test_an_origin_and_a_device_that_were_named_have_to_be_signed(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice", "bob")
        await stage.actors["alice"].send(auth_frame("alice", origin=ORIGIN))
        await stage.play(f"""
            alice << {CHALLENGE}
            alice >> {{"type":"verify","payload":{{"attempt":"$alice_signs"}}}}
            alice << close 1008 Signature verification failed
        """)
        await stage.actors["bob"].send(auth_frame("bob", origin=ORIGIN, device="phone"))
        await stage.play(f"bob << {CHALLENGE}")
        await stage.actors["bob"].send(verify_frame("bob", signed_text("bob", origin=ORIGIN, device="laptop")))
        await stage.play("bob << close 1008 Signature verification failed")


@pytest.mark.parametrize(
    ("auth", "origin", "answer"),
    [
        (AuthSettings(), "http://evil.example", "close 1008 Origin not served here"),
        (AuthSettings(), "https://localhost", "close 1008 Origin not served here"),
        (AuthSettings(), "http://127.0.0.1", CHALLENGE),
        (AuthSettings(origins=["https://chat.example"]), ORIGIN, "close 1008 Origin not served here"),
        (AuthSettings(origins=["https://chat.example"]), "https://chat.example", CHALLENGE),
        (AuthSettings(require_origin=True), None, "close 1008 Origin required"),
        (AuthSettings(require_origin=True), ORIGIN, CHALLENGE),
    ],
)
async def test_only_an_origin_of_this_server_is_accepted(
    auth: AuthSettings, origin: str | None, answer: str, mock_clock: MockClock
) -> None:
    async with open_stage(auth=auth) as stage:
        await stage.connect("alice")
        await stage.actors["alice"].send(auth_frame("alice", origin=origin))
        await stage.play(f"alice << {answer}")


async def test_the_newer_session_of_a_device_replaces_the_older_and_stays(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob")
        await stage.enter("alice.tablet", device="tablet")
        await stage.enter("alice.old", device="phone")
        await stage.enter("alice.new", device="phone")
        await stage.play("""
            alice.old    << close 4409 replaced by a newer session of this device
            ... 5 s
            bob          >> {"type":"text","id":"1","payload":{"to":"$alice","text":"Hello"}}
            bob          << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            alice.new    << {"type":"text","seq":1,"id":"1","payload":{"from":"$bob","text":"Hello","ts":1790000000000}}
            alice.tablet << {"type":"text","seq":1,"id":"1","payload":{"from":"$bob","text":"Hello","ts":1790000000000}}
        """)


# --- section 4: sending ----------------------------------------------------------------------------------------------


async def test_an_id_is_echoed_once_the_text_was_handed_over(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            alice >> {"type":"text","id":"m-1","payload":{"to":"$bob","text":"Hello"}}
            alice << {"type":"accepted","id":"m-1","payload":{"ts":1790000000000}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"Hello"}}
            alice >> {"type":"text","id":"m-2","payload":{"to":"$carol","text":"Hello"}}
            alice << {"type":"error","id":"m-2","payload":{"msg":"user_offline","user":"$carol"}}
            alice >> {"type":"text","id":"m-3","payload":{"to":"$alice","text":"a note"}}
            alice << {"type":"text","payload":{"from":"$alice","text":"a note"}}
            alice << {"type":"accepted","id":"m-3","payload":{"ts":1790000000000}}
            bob   << nothing
        """)


async def test_an_envelope_goes_to_every_session_of_the_recipient_and_to_nobody_else(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob.one", "bob.two", "carol")
        await stage.play("""
            alice   >> {"type":"text","payload":{"to":"$bob","text":"Hello"}}
            bob.one << {"type":"text","payload":{"from":"$alice","text":"Hello"}}
            bob.two << {"type":"text","payload":{"from":"$alice","text":"Hello"}}
            carol   << nothing
            alice   << nothing
            bob.one >> close 1000
            bob.one << close 1000
            alice   >> {"type":"text","payload":{"to":"$bob","text":"again"}}
            bob.two << {"type":"text","payload":{"from":"$alice","text":"again"}}
        """)


async def test_a_file_arrives_with_all_that_was_said_about_it(mock_clock: MockClock) -> None:
    about = (
        '"url":"/media/6f1f0f1c-9d51-4f0e-8a53-0d6b1f2d3c4e.bin","kind":"image","name":"sun.jpg","mime":"image/jpeg",'
        '"size":10,"sha256":"$nonce","duration_ms":1,"width":3,"height":2,"caption":"a day"'
    )
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play(f"""
            alice >> {{"type":"file","payload":{{"to":"$bob",{about}}}}}
            bob   << {{"type":"file","payload":{{"from":"$alice",{about}}}}}
        """)


async def test_the_seventeenth_session_is_told_to_come_back_later(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob", *(f"alice.{number}" for number in range(16)))
        await stage.connect("alice.late")
        await stage.play("""
            alice.late >> {"type":"auth","payload":{"token":"$alice"}}
            alice.late << {"type":"auth_challenge","challenge":"$nonce"}
            alice.late >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            alice.late << close 1013 too many sessions of this client
        """)
        await stage.actors["alice.0"].hang_up()
        await stage.enter("alice.16")
        await stage.play("""
            bob      >> {"type":"text","payload":{"to":"$alice","text":"Hello"}}
            alice.1  << {"type":"text","payload":{"from":"$bob","text":"Hello"}}
            alice.16 << {"type":"text","payload":{"from":"$bob","text":"Hello"}}
        """)


# --- one read may bring a thousand messages --------------------------------------------------------------------------


async def test_whoever_sends_much_at_once_lets_others_have_their_turn(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob", "carol")
        await stage.actors["alice"].send(text_to("carol", "much") * 500)
        await stage.actors["bob"].send(text_to("carol", "little"))
        texts = [json.loads(await stage.next_text("carol"))["payload"]["text"] for _ in range(501)]
    assert texts.index("little") < 400


async def test_nothing_more_of_a_read_is_answered_once_the_error_budget_is_spent(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("mallory")
        await stage.actors["mallory"].send(text("{}") * 3_000)
        answers = 0
        while (event := await stage.actors["mallory"].event()) is not None and not isinstance(event, CloseConnection):
            answers += 1
    assert answers == REFUSALS.burst + 1


# --- section 6: heartbeat --------------------------------------------------------------------------------------------


async def test_silence_is_answered_with_a_ping_and_then_with_4408(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        entered = trio.current_time()
        await stage.play("alice << ping")
        assert trio.current_time() == entered + 25
        await stage.play("alice << close 4408 no sign of life")
        assert trio.current_time() == entered + 35


@pytest.mark.parametrize(
    "sign",
    [frame(0xA), frame(0xA, b"an answer to nothing"), text("x" * 200)[:3]],
    ids=["pong", "stray pong", "half a frame"],
)
async def test_any_byte_is_a_sign_of_life(sign: bytes, mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        await stage.play("""
            alice << ping
            ... 9 s
        """)
        await stage.actors["alice"].send(sign)
        alive = trio.current_time()
        await stage.play("alice << ping")
        assert trio.current_time() == alive + 25


async def test_a_peer_that_is_written_to_and_says_nothing_is_pinged_all_the_same(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            ... 20 s
            bob   >> {"type":"text","payload":{"to":"$alice","text":"Hello"}}
            alice << {"type":"text","payload":{"from":"$bob","text":"Hello"}}
            alice << ping
            alice << close 4408 no sign of life
            bob   >> {"type":"text","payload":{"to":"$alice","text":"Hello"}}
            bob   << {"type":"error","payload":{"msg":"user_offline","user":"$alice"}}
        """)


# --- section 6: the server stops, the server fails -------------------------------------------------------------------


async def test_a_drain_tells_everyone_to_come_back(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        await stage.enter("bob", device="phone")
        await stage.connect("carol", "dave")
        await stage.play(f"""
            carol >> {{"type":"auth","payload":{{"token":"$carol"}}}}
            carol << {CHALLENGE}
        """)
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.server.guard.on_shutdown)
            await stage.play("""
                alice << close 1012 retry_ms=5000
                bob   << close 1012 retry_ms=5000
                carol << close 1012 retry_ms=5000
                dave  << close 1012 retry_ms=5000
            """)
        assert trio.current_time() == started
        await stage.connect("erin")
        await stage.play("erin << close 1012 retry_ms=5000")


async def test_a_drain_reaches_a_session_whose_device_is_being_registered(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_answers, apply = trio.Event(), MemoryStore.apply

    async def wait_and_apply(store: MemoryStore, batch: Sequence[Operation]) -> list[Result]:
        await disk_answers.wait()
        return await apply(store, batch)

    monkeypatch.setattr(MemoryStore, "apply", wait_and_apply)
    async with open_stage() as stage:
        await stage.connect("alice")
        await stage.play(f"""
            alice >> {{"type":"auth","payload":{{"token":"$alice","device":"phone"}}}}
            alice << {CHALLENGE}
            alice >> {{"type":"verify","payload":{{"attempt":"$alice_signs"}}}}
        """)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.server.guard.on_shutdown)
            await trio.testing.wait_all_tasks_blocked()
            disk_answers.set()
            await stage.play("alice << close 1012 retry_ms=5000")


async def test_what_was_accepted_before_a_drain_is_written_before_the_goodbye(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"Hello"}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
        """)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.server.guard.on_shutdown)
            await stage.play("""
                bob   << {"type":"text","payload":{"from":"$alice","text":"Hello"}}
                bob   << close 1012 retry_ms=5000
                alice << close 1012 retry_ms=5000
            """)


async def test_a_fault_of_the_server_ends_one_session_with_1011(mock_clock: MockClock) -> None:
    is_broken = False

    def clock() -> int:
        if is_broken:
            raise RuntimeError("the clock is broken")
        return NOW_MS

    async with open_stage(now_ms=clock) as stage:
        await stage.enter("alice", "bob")
        is_broken = True
        with structlog.testing.capture_logs() as events:
            await stage.play("""
                alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"Hello"}}
                alice << close 1011 internal error
            """)
        assert [event["event"] for event in events if event["log_level"] == "error"] == ["session failed"]
        await stage.play("""
            bob << {"type":"text","payload":{"from":"$alice","text":"Hello"}}
            bob >> {"type":"text","payload":{"to":"$bob","text":"I live"}}
            bob << {"type":"text","payload":{"from":"$bob","text":"I live"}}
            bob >> {"type":"text","payload":{"to":"$alice","text":"Hello?"}}
            bob << {"type":"error","payload":{"msg":"user_offline","user":"$alice"}}
        """)


async def test_a_fault_during_authentication_ends_that_connection_with_1011(mock_clock: MockClock) -> None:
    def broken_randomness(_: int) -> bytes:
        raise OSError("no entropy")

    async with open_stage(random_bytes=broken_randomness) as stage:
        await stage.connect("alice", "bob")
        with structlog.testing.capture_logs():
            await stage.play("""
                alice >> {"type":"auth","payload":{"token":"$alice"}}
                alice << close 1011 internal error
                bob   << nothing
                bob   << close 1002 Authentication timeout
            """)


async def test_a_client_that_cannot_send_pings_asks(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"ping","id":"1"}
            alice << {"type":"pong","id":"1"}
            alice >> {"type":"ping"}
            alice << {"type":"pong"}
        """)


async def test_poison_is_answered_by_its_id(mock_clock: MockClock) -> None:
    """Else a client that keeps what it sends until there is an answer would send it for ever."""
    async with open_stage() as stage:
        await stage.enter("alice", device="phone")
        await stage.play(r"""
            alice >> {"type":"text","id":"1","payload":{"to":"$alice","text":"half \ud83d a pair"}}
            alice >> {"type":"text","id":"2","payload":{"to":"$alice","text":"hi","color":"red"}}
            alice >> {"type":"text","id":"3","color":"red","payload":{"to":"$alice","text":"hi"}}
            alice >> {"type":"file","id":"4","payload":{"to":"$alice","url":"elsewhere"}}
        """)
        for id_ in "1234":
            answer = json.loads(await stage.next_text("alice"))
            assert (answer["type"], answer["id"], answer["payload"]["msg"]) == ("error", id_, "invalid")


async def test_an_id_is_echoed_on_the_way_in(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice")
        await stage.play("""
            alice >> {"type":"verify","id":"0","payload":{"attempt":"$alice_signs"}}
            alice << {"type":"error","id":"0","payload":{"msg":"auth_required"}}
            alice >> {"type":"auth","id":"1","payload":{"token":"$alice"}}
            alice << {"type":"auth_challenge","id":"1","challenge":"$nonce"}
            alice >> {"type":"verify","id":"2","payload":{"attempt":"$alice_signs"}}
            alice << {"type":"auth_ok","id":"2"}
        """)
