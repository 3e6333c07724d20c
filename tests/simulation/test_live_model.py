"""Whatever many clients do in whatever order, each connection is told exactly what the model says."""

import json
from collections.abc import Sequence
from typing import Literal

import hypothesis.strategies as st
from hypothesis import assume, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ironwire.crypto.signing import auth_text
from ironwire.limits import Limits
from tests.playbook import NONCE, auth_frame, identity_of, verify_frame
from tests.simulation.model import GARBAGE, Line, Model, Say, Told
from tests.simulation.world import World
from tests.wire import frame_builder

CLIENTS = ["alice", "bob", "carol"]
ORIGIN = "http://localhost"
LIMITS = Limits(sessions_per_client=3, devices_per_client=2, window_envelopes=4, outbox_frames=64)
PIPE_BYTES = 700
MOST_LINES = 8
SILENCE_SECONDS = 40

clients = st.sampled_from(CLIENTS)
devices = st.sampled_from([None, None, "phone", "laptop", "tablet"])
picks = st.integers(0, MOST_LINES - 1)
says = st.builds(
    Say,
    verb=st.just("text"),
    to=clients,
    body=st.sampled_from(["a", "b", "x" * 300]),
    id=st.sampled_from([None, "m1", "m2", "m3"]),
) | st.builds(
    Say,
    verb=st.just("file"),
    to=clients,
    body=st.just("/media/6f1f0f1c-9d51-4f0e-8a53-0d6b1f2d3c4e.bin"),
    id=st.none(),
)
packets = st.lists(says | st.just(GARBAGE), min_size=1, max_size=3)
Packet = Sequence[Say | Literal["[]"]]


class LiveServer(RuleBasedStateMachine):
    """The server and the model, given the same events."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(LIMITS, PIPE_BYTES)
        self.model = Model(LIMITS, PIPE_BYTES)
        self.lines_opened = 0

    def teardown(self) -> None:
        self.world.close()

    # --- coming ------------------------------------------------------------------------------------------------------

    @initialize(who=st.lists(st.tuples(clients, devices), max_size=4))
    def begin_with_some(self, who: list[tuple[str, str | None]]) -> None:
        for client, device in who:
            self.enter(client, device, names_origin=False)

    def has_room(self) -> bool:
        return len(self.model.in_stage("fresh", "challenged", "seated")) < MOST_LINES

    @precondition(has_room)
    @rule()
    def connect(self) -> None:
        self.open_line()

    @precondition(has_room)
    @rule(client=clients, device=devices, names_origin=st.booleans())
    def come(self, client: str, device: str | None, names_origin: bool) -> None:
        self.enter(client, device, names_origin=names_origin)

    def enter(self, client: str, device: str | None, *, names_origin: bool) -> None:
        line = self.open_line()
        self.begin_auth(line, client, device, names_origin=names_origin)
        self.resume_seats(client)  # one of them may be replaced, and is to read why
        self.world.send(line.name, answer(line, names_origin=names_origin))
        self.model.verify(line, speaks_seed=not names_origin and device is None)

    @precondition(lambda self: self.model.in_stage("fresh"))
    @rule(pick=picks, client=clients)
    def begin(self, pick: int, client: str) -> None:
        self.begin_auth(self.pick(pick, "fresh"), client, None, names_origin=False)

    @precondition(lambda self: self.model.in_stage("challenged"))
    @rule(pick=picks, packet=packets)
    def verify_and_write_on(self, pick: int, packet: Packet) -> None:
        line = self.pick(pick, "challenged")
        self.resume_seats(*recipients(packet))
        self.world.send(line.name, answer(line, names_origin=False), *frames_of(packet))
        self.model.verify(line, speaks_seed=True)
        if line.stage == "seated":
            self.model.say(line, packet)

    @precondition(lambda self: self.model.in_stage("challenged"))
    @rule(pick=picks)
    def verify_wrongly(self, pick: int) -> None:
        line = self.pick(pick, "challenged")
        self.world.send(line.name, verify_frame("mallory", NONCE))
        self.model.verify_wrongly(line)

    # --- talking -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.readers())
    @rule(pick=picks, packet=packets)
    def say(self, pick: int, packet: Packet) -> None:
        line = self.pick_reader(pick)
        self.resume_seats(*recipients(packet), _client(line), only_full=True)
        self.world.send(line.name, *frames_of(packet))
        self.model.say(line, packet)

    @precondition(lambda self: self.model.in_stage("fresh", "challenged"))
    @rule(pick=picks, packet=packets)
    def say_too_early(self, pick: int, packet: Packet) -> None:
        line = self.pick(pick, "fresh", "challenged")
        self.world.send(line.name, *frames_of(packet))
        self.model.say(line, packet)

    @precondition(lambda self: any(line.mailbox for line in self.readers()))
    @rule(pick=picks, offset=st.sampled_from([0, 0, 0, 1, 2, -1]))
    def ack(self, pick: int, offset: int) -> None:
        lines = [line for line in self.readers() if line.mailbox is not None]
        line = lines[pick % len(lines)]
        upto = max(line.sent - offset, 0)
        self.world.send(line.name, frame_builder.text(json.dumps({"type": "ack", "payload": {"upto": upto}})))
        self.model.ack(line, upto)

    # --- misbehaving and leaving -------------------------------------------------------------------------------------

    @precondition(lambda self: self.readers() or self.model.in_stage("fresh", "challenged"))
    @rule(
        pick=picks,
        how=st.sampled_from(
            [
                (frame_builder.close(1000), "close 1000"),
                (frame_builder.frame(frame_builder.TEXT, b"x", mask=None), "close 1002 frame is not masked"),
                (frame_builder.frame(frame_builder.TEXT, b"\xff"), "close 1007 text is not UTF-8"),
            ]
        ),
    )
    def end(self, pick: int, how: tuple[bytes, str]) -> None:
        lines = [*self.readers(), *self.model.in_stage("fresh", "challenged")]
        line = lines[pick % len(lines)]
        frame, ending = how
        self.world.send(line.name, frame)
        self.model.break_rules(line, ending)

    @precondition(lambda self: self.readers())
    @rule(pick=picks, packet=packets, after_steps=st.integers(0, 12))
    def say_and_cut(self, pick: int, packet: Packet, after_steps: int) -> None:
        line = self.pick_reader(pick)
        assume(not self.model.races_with_a_cut(line, packet))
        self.resume_seats(*recipients(packet), _client(line), only_full=True)
        self.world.cut(line.name, frames_of(packet), after_steps)
        self.model.say(line, packet)
        self.model.cut(line)

    @precondition(lambda self: self.model.in_stage("challenged"))
    @rule(pick=picks, after_steps=st.integers(0, 20))
    def verify_and_cut(self, pick: int, after_steps: int) -> None:
        line = self.pick(pick, "challenged")
        self.world.cut(line.name, [answer(line, names_origin=False)], after_steps)
        self.model.verify(line, speaks_seed=True)
        self.model.cut(line)

    @precondition(lambda self: self.model.in_stage("fresh", "challenged", "seated"))
    @rule(pick=picks)
    def cut(self, pick: int) -> None:
        line = self.pick(pick, "fresh", "challenged", "seated")
        self.world.cut(line.name, [], 0)
        self.model.cut(line)

    # --- reading slowly, and time ------------------------------------------------------------------------------------

    @precondition(lambda self: self.readers())
    @rule(pick=picks)
    def stall(self, pick: int) -> None:
        line = self.pick_reader(pick)
        self.world.stall(line.name)
        line.is_stalled = True

    @precondition(lambda self: self.stalled())
    @rule(pick=picks)
    def resume(self, pick: int) -> None:
        lines = self.stalled()
        self.resume_line(lines[pick % len(lines)])

    @rule(seconds=st.integers(1, 7))
    def pass_time(self, seconds: int) -> None:
        self.world.pass_time(seconds)
        self.model.pass_time(seconds)

    @precondition(lambda self: self.readers())
    @rule(pick=picks)
    def fall_silent(self, pick: int) -> None:
        line = self.pick_reader(pick)
        self.world.pass_time(SILENCE_SECONDS, silent=line.name)
        self.model.pass_time(SILENCE_SECONDS)
        self.model.fall_silent(line)

    # --- the law -----------------------------------------------------------------------------------------------------

    @invariant()
    def everyone_was_told_what_the_model_says(self) -> None:
        self.model.settle()
        for line in self.model.lines.values():
            received = [essence(what) for what in self.world.received[line.name]]
            if line.is_cut_short or line.is_stalled:
                received = [what for what in received if what != "cut"]
                assert received == line.told[: len(received)], line.name
            else:
                assert received == line.told, line.name

    @invariant()
    def the_server_counts_what_there_is(self) -> None:
        metrics = self.world.metrics()
        expected = self.model.statistics()
        assert {name: metrics[name] for name in expected} == expected

    # --- helpers -----------------------------------------------------------------------------------------------------

    def open_line(self) -> Line:
        self.lines_opened += 1
        name = f"line.{self.lines_opened}"
        self.world.connect(name)
        self.model.connect(name)
        return self.model.lines[name]

    def begin_auth(self, line: Line, client: str, device: str | None, *, names_origin: bool) -> None:
        origin = ORIGIN if names_origin else None
        self.world.send(line.name, auth_frame(client, origin=origin, device=device))
        self.model.auth(line, client, device)

    def readers(self) -> list[Line]:
        return [line for line in self.model.in_stage("seated") if not line.is_stalled]

    def stalled(self) -> list[Line]:
        return [line for line in self.model.lines.values() if line.is_stalled]

    def pick(self, pick: int, *stages: str) -> Line:
        lines = self.model.in_stage(*stages)
        return lines[pick % len(lines)]

    def pick_reader(self, pick: int) -> Line:
        lines = self.readers()
        return lines[pick % len(lines)]

    def resume_line(self, line: Line) -> None:
        self.world.resume(line.name)
        self.model.resume(line)

    def resume_seats(self, *whose: str, only_full: bool = False) -> None:
        """Have stalled sessions read on, so that it is certain what becomes of them."""
        for client in whose:
            for seat in self.model.seats_of(client):
                if seat.is_stalled and (not only_full or seat.waiting_frames > LIMITS.outbox_frames - 10):
                    self.resume_line(seat)


def answer(line: Line, *, names_origin: bool) -> bytes:
    """The right answer to the challenge on this line."""
    client = _client(line)
    if not names_origin:
        return verify_frame(client, NONCE)
    key = identity_of(client).public_key.raw
    return verify_frame(client, auth_text(origin=ORIGIN, nonce=NONCE, public_key=key, device=line.device or ""))


def frames_of(packet: Packet) -> list[bytes]:
    return [frame_builder.text(item.as_frame() if isinstance(item, Say) else item) for item in packet]


def recipients(packet: Packet) -> list[str]:
    return [item.to for item in packet if isinstance(item, Say)]


def essence(what: str) -> Told:
    """What came, without what the server may say as it likes."""
    if not what.startswith("{"):
        return what
    frame: dict[str, object] = json.loads(what)
    payload = frame.get("payload")
    if frame["type"] == "auth_ok" and isinstance(payload, dict):
        frame["payload"] = {key: payload[key] for key in ("client", "device", "epoch", "seq") if key in payload}
    return frame


def _client(line: Line) -> str:
    if line.client is None:
        raise ValueError("nobody has said who is at this line")
    return line.client


TestLiveServer = LiveServer.TestCase
TestLiveServer.settings = settings(max_examples=12, stateful_step_count=40, deadline=None)
