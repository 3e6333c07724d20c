"""What deploy/ offers can be used as it is, and agrees with the server's own settings."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypercorn.config import Config

from ironwire.limits import Limits
from ironwire.server.operator.loading import load_settings

DEPLOY = Path(__file__).parents[1] / "deploy"
UNIT = (DEPLOY / "ironwire.service").read_text(encoding="utf-8")
MIB = 1024 * 1024


def test_the_settings_file_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(DEPLOY / "ironwire.toml")
    assert settings.server.host == "127.0.0.1"
    assert settings.auth.origins == ("https://chat.example",)
    assert f"StateDirectory={settings.data.name}\n" in UNIT
    assert settings.data == Path("/var/lib/ironwire")


def test_hypercorn_takes_its_file() -> None:
    wanted = tomllib.loads((DEPLOY / "hypercorn.toml").read_text(encoding="utf-8"))
    taken = Config.from_toml(DEPLOY / "hypercorn.toml")
    assert {name: getattr(taken, name) for name in wanted} == wanted
    assert (taken.worker_class, taken.workers) == ("trio", 1)
    assert taken.graceful_timeout > Limits().drain_seconds


def test_proxies_let_the_largest_upload_through() -> None:
    most_mib = Limits().upload_bytes // MIB
    assert f"client_max_body_size {most_mib + 1}m;" in (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    assert f"max_size {most_mib + 1}MiB" in (DEPLOY / "Caddyfile").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_understood_and_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "ironwire.service"
    unit.write_text(UNIT.replace("/opt/ironwire/bin/ironwire", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout
