"""What a program wants of the engine of encrypted conversations, and waits for."""

from collections.abc import Callable

import trio
from attrs import define, field

from ironwire.e2e.conversations import effects as fx
from ironwire.errors import ClientError
from ironwire.ids import MessageId

Outcome = fx.WishDone | fx.Sealed


@define(eq=False)
class _Wish:
    event: trio.Event = field(factory=trio.Event)
    outcome: Outcome | ClientError | None = None


@define(eq=False)
class AwaitedWishes:
    """The wishes of one client, by their ids."""

    _wishes: dict[MessageId, _Wish] = field(factory=dict, init=False)

    async def outcome(self, wish_id: MessageId, ask: Callable[[], None]) -> Outcome | None:
        """Have it asked for, and wait.

        Raises:
            ClientError: the client has stopped.
        """
        wish = self._wishes[wish_id] = _Wish()
        ask()
        try:
            await wish.event.wait()
        finally:
            self._wishes.pop(wish_id, None)
        if isinstance(wish.outcome, ClientError):
            raise wish.outcome
        return wish.outcome

    def note(self, outcome: Outcome) -> None:
        self._end(self._wishes.get(outcome.wish), outcome)

    def fail(self, error: ClientError) -> None:
        """The client has stopped: raise `error` for everything that is waited for."""
        for wish in self._wishes.values():
            self._end(wish, error)

    def _end(self, wish: _Wish | None, outcome: Outcome | ClientError) -> None:
        if wish is not None and wish.outcome is None:
            wish.outcome = outcome
            wish.event.set()
