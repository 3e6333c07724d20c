"""What a run has measured, and the rules it is judged by: no sockets, no processes."""

from collections.abc import Iterator, Mapping, Sequence

from attrs import asdict, field, frozen

from ironwire.limits import Limits

MOST_RATIO = 5.0
"""How many times its calm p99 a bystander's p99 may be during an attack."""

LIVE_FLOOR_MS = 2.0
"""A calm p99 below it counts as this much: one turn of the scheduler on a machine that others use is noise."""

DURABLE_FLOOR_MS = 8.0
"""The same over the disk, whose fsync takes 6 ms every hundredth time where nobody attacks."""

MOST_CALM = 4.0
"""With a p99 above so many times these floors nobody is calm: something else keeps the machine busy."""

_LIMITS = Limits()

BASE_KIB = 160 * 1024
"""`a`: a server that has just started takes 105 MiB; half of that more for what glibc does not give back, the caches of
SQLite, and answers and uploads on their way.
"""
CONNECTION_KIB = 64 + 2 * _LIMITS.frame_bytes / 1024
"""`b`: an idle session takes 7.5 KiB; a peer may leave half a message or half a head of a request behind, in a buffer
that grows by doubling.
"""
MAILBOX_KIB = 16
"""`c`: a registered device takes 5 KiB beside its connection."""
STALLED_KIB = 2 * _LIMITS.outbox_bytes / 1024
"""Besides, for each connection that asks for more than it reads: a full outbox, and a full batch half written."""


@frozen
class Memory:
    """The most that the server took, and how much there was to take it for."""

    peak_kib: float
    connections: int
    mailboxes: int
    stalled: int

    def allowed_kib(self) -> float:
        """`a + b * connections + c * mailboxes`, and a full outbox for each connection that stalls."""
        return BASE_KIB + CONNECTION_KIB * self.connections + MAILBOX_KIB * self.mailboxes + STALLED_KIB * self.stalled


@frozen
class Latency:
    """The p99 of bystanders' texts in milliseconds, before, during and after an attack."""

    calm_ms: float
    attacked_ms: float
    after_ms: float
    floor_ms: float

    def ratio(self) -> float:
        return self.attacked_ms / max(self.calm_ms, self.floor_ms)


@frozen
class Result:
    """One attack, and what came of it."""

    attack: str
    seconds: float
    tries: int
    outcomes: Mapping[str, int]
    live: Latency
    durable: Latency
    memory: Memory
    faults: Sequence[str] = field(default=())
    """What broke besides latency and memory: connections lost, descriptors kept, tracebacks, breaches, restarts."""

    def ratio(self) -> float:
        return max(self.live.ratio(), self.durable.ratio())

    def broken(self) -> Iterator[str]:
        """Every rule that did not hold, a sentence each."""
        yield from self.delays()
        yield from self.breaches()

    def delays(self) -> Iterator[str]:
        """How bystanders waited for too long."""
        for name, latency in (("live", self.live), ("durable", self.durable)):
            if latency.ratio() > MOST_RATIO:
                yield (
                    f"{name} texts: p99 was {latency.attacked_ms:.1f} ms, {latency.ratio():.1f} times "
                    f"{max(latency.calm_ms, latency.floor_ms):.1f} ms; {MOST_RATIO:g} times are allowed"
                )

    def breaches(self) -> Iterator[str]:
        """What broke besides, and does not depend on what else the machine had to do."""
        if self.memory.peak_kib > self.memory.allowed_kib():
            peak, allowed = self.memory.peak_kib / 1024, self.memory.allowed_kib() / 1024
            yield f"memory: {peak:.0f} MiB where {allowed:.0f} MiB are allowed"
        yield from self.faults

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def decided(results: Sequence[Result]) -> Result:
    """Of several runs of one attack: one with a breach, if there is one, or else the one in the middle by its ratio."""
    ordered = sorted(results, key=Result.ratio)
    return next((each for each in ordered if any(each.breaches())), ordered[len(ordered) // 2])


def is_calm(live_ms: Sequence[float], durable_ms: Sequence[float]) -> bool:
    """Whether what bystanders see is a measure for an attack."""
    return p99(live_ms) <= MOST_CALM * LIVE_FLOOR_MS and p99(durable_ms) <= MOST_CALM * DURABLE_FLOOR_MS


def p99(times_ms: Sequence[float]) -> float:
    """Of no texts at all: infinity, because none came through."""
    ordered = sorted(times_ms)
    return ordered[int(len(ordered) * 0.99)] if ordered else float("inf")


def result_from(data: Mapping[str, object]) -> Result:
    """The opposite of `to_json`."""
    parts: dict[str, object] = {**data}
    for name in ("live", "durable"):
        parts[name] = Latency(**data[name])  # type: ignore[arg-type]  # what `to_json` wrote
    parts["memory"] = Memory(**data["memory"])  # type: ignore[arg-type]  # what `to_json` wrote
    return Result(**parts)  # type: ignore[arg-type]  # what `to_json` wrote
