"""The report: results as JSON, and from them the tables of `docs/reports/audit.md`.

The page's prose is written by hand; what stands between its two markers is written here. A run of some attacks replaces
only those.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from attack.catalogue import ATTACKS
from attack.verdict import Result, result_from
from bench.contenders import ROOT
from bench.report import machine

FOLDER = ROOT / "docs" / "reports"
BEGIN = "<!-- written by `python -m attack --save` from audit.json -->"
END = "<!-- end of what is written -->"
MOST_OUTCOMES = 4


def save(results: Sequence[Result], command: str, folder: Path = FOLDER) -> None:
    """Merge the results into the JSON file, and write the page's tables anew."""
    data_path = folder / "audit.json"
    known = json.loads(data_path.read_text(encoding="utf-8"))["results"] if data_path.exists() else []
    merged = {result.attack: result for result in (*map(result_from, known), *results) if result.attack in ATTACKS}
    ordered = [merged[name] for name in ATTACKS if name in merged]
    facts = {"last run": f"{datetime.now(UTC):%Y-%m-%d}", "its command": f"`{command}`", **machine()}
    data = {"facts": facts, "results": [result.to_json() for result in ordered]}
    data_path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = folder / "audit.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    written = "\n".join(["", *_lines(facts, ordered), ""])
    page.write_text(before + BEGIN + "\n" + written + "\n" + END + after, encoding="utf-8")


def outcomes(counts: Mapping[str, int]) -> str:
    """The most frequent, for people."""
    return ", ".join(f"{count:,} {name}" for name, count in list(counts.items())[:MOST_OUTCOMES])


def _lines(facts: Mapping[str, str], results: Sequence[Result]) -> Iterator[str]:
    stood = sum(not any(result.broken()) for result in results)
    yield f"{stood} of {len(results)} attacks were withstood."
    yield ""
    yield "| attack | ratio | live p99 ms: calm, attacked, after | durable p99 ms | memory MiB, allowed | verdict |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for result in results:
        live, durable, memory = result.live, result.durable, result.memory
        measured = (
            result.attack,
            f"{result.ratio():.1f}x",
            f"{live.calm_ms:.1f}, {live.attacked_ms:.1f}, {live.after_ms:.1f}",
            f"{durable.calm_ms:.1f}, {durable.attacked_ms:.1f}, {durable.after_ms:.1f}",
            f"{memory.peak_kib / 1024:.0f}, {memory.allowed_kib() / 1024:.0f}",
            "; ".join(map(_cell, result.broken())) or "withstood",
        )
        yield f"| {' | '.join(measured)} |"
    yield ""
    yield "| attack | gain for the attacker | the rule against it | tried | what the server did | what was fixed |"
    yield "| --- | --- | --- | ---: | --- | --- |"
    for result in results:
        attack = ATTACKS[result.attack]
        tried = f"{result.tries:,} {attack.counted}"
        did = outcomes(result.outcomes)
        cells = (attack.name, attack.gain, attack.place, tried, did, attack.fixed)
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    for name, value in facts.items():
        yield f"| {name} | {value} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
