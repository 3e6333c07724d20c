"""How a handler answers."""

from ironwire.delivery.hub import Endpoint
from ironwire.ids import MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import Accepted, Error, ServerMessage
from ironwire.wire.messages.fields import ErrorCode


def reply(endpoint: Endpoint, message: ServerMessage, id_: MessageId | None) -> ErrorCode | None:
    """Put the answer to a request into the outbox of its session; `accepted` only where the request has an id. Returns
    the code of an error, None where the request was carried out.
    """
    if id_ is not None or not isinstance(message, Accepted):
        endpoint.outbox.put(encode(message, id_))
    return message.msg if isinstance(message, Error) else None
