"""A dialogue of several peers with the whole server, derived from any bytes at all.

The bytes are a list of steps: one says who does what, and those behind it how; `step` writes one. Between two steps the
server comes to rest, unless the step is hasty: then the next one arrives together with it. What is proved is what every
house is inspected for (`fuzz/house.py`).
"""

from collections.abc import Awaitable, Callable

from attrs import define, field

from fuzz.house import BLOB_NAME, ORIGIN, House, Peer, quiet, run
from ironwire.crypto.signing import DeviceKey, Identity
from ironwire.ids import DeviceId
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, sign_entry
from ironwire.wire.messages import Auth, GroupChanged, Verify
from tests.server.raw_client import upgrade_request
from tests.wire.frame_builder import CLOSE, PING, PONG, frame, text

PARTICIPANTS = 3
IDENTITIES = [Identity.from_seed(bytes([100 + number]) * 32) for number in range(PARTICIPANTS)]
NO_GROUP = "#" + "0" * 32
_MOST_STEPS = 80
_MOST_COPIES = 512
_MOST_SECONDS = 45


def _say_to(client: Identity) -> list[str]:
    to = client.client_id
    return [
        f'{{"type":"text","payload":{{"to":"{to}","text":"Hello"}}}}',
        f'{{"type":"text","id":"1","payload":{{"to":"{to}","text":"Hello"}}}}',
        f'{{"type":"text","id":"1","payload":{{"to":"{to}","text":"Goodbye"}}}}',
        f'{{"type":"file","id":"2","payload":{{"to":"{to}","url":"/media/{BLOB_NAME}","kind":"image","width":4}}}}',
        f'{{"type":"receipt","payload":{{"to":"{to}","ids":["1"],"state":"read"}}}}',
    ]


_GROUP = "$group"
"""Stands for a group that somebody was told of."""


def _say_of_groups() -> list[str]:
    everyone = ",".join(f'"{identity.client_id}"' for identity in IDENTITIES)
    client = IDENTITIES[1].client_id
    absent = Identity.from_seed(b"\xff" * 32).client_id
    return [
        f'{{"type":"group_create","id":"5","payload":{{"clients":[{everyone}],"name":"all"}}}}',
        '{"type":"group_create","payload":{"clients":[]}}',
        f'{{"type":"text","id":"6","payload":{{"to":"{_GROUP}","text":"Hello"}}}}',
        f'{{"type":"file","payload":{{"to":"{_GROUP}","url":"/media/{BLOB_NAME}"}}}}',
        f'{{"type":"group_add","id":"7","payload":{{"group":"{_GROUP}","clients":["{client}","{absent}"]}}}}',
        f'{{"type":"group_add","payload":{{"group":"{_GROUP}","clients":[{everyone}],"if_epoch":1}}}}',
        f'{{"type":"group_remove","payload":{{"group":"{_GROUP}","clients":["{client}"]}}}}',
        f'{{"type":"group_role","id":"8","payload":{{"group":"{_GROUP}","client":"{client}","role":"admin"}}}}',
        f'{{"type":"group_rename","payload":{{"group":"{_GROUP}","name":"some"}}}}',
        f'{{"type":"group_leave","id":"9","payload":{{"group":"{_GROUP}"}}}}',
        f'{{"type":"group_leave","payload":{{"group":"{_GROUP}"}}}}',
        f'{{"type":"group_info","payload":{{"group":"{_GROUP}"}}}}',
        '{"type":"groups"}',
        f'{{"type":"history","payload":{{"with":"{_GROUP}","limit":9}}}}',
    ]


_CALL = "0" * 32


def _say_in_calls(client: Identity) -> list[str]:
    to = f'"to":"{client.client_id}","call":"{_CALL}"'
    return [
        f'{{"type":"call_offer","id":"10","payload":{{{to},"sdp":"v=0","media":"audio"}}}}',
        f'{{"type":"call_ringing","payload":{{{to}}}}}',
        f'{{"type":"call_answer","id":"11","payload":{{{to},"sdp":"v=1"}}}}',
        f'{{"type":"call_candidate","payload":{{{to},"candidate":{{"candidate":""}}}}}}',
        f'{{"type":"call_update","id":"12","payload":{{{to},"kind":"offer","sdp":"v=2"}}}}',
        f'{{"type":"call_end","payload":{{{to},"reason":"hangup"}}}}',
    ]


def _say_of_logs(client: Identity) -> list[str]:
    key = DeviceKey.from_seed(client.seed[::-1]).public_key
    log = DeviceLog(client.public_key)
    sayings = [f'{{"type":"device_log","id":"13","payload":{{"client":"{client.client_id}"}}}}']
    for op in (LogOp.ADD, LogOp.REMOVE):
        signed = sign_entry(client, log.next_entry(op, [key], time_ms=0))
        log = log.append(signed)
        entry, sig = signed.entry.encode().hex(), signed.signature.hex()
        sayings.append(f'{{"type":"device_log_append","payload":{{"entry":"{entry}","sig":"{sig}"}}}}')
    return sayings


SAYINGS = [
    *(saying for identity in [*IDENTITIES, Identity.from_seed(b"\1" * 32)] for saying in _say_to(identity)),
    *_say_to(Identity.from_seed(b"\xff" * 32)),  # who is never there
    f'{{"type":"text","payload":{{"to":"{NO_GROUP}","text":"to a group"}}}}',
    *(f'{{"type":"ack","payload":{{"upto":{upto}}}}}' for upto in (0, 1, 2, 5, 2**53 - 1)),
    '{"type":"devices","id":"3"}',
    '{"type":"device_remove","id":"4","payload":{"device":"phone"}}',
    '{"type":"device_remove","payload":{"device":"laptop"}}',
    '{"type":"auth","payload":{"token":"0100000000000000000000000000000000000000000000000000000000000000"}}',
    '{"type":"verify","payload":{"attempt":"00"}}',
    '{"type":"auth_ok"}',
    '{"type":"presence","payload":{"status":"here"}}',
    "[" * 300,
    '{"type":"text","id":7}',
    *_say_of_groups(),
    *(saying for identity in IDENTITIES for saying in _say_in_calls(identity)),
    *(saying for identity in IDENTITIES for saying in _say_of_logs(identity)),
]
"""What a client may say, and what it had better not."""


def one(data: bytes) -> None:
    """Check the dialogue that `data` describes.

    Raises:
        AssertionError: the server broke one of the laws of the house.
    """

    async def dialogue(house: House) -> None:
        await _Dialogue(house, Choices(data)).play()

    run(data, dialogue)


@define
class Choices:
    """Bytes as decisions. Where they have run out, every decision is 0."""

    _data: bytes
    _used: int = field(default=0, init=False)

    @property
    def are_over(self) -> bool:
        return self._used >= len(self._data)

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1, which is 255 at most."""
        taken = self.take(1)
        return taken[0] % bound if taken else 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._used : self._used + size]
        self._used += size
        return taken

    def chunk(self) -> bytes:
        """Up to 255 bytes, behind their number."""
        return self.take(self.below(256))


@define(eq=False)
class _Participant:
    number: int
    peer: Peer
    identity: Identity
    auth: Auth | None = None
    """What it said last of who it is."""


@define(eq=False)
class _Dialogue:
    _house: House
    _choices: Choices
    _unauthenticated: dict[int, _Participant] = field(factory=dict, init=False)

    async def play(self) -> None:
        for _ in range(_MOST_STEPS):
            if self._choices.are_over:
                return
            choice = self._choices.below(256)
            choice, number = divmod(choice, PARTICIPANTS)
            is_hasty, kind = divmod(choice, len(_STEPS))
            if number not in self._unauthenticated:
                self._arrive(number, is_slow=False)
            await _STEPS[kind](self, self._unauthenticated[number])
            if not is_hasty:
                await quiet()

    def _arrive(self, number: int, *, is_slow: bool) -> None:
        peer = self._house.connect(is_slow=is_slow, answers_pings=number == 0)  # one of them lives long
        self._house.newcomers.append(peer)
        self._unauthenticated[number] = _Participant(number, peer, IDENTITIES[number])

    # --- steps -------------------------------------------------------------------------------------------------------

    async def _connect(self, participant: _Participant) -> None:
        """On a new connection; the one before is cut, dropped in silence, or kept and forgotten."""
        how = self._choices.below(8)
        if how & 2:
            await participant.peer.vanish()
        elif how & 4:
            await participant.peer.hang_up()
        self._arrive(participant.number, is_slow=bool(how & 1))
        await self._unauthenticated[participant.number].peer.send(upgrade_request())

    async def _authenticate(self, participant: _Participant) -> None:
        how = self._choices.below(32)
        identity = IDENTITIES[how % PARTICIPANTS]
        token = identity.client_id.upper() if how & 4 else identity.client_id
        participant.auth = Auth(
            token,
            device=DeviceId("phone") if how & 8 else None,
            origin=ORIGIN if how & 16 else None,
        )
        participant.identity = identity
        await participant.peer.say(participant.auth)

    async def _verify(self, participant: _Participant) -> None:
        verify = participant.peer.signed(participant.identity, participant.auth)
        flipped = self._choices.below(2)
        if flipped:
            verify = Verify(verify.attempt[::-1])
        await participant.peer.say(verify)

    async def _say(self, participant: _Participant) -> None:
        await participant.peer.send(text(self._saying()))

    async def _repeat(self, participant: _Participant) -> None:
        """The same many times, in one packet."""
        copies = min(1 << self._choices.below(16), _MOST_COPIES)
        await participant.peer.send(text(self._saying()) * copies)

    async def _misspeak(self, participant: _Participant) -> None:
        saying = self._saying().encode()
        at = self._choices.below(256) % (len(saying) + 1)
        removed = self._choices.below(16)
        await participant.peer.send(frame(1, saying[:at] + self._choices.chunk() + saying[at + removed :]))

    async def _say_at_length(self, participant: _Participant) -> None:
        """One frame of up to twice what is allowed."""
        content = (self._choices.chunk() or b"a") * _MOST_COPIES
        await participant.peer.send(frame(1 + self._choices.below(2), content))

    async def _send_frame(self, participant: _Participant) -> None:
        """A frame of any kind, in any condition."""
        how = self._choices.below(256)
        opcode = (CLOSE, PING, PONG, how & 15)[how >> 4 & 3]
        await participant.peer.send(frame(opcode, self._choices.chunk(), fin=how < 192, rsv=how >> 3 & 1))

    async def _send_bytes(self, participant: _Participant) -> None:
        await participant.peer.send(self._choices.chunk())

    async def _leave(self, participant: _Participant) -> None:
        if self._choices.below(2):
            await participant.peer.vanish()
        else:
            await participant.peer.hang_up()

    async def _wait(self, _participant: _Participant) -> None:
        await self._house.pass_time(self._choices.below(_MOST_SECONDS))

    async def _listen(self, participant: _Participant) -> None:
        """A slow peer reads one write; the others do so all the time."""
        self._house.let_read(participant.peer)

    def _saying(self) -> str:
        saying = SAYINGS[self._choices.below(len(SAYINGS))]
        return saying.replace(_GROUP, self._newest_group()) if _GROUP in saying else saying

    def _newest_group(self) -> str:
        heard = (message for peer in self._house.newcomers for message in reversed(peer.messages))
        return next((message.group for message in heard if isinstance(message, GroupChanged)), NO_GROUP)


_STEPS: list[Callable[[_Dialogue, _Participant], Awaitable[None]]] = [
    _Dialogue._connect,
    _Dialogue._authenticate,
    _Dialogue._verify,
    _Dialogue._say,
    _Dialogue._repeat,
    _Dialogue._misspeak,
    _Dialogue._say_at_length,
    _Dialogue._send_frame,
    _Dialogue._send_bytes,
    _Dialogue._leave,
    _Dialogue._wait,
    _Dialogue._listen,
]
CONNECT, AUTHENTICATE, VERIFY, SAY, REPEAT, MISSPEAK, SAY_AT_LENGTH, SEND_FRAME, SEND_BYTES, LEAVE, WAIT, LISTEN = (
    range(len(_STEPS))
)


def step(kind: int, participant: int, operand: bytes = b"", *, is_hasty: bool = False) -> bytes:
    """The bytes of one step; `operand` holds its decisions, in the order in which it takes them."""
    return bytes([(is_hasty * len(_STEPS) + kind) * PARTICIPANTS + participant]) + operand


def chunk(content: bytes) -> bytes:
    """What `Choices.chunk` reads back; 255 bytes at most."""
    return bytes([len(content)]) + content
