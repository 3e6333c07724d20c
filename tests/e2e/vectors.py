"""Known answers as JSON, which ports of these modules in other languages read too.

`python -m tests.e2e.vectors` writes them anew from the code; a test fails while they differ.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e import content_vectors, file_vectors, recovery_vectors

HERE = Path(__file__).parent / "vectors"

Cases = list[dict[str, Any]]

SUBJECTS: dict[str, Callable[[], Cases]] = {
    "backups": recovery_vectors.backups,
    "content": content_vectors.cases,
    "files": file_vectors.cases,
    "history": recovery_vectors.parts_of_history,
    "recovery": recovery_vectors.codes,
}


def recorded(subject: str) -> Cases:
    cases: Cases = json.loads((HERE / f"{subject}.json").read_text(encoding="utf-8"))
    return cases


def text_of(cases: Cases) -> str:
    return json.dumps(cases, indent=1) + "\n"


if __name__ == "__main__":
    for name, make in SUBJECTS.items():
        (HERE / f"{name}.json").write_text(text_of(make()), encoding="utf-8")
