"""One campaign under one engine, in a process of its own: `python -m fuzz.engine NAME ENGINE SECONDS SEED`.

Failures do not end it: each is kept, made smaller, written to the campaign's findings and reported once. Standard
output carries `Report`s, one JSON object a line. The process is one that may be killed: atheris never gives it back.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, NoReturn

import hypothesis
from attrs import asdict, define, field, frozen

from fuzz.failure import failure, shrunk

if TYPE_CHECKING:
    from fuzz.campaigns import Campaign

ENGINES = ("hypothesis", "atheris")

_REPORT_SECONDS = 1.0
_LONGEST_INPUT_BYTES = 4096
STUCK_SECONDS = 30
_INSTRUMENTED = ["ironwire", "hypercorn", "h11", "wsproto"]


@frozen
class Report:
    executions: int
    seconds: float
    corpus: int
    """Inputs that the engine builds on."""
    findings: list[tuple[str, str]]
    """Path and error of what is new in this run."""


@define(eq=False)
class Attempts:
    """Every execution goes through here, whichever engine makes it."""

    campaign: "Campaign"
    seconds: float
    count_corpus: Callable[[], int]
    _started: float = field(factory=time.monotonic, init=False)
    _reported: float = field(factory=time.monotonic, init=False)
    _executions: int = field(default=0, init=False)
    _known: set[str | None] = field(factory=set, init=False)
    _found: dict[str, bytes] = field(factory=dict, init=False)
    """The smallest input for each error."""

    def replay(self) -> None:
        """Execute what is on record. What an earlier finding still shows is no finding of this run."""
        for path in self.campaign.findings.glob("*"):
            self._known.add(failure(self.campaign.one, path.read_bytes()))
        for path in self.campaign.corpus.glob("*"):
            self._try(path.read_bytes())

    def execute(self, data: bytes) -> None:
        """Execute one input; end the process when the time is over."""
        now = time.monotonic()
        if now - self._started >= self.seconds:
            self._finish()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            self._report()
        self._try(data)

    def _try(self, data: bytes) -> None:
        self._executions += 1
        error = failure(self.campaign.one, data)
        if error is None or error in self._known:
            return
        if error not in self._found or len(data) < len(self._found[error]):
            self._found[error] = data

    def _finish(self) -> NoReturn:
        for error, data in self._found.items():
            self._found[error] = shrunk(data, partial(self._fails_with, error))
            path = self._path(self._found[error])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._found[error])
        with suppress(OSError):
            self.campaign.findings.rmdir()  # which succeeds if it is empty
        self._report()
        os._exit(0)

    def _fails_with(self, error: str, data: bytes) -> bool:
        return failure(self.campaign.one, data) == error

    def _report(self) -> None:
        findings = [(str(self._path(data)), error) for error, data in self._found.items()]
        report = Report(self._executions, time.monotonic() - self._started, self.count_corpus(), findings)
        print(json.dumps(asdict(report)), flush=True)

    def _path(self, data: bytes) -> Path:
        return self.campaign.findings / sha256(data).hexdigest()[:16]


def load_campaign(name: str) -> "Campaign":
    """Import the campaigns, and with them the code under test: not before atheris had its chance to instrument it."""
    campaign: Campaign = import_module("fuzz.campaigns").CAMPAIGNS[name]
    return campaign


def run_hypothesis(name: str, seconds: float, seed: int) -> None:
    """Inputs from the campaign's strategy."""
    campaign = load_campaign(name)
    attempts = Attempts(campaign, seconds, count_corpus=lambda: len(campaign.files()))
    attempts.replay()

    @hypothesis.settings(
        max_examples=1000,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(campaign.inputs)
    def execute(data: bytes) -> None:
        attempts.execute(data)

    while True:
        hypothesis.seed(seed)(execute)()
        seed += 1


def run_atheris(name: str, seconds: float, seed: int) -> None:
    """Inputs mutated from the corpus, kept where they reach new code."""
    atheris = import_module("atheris")  # which is not there on every platform
    with atheris.instrument_imports(include=_INSTRUMENTED):
        campaign = load_campaign(name)
    new_inputs = mkdtemp()  # in the parent's folder, which cleans up
    attempts = Attempts(campaign, seconds, count_corpus=lambda: len(os.listdir(new_inputs)))
    attempts.replay()
    campaign.findings.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-seed={seed}",
        f"-max_len={_LONGEST_INPUT_BYTES}",
        f"-timeout={STUCK_SECONDS}",
        f"-artifact_prefix={campaign.findings}/",
        new_inputs,
        str(campaign.corpus),
    ]
    atheris.Setup([sys.argv[0], *arguments], attempts.execute)
    atheris.Fuzz()


def main() -> None:
    name, engine, seconds, seed = sys.argv[1:]
    {"hypothesis": run_hypothesis, "atheris": run_atheris}[engine](name, float(seconds), int(seed))


if __name__ == "__main__":
    main()
