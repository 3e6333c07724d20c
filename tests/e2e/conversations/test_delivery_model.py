"""Devices, a server, and everything that may go wrong between them, in virtual time.

A script of actions is played: people write, admins change who is in a group, programs end before or after what they
have kept, connections break, frames get lost or damaged, devices are linked and revoked. Then everybody comes back, and
nothing goes wrong any more. After that:

- every device that is in the log of a member is in the conversation, and all agree on its epoch, keys and roster;
- no message was handed to a program twice, and none was lost without a word;
- nobody who was not in the roster has read anything;
- no key has encrypted two messages.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import trio
from attrs import define, evolve, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.wishes import BeginGeneration, ChangeMembers, GiveRoles, RenewKeys
from ironwire.ids import Address, ConversationId, GroupId, MessageId
from ironwire.mls import suite
from ironwire.mls.framing import open_envelope
from ironwire.mls.messages import PrivateMessage
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.devices.log_entry import LogOp
from ironwire.wire.base64url import from_base64url
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages import Accepted, Gap, GroupCreate
from ironwire.wire.messages.conversations import MlsCommitted, MlsMessage, MlsSend, MlsSignal
from tests.e2e.conversations.devices import EngineDevice, EngineWorld, open_world

NAMES = ("alice.phone", "alice.laptop", "bob.phone", "carol.phone", "carol.laptop")
SPARE = ("bob.tablet", "alice.tablet")
"""Devices that may be linked later."""

devices = st.sampled_from(NAMES)
actions = st.one_of(
    st.tuples(st.just("say"), devices, st.sampled_from(["group", "alice", "bob", "carol"])),
    st.tuples(st.just("say"), devices, st.just("group")),
    st.tuples(st.just("renew"), devices),
    st.tuples(st.just("promote"), devices, st.sampled_from(["bob", "carol"])),
    st.tuples(st.just("remove"), devices, st.sampled_from(["bob", "carol"])),
    st.tuples(st.just("add"), devices, st.sampled_from(["bob", "carol"])),
    st.tuples(st.just("leave"), devices),
    st.tuples(st.just("enter"), devices),
    st.tuples(st.just("crash"), devices, st.integers(0, 6), st.booleans()),
    st.tuples(st.just("lose commit"), devices),
    st.tuples(st.just("damage message"), devices),
    st.tuples(st.just("link"), st.sampled_from(SPARE)),
    st.tuples(st.just("revoke"), st.sampled_from(["alice.laptop", "carol.laptop"])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.2, 5.0, 90.0])),
)


@define(eq=False)
class Play:
    """One run of a script."""

    world: EngineWorld
    group: GroupId
    where: dict[MessageId, ConversationId] = field(factory=dict)
    said: dict[MessageId, str] = field(factory=dict)
    revoked: set[str] = field(factory=set)

    async def act(self, action: tuple[Any, ...]) -> None:
        match action:
            case ("say", name, where):
                self.say(self.device(name), where)
            case ("renew", name):
                self.want(name, RenewKeys())
            case ("promote", name, who):
                self.want(name, GiveRoles({self.client(who): "admin"}))
            case ("remove", name, who):
                self.want(name, ChangeMembers(remove=(self.client(who),)))
            case ("add", name, who):
                self.want(name, ChangeMembers(add=(self.client(who),)))
            case ("leave", name):
                await self.device(name).leave()
            case ("enter", name) if not self.device(name).is_up and name not in self.revoked:
                await self.device(name).enter()
            case ("crash", name, after, is_kept):
                self.device(name).fails = after_some(after, is_kept)
            case ("lose commit", name):
                self.device(name).spoil = once(MlsCommitted, lost)
            case ("damage message", name):
                self.device(name).spoil = once(MlsMessage, damaged)
            case ("link", name) if name not in self.world.devices:
                (device,) = await self.world.link(name)
                await device.enter()
            case ("revoke", name) if name not in self.revoked:
                self.revoked.add(name)
                await self.world.log(name, LogOp.REMOVE, self.device(name).key)
                await self.device(name).leave()
            case ("wait", seconds):
                await trio.sleep(seconds)
            case _:
                pass  # what cannot be done as things stand

    def device(self, name: str) -> EngineDevice:
        return self.world.devices[name]

    def client(self, who: str) -> Any:
        return self.device(f"{who}.phone").client

    def want(self, name: str, wish: Any) -> None:
        device = self.device(name)
        if not device.is_cut and name not in self.revoked:
            device.want(self.group, wish)

    def say(self, device: EngineDevice, where: str) -> None:
        to: Address = self.group if where == "group" else self.client(where)
        if device.is_cut or device.name in self.revoked:
            return
        text = f"{device.name} says {len(self.said)} to {where}"
        message_id = device.say(to, text)
        self.said[message_id] = text
        self.where[message_id] = self.group if where == "group" else pair_id(device.client, self.client(where))

    async def settle(self) -> None:
        """Everybody comes back, and nothing goes wrong any more."""
        for name, device in self.world.devices.items():
            device.spoil, device.fails = (lambda frame: frame), _never
            if device.is_cut:
                await device.crash()
            if not device.is_up and name not in self.revoked:
                await device.enter()
        await self.world.until(self.is_settled, seconds=3 * 3_600)
        await self.world.quiet(30)  # for what has just come
        await self.world.until(self.is_settled, seconds=3 * 3_600)

    @property
    def current(self) -> list[EngineDevice]:
        return [device for name, device in self.world.devices.items() if name not in self.revoked]

    def is_settled(self) -> bool:
        return all(not device.disk.outbox for device in self.current) and all(
            self.agree(conversation) for conversation in self.conversations()
        )

    def conversations(self) -> set[ConversationId]:
        return {name for device in self.current for name in device.disk.memberships if self.is_begun(name)}

    def is_begun(self, conversation: ConversationId) -> bool:
        return any(
            member.facts.generation
            for device in self.current
            if (member := device.engine.find(conversation)) is not None
        )

    def agree(self, conversation: ConversationId) -> bool:
        """Whether every device of a client in the roster is in it, in one epoch."""
        known = [
            (device, member)
            for device in self.current
            if (member := device.engine.find(conversation)) is not None and member.standing == "active"
        ]
        if not known:
            return False
        states = {
            (member.place, member.group.authenticator(), tuple(sorted(member.roster.items())))
            for _, member in known
            if member.group is not None
        }
        clients = set(known[0][1].roster)
        inside = {device.name for device in self.current if device.client in clients}
        return len(states) == 1 and inside == {device.name for device, _ in known}

    # --- what has to hold --------------------------------------------------------------------------------------------

    def check(self) -> None:
        for device in self.world.devices.values():
            told = [event for event in device.told(ev.OpenedMessage) if isinstance(event, ev.OpenedMessage)]
            names = Counter((event.sender, event.content.id) for event in told)
            assert not [name for name, times in names.items() if times > 1], f"{device.name} was told twice"
            assert len(set(device.texts)) == len(device.texts)
        for message_id, text in self.said.items():
            self.check_message(message_id, text)

    def check_message(self, message_id: MessageId, text: str) -> None:
        """Whoever was in the conversation when the message was accepted has it, or has said that it does not."""
        sender = next(device for name, device in self.world.devices.items() if message_id.endswith(name))
        report = sender.reports.get(message_id)
        conversation = self.where[message_id]
        readers = {device.name for device in self.world.devices.values() if text in device.texts}
        for device in self.world.devices.values():
            was_in = device.disk.joined.get(conversation)
            if was_in is None or device is sender:
                assert device.name not in readers, f"{device.name} was never there, and has read it"
            elif isinstance(report, fx.Sent) and isinstance(report.reply, Accepted) and device in self.current:
                was_away = conversation in device.disk.wedged | device.disk.left
                if was_in < report.reply.ts and not was_away:
                    assert device.name in readers or self.is_missed(device, message_id), f"{device.name} lost it"

    def is_missed(self, device: EngineDevice, message_id: MessageId) -> bool:
        unread = [event.id for event in device.told(ev.Unreadable) if isinstance(event, ev.Unreadable)]
        return message_id in unread or any(id_ == message_id for _, _, id_ in device.disk.missing)


def _never(effects: fx.Effects, *, is_kept: bool) -> bool:
    return False


def after_some(count: int, is_wanted: bool) -> Any:
    """The program ends at one of its next steps, before or after that is on the disk."""
    left = [count]

    def fails(effects: fx.Effects, *, is_kept: bool) -> bool:
        if is_kept:
            return is_wanted and left[0] <= 0
        left[0] -= 1
        return not is_wanted and left[0] < 0

    return fails


def once(kind: type, lie: Callable[[ServerFrame], ServerFrame | None]) -> Callable[[ServerFrame], ServerFrame | None]:
    left = [1]

    def spoil(frame: ServerFrame) -> ServerFrame | None:
        if not isinstance(frame.message, kind) or not left:
            return frame
        left.pop()
        return lie(frame)

    return spoil


def lost(frame: ServerFrame) -> ServerFrame:
    """The mailbox was full when it came."""
    assert isinstance(frame.message, MlsCommitted)
    assert frame.seq is not None
    return ServerFrame(Gap(frame.seq, frame.seq, "full", [frame.message.group]), None, None)


def damaged(frame: ServerFrame) -> ServerFrame:
    assert isinstance(frame.message, MlsMessage)
    data = frame.message.data
    changed = data[:-9] + ("A" if data[-9] != "A" else "B") + data[-8:]
    return frame._replace(message=evolve(frame.message, data=changed))


def ciphertexts(device: EngineDevice) -> set[bytes]:
    """Of the messages that have left the device."""
    sent = [message.data for message in device.written if isinstance(message, MlsSend | MlsSignal)]
    opened = [open_envelope(from_base64url(data)) for data in sent]
    return {message.ciphertext for message in opened if isinstance(message, PrivateMessage)}


async def play(script: list[tuple[Any, ...]]) -> None:
    keys: dict[bytes, bytes] = {}
    seal = suite.seal

    def noted(key: bytes, *rest: bytes) -> bytes:
        sealed = seal(key, *rest)
        keys[sealed] = key
        return sealed

    with patch.object(suite, "seal", noted):
        async with open_world() as world:
            entered = await world.enter(*NAMES)
            made = await entered[0].ask(GroupCreate([]))
            assert isinstance(made, Accepted)
            assert made.group is not None
            run = Play(world, made.group)
            run.want("alice.phone", BeginGeneration((run.client("bob"), run.client("carol"))))
            await world.until(lambda: run.is_begun(run.group) and run.is_settled())
            for action in script:
                await run.act(action)
            await run.settle()
            run.check()
            for device in run.current:
                member = device.engine.find(run.group)
                assert member is None or member.standing in ("active", "out")
            used = Counter(keys[sealed] for device in world.devices.values() for sealed in ciphertexts(device))
    assert max(used.values(), default=1) == 1, "a key has encrypted two messages that left a device"


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=st.lists(actions, min_size=1, max_size=14))
def test_whatever_goes_wrong_devices_agree_at_last_and_no_message_comes_twice(script: list[tuple[Any, ...]]) -> None:
    trio.run(play, script, clock=MockClock())
