"""Encrypted files as messages, commands and people name them (docs/between-devices.md, section 11.1).

    link = <path of the file> "#" <its key> "." <size of the content> "." <SHA-256 of the encrypted file>

Nothing behind the # goes to a server. So one line says how to fetch a file and how to open it.
"""

import re

from attrs import frozen

from ironwire.client.connection.requests import Requests
from ironwire.client.device_log import read_log
from ironwire.crypto.signing import is_public_key, parse_public_key
from ironwire.e2e.bodies import FileBody, SealedFile
from ironwire.e2e.content import Content
from ironwire.errors import InvalidId
from ironwire.ids import Address, GroupId, is_group, parse_media_path
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_reader import Extended
from ironwire.wire.messages import File

_LINK = re.compile(r"([^#]*)#([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])\.(0|[1-9][0-9]{0,15})\.([0-9a-f]{64})")


@frozen
class FileTerms:
    """How a file goes to somebody: encrypted or in the clear, and how large the upload may be."""

    is_encrypted: bool
    upload_bytes: int


def file_link(file: SealedFile) -> str:
    """The one line that names an encrypted file and opens it."""
    return f"{file.url}#{file.key}.{file.size}.{file.sha256}"


def parse_file_link(link: str) -> SealedFile | None:
    """The encrypted file of a link; None: it is no link to one."""
    match = _LINK.fullmatch(link)
    if match is None:
        return None
    try:
        parse_media_path(match[1])
    except InvalidId:
        return None
    return SealedFile(match[1], match[2], int(match[3]), match[4])


def sealed_file(content: Content | None) -> SealedFile | None:
    """The encrypted file in a message, if there is one."""
    return content.body.file if content is not None and isinstance(content.body, FileBody) else None


def as_file_message(to: Address, body: FileBody) -> File:
    """How the device that sends an encrypted file shows it in its history. This is kept, and never sent."""
    return File(
        to,
        body.file.url,
        kind=body.kind,
        name=body.name,
        mime=body.mime,
        size=body.file.size,
        duration_ms=body.duration_ms,
        width=body.width,
        height=body.height,
        waveform=body.waveform,
        caption=body.caption,
    )


async def will_encrypt(requests: Requests, to: Address) -> bool:
    """As `Client.will_encrypt`."""
    encryption = requests.encryption
    if encryption is None or not encryption.may_encrypt(to):
        return False
    if encryption.engine.is_encrypted(to):
        return True
    if is_group(to):
        return await encryption.is_secret(GroupId(to))
    if not is_public_key(to):
        return False
    verdict = await read_log(requests, DeviceLog(parse_public_key(to)))
    return verdict.log.head is not None if isinstance(verdict, Extended) else True


async def file_terms(requests: Requests, to: Address) -> FileTerms:
    """As `Client.file_terms`."""
    return FileTerms(await will_encrypt(requests, to), requests.upload_bytes)
