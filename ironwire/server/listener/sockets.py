"""The listening sockets of a server: one for every address of its host, all at one port."""

import errno
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from ironwire.errors import ConfigError

_EVERY_IPV6 = "::"
_EVERY_IPV4 = "0.0.0.0"  # noqa: S104 - people are to reach it
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_TRIES = 20
"""Free ports that are tried until one is free at every address."""


def listen(host: str, port: int, backlog: int, setting: str) -> list[socket.socket]:
    """Listen on each address of `host`, on the same port; 0 is any that is free at all of them.

    `::` is every address of this machine, including IPv4: one socket for each family, so that IPv4 peers do not appear
    as mapped addresses. An address that this machine does not have, as `::1` without IPv6, is left out if there is
    another.

    Args:
        setting: the section of the settings that names host and port, for the message.

    Raises:
        ConfigError: there is no such address, or the port is taken.
    """
    for tries_left in reversed(range(_TRIES if port == 0 else 1)):
        try:
            return _listen(host, port, backlog)
        except socket.gaierror as error:
            raise ConfigError(f"{setting}.host = {host!r} is no address of this machine: {error.strerror}") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE and tries_left:
                continue
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            reason = os.strerror(error.errno or 0)
            raise ConfigError(
                f"cannot listen on {place}: {reason}; choose another {setting}.host or {setting}.port"
            ) from error
    raise AssertionError("the last try returns or raises")


def _listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    with ExitStack() as opened:
        listening: list[socket.socket] = []
        missing: OSError | None = None
        for family, (address, *rest) in _addresses(host):
            try:
                one = socket.create_server((address, port, *rest), family=family, backlog=backlog)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
                continue
            listening.append(opened.enter_context(one))
            port = one.getsockname()[1]
        if not listening and missing is not None:
            raise missing
        opened.pop_all()
        return listening


def _addresses(host: str) -> Iterable[tuple[int, tuple[Any, ...]]]:
    """Family, and address without its port; for IPv6 with flow and scope."""
    hosts = (_EVERY_IPV6, _EVERY_IPV4) if host == _EVERY_IPV6 else (host,)
    found = [
        (family, (place[0], *place[2:]))
        for each in hosts
        for family, _, _, _, place in socket.getaddrinfo(each, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    ]
    return dict.fromkeys(found)
