"""The log of a server that nobody reads: nothing waits for it, and what is lost is counted and said."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import TextIO

import pytest
import structlog

from ironwire.server.operator import log_writer
from ironwire.server.operator.config import LogSettings
from ironwire.server.operator.log_writer import MOST_LINES, QueueingHandler, flush_log, log_statistics, queue_lines_of
from ironwire.server.operator.logs import configure_logging

pytestmark = pytest.mark.usefixtures("restored_logging")

SECONDS = 10
PIPE_BYTES = 70_000
"""More than a pipe holds."""


class Pipe:
    """A pipe to write the log to, which is read when the test says so."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader: TextIO = os.fdopen(reader, encoding="utf-8")
        self.stream: TextIO = os.fdopen(writer, "w", encoding="utf-8")

    def lines(self, count: int) -> list[str]:
        return [self.reader.readline().rstrip("\n") for _ in range(count)]

    def close(self) -> None:
        self.reader.close()
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with closing(Pipe()) as pipe:
        yield pipe


def logger_with(handler: logging.Handler) -> logging.Logger:
    logger = logging.getLogger("tests.log")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.handlers = [handler]
    return logger


def end(handler: QueueingHandler) -> None:
    """Wait for its thread, which has nothing more to wait for."""
    handler.close()
    handler._thread.join(SECONDS)
    assert not handler._thread.is_alive()


def test_lines_come_out_in_their_order_and_whole(pipe: Pipe) -> None:
    handler = QueueingHandler(pipe.stream)
    logger = logger_with(handler)
    long = "x" * PIPE_BYTES
    logger.info("first")
    logger.info(long)
    logger.info("lästly")
    assert pipe.lines(3) == ["first", long, "lästly"]
    end(handler)


def test_what_is_queued_is_written_before_the_end(pipe: Pipe) -> None:
    handler = QueueingHandler(pipe.stream)
    logger = logger_with(handler)
    for number in range(100):
        logger.info("line %d", number)
    end(handler)
    assert pipe.lines(100) == [f"line {number}" for number in range(100)]


def test_a_flush_returns_when_all_lines_have_been_written(pipe: Pipe) -> None:
    handler = QueueingHandler(pipe.stream)
    logger = logger_with(handler)
    for number in range(100):
        logger.info("line %d", number)
    flush_log()
    print("last", file=pipe.stream, flush=True)
    assert pipe.lines(101)[-1] == "last"
    end(handler)


def test_nobody_waits_for_a_reader_and_what_is_dropped_is_counted_and_said(pipe: Pipe) -> None:
    before = log_statistics().dropped_total
    configure_logging(LogSettings(format="json"), pipe.stream, in_thread=True)
    log = structlog.get_logger()
    log.info("x" * PIPE_BYTES)
    for number in range(MOST_LINES + 50):
        log.info("line", number=number)  # in this thread, which is not blocked
    dropped = log_statistics().dropped_total - before
    assert 49 <= dropped <= 51
    log.info("lost as well")
    _, report, *rest = map(json.loads, pipe.lines(2 + MOST_LINES + 50 - dropped))
    assert report["event"].startswith(f"{dropped + 1} lines of the log were dropped")
    assert [event["number"] for event in rest] == list(range(MOST_LINES + 50 - dropped))
    log.info("heard")
    assert json.loads(*pipe.lines(1))["event"] == "heard"


def test_the_end_does_not_wait_for_a_reader(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "FLUSH_SECONDS", 0.05)
    handler = QueueingHandler(pipe.stream)
    logger = logger_with(handler)
    logger.info("x" * PIPE_BYTES)
    for _ in range(MOST_LINES + 9):
        logger.info("line")
    closing_ = threading.Thread(target=handler.close)
    closing_.start()
    closing_.join(SECONDS)
    assert not closing_.is_alive()
    pipe.lines(MOST_LINES)
    end(handler)


def test_a_reader_that_is_gone_costs_lines_and_nothing_else() -> None:
    pipe = Pipe()
    pipe.reader.close()
    handler = QueueingHandler(pipe.stream)
    logger = logger_with(handler)
    logger.info("one")
    logger.info("two")
    end(handler)
    assert handler.dropped == 2
    pipe.stream.close()


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    handler = QueueingHandler(pipe.stream)
    logger_with(handler).info("%sEND", "x" * (3 * PIPE_BYTES))
    (line,) = pipe.lines(1)
    assert len(line) == 3 * PIPE_BYTES + 3
    end(handler)


def test_handlers_of_others_are_replaced_with_their_format_and_level(pipe: Pipe) -> None:
    plain = logging.StreamHandler(pipe.stream)
    plain.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    plain.setLevel(logging.WARNING)
    logger = logger_with(plain)
    queue_lines_of(logger)
    (handler,) = logger.handlers
    assert isinstance(handler, QueueingHandler)
    logger.info("left out")
    logger.warning("said")
    end(handler)
    assert pipe.lines(1) == ["[WARNING] said"]
