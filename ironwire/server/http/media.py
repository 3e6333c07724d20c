"""`GET /media/<uuid4>.bin`: a blob, whole or in part (docs/protocol.md, section 8).

Rules: only the name of a stored blob is ever looked up, and every upload is served as a download, whatever it
contains. Ranges and conditions follow RFC 9110, sections 13 and 14.
"""

import re
from types import TracebackType
from typing import Self

from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody

from ironwire.errors import InvalidId, StoreError
from ironwire.ids import BlobName, parse_blob_name
from ironwire.server.http.responses import error_response
from ironwire.store.files.blobs import CHUNK_BYTES, Blobs

_CACHE_SECONDS = 365 * 24 * 3600

# No file has a position with more digits, and a server may ignore any Range.
_RANGE = re.compile(r"bytes=[\t ]*([0-9]{0,18})-([0-9]{0,18})[\t ]*", re.IGNORECASE)


def media_routes(blobs: Blobs) -> Blueprint:
    """The route of downloads."""
    routes = Blueprint("media", __name__)

    # Slashes are not merged, as that would answer `//` with a redirect instead of 404.
    @routes.get("/media/<path:name>", merge_slashes=False)
    async def media(name: str) -> Response:
        try:
            blob_name = parse_blob_name(name)
        except InvalidId:
            return _not_found()
        size_bytes = await blobs.size_bytes(blob_name)
        if size_bytes is None:
            return _not_found()
        return _respond(blobs, blob_name, size_bytes)

    return routes


def requested_range(header: str | None, size_bytes: int) -> range | None:
    """The bytes of a file to serve: `None` for all of it; empty if the file has none of the requested bytes (416).

    RFC 9110, section 14. An invalid range is ignored. Several ranges at once are ignored too, as a server may: no
    messaging client needs them, and they make small requests expensive.
    """
    match = None if header is None else _RANGE.fullmatch(header)
    if match is None:
        return None
    first, last = match.groups()
    if first:
        if last and int(last) < int(first):
            return None
        stop = min(int(last) + 1, size_bytes) if last else size_bytes
        return range(int(first), stop) if int(first) < stop else range(0)
    if not last:
        return None
    if size_bytes == 0 and int(last) > 0:
        return None  # satisfied by the empty file, but Content-Range has no way to say so
    return range(max(0, size_bytes - int(last)), size_bytes)


def _respond(blobs: Blobs, name: BlobName, size_bytes: int) -> Response:
    etag = f'"{name.removesuffix(".bin")}"'  # a blob never changes, so that its name is a strong validator
    # In this order: RFC 9110, section 13.2.2. There are no dates, so conditions on dates are never met and ignored.
    if "If-Match" in request.headers and not request.if_match.contains(etag.strip('"')):
        return error_response(412, "precondition_failed", "the file has another ETag than If-Match names")
    if request.if_none_match.contains_weak(etag.strip('"')):
        return _with_headers(Response(b"", status=304), name, etag)
    part = None
    if request.headers.get("If-Range", etag) == etag:
        part = requested_range(request.headers.get("Range"), size_bytes)
    if part is not None and not part:
        detail = f"the file has {size_bytes} bytes, and none in that range"
        return error_response(416, "range_not_satisfiable", detail, {"Content-Range": f"bytes */{size_bytes}"})

    served = range(size_bytes) if part is None else part
    body = b"" if request.method == "HEAD" else _BlobBody(blobs, name, served)
    response = Response(body, status=200 if part is None else 206)
    if part is not None:
        response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size_bytes}"
    response.content_length = len(served)
    # Quart would cut a response after 60 s, and a slow peer needs longer; a write that stalls is cut by the transport.
    response.timeout = None
    return _with_headers(response, name, etag)


def _with_headers(response: Response, name: BlobName, etag: str) -> Response:
    response.headers.update(
        {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Security-Policy": "sandbox",
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": f"private, immutable, max-age={_CACHE_SECONDS}",
        }
    )
    return response


def _not_found() -> Response:
    return error_response(404, "not_found", "there is no such file")


class _BlobBody(ResponseBody):
    """The bytes `part` of a blob. The file is open only while the response is sent."""

    def __init__(self, blobs: Blobs, name: BlobName, part: range) -> None:
        self._blobs = blobs
        self._name = name
        self._left = part

    async def __aenter__(self) -> Self:
        self._reader = await self._blobs.open(self._name)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reader.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        chunk = await self._reader.read(self._left.start, min(len(self._left), CHUNK_BYTES))
        if not chunk:
            raise StoreError(f"a stored file ends {len(self._left)} bytes early: it was changed by somebody else")
        self._left = self._left[len(chunk) :]
        return chunk
