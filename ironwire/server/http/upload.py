"""`POST /upload`: a raw body becomes a blob (docs/protocol.md, section 8).

Rule: the body is streamed to the disk, counted in bytes while it arrives, and refused as soon as it is known to be too
large. An incomplete upload leaves nothing.
"""

from collections.abc import Callable

import structlog
import trio
from quart import Blueprint, Response, request
from quart.blueprints import BlueprintSetupState
from quart_trio import QuartTrio

from ironwire.errors import StoreError, StoreFull
from ironwire.ids import media_path
from ironwire.limits import Limits
from ironwire.server.http.body import StreamedHTTPConnection, asking_peer
from ironwire.server.http.responses import RequestRefused, error_response, json_response
from ironwire.server.http.upload_rules import Upload, UploadRules
from ironwire.store.files.blobs import Blobs, StoredBlob

_log = structlog.get_logger(__name__)


def upload_routes(blobs: Blobs, limits: Limits, rules: UploadRules, expires_ms: Callable[[], int]) -> Blueprint:
    """The route of uploads. Side effect of registering it: the app streams the bodies of all its requests.

    Args:
        expires_ms: when a blob that is stored now will be removed, in Unix milliseconds.
    """
    routes = Blueprint("upload", __name__)
    routes.record_once(_stream_bodies)

    @routes.post("/upload")
    async def upload() -> Response:
        try:
            with rules.upload(*asking_peer(), request.headers.get("Authorization")) as allowed:
                blob, expires = await _receive(allowed)
        except RequestRefused as refused:
            return refused.response()
        except trio.TooSlowError:
            return error_response(408, "timeout", f"nothing came for {limits.upload_idle_seconds:g} s; upload it again")
        except StoreFull as error:
            _log.error("upload_refused", reason=str(error))
            return error_response(507, "storage_full", "the server has no room left for files; try again later")
        except StoreError as error:
            _log.error("upload_failed", reason=str(error))
            return error_response(500, "internal", "the file could not be stored; try again later")
        described = {"url": media_path(blob.name), "size": blob.size_bytes, "sha256": blob.sha256_hex}
        return json_response({**described, "expires": expires})

    async def _receive(allowed: Upload) -> tuple[StoredBlob, int]:
        # An early refusal only: a chunked body declares no size.
        declared_bytes = request.content_length
        if declared_bytes is not None:
            if declared_bytes > allowed.most_bytes:
                raise _too_large(allowed)
            if not blobs.has_room_for(declared_bytes):
                raise StoreFull("the upload does not fit into upload.quota_bytes")
            allowed.pay(declared_bytes)
        async with blobs.writer() as writer:
            while True:
                with trio.fail_after(limits.upload_idle_seconds):
                    chunk = await anext(request.body, None)
                if chunk is None:
                    break
                if writer.size_bytes + len(chunk) > allowed.most_bytes:
                    raise _too_large(allowed)
                if declared_bytes is None:
                    allowed.pay(len(chunk))
                await writer.write(chunk)
            if declared_bytes is not None and writer.size_bytes != declared_bytes:
                detail = f"the body ended after {writer.size_bytes} of {declared_bytes} bytes; upload it again"
                raise RequestRefused(400, "invalid", detail)
            expires = expires_ms()  # before the commit, so that it is never too late
            return await writer.commit(), expires

    return routes


def _stream_bodies(state: BlueprintSetupState) -> None:
    if not isinstance(state.app, QuartTrio):
        raise TypeError(f"uploads need an app of Quart-Trio, not {type(state.app).__name__}")
    state.app.asgi_http_class = StreamedHTTPConnection


def _too_large(allowed: Upload) -> RequestRefused:
    return RequestRefused(413, "too_large", f"a file may have {allowed.most_bytes} bytes at most")
