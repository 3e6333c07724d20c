"""docs/operations.md is followed: its steps run as they stand, with Debian's nginx, in a folder instead of `/`.

Stand-ins are there only for what belongs to the whole machine: packages, users, and systemd, whose part is to start
what the unit file says.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

import pytest
from attrs import define

from tests.system.processes import ROOT, environment

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
SECONDS = 90
NAME = "localhost"

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]

_STEPS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_NGINX_CONF = """
{user}
worker_processes 1;
pid {root}/nginx.pid;
error_log {root}/nginx.log;
events {{
    worker_connections 768;
}}
http {{
    access_log off;
    client_body_temp_path {root}/temporary;
    proxy_temp_path {root}/temporary;
    fastcgi_temp_path {root}/temporary;
    uwsgi_temp_path {root}/temporary;
    scgi_temp_path {root}/temporary;
    include {root}/etc/nginx/sites-enabled/*;
}}
"""
_PYTHON = """
mkdir -p "$3/bin"
ln -sf /bin/true "$3/bin/pip"
printf '#!/bin/sh\\nexec {python} -m ironwire "$@"\\n' > "$3/bin/ironwire"
chmod +x "$3/bin/ironwire"
"""
_SYSTEMCTL = """
case "$*" in
"enable --now ironwire")
    unit={root}/etc/systemd/system/ironwire.service
    mkdir -m 700 -p {root}/var/lib/ironwire
    set -a
    eval "$(sed -n 's/^Environment=//p' "$unit")"
    $(sed -n 's/^ExecStart=//p' "$unit") > {root}/ironwire.log 2>&1 &
    ;;
"reload nginx") nginx -g "daemon off;" > /dev/null 2>&1 & ;;
daemon-reload) ;;
*) exit 1 ;;
esac
"""


@define
class Machine:
    """A folder that stands for `/`, with ports of its own. All that runs in it is in one process group."""

    root: Path
    front_port: int
    plain_port: int
    server_port: int

    @property
    def site(self) -> Path:
        return self.root / "etc" / "nginx" / "sites-available" / "ironwire"

    @property
    def source(self) -> Path:
        """The folder in which the steps are taken."""
        return self.root / "source"

    def set_up(self) -> None:
        programs = {
            "apt-get": "",
            "useradd": "",
            "python3": _PYTHON.format(python=sys.executable),
            "systemctl": _SYSTEMCTL.format(root=self.root),
            "nginx": f'exec {NGINX} -p {self.root} -c {self.root}/etc/nginx/nginx.conf "$@"',
        }
        for place in (
            "bin",
            "usr/local/bin",
            "etc/systemd/system",
            "etc/nginx/sites-available",
            "etc/nginx/sites-enabled",
        ):
            (self.root / place).mkdir(parents=True)
        for name, text in programs.items():
            (self.root / "bin" / name).write_text(f"#!/bin/sh\nset -eu\n{text}\n")
            (self.root / "bin" / name).chmod(0o755)
        user = "user root;" if os.geteuid() == 0 else ""  # whose folder this is; else nginx changes to another user
        (self.root / "etc" / "nginx" / "nginx.conf").write_text(_NGINX_CONF.format(root=self.root, user=user))
        (self.source / "deploy").mkdir(parents=True)
        for path in (ROOT / "deploy").iterdir():
            (self.source / "deploy" / path.name).write_text(self._translate(path.read_text()))

    def start(self, script: str, output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(
                ["bash", "-eu", "-o", "pipefail", "-c", self._translate(script)],
                cwd=self.source,
                env=environment(self.root, PATH=f"{self.root}/bin:{self.root}/usr/local/bin:{os.environ['PATH']}"),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _translate(self, text: str) -> str:
        """The same in this folder, and at these ports."""
        changes = {
            r"(?<![\w./])/(?=(?:etc|opt|usr/local|var/lib)/)": f"{self.root}/",
            r"(?<=listen )443|(?<=\[::\]:)443": str(self.front_port),
            r"(?<=listen )80(?=;)|(?<=\[::\]:)80(?=;)": str(self.plain_port),
            r"(?<=127\.0\.0\.1:)8080": str(self.server_port),
            r"(?<=\[server\]\n)": f"port = {self.server_port}\n",
            r"(?<=https://)(\$NAME|chat\.example)": rf"\1:{self.front_port}",
            r"NAME=chat\.example": f"NAME={NAME}",
        }
        if not _has_ipv6():
            changes[r"listen \[::\].*;"] = ""
        for pattern, replacement in changes.items():
            text = re.sub(pattern, replacement, text)
        return text


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which every step has been taken."""
    manual = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    steps = _STEPS.findall(manual.partition("## From an empty machine")[2].partition("\n## ")[0])
    assert len(steps) == 8
    machine = Machine(tmp_path_factory.mktemp("machine"), *_free_ports(3))
    machine.set_up()
    shell = machine.start("".join(steps), machine.root / "output")
    try:
        code = shell.wait(SECONDS)
        assert code == 0, (machine.root / "output").read_text()
        yield machine
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, SIGKILL)
        shell.wait()


def test_the_steps_lead_to_a_server_with_tls(machine: Machine) -> None:
    output = (machine.root / "output").read_text()
    report = dict(re.findall(r"^(?:OK|WARN|FAIL) +(\w+) +(.*)$", output, re.MULTILINE))
    assert "OK: " in output, "the settings were checked"
    assert '{"ready":true,"reasons":[]}' in output
    assert "FAIL" not in output
    assert "a client can sign in" in report["websocket"]
    assert "pass the proxy" in report["uploads"]
    assert "Hello Bob" in output
    assert "copy.jpg" in output
    nginx = (machine.root / "etc" / "nginx" / "nginx.conf").read_text()
    assert "worker_connections 16384;" in nginx
    assert nginx.startswith("worker_rlimit_nofile 32768;\n")
    assert re.search(r"^ironwire_hub_sessions 0\.0$", output, re.MULTILINE)
    assert output.splitlines()[-1] == "403", "the metrics are not there for the world"
    assert "Traceback" not in output + (machine.root / "ironwire.log").read_text()


def test_the_doctor_sees_everything_that_nginx_was_told_to_do_wrong(machine: Machine, tmp_path: Path) -> None:
    mistakes = {
        f"{NAME}.pem;": "other.pem;",
        'proxy_set_header Connection "upgrade";': "",
        "client_max_body_size 31m;": "client_max_body_size 1m;",
        # One header set here, and nginx inherits none: the server takes it for somebody on its own machine.
        "return 403;": f"proxy_pass http://127.0.0.1:{machine.server_port}; proxy_set_header Connection close;",
    }
    site = machine.site.read_text()
    for line, instead in mistakes.items():
        assert line in site
        site = site.replace(line, instead)
    machine.site.write_text(site)
    shell = machine.start(_RELOAD_AND_EXAMINE, tmp_path / "output")
    assert shell.wait(SECONDS) == 1
    report = re.findall(r"^(WARN|FAIL) +(\w+)", (tmp_path / "output").read_text(), re.MULTILINE)
    assert {("FAIL", "tls"), ("FAIL", "websocket"), ("FAIL", "uploads"), ("WARN", "metrics")} <= {*report}
    assert ("FAIL", "front") not in report


_RELOAD_AND_EXAMINE = """
NAME=chat.example
cd /etc/ssl/ironwire/
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=other -key $NAME.key -out other.pem
nginx -s reload
sleep 1
SSL_CERT_FILE=/etc/ssl/ironwire/$NAME.pem ironwire doctor --config /etc/ironwire/ironwire.toml --url https://$NAME
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
