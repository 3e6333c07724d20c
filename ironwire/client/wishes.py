"""What a program wants of the engine of encrypted conversations, and waits for."""

from collections.abc import Callable

import trio
from attrs import define, field

from ironwire.client.connection.outgoing import new_message_id
from ironwire.e2e.conversations import effects as fx
from ironwire.errors import ClientError
from ironwire.ids import MessageId

Outcome = fx.WishDone | fx.Sealed | fx.Sent


@define(eq=False)
class _Wish:
    event: trio.Event = field(factory=trio.Event)
    outcome: Outcome | ClientError | None = None


@define(eq=False)
class AwaitedWishes:
    """The wishes of one client, by their ids. `carry_out` does what the engine says."""

    _carry_out: Callable[[fx.Effects], None]
    _wishes: dict[MessageId, _Wish] = field(factory=dict, init=False)

    async def outcome(self, ask: Callable[[MessageId], fx.Effects]) -> Outcome | None:
        """Ask the engine for it, under an id, and wait.

        Raises:
            ClientError: the client has stopped.
        """
        wish_id = new_message_id()
        wish = self._wishes[wish_id] = _Wish()
        self._carry_out(ask(wish_id))
        try:
            await wish.event.wait()
        finally:
            self._wishes.pop(wish_id, None)
        if isinstance(wish.outcome, ClientError):
            raise wish.outcome
        return wish.outcome

    def note(self, report: fx.Report) -> bool:
        """Whether somebody waits for this report of the engine; then they have it."""
        wish = self._wishes.get(report.wish if isinstance(report, fx.WishDone | fx.Sealed) else report.id)
        if wish is not None and not isinstance(report, fx.GoesPlain):
            self._end(wish, report)
        return wish is not None

    def fail(self, error: ClientError) -> None:
        """The client has stopped: raise `error` for everything that is waited for."""
        for wish in self._wishes.values():
            self._end(wish, error)

    def _end(self, wish: _Wish, outcome: Outcome | ClientError) -> None:
        if wish.outcome is None:
            wish.outcome = outcome
            wish.event.set()
