"""Backups and links: the client library at the server of this project, and at servers that do otherwise."""

import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from ironwire.client import Identity, ServerAddress, TransferFailed, connect
from ironwire.client.linking import POLL_SECONDS, leave_answer, wait_for_answer
from ironwire.client.recovery import fetch_backup, remove_backup, store_backup
from ironwire.e2e.backup import seal_backup
from ironwire.e2e.linking import LinkOffer, PendingLink, parse_link_text
from ironwire.e2e.recovery import RecoveryCode, parse_recovery_code
from ironwire.errors import InvalidBackup, InvalidLink
from ironwire.ids import Origin
from ironwire.limits import BACKUP_BYTES, Limits
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from ironwire.store.memory.store import MemoryStore
from tests.client.test_transfer import Http, answer, ok, serving
from tests.client.test_with_the_server import ADDRESS, ALICE, BOB, Dialler
from tests.e2e.link_vectors import LOG, OFFER, OWN, PHONE
from tests.e2e.recovery_vectors import CODE, a_backup
from tests.server.in_process import serve_in_process

NOW_MS = 1_790_000_000_000


@pytest.fixture
async def dial(tmp_path: Path, mock_clock: MockClock) -> AsyncIterator[Dialler]:
    mock_clock.autojump_threshold = math.inf  # a test in which time passes says so
    settings = Settings(data=tmp_path / "data", auth=AuthSettings(origins=(ADDRESS.origin,)), limits=Limits())
    app = create_app(settings, open_store=MemoryStore)
    async with serve_in_process(app, limits=settings.limits) as server:
        yield Dialler(server)


async def token_of(dial: Dialler, identity: Identity) -> str:
    async with connect(ADDRESS, identity, dial=dial) as client:
        return await client.upload_token()


def now_ms() -> int:
    return NOW_MS + round(trio.current_time() * 1000)


# --- backups ---------------------------------------------------------------------------------------------------------


async def test_a_backup_comes_back_by_the_code_alone(dial: Dialler) -> None:
    assert await fetch_backup(ADDRESS, CODE, dial=dial) is None
    for number in (7, 8):
        await store_backup(ADDRESS, a_backup(number), CODE, token=await token_of(dial, ALICE), dial=dial)
        assert await fetch_backup(ADDRESS, parse_recovery_code(CODE.text), at_least=number, dial=dial) == a_backup(
            number
        )
    assert await fetch_backup(ADDRESS, RecoveryCode.generate(), dial=dial) is None
    await remove_backup(ADDRESS, CODE, token=await token_of(dial, ALICE), dial=dial)
    assert await fetch_backup(ADDRESS, CODE, dial=dial) is None


async def test_a_refusal_is_told(dial: Dialler) -> None:
    await store_backup(ADDRESS, a_backup(), CODE, token=await token_of(dial, ALICE), dial=dial)
    with pytest.raises(TransferFailed, match="another client") as refused:
        await store_backup(ADDRESS, a_backup(), CODE, token=await token_of(dial, BOB), dial=dial)
    assert refused.value.status == 403
    with pytest.raises(TransferFailed, match="token"):
        await remove_backup(ADDRESS, CODE, token="none", dial=dial)


@pytest.mark.parametrize(
    "kept",
    [
        lambda blob: b"",
        lambda blob: blob[:-1],
        lambda blob: seal_backup(a_backup(6), CODE),
        lambda blob: bytes(BACKUP_BYTES + 1),
    ],
)
async def test_what_was_kept_otherwise_is_not_saved(kept: Callable[[bytes], bytes]) -> None:
    blobs: list[bytes] = []

    def answers(body: bytes) -> bytes:
        blobs.append(body)
        return ok(kept(blobs[0])) if len(blobs) == 2 else ok(b"{}")

    async with serving(Http(answers)) as address:
        with pytest.raises(TransferFailed):
            await store_backup(address, a_backup(), CODE, token="t")


async def test_a_server_that_has_forgotten_it_has_not_saved_it() -> None:
    answers = iter([ok(b"{}"), answer("404 Not Found", b"{}")])
    async with serving(Http(lambda _: next(answers))) as address:
        with pytest.raises(TransferFailed, match="another backup"):
            await store_backup(address, a_backup(), CODE, token="t")


async def test_an_old_backup_is_refused(dial: Dialler) -> None:
    await store_backup(ADDRESS, a_backup(7), CODE, token=await token_of(dial, ALICE), dial=dial)
    with pytest.raises(InvalidBackup, match="old backup"):
        await fetch_backup(ADDRESS, CODE, at_least=8, dial=dial)


async def test_a_server_that_fails_is_no_server_without_a_backup() -> None:
    async with serving(Http(lambda _: answer("500 Internal", b'{"error":"internal","detail":"later"}'))) as address:
        with pytest.raises(TransferFailed, match="later"):
            await fetch_backup(address, CODE)


# --- links -----------------------------------------------------------------------------------------------------------


def pending() -> PendingLink:
    return PendingLink.begin(ADDRESS.origin, PHONE.public_key, now_ms())


async def test_a_new_device_waits_for_its_answer(dial: Dialler, mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    link = pending()
    found: list[LinkOffer] = []

    async def wait() -> None:
        found.append(await wait_for_answer(ADDRESS, link, now_ms, dial))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(100)
        assert not found
        await leave_answer(ADDRESS, parse_link_text(link.request.text), OFFER, dial)
        await trio.sleep(POLL_SECONDS + 1)
        assert found == [OFFER]


async def test_it_waits_five_minutes_and_no_longer(dial: Dialler, mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    link, began = pending(), trio.current_time()
    with pytest.raises(InvalidLink, match="five minutes"):
        await wait_for_answer(ADDRESS, link, now_ms, dial)
    assert 300 <= trio.current_time() - began < 300 + 2 * POLL_SECONDS


async def test_an_answer_for_somebody_else_is_refused(dial: Dialler) -> None:
    link = pending()
    other = attrs.evolve(link.request, secret=bytes(16))
    await leave_answer(ADDRESS, other, LinkOffer.make(issue_certificate(BOB, PHONE.public_key), LOG, OWN), dial)
    with pytest.raises(InvalidLink, match="has seen this text"):
        await wait_for_answer(ADDRESS, link, now_ms, dial)


async def test_two_owners_do_not_answer_one_device(dial: Dialler) -> None:
    link = pending()
    await leave_answer(ADDRESS, link.request, OFFER, dial)
    with pytest.raises(TransferFailed, match="another answer") as refused:
        await leave_answer(ADDRESS, link.request, OFFER, dial)
    assert refused.value.status == 409
    with pytest.raises(InvalidLink, match="wants to be linked at"):
        await leave_answer(ADDRESS, attrs.evolve(link.request, origin=Origin("https://x.example")), OFFER, dial)


async def test_a_server_that_fails_is_not_asked_again() -> None:
    async with serving(Http(lambda _: answer("500 Internal", b"x" * 100))) as address:
        link = PendingLink.begin(address.origin, PHONE.public_key, NOW_MS)
        with pytest.raises(TransferFailed, match="refused"):
            await wait_for_answer(ServerAddress.parse(address.origin), link, lambda: NOW_MS)
