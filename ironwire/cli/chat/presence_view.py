"""Presence and typing of others, as a conversation shows them; and when to tell others that this user types.

Rule: nothing is told unless the user wants to be visible, and what others told is forgotten soon: the word that they
have stopped may get lost (docs/protocol.md, section 7.3).
"""

import math
from collections.abc import Callable

import trio
from attrs import define, field

from ironwire.cli.addressbook import AddressBook
from ironwire.client import PresenceUpdate, RelayedTyping
from ironwire.ids import Address, ClientId

REPEAT_SECONDS = 4.0
"""The interval at which others are told again while this user types."""

FORGET_SECONDS = 10.0
PAUSE_SECONDS = 6.0
"""A line that has not changed for so long counts as no longer typed."""


@define(eq=False)
class PresenceView:
    """The others in the conversation with `to`."""

    _to: Address
    status: str = field(default="", init=False)
    """The status that the other one shows; empty if nothing is known."""
    _typing_until: dict[ClientId, float] = field(factory=dict, init=False)

    def note(self, message: RelayedTyping | PresenceUpdate) -> None:
        """Take a report on presence or typing, of this conversation or another."""
        match message:
            case PresenceUpdate(client, status) if client == self._to:
                # A client that does not show its presence is reported as offline too.
                self.status = "" if status == "offline" else status
            case RelayedTyping(sender, is_typing, group) if self._to == (group or sender):
                if is_typing:
                    self._typing_until[sender] = trio.current_time() + FORGET_SECONDS
                else:
                    self.stop(sender)
            case _:
                pass

    def stop(self, client: ClientId) -> None:
        """The message that `client` was typing has come."""
        self._typing_until.pop(client, None)

    def forget(self) -> None:
        """The connection is gone, and nobody says what changes."""
        self.status = ""
        self._typing_until.clear()

    def describe(self, book: AddressBook) -> str:
        """For people, by the names that this user has for them; empty if there is nothing to say."""
        now = trio.current_time()
        typing = [book.label(client) for client, until in self._typing_until.items() if now < until]
        if len(typing) > 2:
            return f"{len(typing)} are typing…"
        if typing:
            return f"{' and '.join(typing)} {'is' if len(typing) == 1 else 'are'} typing…"
        return self.status


@define(eq=False)
class OwnTyping:
    """Looks at the line that this user types, and tells the others through `tell`."""

    _tell: Callable[[bool], None]
    _text: str = field(default="", init=False)
    _changed_at: float = field(default=-math.inf, init=False)
    _told_at: float | None = field(default=None, init=False)

    def look(self, text: str) -> None:
        """Look at the line as it is now. Commands are not reported as typing."""
        now = trio.current_time()
        if text != self._text:
            self._text, self._changed_at = text, now
        is_typing = bool(text) and not text.startswith("/") and now - self._changed_at < PAUSE_SECONDS
        if is_typing and (self._told_at is None or now - self._told_at >= REPEAT_SECONDS):
            self._told_at = now
            self._tell(True)
        elif not is_typing and self._told_at is not None:
            self._told_at = None
            self._tell(False)
