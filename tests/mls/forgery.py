"""Messages of a member whose software makes no check, or makes mistakes on purpose."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from attrs import evolve

import ironwire.mls
from ironwire.mls import KeyPackagePrivate, MLSGroup, paths, schedule, suite
from ironwire.mls.epoch import Epoch
from ironwire.mls.framing import (
    PUBLIC,
    AuthenticatedContent,
    FramedContent,
    PublicMessage,
    envelope,
    open_envelope,
    protect_public,
)
from ironwire.mls.messages import (
    ByReference,
    ByValue,
    Commit,
    Content,
    EncryptedGroupSecrets,
    GroupSecrets,
    MemberSender,
    MLSGroupInfo,
    Proposal,
    UpdatePath,
    Welcome,
)
from ironwire.mls.nodes import LeafNode
from tests.mls.crew import Device, stored


def _modules() -> Iterator[Any]:
    for module in pkgutil.iter_modules(ironwire.mls.__path__, "ironwire.mls."):
        yield importlib.import_module(module.name)


def _nothing(*_: object) -> None:
    """A check that finds everything in order."""


@contextmanager
def careless() -> Iterator[None]:
    """Within, no check is made: what a member with other software could send."""
    with patch.multiple("ironwire.mls.suite", verify_with_label=_nothing, need_hpke_key=_nothing):
        patches = [patch.object(module, "need", _nothing) for module in _modules() if hasattr(module, "need")]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()


def sign(device: Device, content: Content, **parts: Any) -> bytes:
    """A public message as `device` would send it, with other `parts` of the framed content."""
    epoch = epoch_of(device)
    framed = FramedContent(epoch.context.group_id, epoch.context.epoch, MemberSender(epoch.leaf), b"", content)
    tag = bytes(32) if isinstance(content, Commit) else None
    signed = AuthenticatedContent.sign(device.key, PUBLIC, evolve(framed, **parts), epoch.context, tag)
    return envelope(protect_public(signed, epoch.secrets.membership_key, epoch.context))


def epoch_of(device: Device) -> Epoch:
    return device.group._epoch


def forge(
    device: Device,
    proposals: Sequence[Proposal | ByReference],
    *,
    with_path: bool = True,
    leaf: Callable[[LeafNode], LeafNode] = lambda leaf: leaf,
    path: Callable[[UpdatePath], UpdatePath] = lambda path: path,
    secret: Callable[[bytes], bytes] = lambda secret: secret,
    tag: Callable[[bytes], bytes] = lambda tag: tag,
    authenticated_data: bytes = b"",
) -> bytes:
    """A commit of whatever proposals, which holds together as far as it can.

    `leaf` changes the leaf of the path before it is signed anew, `path` the path afterwards, `secret` each path secret
    before it is encrypted, `tag` the confirmation tag.
    """
    group = MLSGroup.restore(*stored(device.group), device.key, device.policy)
    epoch = group._epoch
    context, old = epoch.context, epoch.tree.leaf(epoch.leaf)
    items = tuple(each if isinstance(each, ByReference) else ByValue(each) for each in proposals)
    keys = update = None
    with careless():
        changes = group._apply(epoch.leaf, [group._resolve(each, epoch.leaf) for each in items])
        if with_path:
            new = paths.new_path(changes.tree, epoch.leaf, device.key, context.group_id, old)
            signed = leaf(new.leaf).signed(device.key, context.group_id, epoch.leaf)
            changes.tree.put(2 * epoch.leaf, signed)
            new = evolve(new, leaf=signed, secrets={place: secret(each) for place, each in new.secrets.items()})
            update = path(new.encrypt(changes.tree, epoch.leaf, epoch.provisional(changes), changes.joiners))
            keys = new.keys
        commit = Commit(items, update)
        framed = FramedContent(context.group_id, context.epoch, MemberSender(epoch.leaf), authenticated_data, commit)
        message = AuthenticatedContent.sign(device.key, PUBLIC, framed, context)
        following, _ = epoch.advance(changes, keys, message)
    confirmed = evolve(message, auth=evolve(message.auth, confirmation_tag=tag(following.confirmation_tag)))
    return envelope(protect_public(confirmed, epoch.secrets.membership_key, context))


def content_of(message: bytes) -> PublicMessage:
    opened = open_envelope(message)
    assert isinstance(opened, PublicMessage)
    return opened


def edit_welcome(
    signer: Device,
    own: KeyPackagePrivate,
    welcome: bytes,
    *,
    info: Callable[[MLSGroupInfo], MLSGroupInfo] = lambda info: info,
    secrets: Callable[[GroupSecrets], GroupSecrets] = lambda secrets: secrets,
    is_signed: bool = True,
) -> bytes:
    """The Welcome for `own` with other contents, signed anew by `signer` unless `is_signed` says no."""
    opened = open_envelope(welcome)
    assert isinstance(opened, Welcome)
    (sealed,) = [each.group_secrets for each in opened.secrets if each.new_member == own.ref]
    encrypted = opened.encrypted_group_info
    inner = GroupSecrets.decode(suite.decrypt_with_label(own.init_private, "Welcome", encrypted, sealed))
    key = schedule.welcome_key(inner.joiner_secret, schedule.ZERO)
    edited = info(MLSGroupInfo.decode(suite.unseal(*key, b"", encrypted)))
    if is_signed:
        signature = suite.sign_with_label(signer.key, "GroupInfoTBS", edited.to_be_signed())
        edited = evolve(edited, signature=signature)
    encrypted = suite.seal(*key, b"", edited.encode())
    sealed = suite.encrypt_with_label(own.package.init_key, "Welcome", encrypted, secrets(inner).encode())
    return envelope(Welcome(3, (EncryptedGroupSecrets(own.ref, sealed),), encrypted))
