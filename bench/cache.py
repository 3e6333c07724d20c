"""What a benchmark needs and the project does not: made on first use, kept in the user's cache folder.

The load generator is compiled; peers come from PyPI into a virtual environment of their own and from npm into a
`node_modules`, so that nothing of theirs is ever imported beside the server. Delete the folder to begin anew.
"""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
PYPI = ("fastapi", "uvicorn", "uvloop", "websockets", "pynacl", "py-spy")
NPM = ("ws", "@oven/bun-linux-x64")


class Missing(Exception):
    """Something is not on this machine; the message says what, and which measurements need it."""


def cache_folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ironwire-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_generator() -> Path:
    """The compiled `load.c`.

    Raises:
        Missing: there is no C compiler.
    """
    source = HERE / "load.c"
    program = cache_folder() / f"load-{sha256(source.read_bytes()).hexdigest()[:12]}"
    if not program.exists():
        partial = program.with_suffix(".partial")
        _run(_find("cc", "every measurement of a flow of texts"), "-O2", "-o", str(partial), str(source))
        partial.rename(program)
    return program


def python_tool(name: str) -> str:
    """A program of the peers' virtual environment; the interpreter itself is `python`."""
    folder = cache_folder() / "venv"
    complete = folder / "complete"
    if not complete.exists() or complete.read_text().split() != list(PYPI):
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PYPI)
        complete.write_text("\n".join(PYPI))
    return str(folder / "bin" / name)


def node() -> str:
    return _find("node", "the peer ws")


def node_modules() -> Path:
    """Where the packages from npm are.

    Raises:
        Missing: there is no npm.
    """
    modules = cache_folder() / "node_modules"
    if not all((modules / name).is_dir() for name in NPM):
        npm = _find("npm", "the peers ws and bun")
        _run(npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(modules.parent), *NPM)
    return modules


def _find(program: str, needed_for: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Missing(f"{program} is not installed; {needed_for} cannot do without")
    return path


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
