"""What a program wants of the engine of encrypted conversations, and waits for."""

from collections.abc import Callable

import trio
from attrs import define, field

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
        wish_id = outcome.id if isinstance(outcome, fx.Sent) else outcome.wish
        self._end(self._wishes.get(wish_id), outcome)

    def has(self, wish_id: MessageId) -> bool:
        """Whether somebody waits for the outcome of this one."""
        return wish_id in self._wishes

    def fail(self, error: ClientError) -> None:
        """The client has stopped: raise `error` for everything that is waited for."""
        for wish in self._wishes.values():
            self._end(wish, error)

    def _end(self, wish: _Wish | None, outcome: Outcome | ClientError) -> None:
        if wish is not None and wish.outcome is None:
            wish.outcome = outcome
            wish.event.set()
