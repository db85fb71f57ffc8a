"""What children print: a pipe each, read as it fills, so that nobody waits for it and no line is torn."""

import asyncio
import fcntl
import json
import os
import re
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from router.core.ids import VersionId
from router.core.log_markers import GATEWAY_LINE

LONGEST_LINE_BYTES = 32_768
"""The rest of a longer line is thrown away."""
_READ_BYTES = 65_536
_PIPE_BYTES = 1 << 20
"""As much as any user may ask for: a print of a megabyte does not wait for us."""
_PAUSE_SECONDS = 0.002
"""After a read that was full: a child that never stops printing costs us a few percent of a processor, and
prints at 32 MB/s."""
_MOST_READS = _PIPE_BYTES // _READ_BYTES
_GATEWAY_LINE = f"\n{GATEWAY_LINE}".encode()
"""Before a line that the child's own side wrote; it is looked for among those that are left out."""
_LAST_LINES = 20
_MARKER = GATEWAY_LINE.encode()
_PLACE = re.compile(rb' *File "[^"]{0,4096}?(\w{1,100})\.py", line (\d{1,7}), in ')
_KIND = re.compile(rb"([A-Za-z_][\w.]{0,99})(?::|$)")
_CAUSE = re.compile(r"[\w.]{1,100}(?: in [\w.]{1,100}, line \d{1,7})?")
_MOST_REFUSED = 8
"""In one read. Of a version that writes such lines by itself, no more are looked for."""


class LineSink(Protocol):
    """Takes what one child prints."""

    def write(self, line: bytes) -> bool:
        """Take one line, without its end. False when it was left out, as others that follow would be."""

    def skipped(self, lines: int) -> None:
        """So many further lines were left out."""

    def requests_started(self) -> None:
        """From the next line on, what is printed may hold what callers sent."""

    def died(self, how: str, lines: Sequence[str]) -> None:
        """The child ended by itself before it was READY; `lines` are the last that it printed."""

    def end(self) -> None:
        """No more comes."""


class OutputRouter(Protocol):
    """Has a sink for every child."""

    def sink_for(self, role: str, version: VersionId | None) -> LineSink:
        """One for a child in `role`; `version` is the one that it is about, where it is about one."""


class Output:
    """The pipe that is a child's standard output and its standard error."""

    def __init__(self, sink: LineSink) -> None:
        """Raises OSError when no descriptor is left."""
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._begun = b""
        self._cause = ""
        self._last: deque[bytes] | None = deque(maxlen=_LAST_LINES)
        """The last lines that it printed; None once they may hold what callers sent."""
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        if sys.platform == "linux":
            with suppress(OSError):  # this user's pipes hold as much as they may: the usual 64 KiB will do
                fcntl.fcntl(self._read_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._loop.add_reader(self._read_end, self._read)

    @property
    def cause(self) -> str:
        """What ended the child: type, module and line of an exception; empty where it said nothing of it.

        As the child reported it, or as the traceback shows that it printed last of all, while no request had
        come: the interpreter's own, or one at an import.
        """
        if self._cause or not self._last or not (kind := _KIND.match(self._last[-1])):
            return self._cause
        places = [place for line in self._last if (place := _PLACE.match(line))]
        name = kind.group(1).decode()
        return f"{name} in {places[-1][1].decode()}, line {places[-1][2].decode()}" if places else ""

    @property
    def theirs(self) -> int:
        """The child's descriptor."""
        return self._write_end

    def close_theirs(self) -> None:
        """Close our copy of the child's end."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1

    def requests_started(self) -> None:
        """What was printed until now holds no request; from now on it may hold what callers sent."""
        self._drain()
        self._last = None
        self._sink.requests_started()

    def report_death(self, how: str) -> None:
        """It ended by itself: what it printed last says why, unless that may hold a request."""
        if self._last:
            self._sink.died(how, [line.decode("utf-8", "replace") for line in self._last])

    def close(self) -> None:
        """Read what is there, and no more: something the child started may hold its end for ever."""
        self.close_theirs()
        if self._read_end < 0:
            return
        self._drain()
        if self._read_end >= 0:
            self._end()

    def _drain(self) -> None:
        for _ in range(_MOST_READS):
            if self._read_end < 0 or not self._take_what_is_there():
                return

    def _read(self) -> None:
        if self._take_what_is_there() == _READ_BYTES and self._read_end >= 0:
            self._loop.remove_reader(self._read_end)
            self._loop.call_later(_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._read_end >= 0:
            self._loop.add_reader(self._read_end, self._read)

    def _take_what_is_there(self) -> int:
        """One read: how many bytes there were."""
        try:
            data = os.read(self._read_end, _READ_BYTES)
        except BlockingIOError:
            return 0
        if data:
            self._take(data)
        else:
            self._end()
        return len(data)

    def _take(self, data: bytes) -> None:
        start = refused = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = (self._begun + data[start:end][:LONGEST_LINE_BYTES])[:LONGEST_LINE_BYTES]
            self._begun, start = b"", end + 1
            self._remember(line)
            if not self._sink.write(line):
                # Counted, and not looked at: a flood costs us next to nothing.
                refused += 1
                last = data.rfind(b"\n")
                found = data.find(_GATEWAY_LINE, end) if refused < _MOST_REFUSED else -1
                following = (last if found < 0 else found) + 1
                if self._last is not None:
                    self._last.extend(data[start:following].splitlines()[-_LAST_LINES:])
                self._sink.skipped(data.count(b"\n", start, following))
                start = following
        room = LONGEST_LINE_BYTES - len(self._begun)
        if room > 0:
            self._begun += data[start : start + room]

    def _remember(self, line: bytes) -> None:
        if not line.startswith(_MARKER):
            if self._last is not None and line.strip():
                self._last.append(line)
            return
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            # A version may write such a line by itself: what it says is shown, so it has to look like one.
            if _CAUSE.fullmatch(cause := json.loads(line[1:])["cause"]):
                self._cause = cause

    def _end(self) -> None:
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        self._read_end = -1
        if self._begun:
            self._remember(self._begun)
            self._sink.write(self._begun)
            self._begun = b""
        self._sink.end()
