"""What a hostile member with other software, or a hostile server that works with one, gives to a device."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen

from ironwire.crypto.signing import KeyPair, PublicKey
from ironwire.e2e.conversations.policy import roster_extension
from ironwire.ids import Address, ClientId, DeviceId, MessageId, Role
from ironwire.mls import KeyPackagePrivate, Lifetime, MLSGroup, Policy, make_key_package, open_key_package
from ironwire.mls.messages import AddProposal, Proposal, RemoveProposal
from ironwire.mls.nodes import LeafNode
from ironwire.protocol.conversations.declaration import Declaration, Op, roster_hash
from ironwire.protocol.conversations.names import Generation
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.wire.base64url import from_base64url, to_base64url
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages import Answer, Error, ServerMessage
from ironwire.wire.messages.conversations import MlsCommitted, MlsMessage, MlsWelcome
from tests.e2e.conversations.devices import EngineDevice, key_of
from tests.e2e.conversations.disk import now_ms
from tests.mls import forgery
from tests.mls.crew import stored
from tests.playbook import identity_of


@frozen
class FalseKey:
    """Signs with a key of one's own, in the place of a device whose key one does not have."""

    _own: KeyPair
    public_key: PublicKey

    def sign(self, message: bytes) -> bytes:
        return self._own.sign(message)


@define(eq=False)
class Forger:
    """A device in a conversation whose software checks nothing: as `tests.mls.forgery` wants it."""

    device: EngineDevice
    to: Address
    key: Any = field(init=False)
    policy: Policy = field(factory=Policy, init=False)
    group: MLSGroup = field(init=False)

    def __attrs_post_init__(self) -> None:
        member = self.device.member(self.to)
        assert member.group is not None
        self.key = self.device.key
        self.group = MLSGroup.restore(*stored(member.group), self.key, self.policy)

    def index_of(self, device: EngineDevice) -> int:
        index = self.device.member(self.to).index_of(Leaf(device.client, device.key.public_key.raw))
        assert index is not None
        return index

    def declared(
        self,
        op: Op,
        *,
        by: ClientId | None = None,
        add: Sequence[ClientId] = (),
        remove: Sequence[ClientId] = (),
        after: dict[ClientId, Role] | None = None,
    ) -> bytes:
        """What a commit says of itself; `after` is the roster after it."""
        roster = dict(self.device.member(self.to).roster) if after is None else after
        return Declaration(
            by=by or self.device.client, op=op, add=tuple(add), remove=tuple(remove), roster=roster_hash(roster)
        ).encode()

    def commit(
        self,
        declared: bytes,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        leaf: Callable[[LeafNode], LeafNode] = lambda leaf: leaf,
        path: Callable[[Any], Any] = lambda path: path,
    ) -> MlsCommitted:
        """A commit that is right as far as MLS goes, unless `leaf` or `path` spoil it."""
        proposals: list[Proposal] = [RemoveProposal(index) for index in remove]
        proposals += [AddProposal(open_key_package(package)) for package in add]
        forger: Any = self  # it has what a Device has
        with_path = bool(remove) or not proposals
        data = forgery.forge(forger, proposals, with_path=with_path, leaf=leaf, path=path, authenticated_data=declared)
        return self.committed(data)

    def without_group_keys(self, commit: MlsCommitted) -> MlsCommitted:
        """The commit with another membership tag, which comes last in it."""
        data = from_base64url(commit.data or "")
        return self.committed(data[:-1] + bytes([data[-1] ^ 1]))

    def committed(self, data: bytes) -> MlsCommitted:
        generation, epoch = self.device.member(self.to).place
        sha256 = hashlib.sha256(data).hexdigest()
        place = (self.device.member(self.to).id, generation, epoch + 1, now_ms(), sha256)
        return MlsCommitted(self.device.client, DeviceId("phone"), *place, to_base64url(data))

    def message(self, data: bytes) -> MlsMessage:
        member = self.device.member(self.to)
        return MlsMessage(self.device.client, DeviceId("phone"), member.id, *member.place, now_ms(), to_base64url(data))

    def welcome(self, victim: EngineDevice, roster: dict[ClientId, Role], generation: int) -> MlsWelcome:
        """Into a generation that the forger alone has begun, for a key package of the victim."""
        member = self.device.member(self.to)
        lifetime = Lifetime(now_ms() // 1000 - 60, now_ms() // 1000 + 86_400)
        own = make_key_package(self.key, certificate_of(self.device.name), lifetime)
        group_id = Generation(member.id, generation).group_id(b"forged".ljust(12, b"."))
        group = MLSGroup.create(self.key, group_id, own, Policy())
        pending = group.commit(add=[package_kept_by(victim)], info_extensions=roster_extension(roster))
        group.process(pending.commit)
        place = (member.id, generation, 1, now_ms())
        return MlsWelcome(self.device.client, DeviceId("phone"), *place, to_base64url(pending.welcome))


def certificate_of(name: str, by: str | None = None) -> bytes:
    """The certificate of the device, perhaps made by somebody else."""
    return issue_certificate(identity_of(by or name), key_of(name).public_key).encode()


def package_of(name: str, *, days: int = 30, made_by: str | None = None) -> bytes:
    """A key package of the device with this name; `made_by` is whose identity has certified it."""
    now = now_ms() // 1000
    lifetime = Lifetime(now - 60 * 86_400, now + days * 86_400)
    return make_key_package(key_of(name), certificate_of(name, made_by), lifetime).public


def package_kept_by(victim: EngineDevice) -> bytes:
    saved = next(each for each in victim.disk.packages.values() if not each.is_last_resort)
    return KeyPackagePrivate.decode(saved.data).public


def give(victim: EngineDevice, message: ServerMessage, message_id: str | None = None) -> None:
    """Have it come next in the mailbox of a device that has no session, so that the server hears no ack."""
    assert not victim.is_up
    victim.take(ServerFrame(message, None if message_id is None else MessageId(message_id), victim.disk.position + 1))


def answer(victim: EngineDevice, reply: Answer | Error) -> None:
    """Answer everything that the device asks at the moment."""
    asked, victim._asked = victim._asked, {}
    for number in asked.values():
        victim.do(victim.engine.answer(number, reply))
