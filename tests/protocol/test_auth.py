"""Nobody becomes a principal but by one signature over one challenge, and the machine does what its own table says."""

import re
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ironwire.crypto.signing import NONCE_BYTES, DeviceKey, Identity, auth_text, certified_auth_text
from ironwire.ids import DeviceId, Origin
from ironwire.protocol import auth
from ironwire.protocol.auth import (
    BANNED,
    Admit,
    Authentication,
    AuthPolicy,
    Challenge,
    Expected,
    Outcome,
    Principal,
    Refuse,
)
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.wire.messages import Auth, ClientMessage, File, Text, Verify
from tests.strategies import client_messages

ALICE = Identity.from_seed(b"alice".ljust(32))
MALLORY = Identity.from_seed(b"mallory".ljust(32))
ORIGIN, ELSEWHERE = Origin("https://chat.example"), Origin("https://evil.example")
PHONE, LAPTOP = DeviceId("phone"), DeviceId("laptop")
KEY, OTHER_KEY = (DeviceKey.from_seed(name.ljust(32)) for name in (b"phone", b"laptop"))
NOW_MS = 1_790_000_000_000
NONCE, OTHER_NONCE = b"n" * NONCE_BYTES, b"o" * NONCE_BYTES
UNUSED = b"u" * NONCE_BYTES
"""Given with a message that earns no challenge."""

POLICY = AuthPolicy(origins=frozenset({ORIGIN}), require_origin=False)
STRICT = AuthPolicy(origins=frozenset({ORIGIN}), require_origin=True)

HELLO = Auth(ALICE.client_id)
TEXT = Text(MALLORY.client_id, "Hello")
FILE = File(MALLORY.client_id, "/media/01234567-89ab-4def-8123-456789abcdef.bin")


def _signed(text: bytes, by: Identity = ALICE) -> Verify:
    return Verify(by.sign(text).hex())


def _auth_text(origin: str = ORIGIN, nonce: bytes = NONCE, device: str = PHONE, identity: Identity = ALICE) -> bytes:
    return auth_text(origin=origin, nonce=nonce, public_key=identity.public_key.raw, device=device)


def _challenged(hello: Auth, policy: AuthPolicy = POLICY) -> Authentication:
    machine = Authentication(policy)
    assert machine.receive(hello, NONCE) == Challenge(NONCE)
    return machine


def _state(machine: Authentication) -> str:
    """What the machine waits for, as a peer would find out: by sending something that never moves it."""
    try:
        outcome = machine.receive(TEXT, UNUSED)
    except RuntimeError:
        return "Done"
    states: dict[Outcome, str] = {Expected("auth_required"): "AwaitAuth", Expected("expected_verify"): "AwaitVerify"}
    return states[outcome]


def test_who_is_banned_is_refused_before_it_has_signed_anything() -> None:
    policy = evolve(STRICT, is_banned=lambda client: client == ALICE.client_id)
    machine = Authentication(policy)
    assert machine.receive(HELLO, NONCE) == BANNED
    assert _state(machine) == "Done"
    _challenged(Auth(MALLORY.client_id, origin=ORIGIN), policy)


# --- the table -------------------------------------------------------------------------------------------------------

_TRANSITIONS: list[tuple[str, ClientMessage, Outcome, str]] = [
    ("AwaitAuth", HELLO, Challenge(NONCE), "AwaitVerify"),
    ("AwaitAuth", evolve(HELLO, origin=ORIGIN, device=PHONE), Challenge(NONCE), "AwaitVerify"),
    ("AwaitAuth", Auth(""), Refuse("Invalid public key"), "Done"),
    ("AwaitAuth", Auth("0" * 64), Refuse("Invalid public key"), "Done"),
    ("AwaitAuth", evolve(HELLO, origin=ELSEWHERE), Refuse("Origin not served here"), "Done"),
    ("AwaitAuth", _signed(NONCE), Expected("auth_required"), "AwaitAuth"),
    ("AwaitAuth", TEXT, Expected("auth_required"), "AwaitAuth"),
    ("AwaitAuth", FILE, Expected("auth_required"), "AwaitAuth"),
    ("AwaitVerify", _signed(NONCE), Admit(Principal(ALICE.client_id, None), speaks_seed=True), "Done"),
    ("AwaitVerify", Verify(ALICE.sign(NONCE).hex().upper()), Admit(Principal(ALICE.client_id, None), True), "Done"),
    ("AwaitVerify", _signed(OTHER_NONCE), Refuse("Signature verification failed"), "Done"),
    ("AwaitVerify", _signed(NONCE, MALLORY), Refuse("Signature verification failed"), "Done"),
    ("AwaitVerify", Verify("00" * 64), Refuse("Signature verification failed"), "Done"),
    ("AwaitVerify", Verify(""), Refuse("Invalid signature length"), "Done"),
    ("AwaitVerify", Verify("00" * 63), Refuse("Invalid signature length"), "Done"),
    ("AwaitVerify", Verify("00" * 64 + "\n"), Refuse("Invalid signature length"), "Done"),
    ("AwaitVerify", Verify("xy" * 64), Refuse("Invalid signature length"), "Done"),
    ("AwaitVerify", HELLO, Expected("expected_verify"), "AwaitVerify"),
    ("AwaitVerify", TEXT, Expected("expected_verify"), "AwaitVerify"),
]


@pytest.mark.parametrize(("state", "message", "outcome", "next_state"), _TRANSITIONS)
def test_a_transition(state: str, message: ClientMessage, outcome: Outcome, next_state: str) -> None:
    machine = Authentication(POLICY) if state == "AwaitAuth" else _challenged(HELLO)
    assert machine.receive(message, NONCE) == outcome
    assert _state(machine) == next_state


def test_the_table_in_the_docstring_is_the_one_tested_here() -> None:
    tested: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    verbs = {"AwaitAuth": "auth", "AwaitVerify": "verify"}
    for state, message, outcome, next_state in _TRANSITIONS:
        label = message.verb if message.verb == verbs[state] else "any other"
        outcomes, next_states = tested.setdefault((state, label), (set(), set()))
        outcomes.add(type(outcome).__name__)
        next_states.add(next_state)
    assert _documented() == tested


def _documented() -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    rows = [
        re.split(r" {2,}", line.strip()) for line in (auth.__doc__ or "").splitlines() if line.startswith("    Await")
    ]
    return {
        (state, message): (
            set(re.findall("Challenge|Expected|Refuse|Admit", outcome)),
            set(re.findall("AwaitAuth|AwaitVerify|Done", next_state)),
        )
        for state, message, outcome, next_state in rows
    }


# --- what a signature is good for ------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [None, PHONE])
def test_a_client_that_names_an_origin_signs_it(device: DeviceId | None) -> None:
    machine = _challenged(evolve(HELLO, origin=ORIGIN, device=device))
    verify = _signed(_auth_text(device=device or ""))
    assert machine.receive(verify, UNUSED) == Admit(Principal(ALICE.client_id, device), speaks_seed=False)


def test_a_device_without_an_origin_signs_the_bare_challenge() -> None:
    machine = _challenged(evolve(HELLO, device=PHONE))
    assert machine.receive(_signed(NONCE), UNUSED) == Admit(Principal(ALICE.client_id, PHONE), speaks_seed=False)


@pytest.mark.parametrize(
    "signed",
    [
        pytest.param(_auth_text(origin=ELSEWHERE), id="another origin: a relayed challenge"),
        pytest.param(_auth_text(device=LAPTOP), id="another device"),
        pytest.param(_auth_text(device=""), id="no device"),
        pytest.param(_auth_text(nonce=OTHER_NONCE), id="another nonce"),
        pytest.param(_auth_text(nonce=UNUSED), id="the nonce that came with this message"),
        pytest.param(_auth_text(identity=MALLORY), id="another public key"),
        pytest.param(NONCE, id="the bare challenge"),
    ],
)
def test_a_signature_over_anything_else_is_refused(signed: bytes) -> None:
    machine = _challenged(evolve(HELLO, origin=ORIGIN, device=PHONE))
    assert machine.receive(_signed(signed), UNUSED) == Refuse("Signature verification failed")


def test_an_upper_case_token_is_folded() -> None:
    machine = _challenged(Auth(ALICE.client_id.upper(), device=PHONE, origin=ORIGIN))
    outcome = machine.receive(_signed(_auth_text()), UNUSED)
    assert outcome == Admit(Principal(ALICE.client_id, PHONE), speaks_seed=False)


# --- certificates ----------------------------------------------------------------------------------------------------

HEAD = b"h" * 32
CERTIFICATE = issue_certificate(ALICE, KEY.public_key, NOW_MS).encode().hex()
CERTIFIED = Auth(ALICE.client_id, PHONE, ORIGIN, None, CERTIFICATE, KEY.public_key.raw.hex(), HEAD.hex())
IN_TIME = evolve(POLICY, now_ms=lambda: NOW_MS)


def _by_device(by: DeviceKey = KEY, **changed: Any) -> Verify:
    signed = {
        "origin": ORIGIN,
        "nonce": NONCE,
        "public_key": ALICE.public_key.raw,
        "device": PHONE,
        "device_key": KEY.public_key.raw,
        "log_head": HEAD,
    }
    return Verify(by.sign(certified_auth_text(**{**signed, **changed})).hex())


def test_a_device_with_a_certificate_signs_by_its_own_key() -> None:
    machine = _challenged(evolve(CERTIFIED, invite="ticket"), IN_TIME)
    principal = Principal(ALICE.client_id, PHONE, KEY.public_key)
    assert machine.receive(_by_device(), UNUSED) == Admit(principal, speaks_seed=False, invite="ticket")


@pytest.mark.parametrize(
    "verify",
    [
        pytest.param(_by_device(OTHER_KEY), id="another device's key"),
        pytest.param(_by_device(origin=ELSEWHERE), id="another origin: a relayed challenge"),
        pytest.param(_by_device(nonce=OTHER_NONCE), id="another nonce"),
        pytest.param(_by_device(public_key=MALLORY.public_key.raw), id="another client"),
        pytest.param(_by_device(device=LAPTOP), id="another name"),
        pytest.param(_by_device(device_key=OTHER_KEY.public_key.raw), id="a text of another device key"),
        pytest.param(_by_device(log_head=bytes(32)), id="another head of the log"),
        pytest.param(Verify(KEY.sign(_auth_text()).hex()), id="the text without a certificate"),
        pytest.param(Verify(KEY.sign(NONCE).hex()), id="the bare challenge"),
        pytest.param(_signed(_auth_text()), id="the identity key, as without a certificate"),
    ],
)
def test_a_device_signs_one_text_and_no_other(verify: Verify) -> None:
    assert _challenged(CERTIFIED).receive(verify, UNUSED) == Refuse("Signature verification failed")


def test_the_identity_key_does_not_stand_in_for_the_device() -> None:
    text = certified_auth_text(
        origin=ORIGIN,
        nonce=NONCE,
        public_key=ALICE.public_key.raw,
        device=PHONE,
        device_key=KEY.public_key.raw,
        log_head=HEAD,
    )
    assert _challenged(CERTIFIED).receive(_signed(text), UNUSED) == Refuse("Signature verification failed")


@pytest.mark.parametrize("missing", ["cert", "device_key", "log_head", "device", "origin"])
def test_a_certificate_comes_with_all_that_it_needs(missing: str) -> None:
    absent: dict[str, Any] = {missing: None}
    outcome = Authentication(POLICY).receive(evolve(CERTIFIED, **absent), NONCE)
    assert outcome == Refuse("A certificate needs device, origin, device_key and log_head")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"cert": "02" + CERTIFICATE[2:]}, id="of a later version"),
        pytest.param({"cert": issue_certificate(MALLORY, KEY.public_key).encode().hex()}, id="of another client"),
        pytest.param({"device_key": "00" * 32}, id="a device key that is no point"),
    ],
)
def test_a_certificate_that_cannot_be_good_earns_no_challenge(changed: dict[str, Any]) -> None:
    outcome = Authentication(POLICY).receive(evolve(CERTIFIED, **changed), NONCE)
    assert outcome == Refuse("Invalid certificate")


def test_a_certificate_is_verified_with_the_attempt() -> None:
    forged = CERTIFICATE[: 41 * 2] + issue_certificate(MALLORY, KEY.public_key, NOW_MS).encode().hex()[41 * 2 :]
    machine = _challenged(evolve(CERTIFIED, cert=forged))
    assert machine.receive(_by_device(), UNUSED) == Refuse("Invalid certificate")
    foreign = issue_certificate(ALICE, OTHER_KEY.public_key, NOW_MS).encode().hex()
    machine = _challenged(evolve(CERTIFIED, cert=foreign))
    assert machine.receive(_by_device(), UNUSED) == Refuse("Invalid certificate")


def test_a_certificate_ends_at_its_time() -> None:
    machine = _challenged(CERTIFIED, evolve(POLICY, now_ms=lambda: NOW_MS + 1))
    assert machine.receive(_by_device(), UNUSED) == Refuse("Invalid certificate")


def test_the_origin_policy_and_the_ban_come_before_the_certificate() -> None:
    bad = evolve(CERTIFIED, cert="02" + CERTIFICATE[2:])
    banned = evolve(POLICY, is_banned=lambda _: True)
    assert Authentication(banned).receive(bad, NONCE) == BANNED
    assert Authentication(POLICY).receive(evolve(bad, origin=ELSEWHERE), NONCE) == Refuse("Origin not served here")


# --- what the operator demands ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "origin", "outcome"),
    [
        (POLICY, None, Challenge(NONCE)),
        (POLICY, ORIGIN, Challenge(NONCE)),
        (POLICY, ELSEWHERE, Refuse("Origin not served here")),
        (STRICT, None, Refuse("Origin required")),
        (STRICT, ORIGIN, Challenge(NONCE)),
        (STRICT, ELSEWHERE, Refuse("Origin not served here")),
        (STRICT, "HTTPS://Chat.Example", Refuse("Origin not served here")),
        (STRICT, f"{ORIGIN}/", Refuse("Origin not served here")),
    ],
)
def test_the_origin_policy(policy: AuthPolicy, origin: str | None, outcome: Outcome) -> None:
    assert Authentication(policy).receive(evolve(HELLO, origin=origin), NONCE) == outcome


# --- one attempt -----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=80), client_messages())
def test_a_challenge_is_good_for_one_attempt(attempt: bytes, later: ClientMessage) -> None:
    machine = _challenged(HELLO)
    assert isinstance(machine.receive(Verify(attempt.hex()), UNUSED), Refuse)
    for message in (_signed(NONCE), later):
        with pytest.raises(RuntimeError, match="authentication is over"):
            machine.receive(message, UNUSED)


def test_a_second_auth_does_not_replace_the_challenge() -> None:
    machine = _challenged(HELLO)
    assert machine.receive(Auth(MALLORY.client_id), OTHER_NONCE) == Expected("expected_verify")
    assert machine.receive(_signed(NONCE), UNUSED) == Admit(Principal(ALICE.client_id, None), speaks_seed=True)


# --- any conversation ------------------------------------------------------------------------------------------------


class AuthenticationMachine(RuleBasedStateMachine):
    """The machine beside a model that knows three facts: who asked, with which nonce, and whether it is over."""

    hello: Auth | None
    nonce: bytes
    over: bool
    nonces: int

    @initialize(require_origin=st.booleans())
    def connect(self, require_origin: bool) -> None:
        self.require_origin = require_origin
        self.machine = Authentication(AuthPolicy(frozenset({ORIGIN}), require_origin))
        self.hello, self.nonce, self.over, self.nonces = None, b"", False, 0

    def _send(self, message: ClientMessage) -> tuple[Outcome, bytes]:
        self.nonces += 1
        nonce = self.nonces.to_bytes(NONCE_BYTES, "big")
        return self.machine.receive(message, nonce), nonce

    @precondition(lambda self: not self.over)
    @rule(
        token=st.sampled_from([ALICE.client_id, ALICE.client_id.upper(), "00" * 32, "key"]),
        origin=st.sampled_from([None, ORIGIN, ELSEWHERE]),
        device=st.sampled_from([None, PHONE, LAPTOP]),
    )
    def auth(self, token: str, origin: Origin | None, device: DeviceId | None) -> None:
        hello = Auth(token, device, origin)
        outcome, nonce = self._send(hello)
        if self.hello is not None:
            assert outcome == Expected("expected_verify")
        elif token.lower() != ALICE.client_id:
            assert outcome == Refuse("Invalid public key")
            self.over = True
        elif origin == ELSEWHERE or (origin is None and self.require_origin):
            assert isinstance(outcome, Refuse)
            self.over = True
        else:
            assert outcome == Challenge(nonce)
            self.hello, self.nonce = hello, nonce

    @precondition(lambda self: not self.over)
    @rule(
        by=st.sampled_from([ALICE, ALICE, ALICE, MALLORY]),
        origin=st.sampled_from([None, ORIGIN, ELSEWHERE]),
        device=st.sampled_from([None, PHONE, LAPTOP]),
        age=st.sampled_from([0, 0, 0, 1]),
    )
    def verify(self, by: Identity, origin: Origin | None, device: DeviceId | None, age: int) -> None:
        signed_nonce = (int.from_bytes(self.nonce, "big") + age).to_bytes(NONCE_BYTES, "big")
        text = signed_nonce if origin is None else _auth_text(origin, signed_nonce, device or "")
        outcome, _ = self._send(_signed(text, by))
        if self.hello is None:
            assert outcome == Expected("auth_required")
            return
        self.over = True
        rightly = by is ALICE and age == 0 and origin == self.hello.origin
        if rightly and (origin is None or device == self.hello.device):
            seed = self.hello.origin is None and self.hello.device is None
            assert outcome == Admit(Principal(ALICE.client_id, self.hello.device), seed)
        else:
            assert outcome == Refuse("Signature verification failed")

    @precondition(lambda self: not self.over)
    @rule(message=st.sampled_from([TEXT, FILE]))
    def speak_too_early(self, message: ClientMessage) -> None:
        outcome, _ = self._send(message)
        assert outcome == Expected("auth_required" if self.hello is None else "expected_verify")

    @precondition(lambda self: self.over)
    @rule(message=st.sampled_from([HELLO, _signed(NONCE), TEXT, FILE]))
    def go_on_after_the_end(self, message: ClientMessage) -> None:
        with pytest.raises(RuntimeError, match="authentication is over"):
            self._send(message)


TestAuthenticationMachine = AuthenticationMachine.TestCase
