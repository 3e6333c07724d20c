"""`ironwire doctor`: finds faults in the setup of a server before its users do.

Each check is a function that looks at one thing and returns a finding; nothing is changed, and nothing is sent but what
any client sends. `machine.py` and `data.py` look at this machine, `clients.py` at what clients leave here for good,
`turn.py` at the servers for calls, `front.py` at the way that clients take.
"""

import sys
from pathlib import Path

import click
import trio
from rich.table import Table
from rich.text import Text

from ironwire.cli.exits import ExitCode
from ironwire.cli.operator.doctor import data, machine
from ironwire.cli.operator.doctor.clients import examine_clients
from ironwire.cli.operator.doctor.findings import Finding, Verdict, fail, ok
from ironwire.cli.operator.doctor.front import examine_front
from ironwire.cli.operator.doctor.turn import examine_turn
from ironwire.cli.operator.serverside import data_option
from ironwire.cli.options import config_option
from ironwire.cli.terminal import out, printable
from ironwire.client import ServerAddress
from ironwire.errors import ConfigError
from ironwire.server.operator.loading import Loaded, load

_STYLES = {Verdict.OK: "bright_blue", Verdict.WARN: "bold magenta", Verdict.FAIL: "bold red"}
_VERDICT_CHARS, _CHECK_CHARS = 5, 16


@click.command()
@click.option("--url", metavar="URL", help="Where clients reach the server, through its proxy: https://chat.example")
@data_option
@config_option
def doctor(url: str | None, data: Path | None, config_file: Path | None) -> None:
    """Look for what keeps the server from running well: OK, WARN or FAIL for each check, and what to do.

    Run it on the server's machine, as the server's user or as root. With --url it also looks at the TLS proxy in front,
    as a client sees it. The exit code is 1 if anything is FAIL.
    """
    findings = trio.run(examine, config_file, None if url is None else ServerAddress.parse(url), data)
    _show(findings)
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        sys.exit(ExitCode.REFUSED)


def _show(findings: list[Finding]) -> None:
    """One line each for programs; in a terminal the lines wrap between words, below their column."""
    console = out()
    table = Table.grid()
    table.add_column(width=_VERDICT_CHARS)
    table.add_column(width=_CHECK_CHARS)
    table.add_column(overflow="fold")
    for finding in findings:
        verdict, what = Text(finding.verdict.name, _STYLES[finding.verdict]), Text(printable(finding.what))
        remedy = Text(f"→ {printable(finding.remedy)}" if finding.remedy else "")
        if console.is_terminal:
            table.add_row(verdict, finding.check, what)
            if remedy:
                table.add_row("", "", remedy)
            continue
        verdict.align("left", _VERDICT_CHARS)
        console.print(Text.assemble(verdict, f"{finding.check:<{_CHECK_CHARS}}", what))
        if remedy:
            console.print(Text(" " * (_VERDICT_CHARS + _CHECK_CHARS)) + remedy)
    if console.is_terminal:
        console.print(table, soft_wrap=False)


async def examine(config_file: Path | None, address: ServerAddress | None, folder: Path | None = None) -> list[Finding]:
    """All findings. Without valid settings, only those of checks that need none."""
    try:
        loaded = load(config_file, {"data": folder})
    except ConfigError as error:
        advice = "correct it; `ironwire config example` explains every setting"
        return [*(fail("settings", fault, advice) for fault in error.args), machine.hypercorn()]
    about = await data.ask_about(loaded.settings.data)
    findings = [ok("settings", "every value can be used"), *_examine_machine(loaded, about)]
    findings += await examine_turn(loaded.settings.turn.urls)
    if address is not None:
        findings += await examine_front(address, loaded.settings)
    return findings


def _examine_machine(loaded: Loaded, about: data.About | None) -> list[Finding]:
    settings = loaded.settings
    server = data.find_server(settings.data)
    findings = [
        machine.hypercorn(),
        machine.secrets(loaded),
        machine.origins(settings),
        machine.proxies(settings),
        machine.clock(),
        machine.descriptors(server.process, settings.limits.connections),
        machine.user(server.process),
        data.holder(server, about, settings.server),
        data.folder(settings.data, server.process),
    ]
    if settings.data.is_dir():
        findings += [
            data.owner(settings.data, server.process),
            data.database(settings.data),
            data.room(settings.data),
            data.clock(settings),
            *examine_clients(settings.data, settings.limits),
        ]
    return findings
