"""Permission to upload a file (docs/protocol.md, section 8.1)."""

from typing import ClassVar

from ironwire.record import record
from ironwire.wire.messages.base import Answer, ClientMessage, Members
from ironwire.wire.messages.fields import Count, ShortText, UnixMs


@record
class UploadToken(ClientMessage):
    """Asks for a token for one upload, of up to `size` bytes if that is known."""

    verb: ClassVar[str] = "upload_token"

    size: Count | None = None

    def surcharge(self, members: Members) -> int:
        return 9


@record
class UploadGrant(Answer):
    """The answer to `upload_token`: one upload of up to `size` bytes, begun before `expires`."""

    verb: ClassVar[str] = "upload_token"

    token: ShortText
    expires: UnixMs
    size: Count
