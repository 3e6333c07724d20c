"""auth -> challenge -> verify -> principal (docs/protocol.md, sections 2, 3 and 9.2), as a pure machine.

    state        message    outcome                                                 next state
    -----------  ---------  ------------------------------------------------------  ---------------------
    AwaitAuth    auth       Challenge, or Refuse: bad key or certificate, banned,   AwaitVerify, or Done
                            not our origin
    AwaitAuth    any other  Expected auth_required                                  AwaitAuth
    AwaitVerify  verify     Admit, or Refuse: a bad signature, of either kind       Done
    AwaitVerify  any other  Expected expected_verify                                AwaitVerify

A challenge is good for one attempt: every `verify` ends the machine. The session owns the deadline of 10 s.

With a certificate the device's key signs, and the certificate says that its client's key stands behind it; both are
verified. Whether the device is in the client's log still is the store's to decide, when the session is registered.
"""

import re
from collections.abc import Callable

from attrs import define, frozen

from ironwire.close_codes import CloseCode
from ironwire.crypto.signing import SIGNATURE_BYTES, PublicKey, auth_text, certified_auth_text, parse_public_key
from ironwire.errors import InvalidCertificate, InvalidPublicKey, InvalidSignature
from ironwire.ids import ClientId, DeviceId, Origin
from ironwire.protocol.devices.certificate import Certificate, decode_certificate
from ironwire.wire.messages import Auth, ClientMessage, ErrorCode, Verify

_HEX_SIGNATURE = re.compile(rf"[0-9a-fA-F]{{{SIGNATURE_BYTES * 2}}}")


@frozen
class AwaitAuth:
    """No key was named yet."""


@frozen
class ClaimedDevice:
    """A device shows a certificate, and says which entry of its log it knows as the last."""

    key: PublicKey
    certificate: Certificate
    log_head: bytes


@frozen
class AwaitVerify:
    """The peer claims the client's `key`, or a device of that client, and has to sign `nonce`."""

    auth: Auth
    key: PublicKey
    nonce: bytes
    device: ClaimedDevice | None = None


@frozen
class Done:
    """Admitted or refused."""


@frozen
class Principal:
    """The owner of a session, proven by signature. Without a device it is a seed session (section 5). With a
    `device_key` it was that key that signed, and the client's key has certified it.
    """

    client: ClientId
    device: DeviceId | None
    device_key: PublicKey | None = None


@frozen
class Challenge:
    """Send `auth_challenge` with this nonce."""

    nonce: bytes


@frozen
class Expected:
    """Answer `error` with this code; the connection stays open."""

    code: ErrorCode


@frozen
class Refuse:
    """Close with this reason and code (section 6)."""

    reason: str
    code: CloseCode = CloseCode.REFUSED


INVALID_CERTIFICATE = Refuse("Invalid certificate")
BANNED = Refuse("banned by the operator", CloseCode.REMOVED)


@frozen
class Admit:
    """Answer `auth_ok`; the session begins. A client with `speaks_seed` named neither device nor origin, and gets no
    payload.
    """

    principal: Principal
    speaks_seed: bool
    invite: str | None = None
    """Presented by a new client, where the operator demands one."""


Outcome = Challenge | Expected | Refuse | Admit


def _nobody(_: ClientId) -> bool:
    return False


def _before_every_date() -> int:
    return 0


@frozen
class AuthPolicy:
    """The operator's demands on an `auth`. `origins` are the names under which this server may be reached; a client
    that `is_banned` is refused before any signature is verified. `now_ms` tells when a certificate has ended.
    """

    origins: frozenset[Origin]
    require_origin: bool
    is_banned: Callable[[ClientId], bool] = _nobody
    now_ms: Callable[[], int] = _before_every_date


@define
class Authentication:
    """One connection's way to a principal. Takes each message in turn, with 32 fresh random bytes."""

    _policy: AuthPolicy
    _state: AwaitAuth | AwaitVerify | Done = AwaitAuth()

    def receive(self, message: ClientMessage, nonce: bytes) -> Outcome:
        """The action for the next message. `nonce` is consumed if this message earns a challenge, and must never be
        used again.
        """
        match self._state, message:
            case AwaitAuth(), Auth():
                self._state, outcome = self._challenge(message, nonce)
            case AwaitAuth(), _:
                outcome = Expected("auth_required")
            case AwaitVerify() as state, Verify():
                self._state, outcome = Done(), _verified(state, message, self._policy.now_ms())
            case AwaitVerify(), _:
                outcome = Expected("expected_verify")
            case _:
                raise RuntimeError("authentication is over: the machine was asked again")
        return outcome

    def _challenge(self, auth: Auth, nonce: bytes) -> tuple[AwaitVerify | Done, Outcome]:
        try:
            key = parse_public_key(auth.token)
        except InvalidPublicKey:
            return Done(), Refuse("Invalid public key")
        if self._policy.is_banned(key.client_id):
            return Done(), BANNED
        if auth.origin is None and self._policy.require_origin:
            return Done(), Refuse("Origin required")
        if auth.origin is not None and auth.origin not in self._policy.origins:
            return Done(), Refuse("Origin not served here")
        device = _claimed_device(auth, key)
        if isinstance(device, Refuse):
            return Done(), device
        return AwaitVerify(auth, key, nonce, device), Challenge(nonce)


def _claimed_device(auth: Auth, client: PublicKey) -> ClaimedDevice | Refuse | None:
    """What the `auth` says of a certificate; None if it has none. Nothing is verified yet."""
    claims = auth.cert, auth.device_key, auth.log_head
    if claims == (None, None, None):
        return None
    match claims, auth:
        case (str(cert), str(device_key), str(log_head)), Auth(device=str(), origin=str()):
            try:
                certificate = decode_certificate(bytes.fromhex(cert))
                key = parse_public_key(device_key)
            except (InvalidCertificate, InvalidPublicKey):
                return INVALID_CERTIFICATE
            if certificate.client != client:
                return INVALID_CERTIFICATE
            return ClaimedDevice(key, certificate, bytes.fromhex(log_head))
        case _:
            return Refuse("A certificate needs device, origin, device_key and log_head")


def _verified(state: AwaitVerify, verify: Verify, now_ms: int) -> Outcome:
    if _HEX_SIGNATURE.fullmatch(verify.attempt) is None:
        return Refuse("Invalid signature length")
    device = state.device
    try:
        signer = state.key if device is None else device.key
        signer.verify(_signed_text(state), bytes.fromhex(verify.attempt))
        if device is not None:
            device.certificate.verify(device.key, now_ms)
    except InvalidSignature:
        return Refuse("Signature verification failed")
    except InvalidCertificate:
        return INVALID_CERTIFICATE
    speaks_seed = state.auth.origin is None and state.auth.device is None
    principal = Principal(state.key.client_id, state.auth.device, None if device is None else device.key)
    return Admit(principal, speaks_seed, state.auth.invite)


def _signed_text(state: AwaitVerify) -> bytes:
    auth, device = state.auth, state.device
    if auth.origin is None:
        return state.nonce
    named = {"origin": auth.origin, "device": auth.device or ""}
    if device is None:
        return auth_text(**named, nonce=state.nonce, public_key=state.key.raw)
    return certified_auth_text(
        **named, nonce=state.nonce, public_key=state.key.raw, device_key=device.key.raw, log_head=device.log_head
    )
