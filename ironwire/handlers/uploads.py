"""Permission to upload: the socket hands out tokens, `POST /upload` takes them (docs/protocol.md, section 8.1)."""

from collections.abc import Callable

from attrs import frozen

from ironwire.crypto.tokens import Grant, UploadTokens
from ironwire.delivery.hub import Endpoint
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import MessageId
from ironwire.limits import Limits
from ironwire.store.files.blobs import Blobs
from ironwire.wire.messages import Error, UploadGrant, UploadToken
from ironwire.wire.messages.fields import ErrorCode

TOKEN_SECONDS = 600
"""The life of a token: an upload may begin within it."""


@frozen
class UploadHandler:
    """Answers clients that want to upload something."""

    _tokens: UploadTokens
    _blobs: Blobs
    _limits: Limits
    _now_ms: Callable[[], int]

    @verb_handler
    def token(self, endpoint: Endpoint, request: UploadToken, id_: MessageId | None) -> ErrorCode | None:
        return reply(endpoint, self._grant(endpoint, request.size), id_)

    def _grant(self, endpoint: Endpoint, size: int | None) -> UploadGrant | Error:
        most = self._limits.upload_bytes
        if size is not None and size > most:
            return Error("too_large", detail=f"a file may have {most} bytes at most")
        if not self._blobs.has_room_for(size or 0):
            return Error("quota", detail="the server has no room left for files")
        granted = most if size is None else size
        expires_ms = self._now_ms() + TOKEN_SECONDS * 1000
        token = self._tokens.mint(Grant(endpoint.principal.client, granted), expires_ms)
        return UploadGrant(token, expires_ms, granted)
