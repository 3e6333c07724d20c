"""The store of a device, as tests of the engine have it: in memory."""

import trio
from attrs import define, evolve, field

from ironwire.e2e.bodies import AnyBody
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.own_records import OwnRecord
from ironwire.ids import Address, ClientId, ConversationId, MessageId
from ironwire.wire.codec import ServerFrame
from tests.playbook import NOW_MS


def now_ms() -> int:
    return NOW_MS + int(trio.current_time() * 1000)


@define(eq=False)
class Disk:
    """The store of a device: what the last transaction left. It survives a crash of the engine."""

    memberships: dict[ConversationId, fx.SavedMembership] = field(factory=dict)
    packages: dict[bytes, fx.SavedPackage] = field(factory=dict)
    logs: dict[ClientId, fx.SavedLog] = field(factory=dict)
    missing: dict[tuple[ConversationId, ClientId, MessageId], fx.Missing] = field(factory=dict)
    own: dict[tuple[str, str], OwnRecord] = field(factory=dict)
    manifests: list[fx.SavedManifest] = field(factory=list)
    opened: list[ev.OpenedMessage] = field(factory=list)
    plain: list[ServerFrame] = field(factory=list)
    outbox: dict[MessageId, tuple[Address, AnyBody]] = field(factory=dict)
    """Messages without an answer."""
    sent: dict[MessageId, fx.Recalled] = field(factory=dict)
    epoch: int = 0
    position: int = 0
    renewed_at: int = 0
    """When it was found that the mailbox is another one than before."""

    def apply(self, writes: list[fx.Write]) -> None:
        for write in writes:
            match write:
                case fx.SavedMembership():
                    self.memberships[write.conversation] = write
                case fx.SavedKeys(conversation, keys):
                    saved = self.memberships[conversation]
                    assert saved.group is not None
                    self.memberships[conversation] = evolve(saved, group=evolve(saved.group, message_keys=keys))
                case fx.SavedPackage():
                    self.packages[write.ref] = write
                case fx.DropPackage(ref):
                    self.packages.pop(ref, None)
                case fx.SavedLog():
                    self.logs[write.client] = write
                case fx.Missing():
                    self.missing[write.conversation, write.sender, write.id] = write
                case fx.NoLongerMissing(conversation, sender, id_):
                    self.missing.pop((conversation, sender, id_), None)
                case fx.SavedOwn(record):
                    self.own[record.name] = record
                case fx.SavedManifest():
                    self.manifests.append(write)
                case ev.OpenedMessage():
                    if not any(_same(write, each) for each in self.opened):
                        self.opened.append(write)
                case fx.KeptFrame(frame):
                    self.plain.append(frame)
                case fx.Passed(_, seq):
                    self.position = max(self.position, seq)


def _same(one: ev.OpenedMessage, other: ev.OpenedMessage) -> bool:
    return (one.sender, one.device, one.content.id) == (other.sender, other.device, other.content.id)
