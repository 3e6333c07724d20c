"""The names that groups have of their own, for a chat to show those that are no contacts.

They come from three places: changes that the device has kept, changes that arrive, and, for a group whose naming came
before this device or this membership, the server.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import trio
from attrs import define, field

from ironwire.cli.options import ANSWER_SECONDS
from ironwire.client import Client, ClientError, Connected, Event, GroupChanged, Lost, Received
from ironwire.ids import Address, GroupId, is_group


@define(eq=False)
class GroupNames:
    """The names of the groups of one device. `tell` is called with all of them when one is new."""

    _client: Client
    _tell: Callable[[Mapping[GroupId, str]], None]
    _names: dict[GroupId, str] = field(factory=dict, init=False)
    _asked: set[GroupId] = field(factory=set, init=False)
    """Groups about which the server was asked; those that are here and have no name have none."""

    async def restore(self) -> None:
        """Read the names that the device's file tells.

        Raises:
            LocalStoreError: it cannot be read.
        """
        self._learn(await self._client.group_names())

    def note(self, event: Event) -> None:
        """Follow what happens."""
        match event:
            case Received(GroupChanged(group=group, name=str() as name)):
                self._learn({group: name})
            case Lost(groups=groups, more_groups=more_groups):
                for group in [*self._names] if more_groups else groups:
                    self._names.pop(group, None)
                self._asked.clear()
            case Connected():
                self._asked.clear()
            case _:
                pass

    async def look_up(self, peers: Iterable[Address]) -> None:
        """Ask the server if there is a group among `peers` of which no name is known, once in a session."""
        unknown = {GroupId(peer) for peer in peers if is_group(peer)} - self._names.keys() - self._asked
        if not unknown or not self._client.connected:
            return
        self._asked |= unknown
        # Without an answer these groups keep their ids until the next session.
        with suppress(ClientError), trio.move_on_after(ANSWER_SECONDS):
            self._learn({each.group: each.name for each in await self._client.groups.all() if each.name})

    def _learn(self, names: Mapping[GroupId, str]) -> None:
        if not names.items() <= self._names.items():
            self._names |= names
            self._tell({**self._names})
