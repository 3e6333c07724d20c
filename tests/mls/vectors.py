"""The published vectors, which stand beside the project and never in it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("IRONWIRE_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def cases(name: str) -> list[Any]:
    """The entries of one file as parameters of a test, or one that is skipped by the file's name."""
    if not (FOLDER / name).exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"{name} is not here"))]
    return [pytest.param(case, id=str(number)) for number, case in enumerate(load(name))]
