"""`ironwire verify`: what is shown, what a scan says, and where the mark is seen; and QR codes on a terminal."""

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from ironwire.cli import cli
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.exits import ExitCode
from ironwire.cli.qr import qr_lines, show_qr
from ironwire.client import Identity, create_identity, in_groups, safety_number
from ironwire.errors import ConfigError
from ironwire.ids import ClientId
from ironwire.protocol.devices.safety import safety_text

BOB, MALLORY = (Identity.from_seed(bytes([number]) * 32).client_id for number in (1, 2))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientId:
    key = tmp_path / "key"
    monkeypatch.setenv("IRONWIRE_KEY", str(key))
    identity = create_identity(key, "nobody has to type this")
    AddressBook.beside(key).add("bob", BOB)
    return identity.client_id


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="ironwire")


def test_both_sides_see_sixty_digits_in_groups_of_five(own: ClientId) -> None:
    shown = run("verify", "bob")
    assert shown.exit_code == 0
    digits = [line.strip() for line in shown.stdout.splitlines() if line.startswith("  ") and line.strip()[0].isdigit()]
    assert " ".join(digits) == in_groups(safety_number(BOB, own))
    assert "ironwire verify bob --confirm" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 60
    described = json.loads(run("verify", "bob", "--json").stdout)
    assert described == {
        "client": BOB,
        "number": safety_number(own, BOB),
        "code": safety_text(own, BOB),
        "verified": None,
    }


def test_a_mark_is_made_seen_and_taken_back(own: ClientId) -> None:
    assert run("contacts", "list").stdout == f"bob  {BOB}\n"
    assert run("verify", "bob", "--confirm").stdout == "bob is verified.\n"
    assert run("contacts", "list").stdout == f"bob  {BOB}  ✓ verified\n"
    (listed,) = json.loads(run("contacts", "list", "--json").stdout)
    assert (listed["name"], listed["id"], listed["verified"] > 0) == ("bob", BOB, True)
    assert "✓ verified on" in run("verify", "bob").stdout
    assert run("contacts", "add", "robert", BOB).exit_code == 0
    assert "✓" in run("contacts", "list").stdout.splitlines()[1], "the mark is of the id, and not of a name"
    assert run("verify", "bob", "--undo").stdout == "bob is not verified any more.\n"
    assert "✓" not in run("contacts", "list").stdout


def test_a_scan_says_yes_or_no(own: ClientId) -> None:
    for wrong in (safety_text(MALLORY, own), safety_text(BOB, MALLORY)):
        refused = run("verify", "bob", "--scan", wrong)
        assert (refused.exit_code, refused.stdout) == (ExitCode.REFUSED, "")
        assert "somebody may stand between you" in refused.stderr
    assert "✓" not in run("contacts", "list").stdout
    assert run("verify", "bob", "--scan", safety_text(BOB, own)).stdout == "bob is verified.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bob", "--scan", "hello"), "begins with IWSAFE"),
        (("bob", "--confirm", "--undo"), "One thing at a time"),
        (("nobody",), "neither a contact"),
        (("00" * 32,), "it is no key"),
        ((f"#{'f0' * 16}",), "is a group"),
    ],
)
def test_mistakes(own: ClientId, arguments: tuple[str, ...], words: str) -> None:
    refused = run("verify", *arguments)
    assert (refused.exit_code, refused.stdout) == (ExitCode.USAGE, "")
    assert words in refused.stderr


def test_ones_own_id_cannot_be_verified(own: ClientId) -> None:
    assert "your own id" in run("verify", own).stderr


def test_marks_that_are_none_are_not_taken_for_marks(own: ClientId, tmp_path: Path) -> None:
    (tmp_path / "key.verified").write_text('{"bob": 1}')
    with pytest.raises(ConfigError, match="these are no verified ids"):
        AddressBook.beside(tmp_path / "key")


# --- QR codes --------------------------------------------------------------------------------------------------------


def test_a_code_fits_or_is_left_out() -> None:
    for columns in range(20, 60):
        lines = qr_lines(safety_text(BOB, MALLORY), columns)
        assert (lines is not None) == (columns >= 39)
        assert lines is None or {len(line) for line in lines} == {41 if columns >= 41 else 39}


def test_every_code_has_a_light_border() -> None:
    lines = qr_lines("IWSAFE", 80)
    assert lines is not None
    assert {lines[0], lines[-1]} <= {"█" * len(lines[0]), "▀" * len(lines[0])}
    assert all(line.startswith("██") and line.endswith("██") for line in lines[1:-1])


@pytest.mark.parametrize(
    ("width", "encoding", "shown"), [(80, "utf-8", "█"), (30, "utf-8", "widen"), (80, "ascii", "")]
)
def test_what_cannot_be_shown_is_not(monkeypatch: pytest.MonkeyPatch, width: int, encoding: str, shown: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show_qr(Console(file=written, force_terminal=True, width=width, legacy_windows=False), safety_text(BOB, MALLORY))
    written.seek(0)
    text = written.read()
    assert shown in text
    assert bool(text) == bool(shown)


def test_a_pipe_gets_no_picture() -> None:
    written = io.StringIO()
    show_qr(Console(file=written, width=80), "IWSAFE")
    assert written.getvalue() == ""
