"""What child processes print, as lines of the gateway's log: with their origin, bounded, without requests."""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from router.adapters.log.format import LONGEST_TEXT, LONGEST_TRACEBACK, UNPRINTABLE, UNPRINTABLE_IN_LINES
from router.core.ids import VersionId
from router.core.log_markers import GATEWAY_LINE, LOG_RECORD
from router.settings import ModelOutput

BURST = 100_000
"""Bytes of log that the children of one version and role may fill at once."""
PER_SECOND = 4_000
"""Bytes they may fill in the long run: 350 MB a day, and then only if it goes on day and night."""
NOTICE_SECONDS = 10.0
"""Between two notices of lines left out, unless a child ends and its notice can be paid for."""
TOO_MANY = f"more than {PER_SECOND} bytes a second"
WITHHELD = "what a version prints once it is READY may hold requests; log.model_output: always shows it"
HIDDEN = "log.model_output is never"

_SILENT_NOTICE_SECONDS = 3600.0
"""Between two notices while no line of the child comes through."""
_MOST_SOURCES = 64
_ENVELOPE_BYTES = 105
"""Of a line of JSON, at most: time, the longest level, the event's name, and that it was cut."""
_NAME_BYTES = 6
"""Quotes, colon, comma and spaces about the name of a value."""
_GATEWAY_LINE = GATEWAY_LINE.encode()
_MARKERS = (_GATEWAY_LINE, LOG_RECORD.encode())
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_COLOR = re.compile(r"\x1b\[[\d;]{0,20}m")
"""MLflow colours its warnings for a terminal."""
_FIELDS = ("level", "event", "logger", "exception")


class TokenBucket:
    """How many bytes may still be written; it fills by `PER_SECOND` up to `BURST`. Times are in seconds."""

    def __init__(self, now: float) -> None:
        self._left = float(BURST)
        self._exhausted = False
        self._at = now

    def try_take(self, size: int, now: float) -> bool:
        """Take `size` bytes if there are as many; once there were not, only when it is half full again."""
        self._refill(now)
        # A trickle would be line by line, with as many notices between them of what was left out.
        self._exhausted = self._left < (BURST / 2 if self._exhausted else size)
        if self._exhausted:
            return False
        self._left -= size
        return True

    def force_take(self, size: int, now: float) -> None:
        """Take `size` bytes, whether there are as many or not."""
        self._refill(now)
        self._left -= size

    def is_full(self, now: float) -> bool:
        """True when a new bucket would allow no more than this one."""
        self._refill(now)
        return self._left >= BURST

    def _refill(self, now: float) -> None:
        self._left = min(float(BURST), self._left + PER_SECOND * (now - self._at))
        self._at = now


@dataclass(slots=True)
class _Source:
    """All children of one role and version: what they may still print, and what of it was left out."""

    origin: Mapping[str, Any]
    """Names them in a line."""
    bucket: TokenBucket
    notice_at: float
    """When lines that are left out are reported, should none come through before."""
    next_notice_at: float
    """When they are at the earliest, should one come through."""
    left_out: int = 0
    why: str = ""


class ChildLog:
    """Implements `OutputRouter`: writes lines, and how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds of any origin."""
        self.shown: ModelOutput = "until_ready"
        """Which lines of versions are written; lines of other children always are."""
        self._clock = clock
        self._logger = structlog.stdlib.get_logger("router.children")
        self._sources: dict[tuple[str, VersionId | None], _Source] = {}

    def sink_for(self, role: str, version: VersionId | None) -> "ChildLineSink":
        """One for a child in `role`. Children of one version share what they may print, however often it is
        started again."""
        key, now = (role, version), self._clock()
        if key not in self._sources and len(self._sources) >= _MOST_SOURCES:
            self._forget_idle(now)
        if key not in self._sources:
            origin: dict[str, Any] = {"child": role}
            if version is not None:
                origin |= {"model": version.model, "version": version.number}
            self._sources[key] = _Source(origin, TokenBucket(now), now, now)
        return ChildLineSink(self, role == "worker", self._sources[key])

    def write(self, level: str, event: str, values: dict[str, Any]) -> None:
        """One line."""
        self._logger.log(_LEVELS.get(level, logging.INFO), event, **values)

    def report_left_out(self, source: _Source, now: float, *, at_end: bool = False) -> None:
        """Log how many lines were left out; not soon again, unless `at_end` and the bucket pays for it."""
        if not source.left_out:
            return
        event = f"… {source.left_out} {'line' if source.left_out == 1 else 'lines'} left out"
        values = {**source.origin, "why": source.why}
        size = written_bytes(event, values)
        if now >= source.next_notice_at:
            source.bucket.force_take(size, now)
        elif not (at_end and source.bucket.try_take(size, now)):
            return
        source.left_out = 0
        source.notice_at, source.next_notice_at = now + _SILENT_NOTICE_SECONDS, now + NOTICE_SECONDS
        self.write("info", event, values)

    def now(self) -> float:
        """Seconds."""
        return self._clock()

    def _forget_idle(self, now: float) -> None:
        for key in [key for key, source in self._sources.items() if source.bucket.is_full(now)]:
            self.report_left_out(self._sources.pop(key), now, at_end=True)


class ChildLineSink:
    """Implements `LineSink` for one child."""

    def __init__(self, log: ChildLog, is_version: bool, source: _Source) -> None:
        self._log = log
        self._is_version = is_version
        self._source = source
        self._requests_started = False

    def requests_started(self) -> None:
        """From the next line on, what is printed may hold what callers sent."""
        self._requests_started = True

    def write(self, line: bytes) -> bool:
        """Write one line, or count it and return False."""
        now = self._log.now()
        if not line.startswith(_GATEWAY_LINE) and (why := self._withheld()):
            self._leave_out(why, now)
            return False
        if (parsed := _parsed(line)) is None:
            return True
        level, event = parsed.pop("level"), parsed.pop("event")
        values = {**parsed, **self._source.origin}
        if not self._source.bucket.try_take(written_bytes(event, values), now):
            self._leave_out(TOO_MANY, now)
            return False
        self._log.report_left_out(self._source, now)
        self._log.write(level, event, values)
        return True

    def skipped(self, lines: int) -> None:
        """Count lines."""
        self._source.left_out += lines

    def died(self, how: str, lines: Sequence[str]) -> None:
        """Log at the level of what happened, which the lines by themselves were not written at."""
        hidden = self._is_version and self._log.shown == "never"
        values = {**self._source.origin, "why": how}
        if lines and not hidden:
            values["exception"] = "\n".join(lines)
        event = "it ended by itself"
        self._source.bucket.force_take(written_bytes(event, values), self._log.now())
        self._log.write("error", event, values)

    def end(self) -> None:
        """Report what is not reported yet."""
        self._log.report_left_out(self._source, self._log.now(), at_end=True)

    def _withheld(self) -> str:
        if not self._is_version or self._log.shown == "always":
            return ""
        if self._log.shown == "never":
            return HIDDEN
        return WITHHELD if self._requests_started else ""

    def _leave_out(self, why: str, now: float) -> None:
        self._source.left_out += 1
        self._source.why = why
        if now >= self._source.notice_at:
            self._log.report_left_out(self._source, now)


def written_bytes(event: str, values: Mapping[str, Any]) -> int:
    """Bytes that a JSON line takes with this event and these values, at most."""
    size = _ENVELOPE_BYTES + _escaped_bytes(event[:LONGEST_TEXT], UNPRINTABLE)
    for name, value in values.items():
        text, escapes = str(value)[:LONGEST_TEXT], UNPRINTABLE
        if name == "exception":
            text, escapes = str(value)[-LONGEST_TRACEBACK:], UNPRINTABLE_IN_LINES
        size += len(name) + _NAME_BYTES + _escaped_bytes(text, escapes)
    return size


def _escaped_bytes(text: str, escapes: Mapping[int, str]) -> int:
    shown = text if text.isprintable() else text.translate(escapes)
    # A mask may be longer than what it hides; each has one of these signs before or after it.
    masks = 2 * (shown.count("=") + shown.count(":")) + 3 * shown.count("@")
    return len(json.dumps(shown, ensure_ascii=False).encode()) + masks


def _parsed(line: bytes) -> dict[str, Any] | None:
    """`level`, `event` and, where they are known, `logger` and `exception`; None when it is empty."""
    if line.startswith(_MARKERS):
        line = line[1:]
        try:
            record = json.loads(line)
            fields = {name: _COLOR.sub("", str(record[name])) for name in _FIELDS if record.get(name)}
            return {"level": "info", "event": "", **fields}
        # Two threads wrote at once, or a version nests deeper than it can be read: shown as it came.
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
    # A progress bar draws itself over and over on one line: its last state counts.
    text = _COLOR.sub("", line.decode("utf-8", "replace")).rstrip().rpartition("\r")[2]
    return {"level": "info", "event": text} if text else None
