"""Limits on unauthenticated peers, as they meet them: a proxy that is trusted plays many addresses in one process."""

import hashlib
import json
import math
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from ironwire.limits import Limits
from ironwire.server.operator.config import AuthSettings, UploadSettings
from ironwire.store.invites import Invites
from tests.playbook import NOW_MS, Stage, identity_of, open_stage
from tests.server.http_toy import RawResponse, parse_response
from tests.server.in_process import read_to_end
from tests.server.raw_client import upgrade_request


def coming_from(address: str) -> list[bytes]:
    return [b"X-Forwarded-For: " + address.encode()]


async def rejection(stage: Stage, *headers: bytes) -> RawResponse:
    """The answer to a request for a socket that is not answered with 101."""
    return parse_response(await stage.server.request(upgrade_request("/ws", *headers)))


# --- connections -----------------------------------------------------------------------------------------------------


async def test_an_address_with_too_many_sockets_gets_429_and_others_do_not(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(connections_per_address=2)) as stage:
        await stage.connect("alice", "bob", headers=coming_from("192.0.2.1"))
        refused = await rejection(stage, *coming_from("192.0.2.1"))
        assert (refused.status, refused.headers["retry-after"]) == (429, "10")
        await stage.connect("carol", headers=coming_from("192.0.2.2"))
        await stage.connect("dave")
        await stage.authenticate("carol")
        await stage.actors["alice"].hang_up()
        await stage.play("... 1 s")
        await stage.connect("alice", headers=coming_from("192.0.2.1"))
        await stage.authenticate("alice")


async def test_an_ipv6_network_is_one_address(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(connections_per_address=1)) as stage:
        await stage.connect("alice", headers=coming_from("2001:db8:1:2::1"))
        assert (await rejection(stage, *coming_from("2001:db8:1:2:ffff::9"))).status == 429
        await stage.connect("bob", headers=coming_from("2001:db8:1:3::1"))


async def test_who_has_authenticated_makes_room(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(unauthenticated_per_address=1)) as stage:
        await stage.connect("alice", headers=coming_from("192.0.2.1"))
        assert (await rejection(stage, *coming_from("192.0.2.1"))).status == 429
        await stage.authenticate("alice")
        await stage.connect("bob", headers=coming_from("192.0.2.1"))


async def test_one_connection_too_many_is_closed_without_a_word(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(connections=2)) as stage:
        await stage.enter("alice", "bob")
        assert await stage.server.request(upgrade_request("/ws")) == b""
        assert await stage.server.request(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        await stage.actors["bob"].hang_up()
        await stage.play("... 1 s")
        await stage.enter("carol")
        await stage.play("""
            alice >> {"type":"text","payload":{"to":"$carol","text":"Hello"}}
            carol << {"type":"text","payload":{"from":"$alice","text":"Hello"}}
        """)


# --- browsers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        ((), b"http://127.0.0.1", 101),
        ((), b"http://localhost", 101),
        ((), b"http://evil.example", 403),
        ((), b"null", 403),
        (("https://chat.example",), b"https://chat.example", 101),
        (("https://chat.example",), b"https://app.example", 101),
        (("https://chat.example",), b"http://chat.example", 403),
        (("https://chat.example",), b"http://localhost", 403),
    ],
)
async def test_a_socket_opens_for_pages_of_this_server_and_of_those_that_the_operator_names(
    mock_clock: MockClock, origins: Sequence[str], origin: bytes, status: int
) -> None:
    auth = AuthSettings(origins=origins, web_origins=("https://app.example",))
    async with open_stage(auth=auth) as stage:
        if status == 101:
            await stage.connect("alice", headers=[b"Origin: " + origin])
            await stage.authenticate("alice")
        else:
            assert (await rejection(stage, b"Origin: " + origin)).status == status


# --- authentication --------------------------------------------------------------------------------------------------


async def test_attempts_to_authenticate_are_limited_for_an_address(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(attempts_per_minute=1)) as stage:
        await stage.connect("alice", "mallory", headers=coming_from("192.0.2.1"))
        await stage.connect("bob", headers=coming_from("192.0.2.2"))
        await stage.authenticate("alice")
        await stage.authenticate("bob")
        await stage.play("""
            mallory >> {"type":"auth","id":"1","payload":{"token":"not even a key"}}
            mallory << {"type":"error","id":"1","payload":{"msg":"rate_limited","retry_after_ms":60001}}
            mallory >> {"type":"auth","payload":{"token":"$mallory"}}
            mallory << {"type":"error","payload":{"msg":"rate_limited","retry_after_ms":60001}}
            mallory >> {"type":"auth","payload":{"token":"$mallory"}}
            mallory << {"type":"error","payload":{"msg":"rate_limited","retry_after_ms":60001}}
            mallory << close 1013 too much, for too long
            ... 61 s
        """)
        await stage.connect("mallory", headers=coming_from("192.0.2.1"))
        await stage.authenticate("mallory")


async def test_whoever_talks_on_before_authentication_is_closed(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("mallory")
        await stage.play("\n".join(["mallory >> []"] * 1_001))
        for _ in range(1_001):
            await stage.next_text("mallory")
        await stage.play("mallory << close 1013 too much, for too long")


async def test_new_devices_are_limited_for_an_address(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(registrations_per_hour=1)) as stage:
        await stage.connect("alice", "bob", "bob.tablet", headers=coming_from("192.0.2.1"))
        await stage.authenticate("alice", device="phone")
        await stage.play("""
            bob        >> {"type":"auth","payload":{"token":"$bob","device":"phone"}}
            bob        << {"type":"auth_challenge","challenge":"$nonce"}
            bob        >> {"type":"verify","payload":{"attempt":"$bob_signs"}}
            bob        << close 1013 too many new devices from this address
        """)
        await stage.authenticate("bob.tablet")
        await stage.connect("alice.again", headers=coming_from("192.0.2.1"))
        await stage.authenticate("alice.again", device="phone")
        await stage.play("alice << close 4409 replaced by a newer session of this device")


async def test_what_is_kept_for_good_is_limited_for_an_address_as_devices_are(mock_clock: MockClock) -> None:
    """Identities cost nothing, and neither groups nor blocks expire."""
    async with open_stage(limits=Limits(registrations_per_hour=2)) as stage:
        await stage.connect("alice", "bob", "carol", headers=coming_from("192.0.2.1"))
        await stage.authenticate("alice", device="phone")
        await stage.authenticate("bob")
        await stage.authenticate("carol")
        await stage.play("""bob >> {"type":"group_create","payload":{"clients":["$alice"]}}""")
        for member in ("bob", "alice"):
            assert "group_changed" in await stage.next_text(member)
        await stage.play("""
            bob   >> {"type":"group_create","id":"2","payload":{"clients":["$alice"]}}
            bob   << {"type":"error","id":"2","payload":{"msg":"rate_limited","retry_after_ms":1800000}}
            carol >> {"type":"block","id":"1","payload":{"client":"$bob"}}
            carol << {"type":"error","id":"1","payload":{"msg":"rate_limited","retry_after_ms":1800000}}
            alice >> {"type":"block","id":"1","payload":{"client":"$bob"}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
        """)


# --- registration ----------------------------------------------------------------------------------------------------


async def refused(stage: Stage, actor: str, payload: str, why: str = "") -> None:
    await stage.connect(actor)
    await stage.play(f"""
        {actor} >> {{"type":"auth","payload":{{"token":"${actor}"{payload}}}}}
        {actor} << {{"type":"auth_challenge","challenge":"$nonce"}}
        {actor} >> {{"type":"verify","payload":{{"attempt":"${actor}_signs"}}}}
        {actor} << close 1008 Not registered here{why}
    """)


async def test_with_a_list_those_come_who_are_on_it_or_have_a_device(mock_clock: MockClock, tmp_path: Path) -> None:
    allow_list = tmp_path / "clients"
    allow_list.write_text(f"{identity_of('alice').client_id}\n{identity_of('bob').client_id}\n")
    auth = AuthSettings(registration="allow-list", allow_list=allow_list)
    async with open_stage(auth=auth) as stage:
        await stage.enter("alice", device="phone")
        await stage.enter("bob")
        await refused(stage, "carol", "")
        allow_list.write_text(f"{identity_of('carol').client_id}\n")
        await stage.enter("carol")
        await stage.enter("alice.laptop", device="laptop")
        await refused(stage, "bob", "")


async def test_an_invite_makes_a_device_known(mock_clock: MockClock, tmp_path: Path) -> None:
    async with open_stage(auth=AuthSettings(registration="invite"), data=tmp_path) as stage:
        invite = Invites(tmp_path / "invites", lambda: NOW_MS).make(1, 1)
        await refused(stage, "alice", "", ": an invite is needed")
        await refused(stage, "alice", ',"device":"phone"', ": an invite is needed")
        await refused(stage, "alice", f',"invite":"{invite}"', ": an invite is needed")
        await refused(stage, "alice", ',"device":"phone","invite":"a guess"', ": there is no such invite")
        await stage.connect("alice")
        await stage.play(f"""
            alice >> {{"type":"auth","payload":{{"token":"$alice","device":"phone","invite":"{invite}"}}}}
            alice << {{"type":"auth_challenge","challenge":"$nonce"}}
            alice >> {{"type":"verify","payload":{{"attempt":"$alice_signs"}}}}
        """)
        assert json.loads(await stage.next_text("alice"))["type"] == "auth_ok"
        await refused(stage, "bob", f',"device":"phone","invite":"{invite}"', ": the invite is used up or has ended")
        await stage.enter("alice.laptop", device="laptop")
        await stage.enter("alice.seed")


# --- uploads ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_timeless_stage(clock: MockClock, **settings: Any) -> AsyncIterator[Stage]:
    """A stage on which no time passes: files are written in threads, for which a clock that jumps would not wait."""
    async with open_stage(random_bytes=os.urandom, **settings) as stage:
        clock.autojump_threshold = math.inf
        yield stage


async def upload(stage: Stage, body: bytes, *headers: bytes) -> RawResponse:
    lines = [b"POST /upload HTTP/1.1", b"Host: localhost", b"Connection: close", *headers]
    if not any(header.lower().startswith(b"transfer-encoding") for header in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return parse_response(await stage.server.request(b"\r\n".join([*lines, b"", body])))


async def test_uploads_are_limited_for_an_address(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock, limits=Limits(uploads_per_minute=2)) as stage:
        answers = [await upload(stage, b"a file", *coming_from("192.0.2.1")) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[-1].json["error"] == "rate_limited"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 30
        assert (await upload(stage, b"a file", *coming_from("192.0.2.2"))).status == 200
        assert [(await upload(stage, b"a file")).status for _ in range(4)] == [200] * 4
        mock_clock.jump(30)
        assert (await upload(stage, b"a file", *coming_from("192.0.2.1"))).status == 200


async def test_what_is_uploaded_in_an_hour_is_limited_in_bytes(mock_clock: MockClock) -> None:
    in_pieces = b"5\r\n12345\r\n6\r\n123456\r\n0\r\n\r\n"
    async with open_timeless_stage(mock_clock, limits=Limits(upload_bytes_per_hour=10)) as stage:
        chunked = partial(upload, stage, in_pieces, b"Transfer-Encoding: chunked")
        assert (await upload(stage, b"123456", *coming_from("192.0.2.1"))).status == 200
        assert (await upload(stage, b"123456", *coming_from("192.0.2.1"))).status == 429
        assert (await upload(stage, b"1234", *coming_from("192.0.2.1"))).status == 200
        assert (await upload(stage, b"1", *coming_from("192.0.2.2"))).status == 200
        assert (await chunked(*coming_from("192.0.2.2"))).status == 429
        assert (await chunked()).status == 200


async def test_uploads_at_a_time_are_limited(mock_clock: MockClock) -> None:
    limits = Limits(uploads_at_a_time=2, uploads_at_a_time_per_address=1)
    begun = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\nabc"
    async with open_timeless_stage(mock_clock, limits=limits) as stage:
        streams = []
        for address in (1, 2):
            streams.append(stage.server.open_stream(memory_stream_pair))
            await streams[-1].send_all(begun % address)
            await wait_all_tasks_blocked()
            assert (await upload(stage, b"a file", *coming_from("192.0.2.1"))).status == 429
        assert (await upload(stage, b"a file", *coming_from("192.0.2.3"))).status == 429
        await streams[0].send_all(b"def")
        assert b" 200 " in await streams[0].receive_some()
        assert (await upload(stage, b"a file", *coming_from("192.0.2.1"))).status == 200


async def test_a_file_is_uploaded_with_a_token_once(mock_clock: MockClock) -> None:
    content = b"a file"
    async with open_timeless_stage(mock_clock, upload=UploadSettings(auth="token", expire_days=2)) as stage:
        assert (await upload(stage, content)).headers["www-authenticate"] == "ironwire"
        await stage.enter("alice")
        await stage.play('alice >> {"type":"upload_token","id":"1","payload":{"size":6}}')
        granted = json.loads(await stage.next_text("alice"))
        assert (granted["type"], granted["id"], granted["payload"]["size"]) == ("upload_token", "1", 6)
        assert granted["payload"]["expires"] == NOW_MS + 600_000
        bearing = b"Authorization: IronWire " + granted["payload"]["token"].encode()
        answer = await upload(stage, content, bearing)
        assert answer.status == 200
        assert answer.json == {
            "url": answer.json["url"],
            "size": 6,
            "sha256": hashlib.sha256(content).hexdigest(),
            "expires": NOW_MS + 2 * 86_400_000,
        }
        again = await upload(stage, content, bearing)
        assert (again.status, again.json["error"]) == (401, "unauthorized")


async def test_a_token_is_for_so_many_bytes(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        await stage.enter("alice")
        await stage.play('alice >> {"type":"upload_token","payload":{"size":5}}')
        token = json.loads(await stage.next_text("alice"))["payload"]["token"]
        assert (await upload(stage, b"a file", b"Authorization: IronWire " + token.encode())).status == 413
        assert (await upload(stage, b"a file", b"Authorization: IronWire " + token.encode())).status == 401
        await stage.play("""
            alice >> {"type":"upload_token","payload":{"size":31457281}}
            alice << {"type":"error","payload":{"msg":"too_large","detail":"a file may have 31457280 bytes at most"}}
        """)


async def test_uploads_are_limited_for_a_client_wherever_it_is(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock, limits=Limits(uploads_per_minute=1)) as stage:
        await stage.enter("alice")
        statuses = []
        for address in ("192.0.2.1", "192.0.2.2"):
            await stage.play('alice >> {"type":"upload_token","payload":{}}')
            token = json.loads(await stage.next_text("alice"))["payload"]["token"]
            bearing = b"Authorization: IronWire " + token.encode()
            statuses.append((await upload(stage, b"a file", bearing, *coming_from(address))).status)
        assert statuses == [200, 429]


async def test_files_have_so_much_room(mock_clock: MockClock) -> None:
    async with open_timeless_stage(
        mock_clock,
        upload=UploadSettings(quota_bytes=10),
    ) as stage:
        assert (await upload(stage, b"123456")).status == 200
        full = await upload(stage, b"12345")
        assert (full.status, full.json["error"]) == (507, "storage_full")
        chunked = await upload(stage, b"5\r\n12345\r\n0\r\n\r\n", b"Transfer-Encoding: chunked")
        assert chunked.status == 507
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"upload_token","payload":{"size":5}}
            alice << {"type":"error","payload":{"msg":"quota","detail":"the server has no room left for files"}}
        """)
        assert (await upload(stage, b"1234")).status == 200


async def test_only_a_server_that_wants_tokens_says_so(mock_clock: MockClock) -> None:
    features = []
    for auth in ("open", "token"):
        async with open_stage(upload=UploadSettings(auth=auth)) as stage:
            await stage.connect("alice")
            await stage.play("""
                alice >> {"type":"auth","payload":{"token":"$alice","device":"phone"}}
                alice << {"type":"auth_challenge","challenge":"$nonce"}
                alice >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            """)
            features.append(json.loads(await stage.next_text("alice"))["payload"]["features"])
    assert features == [["mls"], ["upload_token", "mls"]]


# --- a proxy on a Unix socket ----------------------------------------------------------------------------------------


@frozen
class UnixSocket:
    """What the guard asks the socket of a peer that has no address."""

    family: int = socket.AF_UNIX

    def getpeername(self) -> str:
        return ""

    def getsockname(self) -> str:
        return "/run/ironwire.sock"


async def upload_by_unix_socket(stage: Stage, forwarded_for: str | None) -> int:
    header = "" if forwarded_for is None else f"X-Forwarded-For: {forwarded_for}\r\n"
    async with stage.server.open_stream(fake_socket=UnixSocket()) as stream:
        request = f"POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{header}Content-Length: 0\r\n\r\n"
        await stream.send_all(request.encode())
        return parse_response(await read_to_end(stream)).status


async def test_who_comes_by_a_unix_socket_is_limited_as_the_proxy_names_them(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock, limits=Limits(uploads_per_minute=2)) as stage:
        named = [await upload_by_unix_socket(stage, f"203.0.113.{last}") for last in (1, 1, 1, 2)]
        nameless = [await upload_by_unix_socket(stage, None) for _ in range(3)]
    assert named == [200, 200, 429, 200]
    assert nameless == [200, 200, 429]


async def test_sockets_that_come_by_a_unix_socket_are_limited_too(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(connections_per_address=2)) as stage:

        async def answer(*headers: bytes) -> int:
            stream = stage.server.open_stream(fake_socket=UnixSocket())
            await stream.send_all(upgrade_request("/ws", *headers))
            return parse_response(bytes(await stream.receive_some())).status

        assert [await answer(*coming_from("192.0.2.1")) for _ in range(3)] == [101, 101, 429]
        assert [await answer() for _ in range(3)] == [101, 101, 429]
