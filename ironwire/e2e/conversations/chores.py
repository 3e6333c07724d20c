"""What a device does by itself, from the moment in which it has caught up: once, and then every minute."""

from collections.abc import Callable

from attrs import define

from ironwire.e2e.conversations.changes import ChangeQueue
from ironwire.e2e.conversations.company import Company
from ironwire.e2e.conversations.effects import Pause, Steps
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.reading import Reading
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.wishes import RenewKeys

EVERY_MS = 60_000
PUBLISH_MS = 12 * 3_600_000


@define(eq=False)
class Chores:
    """The chores of one device. `run` begins anew in each session."""

    _state: DeviceState
    _changes: ChangeQueue
    _company: Company
    _reading: Reading
    _tend_own: Callable[[], None]
    """Look after the conversation of the own devices."""
    _touch: Callable[[DeviceMembership], None]
    """Let a conversation go on."""
    _look: Callable[[], None]
    """Have it found out where things stand, if that is due. Who is added again needs key packages first."""

    def run(self) -> Steps[None]:
        published_at = self._state.now - PUBLISH_MS
        while True:
            if published_at + PUBLISH_MS <= self._state.now:
                now = self._state.now
                published_at = now if (yield from self._state.pool.publishing()) else published_at
            self._look()
            self._reading.give_up()
            self._tend_own()
            for conversation in {conversation for conversation, _, _ in self._state.missing}:
                self._touch(self._state.member(conversation))
            for member in [each for each in self._state.members.values() if each.standing == "active"]:
                self._renew_keys(member)
                self._company.tend(member)
            yield Pause(EVERY_MS)

    def _renew_keys(self, member: DeviceMembership) -> None:
        due_at = member.facts.update_at
        if due_at is not None and due_at <= self._state.now and member.facts.was_used:
            self._changes.want(member, RenewKeys())
