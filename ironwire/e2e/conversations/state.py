"""Everything that one device has of its conversations, and the effects that are being gathered."""

from collections.abc import Callable

from attrs import define, evolve, field

from ironwire.crypto.signing import KeyPair
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.logs import KnownLogs
from ironwire.e2e.conversations.membership import DeviceMembership, facts_of
from ironwire.e2e.conversations.packages import KeyPackagePool
from ironwire.e2e.conversations.policy import MemberPolicy
from ironwire.ids import Address, ClientId, ConversationId, MessageId, is_group
from ironwire.mls import MLSGroup
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf


@define(eq=False)
class Surroundings:
    """The clock and the randomness that an engine is given. Times are Unix ms."""

    now_ms: Callable[[], int]
    new_id: Callable[[], MessageId]
    random: Callable[[int], bytes] = field(repr=False)
    """That many random bytes."""

    def below(self, limit: int) -> int:
        """A random number from 0 on."""
        return int.from_bytes(self.random(8), "big") % limit


@define(eq=False)
class DeviceState:
    """The state of the device with this key, in memory. What is changed here stands in `effects` to be kept."""

    key: KeyPair = field(repr=False)
    certificate: bytes
    own: Leaf
    around: Surroundings
    effects: fx.Effects = field(factory=fx.Effects, init=False)
    members: dict[ConversationId, DeviceMembership] = field(factory=dict, init=False)
    missing: dict[tuple[ConversationId, ClientId, MessageId], int] = field(factory=dict, init=False)
    """Messages that could not be read, with when they came."""
    is_caught_up: bool = field(default=False, init=False)
    logs: KnownLogs = field(init=False)
    pool: KeyPackagePool = field(init=False)
    _policies: dict[ConversationId, MemberPolicy] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.logs = KnownLogs(self.own.client, self.own.device, self.write, self.tell)
        self.pool = KeyPackagePool(self.key, self.certificate, self.around.now_ms, self.write)

    @property
    def now(self) -> int:
        return self.around.now_ms()

    # --- conversations -----------------------------------------------------------------------------------------------

    def member(self, conversation: ConversationId) -> DeviceMembership:
        """The place in this conversation, perhaps none yet."""
        found = self.members.get(conversation)
        if found is None:
            found = self.members[conversation] = DeviceMembership(conversation)
        return found

    def place_with(self, to: Address) -> DeviceMembership:
        """The place in the conversation with a client or group, perhaps none yet."""
        if is_group(to):
            return self.member(to)  # type: ignore[arg-type]  # a GroupId
        peer = ClientId(to)
        member = self.member(pair_id(self.own.client, peer))
        if member.facts.peer is None:
            member.facts = evolve(member.facts, peer=peer)
        return member

    def policy_of(self, member: DeviceMembership) -> MemberPolicy:
        policy = self._policies.get(member.id)
        if policy is None:
            policy = self._policies[member.id] = MemberPolicy(member, self.logs, self.around.now_ms)
        return policy

    def restore(self, saved: fx.SavedMembership) -> None:
        """Raises:
        MLSError, ValueError: the device's store is damaged.
        """
        member = self.members[saved.conversation] = DeviceMembership(saved.conversation, facts_of(saved))
        policy = self.policy_of(member)
        if saved.group is not None:
            member.group = self._restored(saved.group, policy)
        elif member.facts.generation and not member.facts.is_out:
            member.wedge(self.now)  # its keys were lost
        if saved.founding is not None:
            member.founding = self._restored(saved.founding, policy)

    def _restored(self, saved: fx.SavedGroup, policy: MemberPolicy) -> MLSGroup:
        return MLSGroup.restore(saved.state, saved.message_keys, self.key, policy)

    # --- effects -----------------------------------------------------------------------------------------------------

    def write(self, write: fx.Write) -> None:
        self.effects.writes.append(write)

    def tell(self, event: ev.EngineEvent) -> None:
        self.effects.events.append(event)

    def report(self, report: fx.Report) -> None:
        self.effects.reports.append(report)

    def request(self, request: fx.Request) -> None:
        self.effects.requests.append(request)

    def take_effects(self) -> fx.Effects:
        """What has been gathered since the last time, each changed membership once."""
        taken, self.effects = self.effects, fx.Effects()
        changed = [member for member in self.members.values() if member.is_dirty]
        for member in changed:
            member.is_dirty = False
        taken.writes[:0] = [member.saved() for member in changed]
        return taken
