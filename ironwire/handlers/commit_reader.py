"""What a commit and its welcome say, in the words of `protocol/conversations`: the bridge from MLS to its rules.

The server has no tree and no keys. It reads which leaves a commit adds and removes, who says that it is theirs, and
what for; the members verify the signature.
"""

import hashlib
from collections.abc import Mapping, Sequence

import trio
from attrs import frozen

from ironwire.errors import InvalidDeclaration, InvalidId, MLSError
from ironwire.ids import parse_media_path
from ironwire.mls.public import AddProposal, RemoveProposal, cut_welcome, inspect_commit, sew_welcome
from ironwire.protocol.conversations.declaration import Declaration, decode_declaration
from ironwire.protocol.conversations.membership import AddedLeaf, Proposed, RemovedLeaf
from ironwire.protocol.conversations.slots import Leaf
from ironwire.store.files.blobs import Blobs
from ironwire.wire import messages as msg
from ironwire.wire.base64url import from_base64url, to_base64url

MOST_BYTES = 1024 * 1024
"""Of a commit, and of a welcome."""


@frozen
class MlsPart:
    """MLS bytes as they came, in the frame or as a blob, and as they go on."""

    data: bytes
    text: str | None = None
    ref: msg.BlobRef | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@frozen
class ReadCommit:
    """A commit with its welcome. `refs` are the key packages that it adds, in their order."""

    commit: MlsPart
    welcome: MlsPart | None
    group_id: bytes
    epoch: int
    """The epoch that it ends."""
    committer: int
    declared: Declaration
    removed: tuple[int, ...]
    refs: tuple[bytes, ...]
    has_path: bool

    def proposals(self, claimed: Mapping[bytes, Leaf]) -> list[Proposed]:
        """Its proposals, removals first.

        Raises:
            MLSError: it adds a key package that was not claimed for it.
        """
        if any(ref not in claimed for ref in self.refs):
            raise MLSError("an Add of a key package that this client has not claimed for this conversation")
        added = [AddedLeaf(claimed[ref]) for ref in self.refs]
        return [*map(RemovedLeaf, self.removed), *added]

    def welcomes(self, claimed: Mapping[bytes, Leaf]) -> list[tuple[Leaf, MlsPart]]:
        """What each new device gets: its own part of a welcome in the frame, or the blob that all share."""
        welcome = self.welcome
        if welcome is None:
            return []
        if welcome.ref is not None:
            return [(claimed[ref], welcome) for ref in self.refs]
        secrets, shared = cut_welcome(welcome.data)
        parts = {ref: sew_welcome(secrets[ref], shared) for ref in self.refs}
        return [(claimed[ref], MlsPart(part, text=to_base64url(part))) for ref, part in parts.items()]


async def read_commit(
    request: msg.MlsCreate | msg.MlsCommit, blobs: Blobs, readers: trio.CapacityLimiter
) -> ReadCommit:
    """Read a commit, in a thread of `readers` if it is large: that takes up to a second.

    Raises:
        MLSError: it is no commit with the welcome that belongs to it, or a blob is not what it is said to be.
        StoreError: a blob cannot be read.
    """
    commit = await _part("commit", request.commit, request.commit_ref, blobs)
    if commit is None:
        raise MLSError("there is no commit")
    welcome = await _part("welcome", request.welcome, request.welcome_ref, blobs)
    if commit.ref is None and (welcome is None or welcome.ref is None):
        return _read(commit, welcome)
    return await trio.to_thread.run_sync(_read, commit, welcome, limiter=readers)


def _read(commit: MlsPart, welcome: MlsPart | None) -> ReadCommit:
    public = inspect_commit(commit.data)
    try:
        declared = decode_declaration(public.authenticated_data)
    except InvalidDeclaration as error:
        raise MLSError(str(error)) from None
    added = [each for each in public.proposals if isinstance(each, AddProposal)]
    removed = [each for each in public.proposals if isinstance(each, RemoveProposal)]
    if len(added) + len(removed) != len(public.proposals):
        raise MLSError("a commit of proposals other than Add and Remove")
    refs = tuple(each.package.ref for each in added)
    _check_welcome(welcome, refs)
    return ReadCommit(
        commit,
        welcome,
        public.group_id,
        public.epoch,
        public.sender,
        declared,
        tuple(each.removed for each in removed),
        refs,
        public.has_path,
    )


def _check_welcome(welcome: MlsPart | None, refs: Sequence[bytes]) -> None:
    secrets = {} if welcome is None else cut_welcome(welcome.data)[0]
    if secrets.keys() != set(refs) or len(secrets) != len(refs):
        raise MLSError("a welcome has one secret for each key package that the commit adds")


async def _part(name: str, text: str | None, ref: msg.BlobRef | None, blobs: Blobs) -> MlsPart | None:
    if text is not None and ref is not None:
        raise MLSError(f"there are two of {name}")
    if text is not None:
        try:
            return MlsPart(from_base64url(text), text=text)
        except InvalidId as error:
            raise MLSError(f"{name} {error}") from None
    return None if ref is None else MlsPart(await _blob(name, ref, blobs), ref=ref)


async def _blob(name: str, ref: msg.BlobRef, blobs: Blobs) -> bytes:
    if not 0 < ref.size <= MOST_BYTES:
        raise MLSError(f"{name} may have {MOST_BYTES} bytes at most")
    blob = parse_media_path(ref.url)
    if await blobs.size_bytes(blob) != ref.size:
        raise MLSError(f"there is no {name} of this size at its url")
    reader = await blobs.open(blob)
    try:
        data = await reader.read(0, ref.size)
    finally:
        reader.close()
    if hashlib.sha256(data).hexdigest() != ref.sha256:
        raise MLSError(f"the {name} at the url has another hash")
    return data
