"""How much of everything: the full run, whose figures mean something, and a quick one that shows that it all works."""

from attrs import frozen


@frozen(kw_only=True)
class Scale:
    """The size of every measurement."""

    pairs: int
    windows: tuple[int, ...]
    warm_seconds: float
    seconds: float
    fan_out: int
    newcomers: int
    newcomers_at_once: tuple[int, ...]
    idle_connections: int
    file_bytes: int
    file_repeats: int
    connections: tuple[int, ...]
    depths: tuple[int, ...]
    profile_seconds: float
    group_leaves: tuple[int, ...]
    device_messages: int
    client_pairs: tuple[tuple[int, int], ...]
    """Pairs of clients, and texts without an answer in each."""
    away_messages: int


FULL = Scale(
    pairs=50,
    windows=(1, 10, 100),
    warm_seconds=1,
    seconds=4,
    fan_out=100,
    newcomers=2000,
    newcomers_at_once=(100, 2000),
    idle_connections=2000,
    file_bytes=30 * 1024 * 1024,
    file_repeats=8,
    connections=(100, 1000, 5000),
    depths=(1000, 1_000_000),
    profile_seconds=8,
    group_leaves=(4, 20, 100, 500, 1000),
    device_messages=100_000,
    client_pairs=((1, 1), (1, 10), (1, 100), (10, 10), (100, 1)),
    away_messages=10_000,
)

QUICK = Scale(
    pairs=50,
    windows=(1, 10, 100),
    warm_seconds=0.3,
    seconds=0.7,
    fan_out=100,
    newcomers=500,
    newcomers_at_once=(100, 500),
    idle_connections=300,
    file_bytes=30 * 1024 * 1024,
    file_repeats=1,
    connections=(100, 500),
    depths=(1000, 10_000),
    profile_seconds=2,
    group_leaves=(4, 100),
    device_messages=2_000,
    client_pairs=((1, 10), (2, 1)),
    away_messages=1_000,
)
