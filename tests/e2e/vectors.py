"""Known answers as JSON, which ports of these modules in other languages read too.

`python -m tests.e2e.vectors` writes them anew from the code; a test fails while they differ.
"""

import json
from collections.abc import Callable
from typing import Any

from tests.e2e import content_vectors, file_vectors, link_vectors, recovery_vectors
from tests.vectors import devices

HERE = devices.FILE.parent

Cases = list[dict[str, Any]]

SUBJECTS: dict[str, Callable[[], Cases]] = {
    "backups": recovery_vectors.backups,
    "content": content_vectors.cases,
    "files": file_vectors.cases,
    "history": recovery_vectors.parts_of_history,
    "linking": link_vectors.cases,
    "recovery": recovery_vectors.codes,
}


def recorded(subject: str) -> Cases:
    cases: Cases = json.loads((HERE / f"{subject}.json").read_text(encoding="utf-8"))
    return cases


def known_inputs() -> dict[str, list[bytes]]:
    """What each decoder gets in the known answers, by the names of `fuzz/e2e.py`."""
    history, answers = recorded("history"), recorded("linking")
    return {
        "content": [case["json"].encode() for case in recorded("content")],
        "recovery": [case["text"].encode() for case in recorded("recovery")],
        "backup": [bytes.fromhex(case["blob"]) for case in recorded("backups")]
        + [case["json"].encode() for case in recorded("backups")],
        "archive": ["\n".join([*case["lines"], ""]).encode() for case in history],
        "file": [bytes(3) + bytes.fromhex(case["sealed"]) for case in recorded("files") if "sealed" in case],
        "link": [case["text"].encode() for case in answers],
        "answer": [bytes.fromhex(case["answer"]) for case in answers if "answer" in case]
        + [case["offer"].encode() for case in answers if "offer" in case],
    }


def text_of(cases: Cases) -> str:
    return json.dumps(cases, indent=1) + "\n"


if __name__ == "__main__":
    for name, make in SUBJECTS.items():
        (HERE / f"{name}.json").write_text(text_of(make()), encoding="utf-8")
