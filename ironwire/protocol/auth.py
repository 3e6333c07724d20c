"""auth -> challenge -> verify -> principal (docs/protocol.md, sections 2 and 3), as a pure machine.

    state        message    outcome                                                 next state
    -----------  ---------  ------------------------------------------------------  ---------------------
    AwaitAuth    auth       Challenge, or Refuse: bad key, banned, not our origin   AwaitVerify, or Done
    AwaitAuth    any other  Expected auth_required                                  AwaitAuth
    AwaitVerify  verify     Admit, or Refuse: a bad signature                       Done
    AwaitVerify  any other  Expected expected_verify                                AwaitVerify

A challenge is good for one attempt: every `verify` ends the machine. The session owns the deadline of 10 s.
"""

import re
from collections.abc import Callable

from attrs import define, frozen

from ironwire.close_codes import CloseCode
from ironwire.crypto.signing import SIGNATURE_BYTES, PublicKey, auth_text, parse_public_key
from ironwire.errors import InvalidPublicKey, InvalidSignature
from ironwire.ids import ClientId, DeviceId, Origin
from ironwire.wire.messages import Auth, ClientMessage, ErrorCode, Verify

_HEX_SIGNATURE = re.compile(rf"[0-9a-fA-F]{{{SIGNATURE_BYTES * 2}}}")


@frozen
class AwaitAuth:
    """No key was named yet."""


@frozen
class AwaitVerify:
    """The peer claims `key` and has to sign `nonce`."""

    auth: Auth
    key: PublicKey
    nonce: bytes


@frozen
class Done:
    """Admitted or refused."""


@frozen
class Principal:
    """The owner of a session, proven by signature. Without a device it is a seed session (section 5)."""

    client: ClientId
    device: DeviceId | None


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


@frozen
class AuthPolicy:
    """The operator's demands on an `auth`. `origins` are the names under which this server may be reached; a client
    that `is_banned` is refused before any signature is verified.
    """

    origins: frozenset[Origin]
    require_origin: bool
    is_banned: Callable[[ClientId], bool] = _nobody


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
                self._state, outcome = Done(), _verified(state, message)
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
        return AwaitVerify(auth, key, nonce), Challenge(nonce)


def _verified(state: AwaitVerify, verify: Verify) -> Outcome:
    if _HEX_SIGNATURE.fullmatch(verify.attempt) is None:
        return Refuse("Invalid signature length")
    try:
        state.key.verify(_signed_text(state), bytes.fromhex(verify.attempt))
    except InvalidSignature:
        return Refuse("Signature verification failed")
    speaks_seed = state.auth.origin is None and state.auth.device is None
    return Admit(Principal(state.key.client_id, state.auth.device), speaks_seed, state.auth.invite)


def _signed_text(state: AwaitVerify) -> bytes:
    auth = state.auth
    if auth.origin is None:
        return state.nonce
    return auth_text(origin=auth.origin, nonce=state.nonce, public_key=state.key.raw, device=auth.device or "")
