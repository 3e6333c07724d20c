"""The secret halves of a call's signals (docs/protocol.md, section 7.4; docs/between-devices.md, section 11.2).

    "mls:" <generation> ":" <epoch> ":" <PrivateMessage with a `call`, in base64url>

stands where a description or a candidate would. So the server relays a signal as it does any: in order, to sessions
that are rung later, and to a device that was cut off.

Rule: in an encrypted conversation, a description that did not come so is not taken. Its certificate may be the server's
own, which would hear the call then.
"""

import re
from collections.abc import Callable

from attrs import define, evolve

from ironwire.e2e.bodies import CallBody
from ironwire.e2e.content import decode_content
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.state import DeviceState
from ironwire.errors import InvalidContent, MLSError
from ironwire.ids import DeviceId
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf
from ironwire.wire import messages as msg
from ironwire.wire.messages.conversations import RelayedMlsSignal

Described = msg.RelayedOffer | msg.RelayedAnswer | msg.RelayedUpdate | msg.RelayedCandidate
"""Signals with a secret half."""

CallSignal = Described | msg.RelayedRinging | msg.RelayedResumed | msg.RelayedEnd

_SECRET = re.compile(r"mls:([1-9][0-9]{0,9}):(0|[1-9][0-9]{0,15}):([A-Za-z0-9_-]+)")


def secret_text(place: tuple[int, int], data: str) -> str:
    """The text for a ciphertext of this generation and epoch."""
    generation, epoch = place
    return f"mls:{generation}:{epoch}:{data}"


@define(eq=False)
class CallSignals:
    """Takes the signals that come to one device. `_open` is how a message is decrypted."""

    _state: DeviceState
    _open: Callable[[DeviceMembership | None, RelayedMlsSignal], tuple[Leaf, bytes]]

    def take(self, signal: CallSignal) -> None:
        if not isinstance(signal, Described):
            self._state.tell(ev.CallSignalled(signal))
            return
        member = self._state.members.get(pair_id(self._state.own.client, signal.sender))
        found = _SECRET.fullmatch(_shown(signal))
        if found is not None:
            self._take_secret(member, signal, found)
        elif member is not None and member.is_encrypted:
            self._state.tell(ev.NotEncrypted(member.id, signal.sender, None))
        else:
            self._state.tell(ev.CallSignalled(signal))

    def _take_secret(self, member: DeviceMembership | None, signal: Described, found: re.Match[str]) -> None:
        conversation = pair_id(self._state.own.client, signal.sender)
        place = int(found[1]), int(found[2])
        secret = RelayedMlsSignal(signal.sender, DeviceId("unknown"), conversation, *place, found[3])
        try:
            leaf, data = self._open(member, secret)
            content = decode_content(data, None)
            said = _with(signal, content.body, leaf)
        except (MLSError, InvalidContent) as error:
            now = self._state.now
            self._state.tell(ev.Unreadable(conversation, signal.sender, None, now, str(error), is_given_up=True))
            return
        self._state.tell(ev.CallSignalled(said, content))


def _shown(signal: Described) -> str:
    return signal.candidate.candidate if isinstance(signal, msg.RelayedCandidate) else signal.sdp


def _with(signal: Described, body: object, leaf: Leaf) -> Described:
    """The signal with what it says.

    Raises:
        InvalidContent: the server has put the secret of another signal into it.
    """
    if isinstance(body, CallBody) and body.call == signal.call and leaf.client == signal.sender:
        if isinstance(signal, msg.RelayedCandidate) and body.candidate is not None:
            return evolve(signal, candidate=body.candidate)
        if not isinstance(signal, msg.RelayedCandidate) and body.sdp is not None:
            return evolve(signal, sdp=body.sdp)
    raise InvalidContent("the secret half of a signal belongs to another one")
