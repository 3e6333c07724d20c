"""Files of the chat window on their way: up and then queued, down and then on the disk, with how far they are."""

from collections.abc import Callable, Iterator
from itertools import count

import trio
from attrs import define, evolve, field

from ironwire.cli.chat.conversation import path_of, words_of
from ironwire.cli.chat.window.events import Event, Noted, Save, SendFile, Transferred
from ironwire.cli.chat.window.model import State, Transfer
from ironwire.cli.failures import refusal
from ironwire.cli.scripting.files import attach, destination, media_url
from ironwire.client import Client, ConnectionFailed, DeliveredFile, MediaError, Refused, TransferFailed, download
from ironwire.ids import Address
from ironwire.wire.messages import File


@define(eq=False)
class Files:
    """For one window. Every transfer has a task of its own, the caller's."""

    _client: Client
    _tell: Callable[[Event], None]
    _numbers: Iterator[int] = field(factory=count, init=False)

    async def send(self, order: SendFile) -> None:
        """Upload a file, and queue it."""
        path = path_of(" ".join(words_of(order.path)))
        transfer = Transfer(next(self._numbers), path.name, "up")
        try:
            attachment = await attach(self._client, path, order.kind, self._report(order.peer, transfer))
            await self._client.queue(File(order.peer, attachment.url, **attachment.metadata))
        except Refused as refused:
            self._tell(Noted(f"{path.name} is not sent: {refusal(refused)}", "class:error", order.peer))
        except (ConnectionFailed, MediaError, TransferFailed) as failed:
            self._tell(Noted(f"{path.name} is not sent: {failed}", "class:error", order.peer))
        finally:
            self._tell(Transferred(order.peer, transfer, is_over=True))

    async def save(self, order: Save, state: State) -> None:
        """Download a file of the conversation: the one with the number that was given, or the last."""
        words = words_of(order.argument)
        file = _wanted(state, order.peer, words[0] if words else None)
        if file is None:
            reason = f"there is no file {words[0]} here" if words else "no file has come yet"
            self._tell(Noted(f"/save: {reason}", "class:warning", order.peer))
            return
        target = destination(path_of(words[1]) if len(words) > 1 else None, file.name or file.url.rpartition("/")[2])
        transfer = Transfer(next(self._numbers), target.name, "down")
        try:
            await download(
                self._client.address,
                media_url(self._client.address, file.url),
                target,
                self._report(order.peer, transfer),
                expected_size=file.size,
                expected_sha256=file.sha256,
            )
        except (ConnectionFailed, TransferFailed) as failed:
            self._tell(Noted(f"not saved: {failed}", "class:error", order.peer))
        else:
            self._tell(Noted(f"saved as {await trio.Path(target).absolute()}", "class:good", order.peer))
        finally:
            self._tell(Transferred(order.peer, transfer, is_over=True))

    def _report(self, peer: Address, transfer: Transfer) -> Callable[[int, int], None]:
        self._tell(Transferred(peer, transfer))
        return lambda done, total: self._tell(Transferred(peer, evolve(transfer, done=done, total=total)))


def _wanted(state: State, peer: Address, number: str | None) -> DeliveredFile | None:
    files = {
        str(entry.number): entry.message
        for entry in state.threads[peer].entries
        if isinstance(entry.message, DeliveredFile)
    }
    if number is not None:
        return files.get(number)
    return next((file for file in reversed(files.values()) if file.sender != state.own), None)
