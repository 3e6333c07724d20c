"""Every bound of the server in one place. Units are in the names; the defaults are those of `docs/protocol.md`."""

from attrs import field, frozen
from attrs.validators import ge, gt


def _positive(default: float) -> float:
    return field(default=default, validator=gt(0), converter=float)


def _count(default: int, least: int = 1) -> int:
    return field(default=default, validator=ge(least))


@frozen(kw_only=True)
class Limits:
    """What one peer may cost. A value is a setting of the same name under `[limits]`."""

    frame_bytes: int = _count(64 * 1024, least=1024)
    """The largest WebSocket message, after reassembly. Above it the connection closes with 1009."""

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
    """What 1012 tells clients as `retry_ms`: reconnect at a random time within it."""

    outbox_frames: int = _count(8_192, least=16)
    """Frames that wait for a session's writer; one more ends the session with 4508."""

    outbox_bytes: int = _count(2 * 1024 * 1024, least=64 * 1024)
    """Bytes that wait for a session's writer; more end the session with 4508."""

    sessions_per_client: int = _count(16)
    """Live sessions of one client; one more is refused with 1013."""

    devices_per_client: int = _count(16)
    """Registered devices of one client; one more is refused with 1008."""

    group_members: int = _count(1_000)
    """Members of one group; a change that would make more is refused."""

    groups_per_client: int = _count(1_000)
    """Groups that one client may be in; one more is refused to whoever adds it."""

    blocks_per_client: int = _count(1_000)
    """Clients that one client may have blocked."""

    window_envelopes: int = _count(100)
    """Envelopes on their way to a device that it has not acknowledged; more wait in its mailbox."""

    window_bytes: int = _count(1024 * 1024, least=1024)
    """The same in bytes."""

    mailbox_envelopes: int = _count(100_000)
    """Envelopes that wait for one device. Above it the mailbox is full, until half of them are gone."""

    mailbox_bytes: int = _count(256 * 1024 * 1024, least=64 * 1024)
    """The same in bytes."""

    retention_days: float = _positive(30)
    """How long an envelope waits, a message id is remembered, and a device that is not seen is kept."""

    unsettled_envelopes: int = _count(1_000)
    """Envelopes of one session that wait for the disk; with more, the server reads on when they are fewer."""

    upload_bytes: int = _count(30 * 1024 * 1024)
    """The largest body of `POST /upload`; above it: 413."""

    upload_idle_seconds: float = _positive(15)
    """How long an upload may send nothing before it is ended with 408."""

    header_seconds: float = _positive(10)
    """How long a request may take to arrive up to the end of its headers, and a connection may stay idle between
    requests.
    """
