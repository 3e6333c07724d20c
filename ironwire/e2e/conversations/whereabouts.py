"""Where the conversations of a device stand, as the server has it: asked for after a gap, with a new mailbox, and
where something does not fit together.

Until that is known, nobody can say which groups are encrypted: a new device is in none of them yet, and finds out.
"""

from collections.abc import Callable

from attrs import define, field

from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations.effects import Steps
from ironwire.e2e.conversations.jobs import Jobs
from ironwire.e2e.conversations.state import DeviceState
from ironwire.ids import MessageId


@define(eq=False)
class Whereabouts:
    """What one device knows of them."""

    _state: DeviceState
    _jobs: Jobs
    _compare: Callable[[], Steps[bool]]
    """Compare all conversations with what the server says. False: it does not say."""
    _go_on: Callable[[], None]
    """Let all conversations go on."""
    _is_due: bool = field(default=False, init=False)
    _is_asking: bool = field(default=False, init=False)
    _waiting: list[MessageId] = field(factory=list, init=False)

    @property
    def is_known(self) -> bool:
        """Whether a group that is not known here is one in the clear."""
        return self._state.is_caught_up and not self._is_due

    def doubt(self) -> None:
        """Something may have changed that the mailbox does not tell."""
        self._is_due = True

    def end_session(self) -> None:
        self._is_asking = False

    def ask(self) -> None:
        """Ask the server, unless it is being asked."""
        if self._state.is_caught_up and not self._is_asking:
            self._is_asking = True
            self._jobs.start(self._asking())

    def ask_if_due(self) -> None:
        if self._is_due:
            self.ask()

    def await_known(self, wish: MessageId) -> None:
        """`WishDone` follows as soon as it is known."""
        self._waiting.append(wish)
        self.report()

    def report(self, *, is_sure: bool = False) -> None:
        """Tell those who wait, if it is known."""
        if is_sure or self.is_known:
            for wish in self._waiting:
                self._state.report(fx.WishDone(wish))
            self._waiting.clear()

    def _asking(self) -> Steps[None]:
        if (yield from self._compare()):
            self._is_due = False
        self._is_asking = False
        self._go_on()
