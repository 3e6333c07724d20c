"""Every check of the project, one session each. Bare `nox` runs what a change has to pass.

Sessions keep their environments: the second run installs nothing that is already there. `build` alone starts afresh,
because it answers whether anybody can install the package.
"""

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"  # dependency groups, and `reuse_venv` as an option of the file
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
# The tests come last, so that their summary ends the output.
nox.options.sessions = ["lint", "types", "docs", "build", "interop", "tests"]

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""The classifiers of pyproject.toml name those of them on which `nox -s tests-VERSION` was run."""
CODE = ("ironwire", "tests", "fuzz", "bench", "attack", "noxfile.py", "hatch_build.py")
PYPROJECT = nox.project.load_toml("pyproject.toml")
LEAST_COVERAGE = 90
FULLY_COVERED = ("wire", "crypto", "mls", "protocol", "e2e")
"""Rooms without input and output: nothing excuses a branch of theirs that no test takes."""


def group(*names: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, *names)


def asynchronous() -> list[str]:
    """The files that flake8-async has something to say of: it takes its time for each."""
    files = [path for name in CODE for path in ([Path(name)] if name.endswith(".py") else Path(name).rglob("*.py"))]
    return [str(path) for path in files if "async " in path.read_text(encoding="utf-8")]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, what flake8-async knows about Trio, and that no floor imports from above."""
    session.install(*group("lint"))
    session.run("ruff", "check", *CODE)
    session.run("ruff", "format", "--check", *CODE)
    session.run("flake8", *asynchronous())
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict, on the tests too."""
    session.install("--editable", ".[calls,media]", *group("types", "test"), "nox")
    session.run("mypy", *CODE)


@nox.session
def docs(session: nox.Session) -> None:
    """The manual, with every link checked."""
    session.install(*group("docs"))
    session.run("mkdocs", "build", "--strict", "--site-dir", str(Path(session.create_tmp(), "site")))


@nox.session(reuse_venv=False)
def build(session: nox.Session) -> None:
    """Source archive and wheel; the wheel installs by itself, with the manual, and its command starts."""
    session.install(*group("release"))
    archives = Path(session.create_tmp())
    session.run("python", "-m", "build", "--outdir", str(archives))
    (wheel,) = archives.glob("*.whl")
    session.install(str(wheel))
    session.run("ironwire", "--version")
    if not Path(session.virtualenv.location, "share/man/man1/ironwire.1").exists():
        session.error("the wheel has no manual pages")


@nox.session
def interop(session: nox.Session) -> None:
    """Groups of `ironwire.mls` and ts-mls, which needs Node 20 and npm: `nox -s interop -- --seeds NUMBER`."""
    version = session.run("node", "--version", external=True, silent=True) if shutil.which("npm") else None
    if not version or int(version.removeprefix("v").partition(".")[0]) < 20:
        session.skip("Node 20 with npm is not installed")
    session.install("--editable", ".", *group("test"))
    folder = session.create_tmp()
    shutil.copy("tests/mls/interop/package.json", folder)
    session.run("npm", "install", "--prefix", folder, "--no-audit", "--no-fund", external=True)
    session.run("python", "-m", "tests.mls.interop", folder, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests. `nox -s tests -- ARGUMENTS` hands ARGUMENTS to pytest instead of the number of processes."""
    session.install("--editable", ".[media]", *group("test"))
    session.run("pytest", *session.posargs or ["--numprocesses=3"])


@nox.session
def coverage(session: nox.Session) -> None:
    """All tests again, and what they cover. Takes three times as long: the tracer costs more than the tests do."""
    session.install("--editable", ".[media]", *group("test"))
    timeout = "faulthandler_timeout=600"  # of one test, which is traced
    session.run("pytest", "--numprocesses=3", "-o", timeout, "--cov", "--cov-report=")
    session.run("coverage", "report", f"--fail-under={LEAST_COVERAGE}")
    fully_covered = ",".join(f"ironwire/{room}/*" for room in FULLY_COVERED)
    session.run("coverage", "report", f"--include={fully_covered}", "--fail-under=100")


def tests_on(session: nox.Session) -> None:
    """All tests on that Python, where it is installed. ARGUMENTS after `--` go to pytest."""
    session.install("--editable", ".[media]", *group("test"))
    session.run("pytest", "--numprocesses=2", *session.posargs)


for version in PYTHONS:
    nox.session(python=version, name=f"tests-{version}")(tests_on)


@nox.session
def quick(session: nox.Session) -> None:
    """The daily run: every test that starts no process, in about 80 seconds on two quiet cores."""
    session.install("--editable", ".[media]", *group("test"))
    session.run("pytest", "--numprocesses=2", "-m", "not system", *session.posargs)


@nox.session
def crash(session: nox.Session) -> None:
    """Kill the real server under load, again and again, and look for what got lost: `nox -s crash -- SECONDS`."""
    session.install("--editable", ".", *group("test"))
    session.run("python", "-m", "tests.system.crash", *session.posargs or ["300"])


@nox.session
def simulate(session: nox.Session) -> None:
    """A hundred clients in one group, on virtual time and either store, a run for each seed: `-- CLIENTS SEEDS`."""
    session.install("--editable", ".", *group("test"))
    session.run("python", "-m", "tests.simulation.crowd", *session.posargs or ["100", "3"])


@nox.session
def deliver(session: nox.Session) -> None:
    """Devices with encrypted conversations, and everything that may go wrong: `nox -s deliver -- EXAMPLES`."""
    session.install("--editable", ".", *group("test"))
    examples = session.posargs[0] if session.posargs else "500"
    timeout = "faulthandler_timeout=0"  # the one test goes on as long as it is told to
    session.run(
        "pytest", "-o", timeout, "tests/e2e/conversations/test_delivery_model.py", env={"DELIVERY_EXAMPLES": examples}
    )


@nox.session
def calls(session: nox.Session) -> None:
    """Calls with real sound, between processes and through a real coturn, which has to be installed."""
    if shutil.which("turnserver") is None:
        session.error("coturn is not installed: apt-get install coturn")
    session.install("--editable", ".[calls]", *group("test"))
    session.run("pytest", "tests/calls", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed the parsers with what nobody would write: `nox -s fuzz -- SECONDS`."""
    session.install("--editable", ".", *group("test", "fuzz"))
    session.run("python", "-m", "fuzz", *session.posargs or ["60"])


@nox.session
def attack(session: nox.Session) -> None:
    """Attack a server, and time its bystanders: `nox -s attack -- ARGUMENTS`."""
    session.install("--editable", ".", *group("test"))
    session.run("python", "-m", "attack", *session.posargs)


@nox.session
def http(session: nox.Session) -> None:
    """Ask a real server whatever docs/openapi.json allows, and more: `nox -s http -- EXAMPLES`."""
    session.install("--editable", ".", *group("test", "http"))
    examples = session.posargs[0] if session.posargs else "300"
    timeout = "faulthandler_timeout=900"  # of one test, which asks for minutes
    session.run("pytest", "-o", timeout, "tests/system/test_openapi.py", env={"SCHEMATHESIS_EXAMPLES": examples})


@nox.session
def bench(session: nox.Session) -> None:
    """Measure this machine: `nox -s bench -- ARGUMENTS`."""
    session.install("--editable", ".")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session
def mutate(session: nox.Session) -> None:
    """Take each check out of `ironwire.mls`, and see that a test fails: `nox -s mutate -- MODULES`."""
    session.install("--editable", ".", *group("test"))
    session.run("python", "-m", "tests.mls.mutate", *session.posargs)
