"""What the server has to reach on any machine, said as ratios where a machine would decide otherwise."""

from collections.abc import Sequence

from attrs import frozen

from bench.figures import BASE, MEASURES, Figure, advantage

ONE_FILE = "one at a time"

Index = dict[tuple[str, str, str], Figure]


@frozen
class Verdict:
    """One goal and what came of it; `measured` is None if this run did not look."""

    goal: str
    measured: str | None
    is_met: bool


@frozen
class Versus:
    """IronWire is at least `least` times as good as `peer`."""

    measure: str
    case: str
    peer: str
    least: float

    def judge(self, index: Index) -> Verdict:
        goal = f"{MEASURES[self.measure].title}, {self.case}: at least {self.least:g}x {self.peer}"
        base, peer = index.get((self.measure, self.case, BASE)), index.get((self.measure, self.case, self.peer))
        if base is None or peer is None:
            return Verdict(goal, None, False)
        reached = advantage(peer, base)
        return Verdict(goal, f"{reached:.2f}x", reached >= self.least)


@frozen
class Steady:
    """IronWire at `case` is at least `least` times as good as it is at `easy_case`."""

    measure: str
    easy_case: str
    case: str
    least: float

    def judge(self, index: Index) -> Verdict:
        title = MEASURES[self.measure].title
        goal = f"{title}: {self.case} against {self.easy_case}, at least {self.least:.2f}x as good"
        easy, hard = index.get((self.measure, self.easy_case, BASE)), index.get((self.measure, self.case, BASE))
        if easy is None or hard is None:
            return Verdict(goal, None, False)
        reached = advantage(easy, hard)
        return Verdict(goal, f"{reached:.2f}x", reached >= self.least)


@frozen
class Quick:
    """Half of IronWire's texts take at most `most_ms`."""

    measure: str
    case: str
    most_ms: float

    def judge(self, index: Index) -> Verdict:
        goal = f"{MEASURES[self.measure].title}, {self.case}: p50 below {self.most_ms:g} ms"
        figure = index.get((self.measure, self.case, BASE))
        if figure is None:
            return Verdict(goal, None, False)
        p50_ms = figure.details["p50_ms"]
        return Verdict(goal, f"{p50_ms:.1f} ms", p50_ms < self.most_ms)


@frozen
class Within:
    """A budget: `subject` takes at most `most` of the measure's unit."""

    measure: str
    case: str
    subject: str
    most: float

    def judge(self, index: Index) -> Verdict:
        measure = MEASURES[self.measure]
        goal = f"{measure.title}, {self.case}: {self.subject} within {self.most:,g} {measure.unit}"
        figure = index.get((self.measure, self.case, self.subject))
        if figure is None:
            return Verdict(goal, None, False)
        return Verdict(goal, f"{figure.value:,.1f} {measure.unit}", figure.value <= self.most)


_BUDGETS = {
    ("mls", "join"): 800,
    ("mls", "make a message"): 0.8,
    ("mls", "open a message"): 0.8,
    ("mls", "keys after a message"): 1,
    ("mls", "make a path"): 600,
    ("mls", "process a path"): 64,
    ("mls", "state after a path"): 4,
    ("mls_bytes", "message"): 570,
    ("mls_bytes", "keys that it changes"): 1_000,
    ("mls_bytes", "commit that adds"): 1_150,
    ("mls_bytes", "welcome"): 550_000,
    ("mls_bytes", "commit with a path"): 165_000,
}
"""About twice what record 0018 found on two busy cores: a budget shows that a step has become a multiple of itself."""

GOALS: tuple[Versus | Steady | Quick | Within, ...] = (
    Versus("live", "w=1", "fastapi", 3),
    Versus("live", "w=10", "fastapi", 4),
    Versus("live", "w=100", "fastapi", 6),
    Versus("live", "w=10", "ws", 1),
    Versus("live", "w=100", "bun", 0.6),
    Versus("durable", "w=10", "fastapi-each", 10),
    Versus("durable", "w=1", "fastapi-group", 1.5),
    Versus("durable", "w=10", "fastapi-group", 2.2),
    Quick("durable", "w=1", 6),
    Versus("auth", "100 at once", "fastapi", 2),
    Versus("auth", "2,000 at once", "fastapi", 3),
    Steady("auth", "100 at once", "2,000 at once", 0.75),
    Versus("memory", "2,000 connections", "fastapi", 1),
    Steady("connections", "100, all busy", "5,000, all busy", 1 / 1.3),
    Versus("upload", ONE_FILE, "fastapi", 1),
    Versus("download", ONE_FILE, "fastapi", 1),
    Within("device", "a page of 50 more", "encrypted", 1.2),
    Within("device", "a search through 100,000 messages", "encrypted", 2_400),
    *(Within("away", "10,000 messages, 2 commits, 3 cuts", subject, 60) for subject in ("sent", "read")),
    *(Within(measure, "1,000 leaves", subject, most) for (measure, subject), most in _BUDGETS.items()),
)


def judge(figures: Sequence[Figure]) -> list[Verdict]:
    """A verdict on every goal that these figures speak of."""
    index = {(figure.measure, figure.case, figure.subject): figure for figure in figures}
    return [verdict for goal in GOALS if (verdict := goal.judge(index)).measured is not None]
