"""`GET /media/<uuid4>.bin`, docs/protocol.md, section 8, and the ranges of RFC 9110, section 14."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from quart_trio import QuartTrio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from ironwire.ids import BlobName, media_path
from ironwire.limits import Limits
from ironwire.server.http.media import media_routes, requested_range
from ironwire.store.files.blobs import CHUNK_BYTES, Blobs

from .http_toy import app_of, parse_response
from .in_process import InProcessServer, serve_in_process

LIMITS = Limits()
CONTENT = bytes(range(100))


@pytest.fixture
async def blobs(tmp_path: Path) -> Blobs:
    blobs = Blobs(tmp_path / "media")
    await blobs.sweep()
    return blobs


@pytest.fixture
def app(blobs: Blobs) -> QuartTrio:
    return app_of(media_routes(blobs))


@pytest.fixture
async def name(blobs: Blobs) -> BlobName:
    return await store(blobs, CONTENT)


@pytest.fixture
async def server(app: QuartTrio) -> AsyncIterator[InProcessServer]:
    async with serve_in_process(app, limits=LIMITS) as server:
        yield server


async def store(blobs: Blobs, content: bytes) -> BlobName:
    async with blobs.writer() as writer:
        await writer.write(content)
        return (await writer.commit()).name


def get(target: str, *headers: bytes, method: bytes = b"GET") -> bytes:
    lines = [b"%s %s HTTP/1.1" % (method, target.encode()), b"Host: localhost", b"Connection: close", *headers]
    return b"\r\n".join([*lines, b"", b""])


def etag_of(name: BlobName) -> str:
    return f'"{name.removesuffix(".bin")}"'


async def test_a_blob_is_a_download_and_nothing_else(app: QuartTrio, name: BlobName) -> None:
    response = await app.test_client().get(media_path(name))
    assert response.status_code == 200
    assert await response.get_data(as_text=False) == CONTENT
    assert {field.title(): value for field, value in response.headers} == {
        "Content-Type": "application/octet-stream",
        "Content-Length": "100",
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Etag": etag_of(name),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, immutable, max-age=31536000",
    }


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
async def test_every_size_arrives_whole(server: InProcessServer, blobs: Blobs, size: int) -> None:
    content = os.urandom(size)
    response = parse_response(await server.request(get(media_path(await store(blobs, content)))))
    assert (response.status, response.headers["content-length"]) == (200, str(size))
    assert response.body == content


@pytest.mark.parametrize("extra", [b"X-Nothing: 1", b"Range: bytes=10-19"])
async def test_head_is_get_without_the_body(server: InProcessServer, name: BlobName, extra: bytes) -> None:
    got = parse_response(await server.request(get(media_path(name), extra)))
    head = parse_response(await server.request(get(media_path(name), extra, method=b"HEAD")))
    assert head.body == b""
    assert (head.status, head.headers | {"date": ""}) == (got.status, got.headers | {"date": ""})


@pytest.mark.parametrize(
    ("header", "content_range", "body"),
    [
        ("bytes=0-0", "bytes 0-0/100", CONTENT[:1]),
        ("bytes=10-19", "bytes 10-19/100", CONTENT[10:20]),
        ("bytes=90-", "bytes 90-99/100", CONTENT[90:]),
        ("bytes=-5", "bytes 95-99/100", CONTENT[95:]),
        ("bytes=-500", "bytes 0-99/100", CONTENT),
        ("bytes=50-5000", "bytes 50-99/100", CONTENT[50:]),
        ("BYTES= 1-2 ", "bytes 1-2/100", CONTENT[1:3]),
    ],
)
async def test_a_part_is_served(app: QuartTrio, name: BlobName, header: str, content_range: str, body: bytes) -> None:
    response = await app.test_client().get(media_path(name), headers={"Range": header})
    assert (response.status_code, response.headers["Content-Range"]) == (206, content_range)
    assert response.headers["Content-Length"] == str(len(body))
    assert await response.get_data(as_text=False) == body


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=999999999999999999-"])
async def test_a_part_that_is_not_there_is_refused(app: QuartTrio, name: BlobName, header: str) -> None:
    response = await app.test_client().get(media_path(name), headers={"Range": header})
    assert (response.status_code, response.headers["Content-Range"]) == (416, "bytes */100")
    assert (await response.get_json())["error"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    "header",
    ["bytes=5-4", "bytes=-", "bytes=", "bytes", "lines=0-1", "bytes=0-1,5-6", "bytes=a-b", "bytes=٣-٤", "bytes=0-1-2"],
)
async def test_a_range_that_is_not_one_is_ignored(app: QuartTrio, name: BlobName, header: str) -> None:
    response = await app.test_client().get(media_path(name), headers={"Range": header})
    assert response.status_code == 200
    assert "Content-Range" not in response.headers
    assert await response.get_data(as_text=False) == CONTENT


@given(size=st.integers(0, 30), first=st.integers(0, 35), last=st.none() | st.integers(0, 35))
def test_a_range_is_the_positions_it_names(size: int, first: int, last: int | None) -> None:
    found = requested_range(f"bytes={first}-{'' if last is None else last}", size)
    if last is not None and last < first:
        assert found is None
    else:
        assert found is not None
        assert list(found) == [at for at in range(size) if at >= first and (last is None or at <= last)]


@given(size=st.integers(1, 30), count=st.integers(0, 35))
def test_a_suffix_is_the_last_positions(size: int, count: int) -> None:
    found = requested_range(f"bytes=-{count}", size)
    assert found is not None
    assert list(found) == [at for at in range(size) if size - at <= count]


@given(st.text() | st.from_regex(r"bytes=[0-9,\- ]*", fullmatch=True), st.integers(0, 10**6))
@example("bytes=" + "9" * 5_000 + "-", 10)  # more digits than int() takes
@example("bytes=-1", 0)
@example("bytes=0-0\n", 10)
def test_any_range_is_refused_ignored_or_within_the_file(header: str, size: int) -> None:
    found = requested_range(header, size)
    assert found is None or list(found[:1]) == [] or 0 <= found[0] <= found[-1] < size


@pytest.mark.parametrize("template", ["{}", "W/{}", "*", '"other", {}', '"other" , W/{}'])
async def test_a_copy_that_is_still_good_is_not_sent_again(app: QuartTrio, name: BlobName, template: str) -> None:
    headers = {"If-None-Match": template.format(etag_of(name)), "Range": "bytes=0-1"}
    response = await app.test_client().get(media_path(name), headers=headers)
    assert response.status_code == 304
    assert await response.get_data(as_text=False) == b""
    assert response.headers["ETag"] == etag_of(name)
    assert "immutable" in response.headers["Cache-Control"]


async def test_another_copy_is_sent_again(app: QuartTrio, name: BlobName) -> None:
    response = await app.test_client().get(media_path(name), headers={"If-None-Match": '"other"'})
    assert (response.status_code, await response.get_data(as_text=False)) == (200, CONTENT)


@pytest.mark.parametrize(
    ("template", "status"), [("{}", 200), ("*", 200), ('"other", {}', 200), ('"other"', 412), ("W/{}", 412), ("", 412)]
)
async def test_a_blob_that_must_match(app: QuartTrio, name: BlobName, template: str, status: int) -> None:
    response = await app.test_client().get(media_path(name), headers={"If-Match": template.format(etag_of(name))})
    assert response.status_code == status


@pytest.mark.parametrize(
    ("template", "status"),
    [("{}", 206), ("W/{}", 200), ('"other"', 200), ("Sun, 06 Nov 1994 08:49:37 GMT", 200)],
)
async def test_a_download_goes_on_only_with_the_same_file(
    app: QuartTrio, name: BlobName, template: str, status: int
) -> None:
    headers = {"Range": "bytes=10-", "If-Range": template.format(etag_of(name))}
    assert (await app.test_client().get(media_path(name), headers=headers)).status_code == status


SECRET = "nobody may read this"
UUID = "0f1e2d3c-4b5a-4697-8877-665544332211"


@pytest.mark.parametrize(
    "target",
    [
        f"/media/{UUID}.bin",
        f"/media/{UUID}.part",
        f"/media/{UUID}",
        f"/media/{UUID.upper()}.bin",
        f"/media/{UUID}.bin%00",
        f"/media/{UUID}.bin%0A",
        f"/media/{UUID}.bin/",
        f"/media//{UUID}.bin",
        f"/media/./{UUID}.bin",
        "/media/",
        "/media/.",
        "/media/..",
        "/media/../secret",
        "/media/%2e%2e/secret",
        "/media/..%2fsecret",
        "/media/%2e%2e%2fsecret",
        "/media/..%5csecret",
        "/media/%252e%252e%252fsecret",
        "/media//etc/passwd",
        "/media/%2fetc%2fpasswd",
        "/media/%00",
        "/media/%ff%fe",
        "/media/" + "a" * 5_000,
        "/media/" + "../" * 50 + "etc/passwd",
    ],
)
async def test_nothing_leaves_the_folder(server: InProcessServer, blobs: Blobs, target: str) -> None:
    secret = blobs.folder.parent / "secret"
    secret.write_text(SECRET)
    (blobs.folder / f"{UUID}.bin").symlink_to(secret)
    (blobs.folder / f"{UUID}.part").write_text(SECRET)
    (blobs.folder / UUID).write_text(SECRET)
    response = parse_response(await server.request(get(target)))
    assert response.status == 404
    assert response.json["error"] == "not_found"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_reader_that_leaves_closes_the_file(server: InProcessServer, blobs: Blobs) -> None:
    name = await store(blobs, bytes(4 * CHUNK_BYTES))
    stream = server.open_stream(lockstep_stream_pair)
    with trio.fail_after(5):
        await stream.send_all(get(media_path(name)))
        while blobs.statistics().downloads_running == 0:
            assert await stream.receive_some()
        await trio.aclose_forcefully(stream)
        while blobs.statistics().downloads_running:
            await wait_all_tasks_blocked()


async def test_a_slow_reader_gets_everything(server: InProcessServer, blobs: Blobs, mock_clock: MockClock) -> None:
    name = await store(blobs, bytes(20 * CHUNK_BYTES))
    received = b""
    async with server.open_stream(lockstep_stream_pair) as stream:
        await stream.send_all(get(media_path(name)))
        while data := await stream.receive_some():
            received += data
            if mock_clock.current_time() < 100:
                mock_clock.jump(0.9 * LIMITS.write_seconds)
                await wait_all_tasks_blocked()
    assert mock_clock.current_time() > 60  # after which Quart cuts a response by default
    assert len(parse_response(received).body) == 20 * CHUNK_BYTES


class _CutBlobs(Blobs):
    """Somebody cuts each file short after its size was looked up."""

    async def size_bytes(self, name: BlobName) -> int | None:
        size_bytes = await super().size_bytes(name)
        os.truncate(self.folder / name, CHUNK_BYTES)
        return size_bytes


async def test_a_file_that_was_cut_short_ends_the_connection(blobs: Blobs) -> None:
    name = await store(blobs, bytes(3 * CHUNK_BYTES))
    app = app_of(media_routes(_CutBlobs(blobs.folder)))
    async with serve_in_process(app) as cutting:
        response = parse_response(await cutting.request(get(media_path(name))))
    assert response.status == 200
    assert len(response.body) < int(response.headers["content-length"])
