"""A client with a key of its own for each device, on the server of this project and on one that lies."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio

from ironwire.client import (
    AuthenticationRefused,
    Client,
    ClientError,
    DeliveredText,
    DeviceId,
    DeviceKeys,
    DeviceLog,
    DeviceLogChanged,
    DeviceLogDisputed,
    Extended,
    Identity,
    KeyCopied,
    KeystoreError,
    NotTheProtocol,
    Received,
    Refused,
    RolledBack,
    ServerAddress,
    SessionEnded,
    connect,
    open_device_keys,
)
from ironwire.client.connection.outgoing import AskedAnswer
from ironwire.client.device_log import ATTEMPTS, catch_up, read_log, revoke
from ironwire.protocol.devices.log_entry import MOST_ENTRIES, LogEntry, LogOp, SignedEntry, open_entry, sign_entry
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from ironwire.wire.messages import (
    Accepted,
    ClientMessage,
    DeviceLogAppend,
    DeviceLogPage,
    DeviceLogRead,
    LoggedEntry,
)
from tests.client.test_with_the_server import Dialler
from tests.server.in_process import serve_in_process

ADDRESS = ServerAddress.parse("http://chat.test")
ALICE, BOB = (Identity.from_seed(name * 32) for name in (b"a", b"b"))
PHONE, LAPTOP = DeviceId("phone"), DeviceId("laptop")
NOW_MS = 1_790_000_000_000


@pytest.fixture
async def dial(tmp_path: Path) -> AsyncIterator[Dialler]:
    settings = Settings(data=tmp_path / "data", auth=AuthSettings(origins=(ADDRESS.origin,), require_origin=True))
    with trio.fail_after(20):
        async with serve_in_process(create_app(settings), limits=settings.limits) as server:
            yield Dialler(server)


def _keys(folder: Path, device: DeviceId = PHONE) -> DeviceKeys:
    folder.mkdir(exist_ok=True)
    return open_device_keys(folder / "identity.key", ALICE, device)


# --- with the server -------------------------------------------------------------------------------------------------


async def test_an_identity_that_exists_becomes_an_owner_device(dial: Dialler, tmp_path: Path) -> None:
    store = tmp_path / "phone.db"
    async with connect(ADDRESS, ALICE, device=PHONE, store=store, dial=dial) as before:
        assert [device.device for device in await before.devices()] == [PHONE]
    keys = _keys(tmp_path)
    async with connect(ADDRESS, ALICE, device=PHONE, store=store, keys=keys, dial=dial) as alice:
        (device,) = alice.device_log.known.current
        assert (device.key, device.is_owner) == (keys.key.public_key, True)
        assert [each.device for each in await alice.devices()] == [PHONE]
    assert len(dial.streams) == 3, "the first session with keys was for the log alone"
    async with connect(ADDRESS, ALICE, device=PHONE, store=store, keys=_keys(tmp_path), dial=dial) as alice:
        assert alice.device_log.known.next_index == 1
    assert len(dial.streams) == 4


async def test_devices_of_one_identity_share_a_log_and_hear_of_each_other(dial: Dialler, tmp_path: Path) -> None:
    phone_keys, laptop_keys = _keys(tmp_path / "phone"), _keys(tmp_path / "laptop", LAPTOP)
    async with (
        connect(ADDRESS, ALICE, device=PHONE, store=tmp_path / "phone.db", keys=phone_keys, dial=dial) as phone,
        connect(ADDRESS, ALICE, device=LAPTOP, store=tmp_path / "laptop.db", keys=laptop_keys, dial=dial) as laptop,
    ):
        assert [device.key for device in laptop.device_log.known.current] == [
            phone_keys.key.public_key,
            laptop_keys.key.public_key,
        ]
        assert [(await _next_change(phone)).index for _ in range(2)] == [0, 1]
        verdict = await phone.device_log.read(ALICE.client_id, phone.device_log.known)
        assert verdict == Extended(laptop.device_log.known, laptop.device_log.known.entries[1:])


async def _next_change(client: Client) -> DeviceLogChanged:
    while True:
        match await anext(client):
            case Received(DeviceLogChanged() as change):
                return change
            case _:
                pass


async def test_a_revoked_device_is_put_out_and_cannot_return(dial: Dialler, tmp_path: Path) -> None:
    laptop_keys = _keys(tmp_path / "laptop", LAPTOP)
    async with connect(
        ADDRESS, ALICE, device=PHONE, store=tmp_path / "phone.db", keys=_keys(tmp_path / "phone"), dial=dial
    ) as phone:
        async with connect(
            ADDRESS, ALICE, device=LAPTOP, store=tmp_path / "laptop.db", keys=laptop_keys, dial=dial
        ) as laptop:
            await phone.device_log.revoke(laptop_keys.key.public_key.raw.hex())
            with pytest.raises(SessionEnded, match="this device was revoked"):
                async for _ in laptop:
                    pass
        with pytest.raises(SessionEnded, match="this device was revoked"):
            async with connect(
                ADDRESS, ALICE, device=LAPTOP, store=tmp_path / "laptop.db", keys=laptop_keys, dial=dial
            ):
                pass
        assert phone.device_log.known.standing_of(laptop_keys.key.public_key) == "removed"
        await phone.device_log.revoke(laptop_keys.key.public_key.raw.hex())
        assert phone.device_log.known.next_index == 3, "it was removed already"


async def test_a_server_that_knows_less_is_told(dial: Dialler, tmp_path: Path) -> None:
    """As after its database was restored from a backup: here it never knew anything."""
    keys = _keys(tmp_path)
    old = _keys(tmp_path / "old", LAPTOP)
    log = DeviceLog(ALICE.public_key)
    for op, key in [(LogOp.ADD, old.key), (LogOp.ADD, keys.key), (LogOp.REMOVE, old.key)]:
        log = log.append(sign_entry(ALICE, log.next_entry(op, [key.public_key], time_ms=NOW_MS)))
    keys.keep(log)
    async with connect(ADDRESS, ALICE, device=PHONE, store=tmp_path / "phone.db", keys=keys, dial=dial) as alice:
        assert alice.device_log.known == log
        async with connect(ADDRESS, BOB, dial=dial) as bob:
            assert await bob.device_log.read(ALICE.client_id) == Extended(log, log.entries)
    assert len(dial.streams) == 4, "refused by certificate, the log by the identity's key, and in; and Bob"


async def test_what_waits_is_delivered_although_the_log_comes_first(dial: Dialler, tmp_path: Path) -> None:
    store = tmp_path / "phone.db"
    async with connect(ADDRESS, ALICE, device=PHONE, store=store, keys=_keys(tmp_path), dial=dial):
        pass
    async with connect(ADDRESS, BOB, dial=dial) as bob:
        for text in ("one", "two"):
            await bob.send_text(ALICE.client_id, text)
    async with connect(ADDRESS, ALICE, device=PHONE, store=store, keys=_keys(tmp_path), dial=dial) as alice:
        texts: list[str] = []
        while len(texts) < 2:
            match await anext(alice):
                case Received(DeliveredText(text=text)):
                    texts.append(text)
                case _:
                    pass
        assert texts == ["one", "two"]


async def test_a_session_without_keys_reads_logs_and_changes_none(dial: Dialler) -> None:
    async with connect(ADDRESS, BOB, dial=dial) as bob:
        assert await bob.device_log.read(ALICE.client_id) == Extended(DeviceLog(ALICE.public_key), ())
        with pytest.raises(KeystoreError, match="no device keys"):
            await bob.device_log.revoke(ALICE.client_id)
        with pytest.raises(KeystoreError, match="no device keys"):
            _ = bob.device_log.known


async def test_keys_of_another_device_are_refused(dial: Dialler, tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="another identity or device"):
        async with connect(ADDRESS, ALICE, device=LAPTOP, store=tmp_path / "db", keys=_keys(tmp_path), dial=dial):
            pass


async def test_a_key_that_is_refused_again_ends_the_client(dial: Dialler, tmp_path: Path) -> None:
    """The name is taken by another key: to add the key to the log does not help."""
    async with connect(ADDRESS, ALICE, device=PHONE, store=tmp_path / "1.db", keys=_keys(tmp_path), dial=dial):
        pass
    with pytest.raises(AuthenticationRefused, match="another device key"):
        async with connect(
            ADDRESS, ALICE, device=PHONE, store=tmp_path / "2.db", keys=_keys(tmp_path / "copy"), dial=dial
        ):
            pass


# --- with a server that lies -----------------------------------------------------------------------------------------


class Liar:
    """A server as one sees it that asks about a log. It shows `shown`, and what it does not `take` is a conflict."""

    def __init__(self, shown: Sequence[SignedEntry], *, takes: bool = True) -> None:
        self.shown = [*shown]
        self.takes = takes
        self.asked = 0
        self.offered: list[SignedEntry] = []

    async def ask(self, message: ClientMessage, kind: type[AskedAnswer]) -> AskedAnswer:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        answer: object
        match message:
            case DeviceLogRead(first=first):
                answer = self._page(first)
            case DeviceLogAppend(entry, sig):
                answer = self._append(entry, sig)
            case _:
                raise AssertionError(f"nobody should ask for {message.verb}")
        assert isinstance(answer, kind)
        return answer

    def _page(self, first: int) -> DeviceLogPage:
        if not self.shown:
            raise Refused("not_found")
        entries = [LoggedEntry(each.entry.encode().hex(), each.signature.hex()) for each in self.shown[first:]]
        head = self.shown[-1].head
        return DeviceLogPage(ALICE.client_id, entries[:1], head.index, head.hash.hex(), more=len(entries) > 1)

    def _append(self, entry: str, sig: str) -> Accepted:
        signed = open_entry(ALICE.public_key, bytes.fromhex(entry), bytes.fromhex(sig))
        self.offered.append(signed)
        if not self.takes or signed.index != len(self.shown):
            raise Refused("conflict")
        self.shown.append(signed)
        return Accepted(NOW_MS, index=signed.index)


def _log(*keys: DeviceKeys, time_ms: int = NOW_MS) -> DeviceLog:
    log = DeviceLog(ALICE.public_key)
    for each in keys:
        log = log.append(sign_entry(ALICE, log.next_entry(LogOp.ADD, [each.key.public_key], time_ms=time_ms)))
    return log


@pytest.fixture
def phone(tmp_path: Path) -> DeviceKeys:
    return _keys(tmp_path)


@pytest.fixture
def laptop(tmp_path: Path) -> DeviceKeys:
    return _keys(tmp_path / "laptop", LAPTOP)


async def test_a_server_that_rolls_a_log_back_gets_it_again(phone: DeviceKeys, laptop: DeviceKeys) -> None:
    log = _log(phone, laptop)
    for shown in (log.entries[:0], log.entries[:1]):
        phone.keep(log)
        server = Liar(shown)
        await catch_up(server, phone, NOW_MS)
        assert server.shown == list(log.entries)
        assert phone.log == log


async def test_a_server_that_hides_a_revocation_is_found_out(phone: DeviceKeys, laptop: DeviceKeys) -> None:
    whole = _log(phone, laptop)
    server = Liar(whole.entries[:1])
    assert whole.head is not None
    assert await read_log(server, whole) == RolledBack(whole.head, whole.entries[0].head)


async def test_a_server_that_forks_a_log_leaves_evidence(tmp_path: Path, phone: DeviceKeys, laptop: DeviceKeys) -> None:
    log, other = _log(phone, laptop), _log(phone, laptop, time_ms=NOW_MS + 1)
    phone.keep(log)
    with pytest.raises(DeviceLogDisputed, match="somebody else may have it"):
        await catch_up(Liar(other.entries), phone, NOW_MS)
    assert phone.log == log
    assert (tmp_path / "identity.key.evidence").exists()
    assert isinstance(await read_log(Liar(other.entries), log), KeyCopied)


@pytest.mark.parametrize("has_log", [False, True])
async def test_a_server_that_takes_nothing_is_asked_a_bounded_number_of_times(
    phone: DeviceKeys, laptop: DeviceKeys, has_log: bool
) -> None:
    if has_log:
        phone.keep(_log(laptop))
    server = Liar((), takes=False)
    with pytest.raises(NotTheProtocol, match="takes no entry"):
        await catch_up(server, phone, NOW_MS)
    assert server.asked <= ATTEMPTS * 4
    assert len({entry.encode() for entry in server.offered}) == 1, "an index is signed once"


async def test_programs_of_one_identity_sign_an_index_once(tmp_path: Path) -> None:
    """Two devices of one identity on one computer: the second finds what the first has signed, and sends that first."""
    phone, desk = _keys(tmp_path), _keys(tmp_path, DeviceId("desk"))
    with pytest.raises(NotTheProtocol):
        await catch_up(Liar((), takes=False), phone, NOW_MS)
    server = Liar(())
    await catch_up(server, desk, NOW_MS)
    assert [device.key for device in desk.log.current] == [phone.key.public_key, desk.key.public_key]
    assert len({entry.index for entry in server.offered}) == len(server.offered) == 2
    await catch_up(server, phone, NOW_MS)
    assert phone.log == desk.log


async def test_a_log_without_room_says_so(phone: DeviceKeys) -> None:
    last = LogEntry(ALICE.public_key, MOST_ENTRIES - 1, b"\1" * 32, LogOp.SNAPSHOT, True, NOW_MS, (ALICE.public_key,))
    phone.keep(DeviceLog(ALICE.public_key).append(sign_entry(ALICE, last)))

    class Old(Liar):
        def _page(self, first: int) -> DeviceLogPage:
            return super()._page(0)

    with pytest.raises(Refused, match="4096 entries at most"):
        await catch_up(Old(phone.log.entries), phone, NOW_MS)


async def test_an_entry_without_an_answer_is_sent_again_as_it_is(phone: DeviceKeys) -> None:
    deaf = Liar((), takes=False)
    with pytest.raises(NotTheProtocol):
        await catch_up(deaf, phone, NOW_MS)
    server = Liar(())
    await catch_up(server, phone, NOW_MS + 1_000)
    assert server.shown == deaf.offered[:1]
    assert phone.unanswered is None


async def test_an_entry_that_came_too_late_is_signed_anew(phone: DeviceKeys, laptop: DeviceKeys) -> None:
    with pytest.raises(NotTheProtocol):
        await catch_up(Liar((), takes=False), phone, NOW_MS)
    server = Liar(_log(laptop).entries)
    await catch_up(server, phone, NOW_MS)
    assert [device.key for device in phone.log.current] == [laptop.key.public_key, phone.key.public_key]


async def test_what_was_meant_before_does_not_stand_for_what_is_meant_now(
    phone: DeviceKeys, laptop: DeviceKeys
) -> None:
    log = _log(phone, laptop)
    phone.keep(log, sign_entry(ALICE, log.next_entry(LogOp.REMOVE, [laptop.key.public_key], time_ms=NOW_MS)))
    server = Liar(log.entries)
    await revoke(server, phone, phone.key.public_key, NOW_MS)
    assert [entry.entry.op for entry in server.shown[2:]] == [LogOp.REMOVE, LogOp.REMOVE]
    assert phone.log.current == ()


@pytest.mark.parametrize("spoil", ["signature", "hole", "half a byte"])
async def test_what_is_no_log_is_not_taken(phone: DeviceKeys, laptop: DeviceKeys, spoil: str) -> None:
    log = _log(phone, laptop)

    class Spoiler(Liar):
        def _page(self, first: int) -> DeviceLogPage:
            page = super()._page(first + (spoil == "hole"))
            (entry,) = page.entries
            damaged = {
                "signature": LoggedEntry(entry.entry, "00" * 64),
                "hole": entry,
                "half a byte": LoggedEntry(entry.entry + "0", entry.sig),
            }
            return DeviceLogPage(page.client, [damaged[spoil]], page.index, page.head, page.more)

    with pytest.raises(NotTheProtocol, match="shows what is no"):
        await read_log(Spoiler(log.entries), DeviceLog(ALICE.public_key))


async def test_a_log_without_end_is_not_read_to_its_end(phone: DeviceKeys) -> None:
    log = _log(phone)

    class Endless(Liar):
        def _page(self, first: int) -> DeviceLogPage:
            page = super()._page(0)
            return DeviceLogPage(page.client, page.entries * 64, page.index, page.head, more=True)

    with pytest.raises(NotTheProtocol, match="more than 4096 entries"):
        await read_log(Endless(log.entries), DeviceLog(ALICE.public_key))


async def test_an_error_of_the_server_is_the_callers(phone: DeviceKeys) -> None:
    class Failing(Liar):
        def _page(self, first: int) -> DeviceLogPage:
            raise Refused("internal")

    with pytest.raises(ClientError, match="internal"):
        await catch_up(Failing(()), phone, NOW_MS)

    class Full(Liar):
        def _append(self, entry: str, sig: str) -> Accepted:
            raise Refused("quota")

    with pytest.raises(ClientError, match="quota"):
        await catch_up(Full(()), phone, NOW_MS)
