"""The calls of one client, over all its sessions, so that it learns of every end.

A device has its calls again after a short loss of the connection (docs/protocol.md, section 7.4): directly after the
welcome the server names them, one by one. A call that it does not name is over, and nobody else will say so.

Rule: the program is told of the end of every call that it was told of, once.
"""

from attrs import define, field

from ironwire.client.connection.outgoing import Reply
from ironwire.ids import CallId, ClientId
from ironwire.wire import messages as msg


@define(eq=False)
class CallBook:
    """Follows what one client says and hears. Returned are the ends that the program has to be told."""

    _live: dict[CallId, ClientId] = field(factory=dict, init=False)
    """The other side of each call."""
    _unnamed: set[CallId] = field(factory=set, init=False)
    """Calls of an earlier session that the current one has not named yet."""

    def answered(self, request: msg.ClientMessage, reply: Reply) -> None:
        """Note the server's reply to a request."""
        match request, reply:
            case msg.CallOffer(to=peer, call=call), msg.Accepted():
                self._live[call] = peer
            case msg.CallEnd(call=call), msg.Accepted() | msg.Error("not_found"):
                self._forget(call)
            case _:
                pass

    def lost(self, *, is_device: bool) -> list[msg.RelayedEnd]:
        """A session is over, and without a device its calls are."""
        self._unnamed = {*self._live}
        return [] if is_device else self._end_unnamed()

    def heard(self, message: msg.ServerMessage) -> list[msg.RelayedEnd]:
        """Something came that is no reply; the first in a session that is about no call ends what was not named."""
        match message:
            case msg.RelayedOffer(sender=peer, call=call) | msg.RelayedResumed(sender=peer, call=call):
                self._live[call] = peer
                self._unnamed.discard(call)
            case msg.RelayedEnd(call=call):
                self._forget(call)
            case msg.RelayedRinging() | msg.RelayedAnswer() | msg.RelayedCandidate() | msg.RelayedUpdate():
                pass
            case _:
                return self._end_unnamed()
        return []

    def _end_unnamed(self) -> list[msg.RelayedEnd]:
        ends = [
            msg.RelayedEnd(peer, call, "disconnected") for call, peer in self._live.items() if call in self._unnamed
        ]
        for end in ends:
            self._forget(end.call)
        return ends

    def _forget(self, call: CallId) -> None:
        self._live.pop(call, None)
        self._unnamed.discard(call)
