"""Commits and welcomes that are too large for a frame, as uploaded blobs (docs/protocol.md, sections 8 and 10)."""

import hashlib

from ironwire.client.connection.dial import Dial
from ironwire.client.connection.exchange import exchange
from ironwire.client.connection.urls import UPLOAD_PATH, ServerAddress
from ironwire.client.transfer import OK, parse_uploaded, read_answer
from ironwire.ids import media_path, parse_media_path
from ironwire.wire.messages.conversations import BlobRef

MOST_BYTES = 1024 * 1024
"""Of a commit, or of a welcome."""


async def fetch_blob(address: ServerAddress, ref: BlobRef, dial: Dial) -> bytes | None:
    """The blob; None if it is another one, or larger than any may be.

    Raises:
        ConnectionFailed, TransferFailed: it cannot be fetched.
        InvalidId: `ref` does not name a blob.
    """
    data = bytearray()
    async with exchange(dial, address, "GET", media_path(parse_media_path(ref.url)), {}, _nothing) as answered:
        if answered.status != OK:
            await read_answer(answered)
        while (piece := await answered.receive()) and len(data) <= MOST_BYTES:
            data += piece
    is_right = len(data) == ref.size and hashlib.sha256(data).hexdigest() == ref.sha256
    return bytes(data) if is_right else None


async def store_blob(address: ServerAddress, data: bytes, token: str | None, dial: Dial) -> BlobRef:
    """Upload it.

    Raises:
        ConnectionFailed, TransferFailed: it cannot be stored.
    """
    rest = [data]

    async def next_piece() -> bytes:
        return rest.pop() if rest else b""

    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))}
    if token is not None:
        headers["Authorization"] = f"IronWire {token}"
    async with exchange(dial, address, "POST", UPLOAD_PATH, headers, next_piece) as answered:
        uploaded = parse_uploaded(await read_answer(answered))
    return BlobRef(uploaded["url"], hashlib.sha256(data).hexdigest(), len(data))


async def _nothing() -> bytes:
    return b""
