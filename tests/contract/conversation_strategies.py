"""Operations on encrypted conversations for `test_model.py`: few devices, few conversations, often the right epoch."""

from collections.abc import Mapping

from attrs import evolve
from hypothesis import strategies as st

from ironwire.ids import ClientId, ConversationId, DeviceId, GroupId, Role
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf
from ironwire.store.contract.operations import (
    AdvanceConversation,
    Append,
    AskToRejoin,
    ChangeGroup,
    ClaimPackages,
    PublishPackages,
)
from tests.contract.builders import ANN, BOB, CAT, LAPTOP, PHONE, change, commit, package, say, state

KEYS = [bytes([number]) * 32 for number in range(1, 5)]
LEAVES = [Leaf(ANN, KEYS[0]), Leaf(ANN, KEYS[1]), Leaf(BOB, KEYS[2]), Leaf(CAT, KEYS[3])]
GROUP = GroupId("#" + "1" * 32)
CONVERSATIONS: list[ConversationId] = [pair_id(ANN, BOB), pair_id(ANN, ANN), GROUP]
REFS = [package(name).ref for name in "12345"]

_leaves = st.sampled_from(LEAVES)
_conversations = st.sampled_from(CONVERSATIONS)
_times = st.integers(0, 30)
_seen = st.sampled_from([(0, 0), (0, 0), (1, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2)])
_ids = st.none() | st.sampled_from("123")
_devices: st.SearchStrategy[DeviceId] = st.sampled_from([PHONE, LAPTOP])
_rosters: st.SearchStrategy[Mapping[ClientId, Role]] = st.dictionaries(
    st.sampled_from([ANN, BOB, CAT]), st.sampled_from(["admin", "member"]), min_size=1
)


@st.composite
def commits(draw: st.DrawFn) -> AdvanceConversation:
    conversation, seen = draw(_conversations), draw(_seen)
    generation, epoch = (seen[0], seen[1] + 1) if seen[0] and draw(st.integers(0, 3)) else (seen[0] + 1, 1)
    slots = draw(st.lists(_leaves, min_size=1, max_size=4, unique=True))
    after = state(conversation, generation, epoch, draw(_rosters), *slots)
    group: ChangeGroup | None = None
    if conversation == GROUP and draw(st.booleans()):
        group = change(GROUP, draw(st.integers(0, 3)), draw(_rosters), ts=draw(_times))
    added = [leaf for leaf in slots if draw(st.booleans())]
    return commit(after, slots[0], draw(_devices), seen=seen, id=draw(_ids), ts=draw(_times), added=added, group=group)


@st.composite
def messages(draw: st.DrawFn) -> Append:
    text = draw(st.sampled_from(["", "hello", "x" * 150]))
    sent = say(draw(_conversations), draw(_leaves), draw(_devices), draw(_seen), text, id=draw(_ids), ts=draw(_times))
    return evolve(sent, lane=draw(st.sampled_from([None, "this session"])))


_packages = st.builds(package, st.sampled_from("12345"), is_last_resort=st.booleans(), not_after_ms=st.integers(5, 40))
_published = st.lists(_packages, min_size=1, max_size=3).map(tuple)
_targets = st.lists(st.tuples(_leaves, st.booleans()), max_size=3).map(tuple)

conversation_operations = st.one_of(
    commits(),
    commits(),
    messages(),
    st.builds(PublishPackages, _leaves, _published),
    st.builds(ClaimPackages, st.sampled_from([ANN, BOB]), _conversations, _targets, _times),
    st.builds(AskToRejoin, _leaves, st.lists(_conversations, max_size=3).map(tuple)),
)
