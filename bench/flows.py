"""Texts in motion: live relay, durable relay, fan-out, and the cost of a text among many connections."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import asdict

from bench import crowd
from bench.contenders import Contender, Server
from bench.figures import Figure
from bench.load import Flow, Lane, Mode, drive
from bench.scale import Scale

DEVICE = "bench"
MANY_WINDOW = 10


def live(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """Pairs that send each other texts, `window` of them on their way in each pair."""
    with contender.running() as server, lanes(server, scale.pairs) as pairs:
        for window in scale.windows:
            yield _figure("live", f"w={window}", contender, _drive(server, pairs, scale, window))


def durable(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """The same with an id on each text and a device that acknowledges; a text is done when it is accepted. Where the
    server takes numbers, the sender is a device too and numbers its texts.
    """
    mode: Mode = "numbered" if contender.takes_numbers else "durable"
    with contender.running() as server:
        for window in scale.windows:
            with lanes(server, scale.pairs, mode) as pairs:
                yield _figure("durable", f"w={window}", contender, _drive(server, pairs, scale, window, mode))


def fan_out(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """One sender, and a client with many sessions: more than IronWire allows one client by default."""
    settings = {"IRONWIRE_LIMITS_SESSIONS_PER_CLIENT": str(scale.fan_out)}
    with contender.running(settings=settings) as server:
        (sender,), (recipient,) = crowd.identities(1), crowd.identities(1)
        sockets = crowd.connect_all(server.port, [sender, *[recipient] * scale.fan_out])
        flow = _drive(server, [Lane(sockets[0], recipient.client, sockets[1:])], scale, MANY_WINDOW)
        crowd.disconnect(sockets)
    yield _figure("fanout", f"1 to {scale.fan_out}, w={MANY_WINDOW}", contender, flow)


def connections(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """What a text costs the server when few of its connections are busy, and when all of them are."""
    for count in scale.connections:
        for case, busy_pairs in (("busy pairs: 50", 50), ("all busy", count // 2)):
            with contender.running() as server, lanes(server, count // 2) as pairs:
                flow = _drive(server, pairs[:busy_pairs], scale, MANY_WINDOW)
            yield Figure("connections", f"{count:,}, {case}", contender.name, flow.server_us, asdict(flow))


@contextmanager
def lanes(server: Server, pairs: int, mode: Mode = "live") -> Iterator[list[Lane]]:
    """Authenticated pairs: recipients of durable texts have a device, and senders of numbered ones."""
    senders = crowd.identities(pairs, DEVICE if mode == "numbered" else None)
    recipients = crowd.identities(pairs, None if mode == "live" else DEVICE)
    sockets: Sequence[socket.socket] = crowd.connect_all(server.port, [*recipients, *senders])
    yield [
        Lane(sender, recipient.client, [receiver])
        for sender, recipient, receiver in zip(sockets[pairs:], recipients, sockets[:pairs], strict=True)
    ]
    crowd.disconnect(sockets)


def _drive(server: Server, pairs: Sequence[Lane], scale: Scale, window: int, mode: Mode = "live") -> Flow:
    return drive(server, pairs, mode, window=window, warm_seconds=scale.warm_seconds, seconds=scale.seconds)


def _figure(measure: str, case: str, contender: Contender, flow: Flow) -> Figure:
    return Figure(measure, case, contender.name, flow.texts_per_second, asdict(flow))
