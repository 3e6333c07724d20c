"""The operator's commands on a data folder that nobody serves, as a shell sees them."""

import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from ironwire.cli import cli
from ironwire.cli.exits import ExitCode
from ironwire.cli.operator.top import Overview
from ironwire.ids import GroupId
from ironwire.server.core import wall_clock_ms
from ironwire.store.sqlite.migrations import load_migrations, migrate
from ironwire.store.sqlite.store import SqliteStore
from ironwire.store.survey import DATABASE
from tests.contract.builders import ANN, BOB, PHONE, WIDE, append, apply, change, envelope, registered

pytestmark = pytest.mark.usefixtures("restored_logging")

SECRET = "the body of a message"
CLUB = GroupId("#" + "c" * 32)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something waits for Ann's phone; she and Bob are a group, whose name is not a nice one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IRONWIRE_SETTINGS", raising=False)
    now_ms = wall_clock_ms()

    async def fill() -> None:
        store = SqliteStore(tmp_path / "data" / DATABASE, WIDE)
        await store.open()
        await registered(store, ANN, PHONE, now_ms=now_ms)
        await apply(store, change(CLUB, 0, {BOB: "admin", ANN: "member"}, by=BOB, name="\x1b[2Jclub", ts=now_ms))
        await apply(store, append(envelope(BOB, ANN, SECRET, ts=now_ms)))
        await store.close()

    trio.run(fill)
    return tmp_path / "data"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--data", "data"], prog_name="ironwire")


def said(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def answer(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(*arguments, "--json"))
    return found


def refused(result: Result, code: ExitCode, *words: str) -> None:
    assert result.exit_code == code
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_lists_are_tables_for_people_and_json_for_programs() -> None:
    table = said("admin", "clients")
    assert ANN in table
    assert BOB in table
    assert answer("admin", "clients")["total"] == 2
    assert [row["device"] for row in answer("admin", "devices", ANN)["rows"]] == [PHONE]
    assert answer("admin", "devices", BOB)["rows"] == []
    (box,) = answer("admin", "mailboxes")["rows"]
    assert (box["client"], box["waiting"]) == (ANN, 2)
    assert CLUB in said("admin", "groups")
    assert "0 files, 0 bytes" in said("admin", "blobs")


def test_no_command_shows_what_was_written_or_lets_a_name_move_the_cursor() -> None:
    for verb in ("clients", "devices", "mailboxes", "groups", "blobs"):
        for form in ((), ("--json",)):
            output = said("admin", verb, *form)
            assert SECRET not in output
            assert "\x1b" not in output
    assert "␛[2Jclub" in said("admin", "groups")


def test_a_list_that_goes_on_says_so() -> None:
    result = run("admin", "clients", "--limit", "1")
    assert result.stderr == "1 of 2; --limit and --offset show others\n"
    assert BOB in said("admin", "clients", "--limit", "1", "--offset", "1")


def test_a_ban_is_listed_until_it_is_ended() -> None:
    assert "is banned" in said("admin", "ban", ANN)
    assert "was banned already" in said("admin", "ban", ANN.upper())
    assert [row["client"] for row in answer("admin", "clients", "--banned")["rows"]] == [ANN]
    assert "may come again" in said("admin", "unban", ANN)
    assert "was not banned" in said("admin", "unban", ANN)
    assert answer("admin", "clients", "--banned")["rows"] == []


def test_erasing_asks_first_and_says_what_is_gone() -> None:
    refused(run("admin", "erase", ANN), ExitCode.USAGE, f"Erase {ANN}?", "--yes")
    assert answer("admin", "clients")["total"] == 2
    erased = answer("admin", "erase", ANN, "--yes")
    assert (erased["devices"], erased["waiting"], erased["groups"]) == (1, 3, 1)
    assert [row["client"] for row in answer("admin", "clients")["rows"]] == [BOB]
    assert re.search(r"^devices +0$", said("admin", "erase", ANN, "--yes"), re.MULTILINE)


def test_what_has_expired_goes_now() -> None:
    assert said("admin", "expire") == "expired: 0 envelopes in mailboxes, 0 devices, 0 files\n"


def test_nothing_expires_by_a_clock_that_nobody_has_confirmed(data: Path) -> None:
    assert said("admin", "clock") == "the server believes the clock\n"
    believed_s = wall_clock_ms() / 1000 - 40 * 86_400
    (data / "clock").touch()
    os.utime(data / "clock", (believed_s, believed_s))
    assert said("admin", "clock").startswith(
        "the clock is 40.0 days ahead of what the server knows, and nothing expires"
    )
    refused(run("admin", "expire"), ExitCode.REFUSED, "40.0 days ahead", "ironwire admin clock --confirm")
    assert said("admin", "clock", "--confirm").endswith("now it is believed\n")
    assert said("admin", "clock") == "the server believes the clock\n"
    assert said("admin", "expire").startswith("expired: 0 envelopes")


def test_mistakes_are_named(tmp_path: Path) -> None:
    refused(run("admin", "ban", "ann"), ExitCode.USAGE, "'ann' must be a client id")
    (tmp_path / "empty").mkdir()
    for command in (("admin", "clients"), ("migrate",), ("backup", "target")):
        result = CliRunner().invoke(cli, [*command, "--data", "empty"], prog_name="ironwire")
        refused(result, ExitCode.USAGE, "there is no", "--data")
    refused(run("top", "--once"), ExitCode.UNREACHABLE, "no server serves", "--data")
    assert not (tmp_path / "empty" / DATABASE).exists()


def test_a_backup_is_made_and_put_back(tmp_path: Path) -> None:
    assert "backup is whole: 1 mailbox with 2 envelopes, 0 files" in said("backup", "backup")
    refused(run("backup", "backup"), ExitCode.FILE, "there already")
    refused(run("restore", "backup"), ExitCode.FILE, "has a database already")
    refused(run("restore", "nowhere"), ExitCode.FILE, "is no backup")
    restored = CliRunner().invoke(cli, ["restore", "backup", "--data", "again", "--json"], prog_name="ironwire")
    assert json.loads(restored.stdout)["waiting"] == 2
    again = CliRunner().invoke(cli, ["admin", "mailboxes", "--json", "--data", "again"], prog_name="ironwire")
    assert json.loads(again.stdout)["rows"][0]["waiting"] == 2
    assert not list((tmp_path / "data").glob("*copy*"))


def test_an_old_database_is_brought_up(tmp_path: Path) -> None:
    newest = max(load_migrations())
    assert f"has schema {newest} already" in said("migrate")
    old = tmp_path / "old"
    old.mkdir()
    with closing(sqlite3.connect(old / DATABASE, isolation_level=None)) as database:
        migrate(database, old / DATABASE, {1: load_migrations()[1]})
    result = CliRunner().invoke(cli, ["migrate", "--data", "old"], prog_name="ironwire")
    assert f"had schema 1 and has {newest}" in result.stdout
    assert (old / "ironwire.db.schema-1.backup").exists()


def observed(**changes: dict[str, Any]) -> dict[str, Any]:
    nothing = {"count": 0, "sum": 0.0}
    parts: dict[str, dict[str, Any]] = {
        "guard": {"connections_open": 5},
        "hub": {"sessions": 4, "clients": 3},
        "sessions": {"received_total": 0, "sent_total": 0, "is_draining": False},
        "delivery": {
            "accepted_total": 0,
            "refused_total": 0,
            "undeliverable_total": 0,
            "operations_waiting": 0,
            "batch_operations": nothing,
        },
        "store": {
            "is_failing": False,
            "batches_total": 0,
            "commit_seconds": nothing,
            "mailboxes": 2,
            "waiting_envelopes": 7,
            "waiting_bytes": 70,
        },
        "clock": {"leap_seconds": 0.0},
        "blobs": {"stored": 1, "stored_bytes": 10},
        "process": {
            "start_time_seconds": 1_000.0,
            "cpu_seconds_total": 0.0,
            "resident_bytes": 1,
            "open_files": 9,
            "open_files_most": 10,
        },
    }
    return {"version": "1", "parts": {name: part | changes.get(name, {}) for name, part in parts.items()}}


def test_a_glance_is_what_went_on_between_two_observations() -> None:
    after = observed(
        sessions={"received_total": 100, "sent_total": 300},
        delivery={
            "accepted_total": 80,
            "refused_total": 3,
            "undeliverable_total": 1,
            "batch_operations": {"count": 4, "sum": 80.0},
        },
        store={"batches_total": 4, "commit_seconds": {"count": 4, "sum": 0.02}},
        process={"cpu_seconds_total": 0.5},
    )
    overview = Overview.between(observed(), after, seconds=2.0, unix_seconds=1_060.0)
    assert overview.clock_leap_seconds == 0
    assert (overview.frames_in_per_second, overview.frames_out_per_second) == (50, 150)
    assert (overview.accepted_per_second, overview.refused_per_second) == (40, 2)
    assert (overview.batches_per_second, overview.batch_operations, overview.commit_ms) == (2, 20, 5)
    assert (overview.cpu_percent, overview.uptime_seconds) == (25, 60)
    quiet = Overview.between(after, after, seconds=2.0, unix_seconds=1_062.0)
    assert (quiet.batch_operations, quiet.commit_ms, quiet.cpu_percent) == (0, 0, 0)
