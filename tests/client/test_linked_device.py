"""A device without the identity's key: its file, its sessions, and what only an owner device can do for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from ironwire.client import (
    AuthenticationRefused,
    DeviceId,
    Identity,
    KeystoreError,
    LinkedDevice,
    Refused,
    SessionEnded,
    connect,
    keep_account,
    load_account,
    load_identity,
    open_device_keys,
    open_log,
    read_client_id,
    read_linked_device,
)
from ironwire.client.store.keystore import Cost
from ironwire.crypto.signing import DeviceKey
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from tests.client.test_with_the_server import ADDRESS, Dialler
from tests.server.in_process import serve_in_process

ALICE, BOB = (Identity.from_seed(name * 32) for name in (b"a", b"b"))
DESK, TABLET = DeviceId("desk"), DeviceId("tablet")
QUICK = Cost(1, 8192)


def _linked(seed: bytes = b"t", identity: Identity = ALICE) -> LinkedDevice:
    key = DeviceKey.from_seed(seed * 32)
    return LinkedDevice(identity.public_key, TABLET, key, issue_certificate(identity, key.public_key))


@pytest.fixture
async def dial(tmp_path: Path) -> AsyncIterator[Dialler]:
    settings = Settings(data=tmp_path / "data", auth=AuthSettings(origins=(ADDRESS.origin,), require_origin=True))
    with trio.fail_after(20):
        async with serve_in_process(create_app(settings), limits=settings.limits) as server:
            yield Dialler(server)


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_the_file_brings_the_device_back(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "identity.key"
    keep_account(path, _linked(), passphrase, cost=QUICK)
    assert load_account(path, passphrase) == _linked()
    assert read_linked_device(path) == TABLET
    assert read_client_id(path) == ALICE.client_id
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeystoreError, match="exists already"):
        keep_account(path, _linked(b"u"))
    with pytest.raises(KeystoreError, match="linked device tablet: this needs a device that has the identity's key"):
        load_identity(path, passphrase)


def test_the_file_of_an_identity_names_no_device(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    keep_account(path, ALICE)
    assert read_linked_device(path) is None
    assert load_account(path) == ALICE


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_a_changed_file_is_refused(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "identity.key"
    keep_account(path, _linked(), passphrase, cost=QUICK)
    good = path.read_bytes()
    other = tmp_path / "other.key"
    keep_account(other, _linked(identity=BOB), passphrase, cost=QUICK)
    bad = [
        good.replace(b"device=tablet ", b""),
        good.replace(b"linked", b"identity"),
        good.replace(b"plain", b"sealed") if passphrase is None else good.replace(b"sealed", b"plain"),
        good.replace(ALICE.client_id.encode(), BOB.client_id.encode()),
        other.read_bytes().split(b"\n")[0] + b"\n" + b"00" * (32 if passphrase is None else 48) + b"\n",
    ]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(KeystoreError, match="damaged"):
            load_account(path, passphrase)


def test_its_keys_are_in_that_file(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    keys = open_device_keys(path, _linked(), TABLET)
    assert keys.key == _linked().key
    assert [*tmp_path.iterdir()] == []
    keys.certificate.verify(keys.key.public_key, 0)
    with pytest.raises(KeystoreError, match="linked device tablet"):
        open_device_keys(path, _linked(), DESK)


# --- with the server -------------------------------------------------------------------------------------------------


async def test_an_owner_adds_a_linked_device_which_then_comes_by_itself(dial: Dialler, tmp_path: Path) -> None:
    linked, path = _linked(), tmp_path / "tablet" / "identity.key"
    path.parent.mkdir()
    owner_log = open_log(tmp_path / "identity.key", ALICE)
    async with connect(ADDRESS, ALICE, log=owner_log, dial=dial) as owner:
        with pytest.raises(AuthenticationRefused, match="Device not in the device log"):
            async with connect(
                ADDRESS,
                linked,
                device=TABLET,
                store=tmp_path / "tablet.db",
                keys=open_device_keys(path, linked, TABLET),
                dial=dial,
            ):
                pass
        await owner.device_log.add(linked.key.public_key.raw.hex())
        (device,) = owner.device_log.known.current
        assert not device.is_owner
        keys = open_device_keys(path, linked, TABLET)
        async with connect(
            ADDRESS, linked, device=TABLET, store=tmp_path / "tablet.db", keys=keys, dial=dial
        ) as tablet:
            assert tablet.client_id == ALICE.client_id
            assert tablet.device_log.known == owner.device_log.known
            assert [each.device for each in await owner.devices()] == [TABLET]
            with pytest.raises(KeystoreError, match="cannot change the device log"):
                await tablet.device_log.revoke(linked.key.public_key.raw.hex())
            await owner.device_log.revoke(linked.key.public_key.raw.hex())
            with pytest.raises(SessionEnded, match="revoked"):
                async for _ in tablet:
                    pass
        with pytest.raises(Refused, match="does not come back"):
            await owner.device_log.add(linked.key.public_key.raw.hex())


async def test_a_linked_device_does_nothing_without_its_keys(dial: Dialler, tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="connect as the device tablet"):
        async with connect(ADDRESS, _linked(), dial=dial):
            pass


async def test_who_has_lost_all_devices_begins_anew(dial: Dialler, tmp_path: Path) -> None:
    for name in ("desk", "tablet"):
        (tmp_path / name).mkdir()
        keys = open_device_keys(tmp_path / name / "identity.key", ALICE, DeviceId(name))
        store = tmp_path / f"{name}.db"
        async with connect(ADDRESS, ALICE, device=keys.device, store=store, keys=keys, dial=dial):
            pass
    (tmp_path / "new").mkdir()
    new = open_device_keys(tmp_path / "new" / "identity.key", ALICE, DeviceId("new"))
    async with connect(ADDRESS, ALICE, log=open_log(tmp_path / "new" / "identity.key", ALICE), dial=dial) as alice:
        assert len((await alice.device_log.update()).current) == 2
        await alice.device_log.only(new.key.public_key.raw.hex())
        (left,) = alice.device_log.known.current
        assert (left.key, left.is_owner) == (new.key.public_key, True)
        assert await alice.devices() == []
    again = open_device_keys(tmp_path / "new" / "identity.key", ALICE, DeviceId("new"))
    assert again.is_logged
    async with connect(ADDRESS, ALICE, device=again.device, store=tmp_path / "new.db", keys=again, dial=dial) as alice:
        assert alice.device_log.known.next_index == 3
