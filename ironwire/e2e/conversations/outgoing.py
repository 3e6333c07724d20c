"""Messages of this device on their way out, in the order of each conversation.

    waiting    --active, complete, caught up, nothing of an older epoch under way: encrypted, kept--> under way
    under way  --accepted--> sent      --conflict--> waiting, for the commits that are on their way
               --other errors--> refused             --the session ends, and nothing tells its fate--> waiting

A message keeps its id however often it is encrypted. A new key is kept before anything that was encrypted with it
leaves, so no crash makes it be used twice. A refusal for now does not come here: the connection repeats what it was
about, and what was sent behind it, in order.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice

from attrs import define, evolve, field

from ironwire.e2e.bodies import AnyBody, SyncBody
from ironwire.e2e.content import Content, KnownHead, encode_content
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations.calls import secret_text
from ironwire.e2e.conversations.effects import Pause, Steps, ask
from ironwire.e2e.conversations.jobs import Jobs
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.packages import DAY_MS
from ironwire.e2e.conversations.state import DeviceState
from ironwire.ids import ConversationId, MessageId
from ironwire.wire.base64url import to_base64url
from ironwire.wire.messages import Accepted, Error
from ironwire.wire.messages.conversations import MlsSend, MlsSignal

WINDOW = 64
"""Messages of one conversation that are under way at a time. So many are encrypted anew after a commit or a cut, and a
recipient opens no message that is more than 1,000 ahead of the last one.
"""
LATER_MS = 5_000


@define(eq=False)
class OutgoingMessage:
    """`content.id` is the id inside; it differs from that of the envelope where a message is sent again on request."""

    id: MessageId
    content: Content
    is_reported: bool
    place: tuple[int, int] | None = None
    """Where it was encrypted, if it is under way."""


@define(eq=False)
class OutgoingMessages:
    """The messages of one device that have no answer yet."""

    _state: DeviceState
    _jobs: Jobs
    _is_complete: Callable[[DeviceMembership], bool]
    """Whether everybody is there who is to hear it."""
    _settled: Callable[[DeviceMembership], None]
    """Told when something may go on in the conversation."""
    _fell_behind: Callable[[], None]
    """Told when the mailbox does not bring what the server has accepted."""
    _queues: dict[ConversationId, deque[OutgoingMessage]] = field(factory=dict, init=False)
    _resting: set[ConversationId] = field(factory=set, init=False)

    def put(self, member: DeviceMembership, message: OutgoingMessage) -> None:
        self._queues.setdefault(member.id, deque()).append(message)
        self._settled(member)

    def say(
        self, member: DeviceMembership, body: AnyBody, inner_id: MessageId | None = None, ts: int | None = None
    ) -> None:
        """A message of the device itself: nobody is told of its answer, and it does not outlive the session."""
        new_id = self._state.around.new_id()
        content = Content(inner_id or new_id, self._state.now if ts is None else ts, body)
        self.put(member, OutgoingMessage(new_id, content, is_reported=False))

    def waiting_in(self, member: DeviceMembership) -> list[OutgoingMessage]:
        return list(self._queues.get(member.id, ()))

    def take_all(self, member: DeviceMembership) -> list[OutgoingMessage]:
        """Take out what is not under way."""
        queue = self._queues.get(member.id, deque())
        taken = [message for message in queue if message.place is None]
        self._queues[member.id] = deque(message for message in queue if message.place is not None)
        return taken

    def settle(self, message_id: MessageId, reply: Accepted | Error) -> None:
        """What became of a message that had no answer when its session ended."""
        for queue in self._queues.values():
            for message in [each for each in queue if each.id == message_id]:
                self._finish(queue, message, reply)

    def _finish(self, queue: deque[OutgoingMessage], message: OutgoingMessage, reply: Accepted | Error) -> None:
        queue.remove(message)
        if message.is_reported:
            self._state.report(fx.Sent(message.id, reply))

    def end_session(self) -> None:
        """What is under way has no answer: it is encrypted anew in the next session, unless that tells its fate."""
        self._resting.clear()
        for queue in self._queues.values():
            for message in queue:
                message.place = None

    # --- sending -----------------------------------------------------------------------------------------------------

    def pump(self, member: DeviceMembership) -> None:
        """Send what may be sent."""
        queue, here = self._queues.get(member.id), member.place
        is_ready = member.standing == "active" and self._state.is_caught_up and here >= member.awaited
        if not queue or not is_ready or member.id in self._resting or not self._is_complete(member):
            return
        for message in [*islice(queue, WINDOW)]:
            if message.place is None:
                self._launch(member, message, here)
            elif message.place != here:
                return  # its answer comes first, so that the order stays

    def _launch(self, member: DeviceMembership, message: OutgoingMessage, place: tuple[int, int]) -> None:
        data = self._encrypt(member, message.content)
        if data is None:
            return
        message.place = place
        request = MlsSend(member.id, *place, data)
        self._jobs.start(self._send(member, message, request))

    def _send(self, member: DeviceMembership, message: OutgoingMessage, request: MlsSend) -> Steps[None]:
        reply = yield from ask(request, Accepted, message.id)
        message.place = None
        if isinstance(reply, Error) and reply.msg == "conflict":
            yield from self._rest(member, (request.generation, request.epoch), reply)
        else:
            self._finish(self._queues[member.id], message, reply)
        self._settled(member)

    def _rest(self, member: DeviceMembership, place: tuple[int, int], error: Error) -> Steps[None]:
        """Wait until another try is worth it. A conflict means that a commit is on its way, or came a moment ago. If
        none comes, or the server is not even where this device is, it has to say where things stand.
        """
        there = error.generation or 0, error.epoch or 0
        member.awaited = max(member.awaited, there)
        if place < member.place == there:
            return
        if member.place < there:
            yield Pause(LATER_MS)
            if member.place < there:
                self._fell_behind()
        elif member.id not in self._resting:
            self._resting.add(member.id)
            yield Pause(LATER_MS)
            self._resting.discard(member.id)
            self._fell_behind()

    def signal(self, member: DeviceMembership, body: AnyBody) -> None:
        """Say something that is worth nothing later."""
        if member.standing == "active" and self._state.is_caught_up:
            content = Content(self._state.around.new_id(), self._state.now, body)
            data = self._encrypt(member, content)
            if data is not None:
                self._jobs.start(_signalling(MlsSignal(member.id, *member.place, data)))

    def seal(self, member: DeviceMembership, body: AnyBody) -> str | None:
        """The text that stands for the secret half of a signal of a call; None where it cannot be made now."""
        if member.standing != "active" or not self._state.is_caught_up:
            return None
        data = self._encrypt(member, Content(self._state.around.new_id(), self._state.now, body))
        return None if data is None else secret_text(member.place, data)

    def _encrypt(self, member: DeviceMembership, content: Content) -> str | None:
        """The message in the current epoch, with what is known of device logs where that is due."""
        if member.group is None:
            return None
        if self._logs_are_due(member):
            content = evolve(content, logs=self._heads(member) or None)
            member.note(logs_at=self._state.now)
        elif isinstance(content.body, SyncBody):
            content = evolve(content, logs=self._heads(member) or None)
        member.note(was_used=True)
        return to_base64url(member.group.encrypt(encode_content(content)))

    def _logs_are_due(self, member: DeviceMembership) -> bool:
        return member.facts.logs_at + DAY_MS <= self._state.now

    def _heads(self, member: DeviceMembership) -> list[KnownHead]:
        peer = member.facts.peer
        return self._state.logs.heads({self._state.own.client, *(() if peer is None else (peer,))})


def _signalling(signal: MlsSignal) -> Steps[None]:
    yield from ask(signal, Accepted)
