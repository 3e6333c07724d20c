"""The answer to a device that asks to be linked, left and asked for on the server (docs/protocol.md, section 8.2)."""

from collections.abc import Callable

import trio

from ironwire.client.connection.dial import Dial, dial_tcp
from ironwire.client.connection.exchange import ask, explanation
from ironwire.client.connection.urls import ServerAddress
from ironwire.client.errors import TransferFailed
from ironwire.e2e.linking import LinkOffer, LinkRequest, PendingLink, answer_link
from ironwire.errors import InvalidLink
from ironwire.limits import LINK_BYTES

POLL_SECONDS = 6.0
"""Ten times a minute: no server that keeps to the defaults refuses that."""

_OK, _NOT_FOUND, _TOO_OFTEN = 200, 404, 429


async def leave_answer(address: ServerAddress, request: LinkRequest, offer: LinkOffer, dial: Dial = dial_tcp) -> None:
    """Answer a new device, as the owner device that its person has said yes on.

    Raises:
        InvalidLink: the new device is at another server, or somebody else has answered it.
        ConnectionFailed: the server cannot be reached.
        TransferFailed: the server refuses.
    """
    answer = answer_link(request, offer, address.origin)
    status, reply = await ask(dial, address, "PUT", _path(request), body=answer)
    if status != _OK:
        raise TransferFailed(explanation(reply), status)


async def wait_for_answer(
    address: ServerAddress, link: PendingLink, now_ms: Callable[[], int], dial: Dial = dial_tcp
) -> LinkOffer:
    """Ask for the answer until it is there.

    Raises:
        InvalidLink: the time is over, or the answer is not for this device.
        ConnectionFailed: the server cannot be reached.
        TransferFailed: the server refuses.
    """
    while not link.is_over(now_ms()):
        status, answer = await ask(dial, address, "GET", _path(link.request), most_bytes=LINK_BYTES)
        if status == _OK:
            return link.open(answer, now_ms())
        if status not in (_NOT_FOUND, _TOO_OFTEN):
            raise TransferFailed(explanation(answer), status)
        await trio.sleep(POLL_SECONDS)
    raise InvalidLink("the five minutes for linking are over: begin again")


def _path(request: LinkRequest) -> str:
    return f"/link/{request.name}"
