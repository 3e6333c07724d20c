"""Every bound of the server. Names carry the units; the defaults are those of `docs/protocol.md`."""

from math import ceil

from attrs import field, frozen
from attrs.validators import ge, gt, le

MOST = 10**12
"""The largest value of any limit: databases, clocks and JSON hold it, and its square."""
CLIENTS_PER_FRAME = 500
"""Clients that one frame may list."""
RECEIPT_IDS = 100
"""Ids that one receipt may list."""
HISTORY_ENVELOPES = 100
"""Envelopes that one page of the history may hold."""
UNANSWERED_ENVELOPES = 256
"""Envelopes that a device has numbered and may have no answer to: of so many numbers it is known which were refused."""
LOG_ENTRIES = 64
"""Entries of a device log that one frame may hold."""
GROUP_MEMBERS = GROUPS_PER_CLIENT = BLOCKS_PER_CLIENT = 1_000
"""Lists of these are one frame; an operator may allow fewer."""
DEVICES_PER_CLIENT = 64
SERVER_FRAME_BYTES = 1024 * 1024
"""The server sends no larger frame: the longest list above fits, in the longest names."""
LINK_BYTES = 8 * 1024
"""The answer to a device that asks to be linked (docs/protocol.md, section 8.2)."""
LINK_SECONDS = 300
"""How long such a request is good, and its answer kept."""
BACKUP_BYTES = 1024 * 1024
"""The backup of one client (section 8.3)."""
ADDED_BYTES = 4 * 1024
"""Upper bound on the growth of a relayed frame: sender, times, device and the like."""

MOST_DAYS = 36_500
"""A hundred years: times in milliseconds stay far below what a database holds."""


def _positive(default: float, most: float = 10**9) -> float:
    return field(default=default, validator=[gt(0), le(most)], converter=float)


def _rate(default: float) -> float:
    """A rate of at least one in a quarter of an hour, which bounds the wait that a refusal names."""
    return field(default=default, validator=[ge(0.001), le(MOST)], converter=float)


def _count(default: int, least: int = 1, most: int = MOST) -> int:
    """`most` is lower where a list on the wire bounds the value."""
    return field(default=default, validator=[ge(least), le(most)])


@frozen(kw_only=True)
class Limits:
    """The bounds for what peers may cost. A value is a setting of the same name under `[limits]`."""

    frame_bytes: int = _count(64 * 1024, least=1024, most=SERVER_FRAME_BYTES - ADDED_BYTES)
    """The largest WebSocket message, after reassembly. Above it the connection closes with 1009."""

    connections: int = _count(20_000)
    """Open connections in total. One more is closed at once."""

    connections_per_address: int = _count(200)
    """Open connections of one address, or of one IPv6 /64: a campus or a carrier's NAT, perhaps. One more is closed at
    once; behind a proxy it gets 429.
    """

    connections_per_minute: int = _count(600)
    """New connections from one address in a minute, and at once. Above it: as above."""

    unauthenticated: int = _count(4_000)
    """Open connections that have not authenticated, those that only carry HTTP included."""

    unauthenticated_per_address: int = _count(100)
    """The same of one address: fewer than may be open, and more than come back at a time after a restart."""

    attempts_per_minute: int = _count(300)
    """Attempts to authenticate from one address in a minute, and at once. Above it: `rate_limited`, before any
    signature is looked at.
    """

    registrations_per_hour: int = _count(100)
    """New devices, groups, entries of device logs, and blocks by clients without a device, from one address in an hour,
    and at once: what the server keeps. Above it a new device is closed with 1013, and the others get `rate_limited`.
    """

    auth_seconds: float = _positive(10)
    """From the upgrade to `auth_ok`."""

    ping_after_seconds: float = _positive(25)
    """Silence from the peer after which the server sends a ping."""

    pong_seconds: float = _positive(10)
    """Further silence after which the session ends with 4408."""

    write_seconds: float = _positive(5)
    """How long one write to a peer may take before the connection is cut."""

    close_seconds: float = _positive(2)
    """How long a closing handshake may take before the connection is cut."""

    drain_seconds: float = _positive(3)
    """How long sessions have to leave after the server was told to stop."""

    reconnect_spread_ms: int = _count(5_000)
    """The `retry_ms` of close code 1012: clients reconnect at a random time within it."""

    outbox_frames: int = _count(8_192, least=16)
    """Frames that wait for a session's writer; one more ends the session with 4508."""

    outbox_bytes: int = _count(2 * 1024 * 1024, least=64 * 1024)
    """Bytes that wait for a session's writer; more end the session with 4508."""

    sessions_per_client: int = _count(16)
    """Live sessions of one client; one more is refused with 1013."""

    devices_per_client: int = _count(16, most=DEVICES_PER_CLIENT)
    """Registered devices of one client; one more is refused with 1008."""

    messages_per_second: float = _rate(10_000)
    """Messages of one client in the long run; some count for several (docs/protocol.md, section 6). Above it:
    `rate_limited`.
    """

    messages_at_once: int = _count(20_000)
    """Messages of one client that may come at once after a pause."""

    bytes_per_second: float = _rate(16 * 1024 * 1024)
    """The same in bytes of text, a character of any alphabet counted as one."""

    bytes_at_once: int = _count(32 * 1024 * 1024, least=64 * 1024)
    """The same in bytes of text."""

    group_members: int = _count(1_000, most=GROUP_MEMBERS)
    """Members of one group; a change that would make more is refused."""

    groups_per_client: int = _count(1_000, most=GROUPS_PER_CLIENT)
    """Groups that one client may be in; one more is refused to whoever adds it."""

    blocks_per_client: int = _count(1_000, most=BLOCKS_PER_CLIENT)
    """Clients that one client may have blocked."""

    call_ring_seconds: float = _positive(90)
    """How long a call rings that nobody answers."""

    call_resume_seconds: float = _positive(15)
    """How long a device whose connection was lost keeps its part in a call."""

    calls_per_client: int = _count(8)
    """Calls that one client may have made at a time; one more is refused."""

    call_candidates: int = _count(64)
    """Candidates that one side may name in one call, and again after each `call_update`; more are refused."""

    call_bytes: int = _count(128 * 1024, least=128 * 1024)
    """Kept signals of one client: offers and candidates while its calls ring, for sessions of the callee that come
    late, and signals to a device that has lost its connection. More are refused.
    """

    window_envelopes: int = _count(100)
    """Envelopes on their way to a device that it has not acknowledged; more wait in its mailbox."""

    window_bytes: int = _count(1024 * 1024, least=1024)
    """The same in bytes."""

    mailbox_envelopes: int = _count(100_000)
    """Envelopes that wait for one device. Above it the mailbox is full, until half of them are gone."""

    mailbox_bytes: int = _count(256 * 1024 * 1024, least=64 * 1024)
    """The same in bytes."""

    retention_days: float = _positive(30, most=MOST_DAYS)
    """How long an envelope waits, a message id is remembered, and a device that is not seen is kept."""

    unsettled_envelopes: int = _count(100)
    """Envelopes of one session that wait for the disk, each counted as often as there are mailboxes for it, or members
    of its group; with more, the server goes on with it when they are fewer.
    """

    upload_bytes: int = _count(30 * 1024 * 1024)
    """The largest body of `POST /upload`; above it: 413."""

    upload_idle_seconds: float = _positive(15)
    """How long the body of an upload, a link or a backup may stall before it is ended with 408."""

    uploads_at_a_time: int = _count(64)
    """Uploads under way in total; each may hold a few MiB of memory. One more is refused with 429."""

    uploads_at_a_time_per_address: int = _count(8)
    """The same of one address."""

    uploads_per_minute: int = _count(120)
    """Uploads of one address in a minute, and of one client where it is known. Above it: 429."""

    upload_bytes_per_hour: int = _count(4 * 1024 * 1024 * 1024)
    """The same in bytes in an hour."""

    links_per_minute: int = _count(10)
    """Answers to devices that ask to be linked: so many are left, and as often one is asked for, by one address in a
    minute. Above it: 429.
    """

    links_at_a_time: int = _count(1_000)
    """Answers that wait for a new device; each takes up to 8 KiB of memory for five minutes. One more is refused with
    429.
    """

    backups_per_hour: int = _count(10)
    """Backups of clients that one address stores in an hour, and as many that it fetches. Above it: 429."""

    backups_bytes: int = _count(1024**3)
    """The room for the backups of all clients together. One that does not fit gets 507."""

    header_seconds: float = _positive(10)
    """How long a request may take to arrive up to the end of its headers, and a connection may stay idle between
    requests.
    """

    # Other facts for clients: the fields of `ServerLimits` (ironwire/wire/messages/session.py) have these names.

    @property
    def server_frame_bytes(self) -> int:
        """The largest frame that the server sends."""
        return SERVER_FRAME_BYTES

    @property
    def unanswered_envelopes(self) -> int:
        """Numbers of a device before the last settled one whose answer is still known."""
        return UNANSWERED_ENVELOPES

    @property
    def clients_per_frame(self) -> int:
        """Clients that a client may list in one frame."""
        return CLIENTS_PER_FRAME

    @property
    def receipt_ids(self) -> int:
        """Ids that one receipt may list."""
        return RECEIPT_IDS

    @property
    def history_envelopes(self) -> int:
        """Envelopes that a client may ask for in one page of the history."""
        return HISTORY_ENVELOPES

    @property
    def retention_ms(self) -> int:
        """`retention_days`, as clients are told."""
        return int(self.retention_days * 86_400_000)

    @property
    def call_ring_ms(self) -> int:
        """`call_ring_seconds`, as clients are told."""
        return ceil(self.call_ring_seconds * 1000)

    @property
    def call_resume_ms(self) -> int:
        """`call_resume_seconds`, as clients are told."""
        return ceil(self.call_resume_seconds * 1000)
