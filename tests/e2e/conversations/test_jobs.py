"""Pieces of work that stop at questions and pauses."""

from attrs import define, field

from ironwire.e2e.conversations.effects import Inquiry, Pause, Request, Steps
from ironwire.e2e.conversations.jobs import Jobs
from ironwire.wire.messages import Devices


@define(eq=False)
class Bench:
    now: int = 1_000
    asked: list[Request] = field(factory=list)
    said: list[str] = field(factory=list)
    jobs: Jobs = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.jobs = Jobs(lambda: self.now, self.asked.append)

    def work(self, name: str) -> Steps[str]:
        try:
            answer = yield Inquiry(Devices())
            self.said.append(f"{name} heard {answer}")
            yield Pause(50)
            self.said.append(f"{name} waited")
        finally:
            self.said.append(f"{name} is over")
        return name


def test_an_answer_goes_to_who_asked() -> None:
    bench, done = Bench(), list[str]()
    bench.jobs.start(bench.work("one"), done.append)
    bench.jobs.start(bench.work("two"), done.append)
    first, second = (request.number for request in bench.asked)
    bench.jobs.answer(second, "B")
    bench.jobs.answer(first, "A")
    assert bench.said == ["two heard B", "one heard A"]
    assert bench.jobs.due_at == 1_050
    bench.jobs.tick()
    assert done == []
    bench.now = 1_050
    bench.jobs.tick()
    assert done == ["two", "one"]
    assert bench.jobs.due_at is None


def test_everything_ends_with_the_session_and_late_answers_are_ignored() -> None:
    bench, done = Bench(), list[str]()
    bench.jobs.start(bench.work("one"), done.append)
    bench.jobs.start(bench.work("two"), done.append)
    bench.jobs.answer(bench.asked[0].number, "A")
    bench.jobs.end()
    assert sorted(bench.said) == ["one heard A", "one is over", "two is over"]
    bench.jobs.answer(bench.asked[1].number, "B")
    bench.now += 1_000
    bench.jobs.tick()
    assert done == []
