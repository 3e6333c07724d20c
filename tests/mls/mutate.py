"""`python -m tests.mls.mutate [MODULE...]`: take out the checks of `ironwire.mls` one by one, and see a test fail.

A check is a call of `need...`, `check...` or `verify...` that stands alone, a call of the policy, an `if` that only
raises, and each part of an `and` inside a `need`. Exit status 1 means that some check can go without anybody's notice.
"""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory

import click
from attrs import frozen

ROOT = Path(__file__).parents[2]
PACKAGE = Path("ironwire/mls")
WORKERS = 2
SECONDS = 300
"""A mutant that runs for so long without an end has been noticed as well."""

_CHECKS = ("need", "check", "_check", "verify")
_POLICY = ("leaf", "change")


@frozen
class Mutant:
    path: Path
    line: int
    what: str
    source: str


def mutants(path: Path) -> Iterator[Mutant]:
    """Each way to take one check out of a file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _is_check(node.value):
            yield _replaced(path, text, node, "pass")
            for argument in node.value.args[:1]:
                if isinstance(argument, ast.BoolOp) and isinstance(argument.op, ast.And):
                    yield from (_replaced(path, text, part, "True") for part in argument.values)
        elif isinstance(node, ast.If) and not node.orelse and all(isinstance(each, ast.Raise) for each in node.body):
            yield _replaced(path, text, node.body[0], "pass")


def _is_check(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id=name):
            return name.startswith(_CHECKS)
        case ast.Attribute(attr=name, value=value):
            asks_policy = name in _POLICY and "policy" in ast.unparse(value)
            return name.startswith(_CHECKS) or asks_policy
        case _:
            return False


def _replaced(path: Path, text: str, node: ast.stmt | ast.expr, by: str) -> Mutant:
    lines = text.encode().splitlines(keepends=True)  # columns of `ast` count bytes
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    source = text.encode()
    changed = source[:start] + by.encode() + source[end:]
    return Mutant(path, node.lineno, " ".join(source[start:end].decode().split()), changed.decode())


def status(copy: Path) -> int:
    """How the tests end in a copy of the project."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/mls"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, timeout=SECONDS, check=False
    ).returncode


def is_noticed(mutant: Mutant, copy: Path) -> bool:
    """Whether a test fails with the mutant."""
    target = copy / mutant.path
    good = target.read_text(encoding="utf-8")
    target.write_text(mutant.source, encoding="utf-8")
    try:
        return status(copy) == 1
    except subprocess.TimeoutExpired:
        return True
    finally:
        target.write_text(good, encoding="utf-8")


@click.command()
@click.argument("modules", nargs=-1)
def main(modules: tuple[str, ...]) -> None:
    """Take the checks out of MODULES, or of all, one by one."""
    files = sorted(PACKAGE / f"{module}.py" for module in modules) or sorted(
        path.relative_to(ROOT) for path in (ROOT / PACKAGE).glob("*.py")
    )
    found = [mutant for path in files for mutant in mutants(path)]
    with TemporaryDirectory(prefix="ironwire-mutate-") as folder, ThreadPoolExecutor(WORKERS) as pool:
        copies: Queue[Path] = Queue()
        for number in range(WORKERS):
            copy = Path(folder, str(number))
            for part in ("ironwire", "tests", "fuzz"):
                shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", copy)
            copies.put(copy)
        if status(copies.queue[0]):
            raise click.ClickException("the tests fail without any mutant")

        def judge(mutant: Mutant) -> bool:
            copy = copies.get()
            noticed = is_noticed(mutant, copy)
            copies.put(copy)
            click.echo(f"{'noticed ' if noticed else 'SURVIVED'} {mutant.path}:{mutant.line} {mutant.what[:90]}")
            return noticed

        verdicts = list(pool.map(judge, found))
    click.echo(f"{verdicts.count(True)} of {len(verdicts)} removed checks were noticed")
    sys.exit(not all(verdicts))


if __name__ == "__main__":
    main()
