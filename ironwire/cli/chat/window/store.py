"""The one place of the window's state, for the two threads that it has: Trio's, and the one that draws."""

from collections.abc import Callable
from threading import Lock

from attrs import define, field

from ironwire.cli.chat.window.events import Effect, Event
from ironwire.cli.chat.window.model import State
from ironwire.cli.chat.window.update import update


@define(eq=False)
class Store:
    """`state` is replaced whole, so that it can be read at any time from both threads."""

    state: State
    act: Callable[[Effect], None]
    _changed: Callable[[], None]
    _turn: Lock = field(factory=Lock, init=False)

    def dispatch(self, event: Event) -> None:
        """`event` happened: the state is another once this returns, what follows is done soon."""
        with self._turn:
            self.state, effects = update(self.state, event)
            for effect in effects:
                self.act(effect)
        self._changed()
