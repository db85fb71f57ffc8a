"""What children print, as lines of the gateway's log: whose it is, not too much, nothing of requests."""

import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import structlog

from router.adapters.child_allowance import NOTICE_SECONDS, PER_SECOND, Allowance, written_bytes
from router.core.ids import VersionId
from router.core.log_markers import GATEWAY_LINE, LOG_RECORD
from router.settings import ModelOutput

_TELL_SECONDS = 3600.0
_GATEWAY_LINE, _MARKERS = GATEWAY_LINE.encode(), (GATEWAY_LINE.encode(), LOG_RECORD.encode())
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_MOST_ALLOWANCES = 64
_COLOR = re.compile(r"\x1b\[[\d;]{0,20}m")
"""MLflow colours its warnings for a terminal."""
_FIELDS = ("level", "event", "logger", "exception")

TOO_MANY = f"more than {PER_SECOND} bytes a second"
WITHHELD = "what a version prints once it is READY may hold requests; log.model_output: always shows it"
HIDDEN = "log.model_output is never"


class ChildLines:
    """Implements `OutputRouter`: writes lines, and how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds of any origin."""
        self.shown: ModelOutput = "until_ready"
        """Which lines of versions are written; lines of other children always are."""
        self._clock = clock
        self._logger = structlog.stdlib.get_logger("router.children")
        self._allowances: dict[tuple[str, VersionId | None], Allowance] = {}

    def sink_for(self, role: str, version: VersionId | None) -> "ChildEar":
        """One for a child in `role`. Children of one version share what they may print, however often it is
        started again."""
        key, now = (role, version), self._clock()
        if key not in self._allowances and len(self._allowances) >= _MOST_ALLOWANCES:
            self._forget(now)
        if key not in self._allowances:
            whose: dict[str, Any] = {"child": role}
            if version is not None:
                whose |= {"model": version.model, "version": version.number}
            self._allowances[key] = Allowance(whose, now)
        return ChildEar(self, role == "worker", self._allowances[key])

    def write(self, level: str, event: str, values: dict[str, Any]) -> None:
        """One line."""
        self._logger.log(_LEVELS.get(level, logging.INFO), event, **values)

    def tell_left_out(self, allowance: Allowance, now: float, *, at_end: bool = False) -> None:
        """Say how many lines were left out; not soon again, unless `at_end` and the allowance pays for it."""
        if not allowance.left_out:
            return
        event = f"… {allowance.left_out} {'line' if allowance.left_out == 1 else 'lines'} left out"
        values = {**allowance.whose, "why": allowance.why}
        size = written_bytes(event, values)
        if now >= allowance.tell_again_at:
            allowance.owe(size, now)
        elif not (at_end and allowance.takes(size, now)):
            return
        allowance.left_out = 0
        allowance.tell_at, allowance.tell_again_at = now + _TELL_SECONDS, now + NOTICE_SECONDS
        self.write("info", event, values)

    def now(self) -> float:
        """Seconds."""
        return self._clock()

    def _forget(self, now: float) -> None:
        whole = [key for key, one in self._allowances.items() if one.is_whole(now)]
        for key in whole:
            self.tell_left_out(self._allowances.pop(key), now, at_end=True)


class ChildEar:
    """Implements `LineSink` for one child."""

    def __init__(self, lines: ChildLines, is_version: bool, allowance: Allowance) -> None:
        self._lines = lines
        self._is_version = is_version
        self._allowance = allowance
        self._requests_came = False

    def requests_started(self) -> None:
        """From the next line on, what is printed may hold what callers sent."""
        self._requests_came = True

    def write(self, line: bytes) -> bool:
        """Write one line, or count it."""
        now = self._lines.now()
        if not line.startswith(_GATEWAY_LINE) and (why := self._withheld()):
            self._leave_out(1, why, now)
            return False
        if (told := _read(line)) is None:
            return True
        level, event = told.pop("level"), told.pop("event")
        values = {**told, **self._allowance.whose}
        if not self._allowance.takes(written_bytes(event, values), now):
            self._leave_out(1, TOO_MANY, now)
            return False
        self._lines.tell_left_out(self._allowance, now)
        self._lines.write(level, event, values)
        return True

    def skipped(self, lines: int) -> None:
        """Count lines."""
        self._allowance.left_out += lines

    def end(self) -> None:
        """Say what is not said yet."""
        self._lines.tell_left_out(self._allowance, self._lines.now(), at_end=True)

    def _withheld(self) -> str:
        if not self._is_version or self._lines.shown == "always":
            return ""
        if self._lines.shown == "never":
            return HIDDEN
        return WITHHELD if self._requests_came else ""

    def _leave_out(self, lines: int, why: str, now: float) -> None:
        self._allowance.left_out += lines
        self._allowance.why = why
        if now >= self._allowance.tell_at:
            self._lines.tell_left_out(self._allowance, now)


def _read(line: bytes) -> dict[str, Any] | None:
    """`level`, `event` and, where they are known, `logger` and `exception`; None when it is empty."""
    if line.startswith(_MARKERS):
        line = line[1:]
        try:
            told = json.loads(line)
            read = {name: _COLOR.sub("", str(told[name])) for name in _FIELDS if told.get(name)}
            return {"level": "info", "event": "", **read}
        # Two threads wrote at once, or a version nests deeper than it can be read: shown as it came.
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
    # A progress bar draws itself over and over on one line: its last state counts.
    text = _COLOR.sub("", line.decode("utf-8", "replace")).rstrip().rpartition("\r")[2]
    return {"level": "info", "event": text} if text else None
