"""Every limit that a client has to know is announced, and every reply fits into what is announced."""

import json

import pytest
from attrs import fields
from trio.testing import MockClock

from ironwire.ids import CallId, ClientId, DeviceId, GroupId, MessageId
from ironwire.limits import (
    ADDED_BYTES,
    BLOCKS_PER_CLIENT,
    CLIENTS_PER_FRAME,
    DEVICES_PER_CLIENT,
    GROUP_MEMBERS,
    GROUPS_PER_CLIENT,
    RECEIPT_IDS,
    SERVER_FRAME_BYTES,
    Limits,
)
from ironwire.server.session.admission import announced
from ironwire.wire.codec import encode, frame_text, stored_payload
from ironwire.wire.messages import (
    BlockList,
    CallOffer,
    Device,
    DeviceList,
    File,
    GroupChanged,
    GroupDetails,
    GroupList,
    GroupMember,
    GroupSummary,
    Receipt,
    RelayedOffer,
    ServerLimits,
    ServerMessage,
    Text,
)
from ironwire.wire.messages.fields import SAFE_INTEGER
from tests.playbook import identity_of, open_stage

OWN_MATTER = {
    # bounds on unauthenticated peers, and on all peers together
    *("connections", "connections_per_address", "connections_per_minute", "unauthenticated"),
    *("unauthenticated_per_address", "attempts_per_minute", "registrations_per_hour", "uploads_at_a_time"),
    *("uploads_at_a_time_per_address", "uploads_per_minute", "upload_bytes_per_hour", "header_seconds"),
    *("links_per_minute", "links_at_a_time", "backups_per_hour", "backups_bytes"),
    # what a client meets as `retry_after_ms`
    *("messages_per_second", "bytes_per_second"),
    # how long the server waits for somebody: a client that does its part never meets them
    *("auth_seconds", "ping_after_seconds", "pong_seconds", "write_seconds", "close_seconds", "drain_seconds"),
    *("reconnect_spread_ms", "upload_idle_seconds", "outbox_frames", "outbox_bytes", "unsettled_envelopes"),
    # announced in milliseconds
    *("retention_days", "call_ring_seconds", "call_resume_seconds"),
}

CLIENT = ClientId("f" * 64)
GROUP = GroupId("#" + "f" * 32)
DEVICE = DeviceId("d" * 64)
NAME = "\U0001f468" * 128
"""Four bytes a character."""
ID = MessageId('"' * 64)
"""Two bytes a character."""


def test_a_limit_is_announced_or_the_servers_own_matter() -> None:
    """A new limit fails here until it is decided which of the two it is."""
    told = {field.name for field in fields(ServerLimits)}
    assert {field.name for field in fields(Limits)} - OWN_MATTER <= told
    assert not told & OWN_MATTER


def test_what_is_announced_is_what_holds() -> None:
    limits = Limits(window_bytes=4_321, call_ring_seconds=1.5, retention_days=2)
    told = announced(limits)
    assert (told.window_bytes, told.call_ring_ms, told.retention_ms) == (4_321, 1_500, 172_800_000)


@pytest.mark.parametrize(
    "message",
    [
        GroupDetails(GROUP, SAFE_INTEGER, [GroupMember(CLIENT, "member")] * GROUP_MEMBERS, NAME),
        GroupList([GroupSummary(GROUP, SAFE_INTEGER, "member", GROUP_MEMBERS, NAME)] * GROUPS_PER_CLIENT),
        BlockList([CLIENT] * BLOCKS_PER_CLIENT),
        DeviceList([Device(DEVICE, SAFE_INTEGER, SAFE_INTEGER, SAFE_INTEGER, CLIENT)] * DEVICES_PER_CLIENT),
        GroupChanged(
            GROUP,
            SAFE_INTEGER,
            CLIENT,
            [CLIENT] * (CLIENTS_PER_FRAME + 1),
            [CLIENT] * CLIENTS_PER_FRAME,
            [GroupMember(CLIENT, "member")] * (CLIENTS_PER_FRAME + 1),
            NAME,
            SAFE_INTEGER,
            DEVICE,
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_the_largest_of_each_list_fits(message: ServerMessage) -> None:
    assert len(encode(message, ID)) <= announced(Limits()).server_frame_bytes


@pytest.mark.parametrize(
    "sent",
    [
        Text(GROUP, '"' * 10_000),
        Text(GROUP, "\x01\x7f\u2028" * 3_000),
        Receipt(CLIENT, [ID] * RECEIPT_IDS, "delivered"),
        File(GROUP, "/media/123e4567-e89b-42d3-a456-426614174000.bin", name=NAME, caption="\n" * 4_096),
    ],
    ids=lambda sent: f"{type(sent).__name__}",
)
def test_what_is_passed_on_grows_by_less_than_there_is_room_for(sent: Text | Receipt | File) -> None:
    payload = stored_payload(sent, CLIENT, SAFE_INTEGER, DEVICE)
    delivered = frame_text(sent.verb, payload, id=ID, seq=SAFE_INTEGER)
    assert len(delivered) <= len(encode(sent)) + ADDED_BYTES


def test_a_call_that_is_passed_on_grows_by_less_than_there_is_room_for() -> None:
    offer = CallOffer(CLIENT, CallId("0" * 32), "\n" * 60_000, "audio")
    relayed = RelayedOffer(CLIENT, offer.call, offer.sdp, offer.media)
    assert len(encode(relayed)) <= len(encode(offer)) + ADDED_BYTES


def test_an_operator_cannot_allow_more_than_the_server_may_pass_on() -> None:
    most = SERVER_FRAME_BYTES - ADDED_BYTES
    assert Limits(frame_bytes=most).frame_bytes == most
    with pytest.raises(ValueError, match="frame_bytes"):
        Limits(frame_bytes=most + 1)


async def test_a_page_of_the_history_fits_whatever_stands_in_it(mock_clock: MockClock) -> None:
    limits = Limits(frame_bytes=SERVER_FRAME_BYTES - ADDED_BYTES, outbox_bytes=64 * SERVER_FRAME_BYTES)
    bob = identity_of("bob").client_id
    sizes = []
    async with open_stage(history_days=1, limits=limits) as stage:
        await stage.enter("alice")
        await stage.enter("bob", device="phone")
        for number, size in enumerate((1_000_000, 10, 1_000_000, 100_000, 100_000, 100_000, 100_000)):
            await stage.play(f"""
                alice >> {{"type":"text","id":"{number}","payload":{{"to":"{bob}","text":"{"x" * size}"}}}}
            """)
            await stage.next_text("alice")
        before, texts = "", 0
        while texts < 7:
            await stage.play(f"""
                alice >> {{"type":"history","id":"1","payload":{{"with":"{bob}","limit":100{before}}}}}
            """)
            page = await stage.next_text("alice")
            sizes.append(len(page))
            texts += len(json.loads(page)["payload"]["envelopes"])
            before = f',"before":{json.loads(page)["payload"].get("before")}'
    assert max(sizes) <= announced(limits).server_frame_bytes
