"""The inside of a message, as JSON in UTF-8 (docs/between-devices.md, section 10.2).

    {"v":1,"id":"9f2c","ts":1790000000000,"t":"text","text":"Hello"}

The keys of the body stand beside `v`, `id`, `ts`, `t` and `logs`. Rules: the sender is the device whose leaf signed the
message, and no key says otherwise; `id` is that of the envelope, so a server cannot give one message the name of
another. Unknown keys are ignored, as in frames of the server; an unknown `t`, and a `v` above 1, ask for an update.
"""

from typing import Annotated, Any, get_args

import orjson
from attrs import frozen

from ironwire.e2e.bodies import AnyBody, Body, CallBody, LogBody
from ironwire.errors import InvalidContent, UpdateNeeded
from ironwire.ids import ClientId, MessageId
from ironwire.protocol.devices.log_entry import MOST_ENTRIES
from ironwire.record import record
from ironwire.wire.messages.fields import Between, Items, Sha256Hex, UnixMs
from ironwire.wire.strict import Fault, shown, strict_converter

VERSION = 1
MOST_BYTES = 1024 * 1024
"""More is not decoded."""

BODIES: dict[str, type[Body]] = {cls.t: cls for cls in get_args(AnyBody)}


@record
class KnownHead:
    """The newest entry that this device knows of a client's device log."""

    client: ClientId
    index: Annotated[int, Between(0, MOST_ENTRIES - 1)]
    head: Sha256Hex


@record
class ContentHead:
    """The keys that every kind of message has, besides `v` and `t`."""

    id: MessageId
    ts: UnixMs
    logs: Annotated[list[KnownHead], Items(1, 2)] | None = None


@frozen
class Content:
    """One message as its recipients read it. `ts` is the sender's word; the server's time stands in the envelope.

    `logs` has the sender's own device log and, in a pair, the recipient's: a server that shows them different logs is
    found out.
    """

    id: MessageId
    ts: int
    body: AnyBody
    logs: list[KnownHead] | None = None


_converter = strict_converter(is_open=True)


def encode_content(content: Content) -> bytes:
    """Compact JSON, the keys in the order of the protocol document.

    Raises:
        InvalidContent: this is nothing that a recipient would take.
    """
    return orjson.dumps(parts_of(content))


def parts_of(content: Content) -> dict[str, Any]:
    """As `encode_content`, before it is JSON."""
    fault = _fault_of(content.body, content.logs)
    if fault is not None:
        raise InvalidContent(fault)
    head = _converter.unstructure(ContentHead(content.id, content.ts, content.logs))
    logs = {"logs": head.pop("logs")} if "logs" in head else {}
    return {"v": VERSION, **head, "t": content.body.t, **_converter.unstructure(content.body), **logs}


def decode_content(data: bytes, envelope_id: MessageId | None) -> Content:
    """The content of a decrypted message.

    Args:
        envelope_id: of the delivery that brought it; None for a signal, which has none.

    Raises:
        UpdateNeeded: a newer client wrote it.
        InvalidContent: it is not of this protocol, or of another envelope.
    """
    content = content_from(_load(data))
    if envelope_id is not None and content.id != envelope_id:
        raise InvalidContent("the message has another id than its envelope")
    return content


def _load(data: bytes) -> Any:
    if len(data) > MOST_BYTES:
        raise InvalidContent("a message is longer than any may be")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidContent(f"not JSON: {error.msg} at character {error.pos}") from None


def content_from(parts: Any) -> Content:
    """As `decode_content`, of what its JSON says.

    Raises:
        UpdateNeeded, InvalidContent: as there.
    """
    if type(parts) is not dict:
        raise InvalidContent("a message must be one JSON object")
    version, kind = parts.get("v"), parts.get("t")
    if type(version) is not int or version < 1:
        raise InvalidContent("v must be an integer from 1")
    if version > VERSION:
        raise UpdateNeeded(f"a message of version {min(version, 10**6)}")
    if type(kind) is not str:
        raise InvalidContent("t must be a string")
    cls = BODIES.get(kind)
    if cls is None:
        raise UpdateNeeded(f"a message of the kind {shown(kind)}")
    try:
        head = _converter.structure(parts, ContentHead)
        body: AnyBody = _converter.structure(parts, cls)  # type: ignore[assignment]  # BODIES holds those of AnyBody
    except Fault as fault:
        raise InvalidContent(fault.about("a message")) from None
    broken = _fault_of(body, head.logs)
    if broken is not None:
        raise InvalidContent(broken)
    return Content(head.id, head.ts, body, head.logs)


def _fault_of(body: AnyBody, logs: list[KnownHead] | None) -> str | None:
    """The rules that go across keys."""
    if isinstance(body, CallBody) and (body.sdp is None) == (body.candidate is None):
        return "a call has sdp or candidate, one of them"
    if isinstance(body, LogBody) and logs is None:
        return "logs is missing"
    return None
