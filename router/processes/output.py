"""What children print: a pipe each, read as it fills, so that nobody waits for it and no line is torn."""

import asyncio
import fcntl
import os
import sys
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
_OWN = f"\n{GATEWAY_LINE}".encode()
"""Before a line that the child's own side wrote; it is looked for among those that are left out."""
_MOST_REFUSED = 8
"""In one read. A version that writes such lines by itself is not listened to for long."""


class LineSink(Protocol):
    """Hears what one child prints."""

    def hear(self, line: bytes) -> bool:
        """Take one line, without its end. False when it was left out, as others that follow would be."""

    def skip(self, lines: int) -> None:
        """So many further lines were left out."""

    def requests_come(self) -> None:
        """From the next line on, what is printed may hold what callers sent."""

    def end(self) -> None:
        """No more comes."""


class OutputRouter(Protocol):
    """Has an ear for every child."""

    def ear_for(self, role: str, version: VersionId | None) -> LineSink:
        """One for a child in `role`; `version` is the one that it is about, where it is about one."""


class Output:
    """The pipe that is a child's standard output and its standard error."""

    def __init__(self, ear: LineSink) -> None:
        """Raises OSError when no descriptor is left."""
        self._ear = ear
        self._loop = asyncio.get_running_loop()
        self._begun = b""
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        if sys.platform == "linux":
            with suppress(OSError):  # this user's pipes hold as much as they may: the usual 64 KiB will do
                fcntl.fcntl(self._read_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._loop.add_reader(self._read_end, self._read)

    @property
    def theirs(self) -> int:
        """The child's descriptor."""
        return self._write_end

    def close_theirs(self) -> None:
        """Close our copy of the child's end."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1

    def requests_come(self) -> None:
        """What was printed until now is heard as what it is; from now on it may hold what callers sent."""
        self._drain()
        self._ear.requests_come()

    def close(self) -> None:
        """Hear what is there, and no more: something the child started may hold its end for ever."""
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
            if not self._ear.hear(line):
                # Counted, and not looked at: a flood costs us next to nothing.
                refused += 1
                last = data.rfind(b"\n")
                found = data.find(_OWN, end) if refused < _MOST_REFUSED else -1
                following = (last if found < 0 else found) + 1
                self._ear.skip(data.count(b"\n", start, following))
                start = following
        room = LONGEST_LINE_BYTES - len(self._begun)
        if room > 0:
            self._begun += data[start : start + room]

    def _end(self) -> None:
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        self._read_end = -1
        if self._begun:
            self._ear.hear(self._begun)
            self._begun = b""
        self._ear.end()
