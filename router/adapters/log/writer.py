"""Writes lines to standard error and standard output from a thread: whoever has a line never waits.

Where nobody reads (a pipe whose reader hangs, a terminal after Ctrl-S), a write waits for ever. On the event
loop it would stop every request.
"""

import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

MOST_LINES = 10_000
MOST_BYTES = 4 << 20
"""What may wait to be written. What comes when there is no room for it is dropped and counted."""
STALLED_SECONDS = 0.5
"""A flush gives up when nothing was written for so long."""
FLUSH_SECONDS = 2.0
"""A flush gives up after so long, though lines go out: the reader is slow, and an exit must come in time."""

# A pipe takes so many bytes whole or not at all: lines of other processes never land inside of ours.
_AT_ONCE = select.PIPE_BUF
_NEWLINE = 0x0A


def _describe_dropped(lines: int) -> str:
    return f"{lines} lines dropped"


class LineWriter:
    """Lines to one file descriptor, in order, by a daemon thread that the first line starts.

    `write` can be called from any thread and from a destructor; it never waits for the descriptor. Once a
    line is dropped, so are all until half of the room is free again: a trickle would be full of gaps. One
    line in its place describes a gap.
    """

    def __init__(
        self, descriptor: int, *, most_lines: int = MOST_LINES, most_bytes: int = MOST_BYTES
    ) -> None:
        """`descriptor` stays open for as long as this lives."""
        self.describe_dropped: Callable[[int], str] = _describe_dropped
        """The line, without its end, that stands for so many dropped ones. Called in the writer's thread."""
        self.dropped = 0
        """Lines that never were written, since the start."""
        self._descriptor = descriptor
        self._most_lines, self._most_bytes = most_lines, most_bytes
        # Reentrant: a destructor that runs while it is held may have a line, too.
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._queue: deque[bytes | int] = deque()
        """Lines with their ends; a number stands where so many were dropped."""
        self._bytes = 0
        """Of the lines in the queue."""
        self._dropping = False
        self._missing = 0
        """Dropped since the last line that was taken."""
        self._lost = 0
        """Could not be written since the last line that was; of the thread alone."""
        self._torn = False
        """Whether the last line was written in part; of the thread alone."""
        self._writing = False
        self._since = 0.0
        """When the write under way began, or the last one ended; seconds of the monotonic clock."""
        self._closed = False
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Have `line`, without its end, written, or drop and count it when too much waits already."""
        encoded = f"{line}\n".encode("utf-8", "backslashreplace")
        with self._lock:
            if not self._has_room(len(encoded)):
                self.dropped += 1
                self._missing += 1
                return
            if self._missing:
                self._queue.append(self._missing)
                self._missing = 0
            self._queue.append(encoded)
            self._bytes += len(encoded)
            self._work.notify()
            if self._thread is None:
                self._start()

    def flush(self) -> bool:
        """Wait until all lines are written; False when that stalls, or takes more than `FLUSH_SECONDS`."""
        began = time.monotonic()
        with self._lock:
            while self._queue or self._missing or self._writing:
                now = time.monotonic()
                since = self._since if self._writing else max(began, self._since)
                left = min(since + STALLED_SECONDS, began + FLUSH_SECONDS) - now
                if left <= 0:
                    return False
                self._idle.wait(left)
        return True

    def close(self) -> None:
        """Let the thread end once it has written what waits; no line may come after this."""
        with self._lock:
            self._closed = True
            self._work.notify()

    def _has_room(self, size: int) -> bool:
        if self._dropping and (
            len(self._queue) > self._most_lines // 2 or self._bytes > self._most_bytes // 2
        ):
            return False
        self._dropping = len(self._queue) >= self._most_lines or self._bytes + size > self._most_bytes
        return not self._dropping

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be started now: the next line tries again
            return
        self._thread = thread

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            lost, self._lost = self._lost, 0
            try:
                self._put(b"".join(self._encoded(item) for item in ([lost] if lost else []) + batch))
            except OSError:  # a full disk, a terminal that is gone: later lines may fare better
                lines = sum(isinstance(item, bytes) for item in batch)
                self._lost = lost + lines + sum(item for item in batch if isinstance(item, int))
                with self._lock:
                    self.dropped += lines

    def _next_batch(self) -> list[bytes | int] | None:
        """What to write next, at least one item; waits for it. None after the last one."""
        with self._lock:
            self._writing, self._since = False, time.monotonic()
            while not self._queue:
                if self._missing:
                    self._queue.append(self._missing)
                    self._missing = 0
                    break
                self._idle.notify_all()
                if self._closed:
                    return None
                self._work.wait()
            batch: list[bytes | int] = [self._pop()]
            size = _size(batch[0])
            while self._queue and size + _size(self._queue[0]) <= _AT_ONCE:
                batch.append(self._pop())
                size += _size(batch[-1])
            self._writing, self._since = True, time.monotonic()
            return batch

    def _pop(self) -> bytes | int:
        item = self._queue.popleft()
        if isinstance(item, bytes):
            self._bytes -= len(item)
        return item

    def _encoded(self, item: bytes | int) -> bytes:
        if isinstance(item, bytes):
            return item
        return f"{self.describe_dropped(item)}\n".encode("utf-8", "backslashreplace")

    def _put(self, text: bytes) -> None:
        """Write all of `text`; waits as long as that takes. Raises OSError, maybe with a part written."""
        rest = memoryview(b"\n" + text if self._torn else text)
        while rest:
            try:
                written = os.write(self._descriptor, rest)
            except BlockingIOError:  # another process that shares it made it non-blocking
                select.select([], [self._descriptor], [])
                continue
            self._torn = rest[written - 1] != _NEWLINE
            rest = rest[written:]


def _size(item: bytes | int) -> int:
    # A description of what was dropped goes alone: how long it is, is not known here.
    return len(item) if isinstance(item, bytes) else _AT_ONCE


class LineHandler(logging.Handler):
    """Formats a record where it was made, and hands the line to a writer."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """Formatters keep nothing, and the writer has a lock of its own: two could lock each other out."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """As logging's own, without a lock."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on the line of `record`."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - a value whose text can not be made must not stop what has a line
            self.handleError(record)
        else:
            self._writer.write(line)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A line without the record's values, where logging's own prints them, and waits for that."""
        kind = sys.exc_info()[0]
        args = (kind.__name__ if kind else "an unknown error",)
        text = "a log line can not be formatted: %s"
        known = (record.name, logging.ERROR, record.pathname, record.lineno)
        self._writer.write(self.format(logging.LogRecord(*known, text, args, None)))

    def flush(self) -> None:
        """As the writer's; `logging` calls it at the end of the process."""
        self._writer.flush()


def _writer_of(stream: TextIO | None, descriptor: int) -> LineWriter:
    # Closed from the start, its number may be another file's by now.
    return LineWriter(os.open(os.devnull, os.O_WRONLY) if stream is None else descriptor)


# Written to by number: Python's own streams hold a lock while they write, and an exit would wait for that.
STDERR = _writer_of(sys.__stderr__, 2)
STDOUT = _writer_of(sys.__stdout__, 1)
