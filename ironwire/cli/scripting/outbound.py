"""How commands send as a device: durably, through whichever program has the device, and without waiting for no reason.

Rule: nothing is lost by not waiting. What is queued is kept by the device, which sends it now or when it is used again.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import TypeVar

import trio
from attrs import frozen

import ironwire.client as iw
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import ANSWER_SECONDS
from ironwire.cli.render import notice
from ironwire.cli.terminal import err
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.store.records import Sendable
from ironwire.ids import DeviceId, MessageId

OFFLINE_SECONDS = 3.0
"""How long to wait for a server that cannot be reached."""

HANDOVER_SECONDS = 5.0
"""A program that has the device takes what others have for it before this is over, or cannot."""

_TICK_SECONDS = 0.1

T = TypeVar("T")


@frozen
class Outgoing:
    """A message that is ready to be sent. With a `body`, that is sent, and encrypted."""

    message: iw.Text | iw.File
    body: iw.FileBody | None = None


async def at_device(
    address: iw.ServerAddress,
    opened: Callable[[], AbstractAsyncContextManager[iw.Client]],
    here: Callable[[iw.Client], Awaitable[T]],
    there: Callable[[iw.DeviceOwner], Awaitable[T]],
) -> T:
    """Do it `here` with the device, which `opened` opens, or, where another program has it, `there`.

    Between the two there is no gap: the loser of a race for the file asks the winner, and tries the file again where
    that one is gone. `there` says so with `OwnerGone`, and is called anew for what it has not done.

    Raises:
        DeviceInUse: the other program takes nothing from us.
    """
    gives_up_at = trio.current_time() + HANDOVER_SECONDS
    while True:
        try:
            async with opened() as client:
                return await here(client)
        except iw.DeviceInUse as in_use:
            if trio.current_time() >= gives_up_at:
                raise
            owner = iw.DeviceOwner(address, in_use.path)
        asked_at = trio.current_time()
        with suppress(iw.OwnerGone):
            return await there(owner)
        gives_up_at += trio.current_time() - asked_at
        await trio.sleep(_TICK_SECONDS)


async def send_as_device(
    address: iw.ServerAddress,
    key_file: KeyFile,
    device: DeviceId,
    compose: Callable[[iw.Client | iw.DeviceOwner], Awaitable[Outgoing]],
) -> tuple[iw.Stored, iw.Accepted | None]:
    """Send the message that `compose` makes; return how it is kept, and the answer if there is one yet.

    It is made once, and has one id wherever it is queued: a program that was killed after it had kept the message, and
    before it could say so, has sent it.

    Raises:
        Refused: the server did not take it.
        ClientError: it is not kept, or the server does not want this client.
    """

    message_id = iw.new_message_id()
    made: list[Outgoing] = []

    async def outgoing(by: iw.Client | iw.DeviceOwner) -> Outgoing:
        if not made:
            made.append(await compose(by))
        return made[0]

    async def here(client: iw.Client) -> tuple[iw.Stored, iw.Accepted | None]:
        sent = await outgoing(client)
        async with client.sending(sent.message, message_id, sent.body) as (stored, accepted):
            try:
                found = await _accepted_in_time(client, accepted)
                if found is None and client.connection.error is not None:
                    raise client.connection.error
            except (iw.SessionEnded, iw.AuthenticationRefused, iw.NotTheProtocol):
                err().print(notice(waiting_line(client.waiting, ""), "magenta"))
                raise
            return iw.Stored(stored.ids, client.waiting, client.waiting_reason(sent.message.to)), found

    async def there(owner: iw.DeviceOwner) -> tuple[iw.Stored, iw.Accepted | None]:
        sent = await outgoing(owner)
        async with owner.sending(sent.message, message_id, sent.body) as (stored, accepted):
            if not stored.reason:
                # Where the other program ends first, the message is kept all the same: there is nothing to wait for.
                with trio.move_on_after(ANSWER_SECONDS), suppress(iw.OwnerGone):
                    return stored, await accepted()
            return stored, None

    return await at_device(address, partial(key_file.open_device, address, device), here, there)


async def _accepted_in_time(client: iw.Client, accepted: Callable[[], Awaitable[iw.Accepted]]) -> iw.Accepted | None:
    found: iw.Accepted | None = None
    with trio.CancelScope() as waiting:
        async with plain_nursery() as nursery:

            async def give_up() -> None:
                await wait_sent(client, lambda: True)
                waiting.cancel()

            nursery.start_soon(give_up)
            found = await accepted()
            nursery.cancel_scope.cancel()
    return found


async def queue_valid(
    queue: Callable[..., Awaitable[object]],
    messages: Mapping[MessageId, Sendable],
    refuse: Callable[[Sendable, iw.Refused], None],
) -> None:
    """Queue `messages` together under their ids; where no server would take one of them, all but those."""
    try:
        await queue(*messages.values(), ids=[*messages])
    except iw.Refused as refused:
        if len(messages) == 1:
            (message,) = messages.values()
            refuse(message, refused)
            return
        for message_id, message in messages.items():
            await queue_valid(queue, {message_id: message}, refuse)


def _nothing_else() -> bool:
    return False


async def wait_sent(client: iw.Client, is_busy: Callable[[], bool] = _nothing_else) -> None:
    """Return once everything that is queued is answered for, and `is_busy` says no; or when nothing moves any more.

    The server has `ANSWER_SECONDS` for each answer, however many there are to come, and after the time for which it
    asked for a pause. A first attempt to connect is waited for in any case. Nobody is waited for who has no keys yet.
    """
    idle_since = trio.current_time()
    while client.waiting or is_busy() or client.connection.state == "connecting":
        state = client.connection.state
        idle_seconds = OFFLINE_SECONDS if state == "waiting" or client.is_holding else ANSWER_SECONDS
        if state == "stopped" or trio.current_time() >= max(idle_since, client.hold_until) + idle_seconds:
            return
        with trio.move_on_after(_TICK_SECONDS):
            await client.wait_moved()
            idle_since = trio.current_time()


def waiting_line(count: int, reason: str) -> str:
    """For a person who leaves while something has not been sent; `reason` is why there is no connection, if known."""
    messages = f"{count} messages wait" if count > 1 else "1 message waits"
    return f"{messages} on this device, to be sent with its next connection{reason and f' ({reason})'}"
