"""What a device does in a new session before anybody uses it.

    auth_ok ──> the device log, here and at the server ──> the first key packages ──> the session is there

Rule: a device that is connected can be written to. So a program that leaves as soon as it is connected has not left its
device in the log without key packages; others would wait for those before they can send it anything.
"""

import time

import trio

from ironwire.client.connection.session import ClientSession
from ironwire.client.device_log import catch_up
from ironwire.client.encryption import Encryption
from ironwire.client.errors import ConnectionFailed, Refused
from ironwire.client.store.device_keys import DeviceKeys
from ironwire.e2e.conversations.effects import Request
from ironwire.wire.messages import Answer, ClientMessage, Error
from ironwire.wire.messages.fields import is_retryable

PREPARE_SECONDS = 20.0
"""After `auth_ok`."""


async def prepare(session: ClientSession, keys: DeviceKeys, encryption: Encryption | None) -> None:
    """Bring the device log up to date; and where the session is by the key of the device, publish its key packages if
    the server cannot have any.

    Raises:
        ConnectionFailed: the server cannot do it now, and may be tried again.
        ClientError: as `catch_up` says; or what is to be kept cannot be.
    """
    try:
        with trio.fail_after(PREPARE_SECONDS):
            await catch_up(session, keys, time.time_ns() // 1_000_000)
            if encryption is not None:
                await _publish(session, encryption)
    except trio.TooSlowError:
        raise ConnectionFailed("the server did not answer about this device: try again later") from None
    except Refused as refused:
        if is_retryable(refused.code):
            raise ConnectionFailed(f"the server takes no entry of the device log now ({refused})") from None
        raise


async def _publish(session: ClientSession, encryption: Encryption) -> None:
    """Ask what the engine asks. Where the server refuses, the engine tries again in the session."""
    requests = await encryption.prepare(session.welcome)
    while requests:
        (request,) = requests
        requests = await encryption.take_reply(request, await _reply(session, request))


async def _reply(session: ClientSession, request: Request) -> Answer | Error | None:
    question = request.ask.question
    if not isinstance(question, ClientMessage):
        return None
    try:
        return await session.ask(question, Answer)
    except Refused as refused:
        return Error(refused.code, refused.detail, refused.user, refused.retry_after_ms)
