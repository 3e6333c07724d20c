"""Files of a chat on their way: up and then queued, or down and then on the disk.

Rule: nothing vanishes silently. Leaving the chat while files are on their way drops them, and each is named.
"""

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from itertools import count
from typing import Literal

import trio
from attrs import define, evolve, field, frozen

from ironwire.cli.chat.commands import Remark, path_of, words_of
from ironwire.cli.failures import refusal
from ironwire.cli.render import now
from ironwire.cli.scripting.files import RemoteFile, attach, destination
from ironwire.cli.scripting.outbound import Outgoing
from ironwire.cli.terminal import counted
from ironwire.client import Client, ConnectionFailed, MediaError, Refused, TransferFailed
from ironwire.ids import Address
from ironwire.wire.messages import FileKind


@frozen
class Transfer:
    """A file on its way up or down, in the conversation with `peer`."""

    key: int
    peer: Address
    name: str
    direction: Literal["up", "down"]
    done: int = 0
    total: int = 0
    began: datetime = field(factory=now, eq=False)


Then = Callable[[Transfer, str | None], None]
"""Called when a transfer is over, with the reason if it failed."""


@define(eq=False)
class Transfers:
    """The transfers of one chat. `queue` sends an uploaded file; `changed` is called with each step of a transfer, and
    with True when it is over. A transfer is `running` as soon as it is asked for, in a task of its own.
    """

    _client: Client
    _queue: Callable[[Outgoing], Awaitable[object]]
    _changed: Callable[[Transfer, bool], None]
    running: dict[int, Transfer] = field(factory=dict, init=False)
    dropped: list[Transfer] = field(factory=list, init=False)
    """Transfers that were cancelled before they were over."""
    _keys: Iterator[int] = field(factory=count, init=False)

    def send(self, nursery: trio.Nursery, peer: Address, kind: FileKind, argument: str, then: Then) -> None:
        """Upload the file that `argument` names, and queue it."""
        path = path_of(" ".join(words_of(argument)))
        transfer = self._begin(peer, path.name, "up")

        async def work() -> None:
            await self._queue(await attach(self._client, peer, path, kind, self._report(transfer)))

        nursery.start_soon(self._run, transfer, work, then)

    def save(
        self,
        nursery: trio.Nursery,
        peer: Address,
        file: RemoteFile,
        path: str | None,
        then: Callable[[Remark], None],
    ) -> None:
        """Download a file to `path`, or under the name that it has."""
        target = destination(None if path is None else path_of(path), file.name or file.last_word)
        transfer = self._begin(peer, target.name, "down")

        async def work() -> None:
            await file.save(self._client.address, target, self._report(transfer))

        def tell(_: Transfer, problem: str | None) -> None:
            saved = Remark(f"saved as {target.absolute()}", "good")
            then(saved if problem is None else Remark(f"not saved: {problem}", "error"))

        nursery.start_soon(self._run, transfer, work, tell)

    async def _run(self, transfer: Transfer, work: Callable[[], Awaitable[None]], then: Then) -> None:
        problem = None
        try:
            await work()
        except Refused as refused:
            problem = refusal(refused)
        except (ConnectionFailed, MediaError, TransferFailed) as failed:
            problem = str(failed)
        except trio.Cancelled:
            self.dropped.append(transfer)
            raise
        finally:
            self._changed(self.running.pop(transfer.key), True)
        then(transfer, problem)

    def _begin(self, peer: Address, name: str, direction: Literal["up", "down"]) -> Transfer:
        transfer = Transfer(next(self._keys), peer, name, direction)
        self._step(transfer)
        return transfer

    def _step(self, transfer: Transfer) -> None:
        self.running[transfer.key] = transfer
        self._changed(transfer, False)

    def _report(self, transfer: Transfer) -> Callable[[int, int], None]:
        return lambda done, total: self._step(evolve(transfer, done=done, total=total))


def leaving_drops(running: int, how: str = "leave again to drop") -> str:
    """The warning for a person who wants to leave while so many files are on their way."""
    return f"{counted(running, 'file')} still on the way; {how} {'it' if running == 1 else 'them'}"


def dropped_line(transfer: Transfer, label: str) -> str:
    """The line about a `transfer` that was dropped when the person left, in the conversation called `label`."""
    return f"not sent to {label}: {transfer.name}" if transfer.direction == "up" else f"not saved: {transfer.name}"
