"""The identity file: private, never replaced, and either whole or refused."""

import codecs
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ironwire.client import KeystoreError, create_identity, default_identity_path, load_identity, read_client_id
from ironwire.client.store.keystore import Cost
from ironwire.errors import NoHome

CHEAP = Cost(operations=1, memory_bytes=8192)
"""The least that Argon2id takes: the tests are about the file, not about the cost of guessing."""

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@in_one_folder
@given(st.text(max_size=100) | st.just("\ud800"))
@example("")
def test_any_passphrase_opens_what_it_sealed(tmp_path: Path, passphrase: str) -> None:
    path = tmp_path / "identity.key"
    path.unlink(missing_ok=True)
    created = create_identity(path, passphrase, cost=CHEAP)
    assert load_identity(path, passphrase).seed == created.seed
    with pytest.raises(KeystoreError, match="passphrase is wrong"):
        load_identity(path, passphrase + "x")


def test_a_passphrase_opens_the_file_however_its_letters_are_composed(tmp_path: Path) -> None:
    created = create_identity(tmp_path / "key", "caf\u00e9", cost=CHEAP)
    assert load_identity(tmp_path / "key", "cafe\u0301").seed == created.seed


@pytest.mark.parametrize("passphrase", [None, "a passphrase"])
def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "identity.key"
    created = create_identity(path, passphrase, cost=CHEAP)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_identity(path, passphrase).seed == created.seed


@pytest.mark.parametrize("passphrase", [None, "a passphrase"])
def test_any_changed_byte_is_noticed(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "identity.key"
    create_identity(path, passphrase, cost=CHEAP)
    whole = path.read_bytes()

    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def check(position: int, change: int) -> None:
        damaged = bytearray(whole)
        damaged[position] ^= change
        path.write_bytes(damaged)
        with pytest.raises(KeystoreError):
            load_identity(path, passphrase)

    check()


@pytest.mark.parametrize("passphrase", [None, "a passphrase"])
@pytest.mark.parametrize(
    "touched",
    [
        lambda content: content[:-1],
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: codecs.BOM_UTF8 + content,
        lambda content: codecs.BOM_UTF8 + content.replace(b"\n", b"\r\n")[:-2],
        lambda content: content + b"\n",
    ],
)
def test_what_editors_do_to_a_file_is_no_damage(
    tmp_path: Path, passphrase: str | None, touched: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "identity.key"
    created = create_identity(path, passphrase, cost=CHEAP)
    path.write_bytes(touched(path.read_bytes()))
    assert load_identity(path, passphrase).seed == created.seed
    assert read_client_id(path) == created.client_id


def test_a_sealed_file_tells_whose_it_is_and_stays_sealed(tmp_path: Path) -> None:
    created = create_identity(tmp_path / "key", "secret", cost=CHEAP)
    assert read_client_id(tmp_path / "key") == created.client_id
    (tmp_path / "key").write_text("nothing of the kind")
    with pytest.raises(KeystoreError, match="damaged"):
        read_client_id(tmp_path / "key")


@pytest.mark.parametrize("passphrase", [None, "a passphrase"])
def test_any_other_length_is_noticed(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "identity.key"
    create_identity(path, passphrase, cost=CHEAP)
    whole = path.read_bytes()
    for content in (b"", whole[:-2], whole + b" ", whole + b"\n0\n", whole * 100):
        path.write_bytes(content)
        with pytest.raises(KeystoreError, match="damaged"):
            load_identity(path, passphrase)


def test_a_plain_file_asks_for_no_passphrase(tmp_path: Path) -> None:
    def ask() -> str:
        raise AssertionError("nobody should be asked")

    created = create_identity(tmp_path / "key")
    assert load_identity(tmp_path / "key", ask).seed == created.seed


def test_a_sealed_file_asks_once(tmp_path: Path) -> None:
    asked = []

    def ask() -> str:
        asked.append(1)
        return "secret"

    created = create_identity(tmp_path / "key", "secret", cost=CHEAP)
    assert load_identity(tmp_path / "key", ask).seed == created.seed
    assert asked == [1]


def test_a_sealed_file_holds_no_seed_and_needs_its_passphrase(tmp_path: Path) -> None:
    created = create_identity(tmp_path / "key", "secret", cost=CHEAP)
    assert created.seed.hex() not in (tmp_path / "key").read_text()
    with pytest.raises(KeystoreError, match="passphrase is needed"):
        load_identity(tmp_path / "key")


@pytest.mark.parametrize(
    ("name", "value"), [("ops", "17"), ("ops", "9999999999"), ("mem", "1073741825"), ("mem", "999999999999")]
)
def test_a_file_that_asks_for_too_much_work_is_refused_before_it_is_done(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "key"
    create_identity(path, "secret", cost=CHEAP)
    words = [f"{name}={value}" if word.startswith(f"{name}=") else word for word in path.read_text().split(" ")]
    path.write_text(" ".join(words))
    with pytest.raises(KeystoreError, match="more work"):
        load_identity(path, "secret")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_read_it_from_the_first_moment(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "new" / "folder" / "key"
    before = os.umask(umask)
    try:
        create_identity(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_file_that_others_may_touch_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    create_identity(path)
    path.chmod(mode)
    with pytest.raises(KeystoreError, match=f"chmod 600 {path}"):
        load_identity(path)


def test_an_identity_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = create_identity(path)
    with pytest.raises(KeystoreError, match="exists already"):
        create_identity(path)
    assert load_identity(path).seed == first.seed
    assert os.listdir(tmp_path) == ["key"]


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeystoreError, match="exists already"):
        create_identity(tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="create one first"):
        load_identity(tmp_path / "missing")
    with pytest.raises(KeystoreError, match="cannot read"):
        load_identity(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KeystoreError, match="not a regular file"):
        load_identity(tmp_path / "pipe")


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IRONWIRE_KEY", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_identity_path() == tmp_path / ".config/ironwire/identity.key"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative/paths/are/ignored")
    assert default_identity_path() == tmp_path / ".config/ironwire/identity.key"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert default_identity_path() == tmp_path / "config/ironwire/identity.key"
    monkeypatch.setenv("IRONWIRE_KEY", "~/my.key")
    assert default_identity_path() == tmp_path / "my.key"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id of which the machine knows nothing."""

    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    for variable in ("HOME", "IRONWIRE_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_has_to_name_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(NoHome, match=r"set HOME, or name .* IRONWIRE_KEY"):
        default_identity_path()
    monkeypatch.setenv("IRONWIRE_KEY", "~/key")
    with pytest.raises(NoHome, match="set HOME"):
        default_identity_path()
    monkeypatch.setenv("IRONWIRE_KEY", str(tmp_path / "key"))
    assert default_identity_path() == tmp_path / "key"
