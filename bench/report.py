"""The report: figures as JSON, and from them the tables and the plot of `docs/reports/performance.md`.

The page's prose is written by hand; what stands between its two markers is written here. A run that measured only some
things replaces only those.
"""

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import cache
from bench.contenders import ROOT
from bench.figures import MEASURES, Figure
from bench.goals import judge
from bench.plot import svg
from bench.table import goals_grid, grids

FOLDER = ROOT / "docs" / "reports"
BEGIN = "<!-- written by `python -m bench --save` from performance.json -->"
END = "<!-- end of what is written -->"

_OURS = ("hypercorn", "trio", "quart-trio", "orjson", "websockets", "pynacl")


def save(figures: Sequence[Figure], command: str, folder: Path = FOLDER) -> None:
    """Merge the figures into the JSON file, and write tables and plot anew."""
    data_path = folder / "performance.json"
    known = json.loads(data_path.read_text(encoding="utf-8"))["figures"] if data_path.exists() else []
    measured = {figure.measure for figure in figures}
    kept = [figure for figure in (Figure(**each) for each in known) if figure.measure not in measured]
    order = list(MEASURES)
    merged = sorted([*kept, *figures], key=lambda figure: order.index(figure.measure))
    facts = {"last run": f"{datetime.now(UTC):%Y-%m-%d}", "its command": command, **machine(), **versions()}
    data = {"facts": facts, "figures": [figure.to_json() for figure in merged]}
    data_path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "performance.svg").write_text(svg(merged), encoding="utf-8")
    page = folder / "performance.md"
    page.write_text(_with_figures(page.read_text(encoding="utf-8"), facts, merged), encoding="utf-8")


def machine() -> dict[str, str]:
    """What a reader has to know of this machine, and nothing that names it."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    kernel = re.match(r"\d+\.\d+", platform.release())
    return {
        "processor": f"{os.cpu_count()} cores, {cpu[1] if cpu else platform.machine()}",
        "system": f"{platform.system()} {kernel[0] if kernel else ''}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Of the server's own parts, and of those peers that are installed."""
    ours = " ".join(f"{name} {version(name)}" for name in _OURS)
    found = {"IronWire on": ours}
    with_pip = cache.cache_folder() / "venv/bin/python"
    if with_pip.exists():
        output = subprocess.run([with_pip, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
        peers = [line for line in output.splitlines() if line.lower().split("==")[0] in cache.PYPI]
        found["PyPI peers"] = " ".join(peers).replace("==", " ")
    manifests = [cache.cache_folder() / "node_modules" / name / "package.json" for name in cache.NPM]
    if all(manifest.exists() for manifest in manifests):
        packages = [json.loads(manifest.read_text()) for manifest in manifests]
        found["npm peers"] = " ".join(f"{package['name']} {package['version']}" for package in packages)
        node = subprocess.run([cache.node(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
        found["npm peers"] += f" node {node.removeprefix('v')}"
    return found


def _with_figures(page: str, facts: dict[str, str], figures: Sequence[Figure]) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = ["", "![Bars for each measurement and server](performance.svg)", ""]
    verdicts = judge(figures)
    lines += [goals_grid(verdicts).to_markdown()] if verdicts else []
    lines += [*(grid.to_markdown() for grid in grids(figures))]
    lines += ["### The machine and the command", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value if name != 'its command' else f'`{value}`'} |" for name, value in facts.items()]
    return before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + after
