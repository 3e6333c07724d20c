"""How the server speaks to its operator: events with fields, as lines for people or as JSON for machines.

The rule that it keeps: ids are logged, never the body of a message, a key or a token. So tracebacks come without the
values of local variables, and nothing that a peer chose can move the cursor of the terminal that shows it.
"""

import logging
import re
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from ironwire.server.config import LogSettings

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure_logging(settings: LogSettings, stream: TextIO) -> None:
    """Send to `stream`, in one form, what structlog and the standard library log from now on in this process."""
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([structlog.processors.JSONRenderer()] if as_json else _for_people(colors=stream.isatty())),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _for_people(*, colors: bool) -> list[Processor]:
    # Where Rich is installed, the default of structlog prints local variables with a traceback: bodies and keys.
    plain = structlog.dev.plain_traceback
    return [_escape_controls, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if name == "exception" else [value]
            event[name] = "\n".join(_CONTROL.sub(lambda match: ascii(match[0])[1:-1], line) for line in lines)
    return event
