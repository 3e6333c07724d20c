"""The server answers over HTTP as docs/openapi.json says: schemathesis asks it whatever the document allows, and more.

Schemathesis lives in an environment of its own (`nox -s http`), because it brings many packages; elsewhere this skips.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.conftest import IRONWIRE_SERVE, running_server

ROOT = Path(__file__).parents[2]
SECONDS = 600
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "30")
SCHEMATHESIS = shutil.which("schemathesis", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.skipif(SCHEMATHESIS is None, reason="schemathesis is not installed")
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with running_server(IRONWIRE_SERVE, tmp_path) as server:
        done = subprocess.run(
            [
                str(SCHEMATHESIS),
                f"--config-file={ROOT / 'tests' / 'system' / 'schemathesis.toml'}",
                "run",
                str(ROOT / "docs" / "openapi.json"),
                f"--url=http://127.0.0.1:{server.port}",
                f"--max-examples={EXAMPLES}",
                "--no-color",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not server.has_exited()
    assert "Traceback" not in server.log()
