"""What the server asks a device to commit, as wishes (docs/protocol.md, section 10.5)."""

from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.wishes import AddAgain, ChangeDevices, TakeOut, Wish
from ironwire.protocol.conversations.slots import Leaf
from ironwire.wire.messages.conversations import MlsTask
from ironwire.wire.messages.key_packages import MlsDevice


def wishes_of(task: MlsTask, member: DeviceMembership | None) -> list[Wish]:
    """The commits that `task` asks for, of a device with this place in the conversation. They are checked as any, so it
    can ask for nothing else than what members may do.
    """
    if member is None or member.standing not in ("active", "pending"):
        return []
    wishes: list[Wish] = [AddAgain(leaf) for leaf in _leaves(task.readd)]
    if task.add or task.remove:
        wishes.append(ChangeDevices(_leaves(task.add), _leaves(task.remove)))
    if task.left:
        wishes.append(TakeOut(tuple(task.left)))
    return wishes


def _leaves(devices: list[MlsDevice] | None) -> tuple[Leaf, ...]:
    return tuple(Leaf(each.client, bytes.fromhex(each.device_key)) for each in devices or ())
