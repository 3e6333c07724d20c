"""One device's place in one conversation (docs/protocol.md, section 10).

    absent       no group here yet               --own first commit--> founding   --welcome--> active
    founding     own first commit is under way   --mailbox: own--> active   --conflict, refused--> absent
                                                 --welcome--> active
    active                                       --own commit--> pending   --does not verify, state lost--> wedged
                                                 --removed--> out
    pending      own commit is under way         --mailbox: own, or another--> active   --conflict, refused--> active
    wedged       nothing can be read any more    --welcome--> active   --nobody adds it again--> restarting
    restarting   own first commit of the next    --mailbox: own--> active   --welcome--> active
                 generation is under way         --conflict, refused--> wedged
    out          removed, or left                --welcome--> active

The state is not stored: it follows from the group, from what founds the next one, and from two facts. Missed commits
make no state, because whoever finds that some are missing fetches them before anything else.
"""

from collections.abc import Mapping
from typing import Literal

import orjson
from attrs import define, evolve, field

from ironwire.e2e.conversations.effects import SavedGroup, SavedKeys, SavedMembership
from ironwire.ids import ClientId, ConversationId, MessageId, Role, is_group
from ironwire.mls import MLSGroup, Participant
from ironwire.protocol.conversations.declaration import decode_roster, encode_roster
from ironwire.protocol.conversations.slots import Leaf, Slots
from ironwire.protocol.devices.safety import EPOCH_SECRET_BYTES, epoch_code
from ironwire.record import record
from ironwire.wire.messages.conversations import BlobRef
from ironwire.wire.strict import strict_converter

Standing = Literal["absent", "founding", "active", "pending", "wedged", "restarting", "out"]
Roster = Mapping[ClientId, Role]

_converter = strict_converter()


@record
class MemberSince:
    client: ClientId
    ts: int


@record
class CommitFrame:
    """The frame of an own commit that has no answer yet: it is repeated as it was. `roster` is the one after it."""

    id: MessageId
    roster: str
    name: str | None = None
    """The new name that goes with it."""
    commit_ref: BlobRef | None = None
    welcome_ref: BlobRef | None = None


@record
class Facts:
    """What is stored beside the MLS states. Times are Unix ms."""

    generation: int = 0
    """Of the group here; 0: there was none."""
    roster: str = ""
    """In hex, as `encode_roster` writes it."""
    peer: ClientId | None = None
    """The other client of a pair."""
    name: str | None = None
    is_out: bool = False
    wedged_at: int | None = None
    """Since when nothing can be read."""
    asked_at: int | None = None
    """When this device asked last to be added again."""
    update_at: int | None = None
    """When it renews its keys, if anything was said by then."""
    was_used: bool = False
    """Whether anything was said since it renewed them."""
    logs_at: int = 0
    """When it told others last what it knows of device logs, in this generation."""
    since: list[MemberSince] = field(factory=list)
    """Since when each client reads: what is older is not sent to it again."""
    commit: CommitFrame | None = None
    """Of the pending commit, or of the one that founds the next group."""
    founding_generation: int = 0


@define(eq=False)
class DeviceMembership:
    """A conversation as this device has it. `is_dirty`: it has to be stored before anything else happens."""

    id: ConversationId
    facts: Facts = field(factory=Facts)
    group: MLSGroup | None = None
    founding: MLSGroup | None = None
    """The next group, whose first commit is under way."""
    is_dirty: bool = field(default=False, init=False)
    _saved: tuple[Facts, int] | None = field(default=None, init=False)
    """Facts and state mark that are stored, where all else that is stored is as it was."""
    highest: int = field(default=0, init=False)
    """The highest generation that the server has named: the next one is above it."""
    awaited: tuple[int, int] = field(default=(0, 0), init=False)
    """Where the conversation is, as far as the server has said: nothing is sent before the mailbox has come there."""
    _roster: Roster = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._roster = decode_roster(bytes.fromhex(self.facts.roster))

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        if self.founding is not None:
            return "restarting" if self.facts.generation else "founding"
        if self.facts.is_out:
            return "out"
        if self.group is None or not self.group.is_active:
            return "wedged" if self.facts.generation or self.facts.wedged_at is not None else "absent"
        if self.facts.wedged_at is not None:
            return "wedged"
        return "pending" if self.group.pending is not None else "active"

    @property
    def is_group(self) -> bool:
        return is_group(self.id)

    @property
    def is_encrypted(self) -> bool:
        """Whether it has, or had, a generation here. Rule: once encrypted, it stays so."""
        return self.facts.generation > 0 or self.facts.wedged_at is not None

    @property
    def place(self) -> tuple[int, int]:
        """Generation and epoch; (n, 0), where there is no group."""
        return self.facts.generation, self.group.epoch if self.group is not None and self.group.is_active else 0

    @property
    def roster(self) -> Roster:
        return self._roster

    @property
    def slots(self) -> Slots:
        return slots_of(self.group) if self.group is not None and self.group.is_active else ()

    @property
    def epoch_code(self) -> str | None:
        """The digits of the epoch; None: the device is not in the conversation."""
        group = self.group if self.standing in ("active", "pending") else None
        return None if group is None else epoch_code(group.export("ironwire epoch", b"", EPOCH_SECRET_BYTES))

    def index_of(self, leaf: Leaf) -> int | None:
        slots = self.slots
        return slots.index(leaf) if leaf in slots else None

    def since_of(self, client: ClientId) -> int | None:
        """Since when the client is in the roster; None: it is not."""
        return next((each.ts for each in self.facts.since if each.client == client), None)

    # --- changes -----------------------------------------------------------------------------------------------------

    def note(self, **changes: object) -> None:
        """Change facts."""
        if any(getattr(self.facts, name) != value for name, value in changes.items()):
            self.facts = evolve(self.facts, **changes)  # type: ignore[arg-type]  # fields of Facts
        self.is_dirty = True

    def enter(self, group: MLSGroup, generation: int, roster: Roster, ts: int) -> None:
        """The device is in this group now, whatever was before."""
        is_new = generation != self.facts.generation
        self.group, self.founding, self._saved = group, None, None
        self.note(generation=generation, is_out=False, wedged_at=None, asked_at=None, commit=None)
        if is_new:
            self.note(logs_at=0, since=[])
        self.have_roster(roster, ts)

    def have_roster(self, roster: Roster, ts: int) -> None:
        """The roster after a commit that the server accepted at `ts`."""
        known = {each.client: each.ts for each in self.facts.since}
        since = [MemberSince(client, known.get(client, ts)) for client in sorted(roster)]
        self._roster = dict(roster)
        self.note(roster=encode_roster(roster).hex(), since=since)

    def drop_commit(self) -> None:
        """The own commit that is under way will not be."""
        if self.founding is not None:
            self.founding = None
        elif self.group is not None:
            self.group.drop_pending()
        self._saved = None
        self.note(commit=None)

    def wedge(self, now: int) -> None:
        """Nothing can be read from here on."""
        self.drop_commit()
        if self.facts.wedged_at is None:
            self.note(wedged_at=now)

    def leave(self) -> None:
        """The device is not in the conversation any more."""
        self.group = self.founding = self._saved = None
        self.note(is_out=True, wedged_at=None, commit=None, update_at=None)

    # --- stored form -------------------------------------------------------------------------------------------------

    def saved(self) -> SavedMembership | SavedKeys:
        """What is to be stored now: where only messages came or went since the last time, the keys of these."""
        stands = None if self.group is None or self.founding is not None else (self.facts, self.group.state_mark())
        if self.group is not None and stands is not None and stands == self._saved:
            return SavedKeys(self.id, self.group.message_keys())
        self._saved = stands
        return SavedMembership(self.id, _saved_group(self.group), _saved_group(self.founding), saved_facts(self.facts))


def _saved_group(group: MLSGroup | None) -> SavedGroup | None:
    return None if group is None else SavedGroup(group.state(), group.message_keys())


def saved_facts(facts: Facts) -> bytes:
    """As `SavedMembership` has them."""
    return orjson.dumps(_converter.unstructure(facts))


def facts_of(saved: SavedMembership) -> Facts:
    """Raises:
    ValueError: they were not written by this version.
    """
    return _converter.structure(orjson.loads(saved.facts), Facts)


def leaf_of(participant: Participant) -> Leaf:
    """Whose device it is, by the certificate that the policy has accepted for its key."""
    return Leaf(ClientId(participant.identity[1:33].hex()), participant.signature_key)


def slots_of(group: MLSGroup) -> Slots:
    leaves = {member.leaf: leaf_of(member) for member in group.members()}
    return tuple(leaves.get(index) for index in range(max(leaves, default=-1) + 1))
