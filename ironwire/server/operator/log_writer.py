"""Writing the log without waiting for whoever reads it: a bounded queue, and a thread that empties it.

Standard error may be a pipe that nobody reads, or a disk that is full. Rule: to log never blocks and never raises.
Lines for which there is no room are dropped and counted, and the log says so once it is read again.
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
"""Lines that wait for the reader: at most some megabytes, and more than a server says in a second."""
FLUSH_SECONDS = 0.5
"""How long the end of the process waits until the lines that are queued are written."""

_RETRY_SECONDS = 1.0

_handlers: "WeakSet[QueueingHandler]" = WeakSet()


@frozen
class LogStatistics:
    dropped_total: int = figure(
        "Lines of the log that were dropped because nobody read them or they could not be written."
    )


class QueueingHandler(logging.Handler):
    """Formats where it is called, and writes to `stream` in a thread of its own.

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
            self.handleError(record)  # what the standard library's handlers do where a record cannot be formatted

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._overflowed + self._unwritten

    def flush(self) -> None:
        """Wait until what is queued has been written, as far as that is possible in `FLUSH_SECONDS`."""
        deadline = time.monotonic() + FLUSH_SECONDS
        written = threading.Event()
        try:
            self._lines.put(written, timeout=FLUSH_SECONDS)
        except queue.Full:
            return  # the reader is stuck
        written.wait(max(deadline - time.monotonic(), 0))

    def close(self) -> None:
        """Write what is queued, and end the thread. Called by `logging` at the exit too."""
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
        # Past the stream's buffer: its lock, held by a write that never ends, would keep the interpreter from ending.
        rest = memoryview(line.encode(self._stream.encoding or "utf-8", "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # a terminal that another program has made non-blocking
                select.select([], [descriptor], [], _RETRY_SECONDS)


def log_statistics() -> LogStatistics:
    """Of all handlers of this kind."""
    return LogStatistics(sum(handler.dropped for handler in _handlers))


def flush_log() -> None:
    """Wait until all handlers of this kind have written what is queued, as far as that is possible."""
    for handler in list(_handlers):
        handler.flush()


def queue_lines_of(logger: logging.Logger | None) -> None:
    """Let the handlers of `logger` that write to a stream or file write as `QueueingHandler` does."""
    if logger is None:
        return
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream is not None:
            queueing = QueueingHandler(handler.stream)
            queueing.setFormatter(handler.formatter)
            queueing.setLevel(handler.level)
            logger.removeHandler(handler)
            logger.addHandler(queueing)
