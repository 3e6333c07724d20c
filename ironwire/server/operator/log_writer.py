"""The log is written without waiting for its reader: a bounded queue, and a thread that drains it.

Standard error may be a pipe that nobody reads, or a disk that is full. Rule: logging never blocks and never raises.
Lines that do not fit are dropped and counted, and the log says so once it is read again.
"""

import contextlib
import logging
import os
import queue
import select
import threading
import time
from typing import TextIO
from weakref import WeakSet

from attrs import frozen

from ironwire.counting import figure

MOST_LINES = 2_000
"""Lines that wait for the reader: at most a few megabytes, and more than a server logs in a second."""
FLUSH_SECONDS = 0.5
"""How long the process waits at its end for queued lines to be written."""

_RETRY_SECONDS = 1.0

_handlers: "WeakSet[QueueingHandler]" = WeakSet()


@frozen
class LogStatistics:
    dropped_total: int = figure(
        "Lines of the log that were dropped because nobody read them or they could not be written."
    )


class QueueingHandler(logging.Handler):
    """Formats in the calling thread, and writes to `stream` in a thread of its own.

    The thread is a daemon: it may be blocked in a write that never ends, which must not keep the process.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | threading.Event | None] = queue.Queue(MOST_LINES)
        self._overflowed = 0
        self._unwritten = 0
        self._reported = 0
        _handlers.add(self)
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record) + "\n")
        except queue.Full:
            self._overflowed += 1
        except Exception:
            self.handleError(record)  # as the standard library's handlers do if a record cannot be formatted

    @property
    def dropped(self) -> int:
        """The number of lines that were dropped."""
        return self._overflowed + self._unwritten

    def flush(self) -> None:
        """Wait until queued lines are written, for at most `FLUSH_SECONDS`."""
        deadline = time.monotonic() + FLUSH_SECONDS
        written = threading.Event()
        try:
            self._lines.put(written, timeout=FLUSH_SECONDS)
        except queue.Full:
            return  # the reader is stuck
        written.wait(max(deadline - time.monotonic(), 0))

    def close(self) -> None:
        """Write queued lines and end the thread. `logging` calls this at exit too."""
        self.flush()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        super().close()

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                self._write(line)
                self._report()
            except (OSError, ValueError):  # the reader is gone, the disk is full, or the stream was closed
                self._unwritten += 1

    def _report(self) -> None:
        lines = self.dropped - self._reported
        if lines:
            said = "%d lines of the log were dropped: nobody read them in time"
            record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, said, (lines,), None)
            self._write(self.format(record) + "\n")  # now: the queue may be full again
            self._reported += lines

    def _write(self, line: str) -> None:
        try:
            descriptor = self._stream.fileno()
        except OSError:  # a stream in memory has none
            self._stream.write(line)
            return
        # Bypass the stream's buffer: its lock, held by a write that never ends, would block the interpreter at exit.
        rest = memoryview(line.encode(self._stream.encoding or "utf-8", "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # a terminal that another program has made non-blocking
                select.select([], [descriptor], [], _RETRY_SECONDS)


def log_statistics() -> LogStatistics:
    """The sum over all handlers of this kind."""
    return LogStatistics(sum(handler.dropped for handler in _handlers))


def flush_log() -> None:
    """Wait until all handlers of this kind have written their queued lines, each for at most `FLUSH_SECONDS`."""
    for handler in list(_handlers):
        handler.flush()


def queue_lines_of(logger: logging.Logger | None) -> None:
    """Replace the handlers of `logger` that write to a stream or file by a `QueueingHandler`."""
    if logger is None:
        return
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream is not None:
            queueing = QueueingHandler(handler.stream)
            queueing.setFormatter(handler.formatter)
            queueing.setLevel(handler.level)
            logger.removeHandler(handler)
            logger.addHandler(queueing)
