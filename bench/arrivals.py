"""Clients that come, and clients that stay: connecting and authenticating, and the memory of an idle connection."""

import time
from collections.abc import Iterator

from bench import crowd
from bench.contenders import Contender
from bench.figures import Figure
from bench.scale import Scale

WARM_CONNECTIONS = 100
SETTLE_SECONDS = 1.5


def authenticate(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """From the first connect to the last `auth_ok`, with some clients on their way at a time, or all of them."""
    for at_once in scale.newcomers_at_once:
        newcomers = crowd.identities(scale.newcomers)
        with contender.running() as server:
            crowd.disconnect(crowd.connect_all(server.port, crowd.identities(WARM_CONNECTIONS)))
            cpu_before = server.cpu_seconds()
            wall, own_cpu = time.perf_counter(), time.process_time()
            sockets = crowd.connect_all(server.port, newcomers, at_once)
            seconds, own_cpu = time.perf_counter() - wall, time.process_time() - own_cpu
            server_us = (server.cpu_seconds() - cpu_before) / scale.newcomers * 1e6
            crowd.disconnect(sockets)
        details = {"server_us": server_us, "load_cpu": own_cpu / seconds}
        yield Figure("auth", f"{at_once:,} at once", contender.name, scale.newcomers / seconds, details)


def memory(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """What the server's processes grow by for each connection that has authenticated and says nothing more."""
    count = scale.idle_connections
    with contender.running() as server:
        sockets = crowd.connect_all(server.port, crowd.identities(WARM_CONNECTIONS))
        time.sleep(SETTLE_SECONDS)
        before = server.resident_kib()
        sockets += crowd.connect_all(server.port, crowd.identities(count))
        time.sleep(SETTLE_SECONDS)
        grown = server.resident_kib() - before
        crowd.disconnect(sockets)
    yield Figure("memory", f"{count:,} connections", contender.name, grown / count, {"before_kib": before})
