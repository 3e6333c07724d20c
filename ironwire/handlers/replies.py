"""How a handler takes the requests of its verbs, and how it answers them."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar, get_args, get_type_hints

from ironwire.delivery.hub import Endpoint
from ironwire.ids import MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import Accepted, ClientMessage, Error, ServerMessage
from ironwire.wire.messages.fields import ErrorCode

Handling = ErrorCode | None | Awaitable[ErrorCode | None]
"""The code of the error that was the answer, None where the request was carried out."""

Method = TypeVar("Method", bound=Callable[[Any, Endpoint, Any, MessageId | None], Handling])


def verb_handler(method: Method) -> Method:
    """Register a method for the verbs of the message classes that the annotation of its parameter `request` names.

    A plain method waits for nothing; a coroutine may ask the store.
    """
    request = get_type_hints(method)["request"]
    method.__dict__["handled"] = get_args(request) or (request,)
    return method


def registered_in(handler: object) -> Iterator[tuple[type[ClientMessage], Callable[..., Any]]]:
    """Each message class for which `handler` has a registered method, with that method."""
    for name, member in vars(type(handler)).items():
        for kind in getattr(member, "handled", ()):
            yield kind, getattr(handler, name)


def reply(endpoint: Endpoint, message: ServerMessage, id_: MessageId | None) -> ErrorCode | None:
    """Put the answer to a request into the outbox of its session; `accepted` only where the request has an id. Returns
    the code of an error, None where the request was carried out.
    """
    if id_ is not None or not isinstance(message, Accepted):
        endpoint.outbox.put(encode(message, id_))
    return message.msg if isinstance(message, Error) else None
