"""A server that takes neither unknown clients nor their files, and the commands that get one in."""

import json
from pathlib import Path

from ironwire.cli.exits import ExitCode
from tests.system.test_cli import make_user, serving


def test_an_invite_lets_one_in_and_a_client_may_upload(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    strict = ("--auth-registration", "invite", "--upload-auth", "token")
    with serving(tmp_path / "server", *strict) as (_, url):
        alice, bob = (make_user(tmp_path / name, url) for name in ("alice", "bob"))
        (alice.folder / "cat.png").write_bytes(b"meow")
        refused = alice.run("upload", "cat.png")
        assert (refused.returncode, refused.stdout) == (ExitCode.AUTHENTICATION, "")
        assert "Not registered here: an invite is needed" in refused.stderr
        assert "`ironwire join INVITE`" in refused.stderr
        assert "there is no such invite" in alice.run("join", "a guess").stderr

        invite = alice.run("admin", "invite", "--data", str(tmp_path / "server" / "data")).stdout.strip()
        joined = alice.run("join", invite)
        assert joined.returncode == 0, joined.stderr
        assert "knows you now" in joined.stdout
        late = bob.run("join", invite)
        assert late.returncode == ExitCode.AUTHENTICATION
        assert "the invite is used up or has ended" in late.stderr

        uploaded = json.loads(alice.run("upload", "cat.png", "--json").stdout)
        assert (uploaded["size"], uploaded["expires"] > 0) == (4, True)
        sent = alice.run("send", alice.run("id").stdout.strip(), "--file", "cat.png", "--device", "phone")
        assert sent.returncode == 0, sent.stderr
