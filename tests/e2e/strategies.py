"""Hypothesis strategies for what devices write for devices."""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ironwire.e2e.bodies import AnyBody, CallBody, LogBody
from ironwire.e2e.content import BODIES, Content, KnownHead
from ironwire.ids import MessageId
from ironwire.wire.messages import Candidate
from ironwire.wire.messages.fields import SAFE_INTEGER
from tests.strategies import message_ids, messages_of


def _calls(call: CallBody) -> SearchStrategy[CallBody]:
    """The same call, with one half of it."""
    sdp = st.builds(CallBody, st.just(call.call), sdp=st.text(min_size=1, max_size=60))
    return sdp | st.builds(CallBody, st.just(call.call), candidate=messages_of(Candidate))


def bodies() -> SearchStrategy[AnyBody]:
    return st.one_of(
        [messages_of(cls).flatmap(_calls) if cls is CallBody else messages_of(cls) for cls in BODIES.values()]
    )


@st.composite
def contents(draw: st.DrawFn) -> Content:
    body = draw(bodies())
    heads = st.lists(messages_of(KnownHead), min_size=1, max_size=2)
    logs = draw(heads if isinstance(body, LogBody) else st.none() | heads)
    message_id: MessageId = draw(message_ids())
    return Content(message_id, draw(st.integers(0, SAFE_INTEGER)), body, logs)
