"""What a user is told of the devices of their identity: every one that they did not know, once."""

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from ironwire.cli import device_news
from ironwire.cli.device_news import NewsSource, told
from ironwire.cli.devicebook import DeviceBook, DeviceNews, NamedDevice, find_device, fingerprint, parse_device_name
from ironwire.client import Client, DeviceLog, DeviceLogDisputed, Extended, Identity
from ironwire.crypto.signing import DeviceKey
from ironwire.errors import ConfigError, InvalidId
from ironwire.ids import ClientId
from ironwire.protocol.devices.log_entry import LogOp, sign_entry

ALICE = Identity.from_seed(b"a" * 32)
DESK, TABLET, PHONE = (DeviceKey.from_seed(name * 32).public_key for name in (b"d", b"t", b"p"))
NOW = datetime(2026, 11, 29, 14, 3).astimezone()
NOW_MS = round(NOW.timestamp() * 1000)
HEX = DESK.raw.hex()


def log_of(*changes: tuple[LogOp, object]) -> DeviceLog:
    log = DeviceLog(ALICE.public_key)
    for number, (op, key) in enumerate(changes):
        entry = log.next_entry(op, [key], time_ms=NOW_MS + number)  # type: ignore[list-item]  # a public key
        log = log.append(sign_entry(ALICE, entry))
    return log


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "identity.key"


def news_of(key: Path, log: DeviceLog) -> list[str]:
    """What the device `DESK` tells, in a process of its own each time."""
    return [each.key for each in DeviceBook.beside(key).take_news(log, HEX)]


def test_the_first_look_tells_nothing(key: Path) -> None:
    assert news_of(key, log_of((LogOp.ADD, TABLET), (LogOp.ADD, DESK))) == []


def test_a_new_device_is_told_once(key: Path) -> None:
    assert news_of(key, log_of((LogOp.ADD, DESK))) == []
    log = log_of((LogOp.ADD, DESK), (LogOp.ADD, TABLET))
    assert news_of(key, log) == [TABLET.raw.hex()]
    assert news_of(key, log) == []


def test_a_device_that_came_and_went_unseen_is_told(key: Path) -> None:
    news_of(key, log_of((LogOp.ADD, DESK)))
    log = log_of((LogOp.ADD, DESK), (LogOp.ADD, TABLET), (LogOp.REMOVE, TABLET))
    (news,) = DeviceBook.beside(key).take_news(log, HEX)
    assert news == DeviceNews(TABLET.raw.hex(), "", NOW_MS + 1, NOW_MS + 2)
    assert news_of(key, log) == []


def test_a_revoked_device_is_told_by_its_name(key: Path) -> None:
    before = log_of((LogOp.ADD, DESK), (LogOp.ADD, TABLET))
    news_of(key, before)
    DeviceBook.beside(key).rename(TABLET.raw.hex(), "Kitchen")
    after = before.append(sign_entry(ALICE, before.next_entry(LogOp.REMOVE, [TABLET], time_ms=NOW_MS)))
    (news,) = DeviceBook.beside(key).take_news(after, HEX)
    assert (news.name, news.linked_ms, news.revoked_ms) == ("Kitchen", None, NOW_MS)
    assert DeviceBook.beside(key).names == []


def test_what_the_user_linked_here_is_no_news(key: Path) -> None:
    news_of(key, log_of((LogOp.ADD, DESK)))
    DeviceBook.beside(key).note([NamedDevice("Kitchen", TABLET.raw.hex())])
    assert news_of(key, log_of((LogOp.ADD, DESK), (LogOp.ADD, TABLET))) == []


def test_the_device_itself_is_no_news(key: Path) -> None:
    news_of(key, log_of((LogOp.ADD, TABLET)))
    assert news_of(key, log_of((LogOp.ADD, TABLET), (LogOp.ADD, DESK))) == []


def test_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_news, "now", lambda: NOW)
    short = fingerprint(HEX)[:9]
    assert told(DeviceNews(HEX, "Firefox on Linux", NOW_MS, None)) == (
        "Firefox on Linux was linked at 14:03. Not you? ironwire device revoke 'Firefox on Linux'"
    )
    assert told(DeviceNews(HEX, "", NOW_MS, None)) == (
        f"A new device ({short}) was linked at 14:03. Not you? ironwire device revoke {HEX[:8]}"
    )
    assert told(DeviceNews(HEX, "Kitchen", None, NOW_MS - 86_400_000)) == (
        "Kitchen was revoked on 2026-11-28 at 14:03. Not you? Then somebody else has your identity's key."
    )
    assert "was linked at 14:03 and revoked at 14:03." in told(DeviceNews(HEX, "", NOW_MS, NOW_MS))


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_name_stays_whatever_a_server_calls_the_device(key: Path) -> None:
    book = DeviceBook.beside(key)
    book.note([NamedDevice("phone", HEX)])
    book.note([NamedDevice("tablet", HEX), NamedDevice("phone", TABLET.raw.hex())])
    again = DeviceBook.beside(key)
    assert again.label(HEX) == "phone"
    assert again.label(TABLET.raw.hex()) == f"{TABLET.raw.hex()[:8]}…", "no two devices have one name"


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "\x1b[2J", "deadbeef", "DEAD BEEF 00"])
def test_a_name_that_could_mislead_is_refused(name: str) -> None:
    with pytest.raises(InvalidId):
        parse_device_name(name)


def test_a_device_is_found_by_its_name_or_its_fingerprint() -> None:
    desk, other, bare = NamedDevice("desk", "ab" * 32), NamedDevice("tv", "ab" * 16 + "cd" * 16), NamedDevice("x", None)
    devices = [desk, other, bare]
    assert find_device(devices, "desk") == desk
    assert find_device(devices, "x") == bare
    assert find_device([desk, bare], "abab ABAB") == desk
    with pytest.raises(InvalidId, match="more than one"):
        find_device(devices, "abababab")
    for text in ("ababab", "nobody", ""):
        with pytest.raises(InvalidId, match="no device is called"):
            find_device(devices, text)


@pytest.mark.parametrize("content", ['{"desk": ""}', '["x"]', f'{{"{HEX}": "desk"}}', "{"])
def test_a_file_that_holds_something_else_is_not_guessed_at(key: Path, content: str) -> None:
    key.with_name("identity.key.devices").write_text(content)
    with pytest.raises(ConfigError, match="names of devices"):
        DeviceBook.beside(key)


def test_the_name_of_a_revoked_device_is_free(key: Path) -> None:
    book = DeviceBook.beside(key)
    book.note([NamedDevice("tablet", HEX)])
    book.mark_revoked(HEX)
    book.note([NamedDevice("tablet", TABLET.raw.hex())])
    assert DeviceBook.beside(key).label(TABLET.raw.hex()) == "tablet"
    assert news_of(key, log_of((LogOp.ADD, DESK), (LogOp.ADD, TABLET), (LogOp.REMOVE, DESK))) == []


# --- of others -------------------------------------------------------------------------------------------------------

BOB = Identity.from_seed(b"b" * 32)


def bobs_log(*changes: tuple[LogOp, object]) -> DeviceLog:
    log = DeviceLog(BOB.public_key)
    for op, key in changes:
        entry = log.next_entry(op, [key], time_ms=NOW_MS)  # type: ignore[list-item]  # a public key
        log = log.append(sign_entry(BOB, entry))
    return log


async def lines_about_bob(key: Path, verdict: object, peer: ClientId = BOB.client_id) -> list[str]:
    class Server:
        async def read(self, client: ClientId, _: DeviceLog) -> object:
            await trio.lowlevel.checkpoint()
            assert client == BOB.client_id
            return verdict

    client = cast("Client", SimpleNamespace(device_log=Server()))
    return await NewsSource(client, key).take_of(peer, "bob")


async def test_a_line_about_the_devices_of_somebody_else(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_news, "now", lambda: NOW)
    before, after = bobs_log((LogOp.ADD, PHONE)), bobs_log((LogOp.ADD, PHONE), (LogOp.ADD, TABLET))
    gone = after.append(sign_entry(BOB, after.next_entry(LogOp.REMOVE, [PHONE], time_ms=NOW_MS)))
    assert await lines_about_bob(key, Extended(before, ())) == []
    assert await lines_about_bob(key, Extended(after, ())) == ["bob linked a device at 14:03"]
    assert await lines_about_bob(key, Extended(after, ())) == []
    assert await lines_about_bob(key, Extended(gone, ())) == ["bob revoked a device at 14:03"]


async def test_who_has_no_log_is_no_news(key: Path) -> None:
    assert await lines_about_bob(key, None, ClientId("b0" * 32)) == [], "nobody can have such an id"
    assert await lines_about_bob(key, Extended(DeviceLog(BOB.public_key), ())) == []


async def test_a_server_that_contradicts_itself_is_named(key: Path) -> None:
    before = bobs_log((LogOp.ADD, PHONE), (LogOp.ADD, TABLET))
    assert await lines_about_bob(key, Extended(before, ())) == []
    for other in (bobs_log((LogOp.ADD, PHONE)), bobs_log((LogOp.ADD, TABLET), (LogOp.ADD, PHONE)), bobs_log()):
        with pytest.raises(DeviceLogDisputed, match="other devices of bob than before"):
            await lines_about_bob(key, Extended(other, ()))
    assert await lines_about_bob(key, Extended(before, ())) == []


def test_a_device_that_calls_itself_like_a_fingerprint_has_no_name(key: Path) -> None:
    DeviceBook.beside(key).note([NamedDevice("deadbeef", HEX)])
    assert DeviceBook.beside(key).label(HEX) == f"{HEX[:8]}…"
