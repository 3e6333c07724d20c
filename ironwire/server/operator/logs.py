"""The server's log: events with fields, as lines for people or as JSON for machines.

Rule: ids are logged, never the body of a message, a key, a token or a whole address; a client's id is shortened, but
long enough to find its sessions. Every line of a connection has the same `connection`. Tracebacks come without the
values of local variables, and text chosen by a peer cannot move the cursor of a terminal.
"""

import logging
import os
import re
import sys
from functools import cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from ironwire.server.operator.config import LogSettings
from ironwire.server.operator.loading import Loaded
from ironwire.server.operator.log_writer import QueueingHandler

_log = structlog.get_logger(__name__)

_NETWORK_BITS = {4: 24, 6: 48}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure_logging(settings: LogSettings, stream: TextIO, *, in_thread: bool = False) -> None:
    """Send the events of structlog and of the standard library to `stream`, in one form, from now on.

    Args:
        in_thread: whether a thread writes the log, so that the event loop never waits for the log's reader.
    """
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _shorten_address,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=cache(logging.getLogger),  # structlog's own searches the stack at each call
    )
    handler = QueueingHandler(stream) if in_thread else logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([structlog.processors.JSONRenderer()] if as_json else _for_people(colors=stream.isatty())),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], force=True)
    set_level(settings)


def set_level(settings: LogSettings) -> None:
    """Drop events below `settings.level` from now on."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    root = logging.getLogger()
    root.setLevel(level)
    for handler in root.handlers:
        handler.setLevel(level)  # for loggers with a level of their own


def report_ignored(loaded: Loaded) -> None:
    """Log the variables of the environment that look like settings and are not."""
    if loaded.ignored:
        _log.info("ignored variables that Kubernetes sets for a service", variables=", ".join(loaded.ignored))


def standard_error() -> TextIO:
    """The stream for a server's log; the null device if this process was started without a standard error.

    Descriptor 2 is occupied then: otherwise C libraries would write their warnings into the next file that is opened,
    perhaps the database.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free one
    return sys.stderr or open(os.devnull, "w", encoding="utf-8")  # for as long as the process lives


def short_address(address: str) -> str:
    """The network of an address, coarse enough to name no customer of a provider: /24, for IPv6 /48."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    ip = (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
    return str(ip_network((ip, _NETWORK_BITS[ip.version]), strict=False))


def _shorten_address(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Shorten every logged `address`, so that callers need not."""
    if isinstance(event.get("address"), str):
        event["address"] = short_address(event["address"])
    return event


def _for_people(*, colors: bool) -> list[Processor]:
    # With Rich installed, structlog's default prints local variables in tracebacks: bodies and keys.
    plain = structlog.dev.plain_traceback
    return [_escape_controls, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if name == "exception" else [value]
            event[name] = "\n".join(_CONTROL.sub(lambda match: ascii(match[0])[1:-1], line) for line in lines)
    return event
