"""What the server owes to whom: the protocol document in the simplest code that says it, for one thing at a time.

The model knows no tasks, no bytes on the wire and no store. It keeps, for every connection, the list of all that its
client must have been told by now, in order. A new verb goes into `say`; what it does to mailboxes into `Mailbox`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import dropwhile
from typing import Any, Literal

from attrs import define, field, frozen

from ironwire.limits import Limits
from tests.playbook import NONCE, NOW_MS, identity_of

Told = Mapping[str, Any] | str
"""A text frame as JSON, or anything else as a playbook tells it."""

GARBAGE = "[]"
GARBAGE_DETAIL = "a frame must be one JSON object"


@frozen
class Say:
    """A text or file to somebody."""

    verb: Literal["text", "file"]
    to: str
    body: str
    id: str | None

    @property
    def content(self) -> dict[str, str]:
        return {"text": self.body} if self.verb == "text" else {"url": self.body}

    def as_frame(self) -> str:
        frame: dict[str, Any] = {"type": self.verb, "payload": {"to": client_id(self.to), **self.content}}
        return json.dumps(frame | ({} if self.id is None else {"id": self.id}))


@define(eq=False)
class Mailbox:
    """What waits for a device, by number; everything up to `acked` is gone."""

    epoch: int
    tail: int = 0
    acked: int = 0
    entries: dict[int, dict[str, Any]] = field(factory=dict)

    def append(self, frame: dict[str, Any]) -> None:
        self.tail += 1
        self.entries[self.tail] = {"seq": self.tail, **frame}


@define(eq=False)
class Line:
    """A connection: who is at its end, and all that was to be told there."""

    name: str
    opened_at: int
    client: str | None = None
    device: str | None = None
    stage: Literal["fresh", "challenged", "seated", "gone"] = "fresh"
    told: list[Told] = field(factory=list)
    is_cut_short: bool = False
    """The connection broke: what came may end anywhere."""
    is_stalled: bool = False
    unread_bytes: int = 0
    blocked_at: int | None = None
    """When the server could not write everything."""
    waiting_frames: int = 0
    """In the outbox, behind what could not be written."""
    mailbox: Mailbox | None = None
    sent: int = 0
    is_caught_up: bool = False


@define(eq=False)
class Model:
    limits: Limits
    pipe_bytes: int
    now: int = 0
    lines: dict[str, Line] = field(factory=dict)
    mailboxes: dict[str, dict[str, Mailbox]] = field(factory=dict)
    known_ids: dict[tuple[str, str | None, str], Say] = field(factory=dict)
    accepted_total: int = 0
    duplicates_total: int = 0
    undeliverable_total: int = 0
    _epochs: int = 0
    _fresh: dict[Line, int] = field(factory=dict)
    """Bytes told on stalled lines since the last `settle`, and so in one write."""

    # --- a connection's life -----------------------------------------------------------------------------------------

    def connect(self, name: str) -> None:
        self.lines[name] = Line(name, opened_at=self.now)

    def auth(self, line: Line, client: str, device: str | None) -> None:
        if line.stage != "fresh":
            self._say_too_early(line, None)
            return
        line.client, line.device, line.stage = client, device, "challenged"
        self._tell(line, {"type": "auth_challenge", "challenge": NONCE.hex()})

    def verify(self, line: Line, *, speaks_seed: bool) -> None:
        """The right signature."""
        client = _known(line.client)
        seats = self.seats_of(client)
        replaced = [seat for seat in seats if line.device is not None and seat.device == line.device]
        if len(seats) - len(replaced) >= self.limits.sessions_per_client:
            self._end(line, "close 1013 too many sessions of this client")
            return
        if line.device is not None:
            line.mailbox = self._register(client, line.device)
            if line.mailbox is None:
                self._end(line, "close 1008 Too many devices: remove one")
                return
        for seat in replaced:
            self._end(seat, "close 4409 replaced by a newer session of this device")
        line.stage = "seated"
        self._tell(line, {"type": "auth_ok"} | ({} if speaks_seed else {"payload": self._welcome(line)}))
        if line.mailbox is not None:
            line.sent = line.mailbox.acked
            self._pump(line)

    def verify_wrongly(self, line: Line) -> None:
        self._end(line, "close 1008 Signature verification failed")

    def break_rules(self, line: Line, ending: str) -> None:
        self._end(line, ending)

    def cut(self, line: Line) -> None:
        """The client tore the connection down."""
        line.stage, line.is_cut_short = "gone", True

    # --- what clients say --------------------------------------------------------------------------------------------

    def say(self, line: Line, packet: Sequence[Say | Literal["[]"]]) -> None:
        """One packet of an authenticated client, or of one that is not."""
        if line.stage != "seated":
            for item in packet:
                if isinstance(item, Say):
                    self._say_too_early(line, item.id)
                else:
                    self._tell_invalid(line)
            return
        deferred: list[Say] = []
        for item in packet:
            if not isinstance(item, Say):
                self._tell_invalid(line)
            elif deferred or self._needs_commit(line, item):
                deferred.append(item)
            else:
                self._deliver_live(line, item)
        for item in deferred:  # after the commit, and so after what could be answered at once
            self._deliver_stored(line, item)

    def races_with_a_cut(self, line: Line, packet: Sequence[Say | Literal["[]"]]) -> bool:
        """Whether something of the packet waits for a commit and is for this line alone: it is accepted if that comes
        before the line is cut, and nobody knows.
        """
        says = [item for item in packet if isinstance(item, Say)]
        waiting = dropwhile(lambda item: not self._needs_commit(line, item), says)
        return any(self.seats_of(item.to) == [line] and not self.mailboxes.get(item.to) for item in waiting)

    def ack(self, line: Line, upto: int) -> None:
        if line.mailbox is None:
            return
        if upto > line.sent:
            self._end(line, f"close 4400 ack of {upto}, and the last delivered is {line.sent}")
            return
        line.mailbox.acked = max(line.mailbox.acked, upto)
        line.mailbox.entries = {seq: entry for seq, entry in line.mailbox.entries.items() if seq > upto}
        self._pump(line)

    # --- slow readers, and time --------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything of this step has been written, as far as there was room."""
        for line, size in self._fresh.items():
            if line.blocked_at is None:
                line.unread_bytes += size
                if line.unread_bytes > self.pipe_bytes:
                    line.blocked_at, line.waiting_frames = self.now, 0
        self._fresh.clear()

    def resume(self, line: Line) -> None:
        line.is_stalled, line.unread_bytes, line.blocked_at, line.waiting_frames = False, 0, None, 0

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        for line in self.lines.values():
            if line.stage in ("fresh", "challenged") and line.opened_at + self.limits.auth_seconds <= self.now:
                self._end(line, "close 1002 Authentication timeout")
            if line.blocked_at is not None and line.blocked_at + self.limits.write_seconds <= self.now:
                line.stage, line.is_cut_short = "gone", True

    def fall_silent(self, line: Line) -> None:
        self._tell(line, "ping")
        self._end(line, "close 4408 no sign of life")

    # --- what there is -----------------------------------------------------------------------------------------------

    def in_stage(self, *stages: str) -> list[Line]:
        return [line for line in self.lines.values() if line.stage in stages]

    def seats_of(self, client: str) -> list[Line]:
        return [line for line in self.lines.values() if line.stage == "seated" and line.client == client]

    def statistics(self) -> dict[str, float]:
        seated = self.in_stage("seated")
        return {
            "ironwire_hub_sessions": len(seated),
            "ironwire_hub_clients": len({line.client for line in seated}),
            "ironwire_sessions_live": len(self.in_stage("fresh", "challenged", "seated")),
            "ironwire_delivery_accepted_total": self.accepted_total,
            "ironwire_delivery_duplicates_total": self.duplicates_total,
            "ironwire_delivery_undeliverable_total": self.undeliverable_total,
        }

    # --- delivery ----------------------------------------------------------------------------------------------------

    def _needs_commit(self, line: Line, item: Say) -> bool:
        return bool(line.device is not None or self.mailboxes.get(item.to) or self.mailboxes.get(_known(line.client)))

    def _deliver_live(self, line: Line, item: Say) -> None:
        recipients = self.seats_of(item.to)
        for seat in recipients:
            self._tell(seat, _delivery(line, item))
        if recipients:
            self._accept(line, item)
        else:
            self._tell_offline(line, item)

    def _deliver_stored(self, line: Line, item: Say) -> None:
        client = _known(line.client)
        key = None if item.id is None else (client, line.device, item.id)
        if key is not None and key in self.known_ids:
            if self.known_ids[key] == item:
                self.duplicates_total += 1
                self._tell(line, _reply("accepted", item.id, {"ts": NOW_MS, "duplicate": True}))
            else:
                payload = {"msg": "invalid", "detail": "id was used for another message"}
                self._tell(line, _reply("error", item.id, payload))
            return
        live = [seat for seat in self.seats_of(item.to) if seat.mailbox is None]
        if not live and not self.mailboxes.get(item.to):
            self._tell_offline(line, item)
            return
        if key is not None:
            self.known_ids[key] = item
        for seat in live:
            self._tell(seat, _delivery(line, item))
        for mailbox, is_own in self._owed(line, item):
            mailbox.append(_stored_delivery(line, item, is_own=is_own))
            for seat in self.in_stage("seated"):
                if seat.mailbox is mailbox:
                    self._pump(seat)
        self._accept(line, item)

    def _owed(self, line: Line, item: Say) -> Iterator[tuple[Mailbox, bool]]:
        for mailbox in self.mailboxes.get(item.to, {}).values():
            yield mailbox, False
        if item.to != line.client:
            for device, mailbox in self.mailboxes.get(_known(line.client), {}).items():
                if device != line.device:
                    yield mailbox, True

    def _pump(self, line: Line) -> None:
        """Deliver what waits, as far as the window has room."""
        mailbox = line.mailbox
        if mailbox is None:
            return
        while line.sent < mailbox.tail and line.sent - mailbox.acked < self.limits.window_envelopes:
            line.sent += 1
            self._tell(line, mailbox.entries[line.sent])
        if line.sent == mailbox.tail and not line.is_caught_up:
            line.is_caught_up = True
            self._tell(line, {"type": "caught_up", "payload": {"seq": line.sent}})

    def _register(self, client: str, device: str) -> Mailbox | None:
        boxes = self.mailboxes.setdefault(client, {})
        if device not in boxes:
            if len(boxes) >= self.limits.devices_per_client:
                return None
            self._epochs += 1
            boxes[device] = Mailbox(self._epochs)
        return boxes[device]

    # --- telling -----------------------------------------------------------------------------------------------------

    def _tell(self, line: Line, what: Told) -> None:
        if line.stage == "gone":
            return
        line.told.append(what)
        if line.is_stalled:
            self._fresh[line] = self._fresh.get(line, 0) + _wire_bytes(what)
            line.waiting_frames += 1

    def _end(self, line: Line, how: str) -> None:
        self._tell(line, how)
        line.stage = "gone"

    def _accept(self, line: Line, item: Say) -> None:
        self.accepted_total += 1
        if item.id is not None:
            self._tell(line, _reply("accepted", item.id, {"ts": NOW_MS}))

    def _tell_offline(self, line: Line, item: Say) -> None:
        self.undeliverable_total += 1
        self._tell(line, _reply("error", item.id, {"msg": "user_offline", "user": client_id(item.to)}))

    def _tell_invalid(self, line: Line) -> None:
        self._tell(line, _reply("error", None, {"msg": "invalid", "detail": GARBAGE_DETAIL}))

    def _say_too_early(self, line: Line, message_id: str | None) -> None:
        code = "auth_required" if line.stage == "fresh" else "expected_verify"
        self._tell(line, _reply("error", message_id, {"msg": code}))

    def _welcome(self, line: Line) -> dict[str, Any]:
        """What of `auth_ok` depends on what happened before."""
        welcome: dict[str, Any] = {"client": client_id(_known(line.client))}
        if line.mailbox is not None:
            welcome |= {"device": line.device, "epoch": line.mailbox.epoch, "seq": line.mailbox.tail}
        return welcome


def client_id(client: str) -> str:
    return identity_of(client).client_id


def _known(client: str | None) -> str:
    if client is None:
        raise ValueError("nobody has said who is at this line")
    return client


def _reply(verb: str, message_id: str | None, payload: dict[str, Any]) -> dict[str, Any]:
    return {"type": verb} | ({} if message_id is None else {"id": message_id}) | {"payload": payload}


def _delivery(line: Line, item: Say) -> dict[str, Any]:
    return {"type": item.verb, "payload": {"from": client_id(_known(line.client)), **item.content}}


def _stored_delivery(line: Line, item: Say, *, is_own: bool) -> dict[str, Any]:
    payload = _delivery(line, item)["payload"] | {"ts": NOW_MS}
    payload |= {} if line.device is None else {"device": line.device}
    payload |= {"to": client_id(item.to)} if is_own else {}
    return _reply(item.verb, item.id, payload)


def _wire_bytes(what: Told) -> int:
    payload_bytes = len(json.dumps(what, separators=(",", ":")))
    return payload_bytes + (2 if payload_bytes < 126 else 4)
