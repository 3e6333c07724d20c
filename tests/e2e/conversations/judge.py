"""What has to hold when everybody has come back.

- no message was handed to a program twice, but where the server has accepted it twice, because it had forgotten the
  first time; then the store takes it once;
- none was lost without a word: whoever was owed one has it, or was told that it, or something, is missing;
- nobody has read what was said while they were not in the roster;
- no key has encrypted two messages.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from ironwire.e2e.conversations import events as ev
from ironwire.ids import MessageId
from ironwire.mls.framing import open_envelope
from ironwire.mls.messages import PrivateMessage
from ironwire.protocol.conversations.slots import Leaf
from ironwire.wire.base64url import from_base64url
from ironwire.wire.messages import Gap
from ironwire.wire.messages.conversations import MlsSend, MlsSignal
from tests.e2e.conversations.devices import EngineDevice
from tests.e2e.conversations.lives import AcceptedMessage
from tests.e2e.conversations.model import DeliveryModel, SaidText


def judge(model: DeliveryModel) -> None:
    """Raises:
    AssertionError: a promise was broken.
    """
    accepted: defaultdict[MessageId, list[AcceptedMessage]] = defaultdict(list)
    for each in model.server.accepted:
        accepted[each.id].append(each)
    for device in model.ever:
        told = [event for event in device.told(ev.OpenedMessage) if isinstance(event, ev.OpenedMessage)]
        names = Counter((event.sender, event.content.id) for event in told if event.seq is not None)
        again = [id_ for (_, id_), times in names.items() if times > max(1, len(accepted[id_]))]
        assert not again, f"{device.name} was told {again} twice"
        assert len(set(device.texts)) == len(device.texts)
    for said in model.said:
        _check_readers(model, said, accepted[said.id])
    undelivered: Counter[EngineDevice] = Counter()
    for said in model.said:
        for each in accepted[said.id]:
            undelivered.update(_who_lacks(model, said, each))
    for device, count in undelivered.items():
        assert count <= _gaps_of(device), f"{device.name} lacks {count} messages without a word"


def _check_readers(model: DeliveryModel, said: SaidText, accepted: list[AcceptedMessage]) -> None:
    """A message that is sent again goes to clients that were in the roster when it was accepted."""
    roster = {client for each in accepted for client in each.roster}
    for device in model.ever:
        is_outside = device.client not in roster and device is not said.by
        assert not (is_outside and said.text in device.texts), f"{device.name} was not there, and has read {said.text}"


def _who_lacks(model: DeliveryModel, said: SaidText, accepted: AcceptedMessage) -> Iterable[EngineDevice]:
    """The devices that were owed it, do not have it, and were not told that it is missing, or that all may be."""
    for device in model.current.values():
        is_owed = Leaf(device.client, device.key.public_key.raw) in accepted.owed
        if is_owed and said.text not in device.texts and device.disk.renewed_at < accepted.ts:
            unread = [event.id for event in device.told(ev.Unreadable) if isinstance(event, ev.Unreadable)]
            if said.id not in unread and all(id_ != said.id for _, _, id_ in device.disk.missing):
                yield device


def _gaps_of(device: EngineDevice) -> int:
    """How many places of its mailbox a device knows to be lost."""
    gaps = [frame.message for frame in device.disk.plain if isinstance(frame.message, Gap)]
    return sum(gap.last - gap.first + 1 for gap in gaps)


def ciphertexts(device: EngineDevice) -> set[bytes]:
    """Of the messages that have left the device."""
    sent = [message.data for message in device.written if isinstance(message, MlsSend | MlsSignal)]
    opened = [open_envelope(from_base64url(data)) for data in sent]
    return {message.ciphertext for message in opened if isinstance(message, PrivateMessage)}
