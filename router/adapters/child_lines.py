"""What children print, as lines of the gateway's log: whose it is, not too much, nothing of requests."""

import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import structlog

from router.core.ids import VersionId
from router.core.spoken import OWN, RECORD
from router.settings import ModelOutput

BURST = 100_000
"""Characters that the children of one version and role may print at once; a line costs 100 more."""
PER_SECOND = 4_000
"""Characters they may print in the long run: 350 MB a day, and then only if it goes on day and night."""
_LINE_COST = 100
_TELL_SECONDS = 3600.0
_OWN, _MARKS = OWN.encode(), (OWN.encode(), RECORD.encode())
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

TOO_MANY = f"more than {PER_SECOND} characters a second"
WITHHELD = "what a version prints once it is READY may hold requests; log.model_output: always shows it"
HIDDEN = "log.model_output is never"


class ChildLines:
    """Implements `Listener`: writes lines, and how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds of any origin."""
        self.shown: ModelOutput = "until_ready"
        """Which lines of versions are written; lines of other children always are."""
        self._clock = clock
        self._logger = structlog.stdlib.get_logger("router.children")
        self._allowances: dict[tuple[str, VersionId | None], _Allowance] = {}

    def ear_for(self, role: str, version: VersionId | None) -> "ChildEar":
        """One for a child in `role`. Children of one version share what they may print, however often it is
        started again."""
        key = role, version
        if key not in self._allowances and len(self._allowances) >= _MOST_ALLOWANCES:
            now = self._clock()
            self._allowances = {k: one for k, one in self._allowances.items() if not one.is_whole(now)}
        allowance = self._allowances.setdefault(key, _Allowance(self._clock()))
        return ChildEar(self, role, version, allowance)

    def write(self, level: str, event: str, values: dict[str, Any]) -> None:
        """One line."""
        self._logger.log(_LEVELS.get(level, logging.INFO), event, **values)

    def now(self) -> float:
        """Seconds."""
        return self._clock()


class ChildEar:
    """Implements `Ear` for one child."""

    def __init__(
        self, lines: ChildLines, role: str, version: VersionId | None, allowance: "_Allowance"
    ) -> None:
        self._lines = lines
        self._whose: dict[str, Any] = {"child": role}
        if version is not None:
            self._whose |= {"model": version.model, "version": version.number}
        self._is_version = role == "worker"
        self._allowance = allowance
        self._requests_came = False

    def requests_come(self) -> None:
        """From the next line on, what is printed may hold what callers sent."""
        self._requests_came = True

    def hear(self, line: bytes) -> bool:
        """Write one line, or count it."""
        now = self._lines.now()
        if not line.startswith(_OWN) and (why := self._withheld()):
            self._leave_out(1, why, now)
            return False
        if (told := _read(line)) is None:
            return True
        size = len(told["event"]) + len(told.get("exception", ""))
        if not self._allowance.takes(size + _LINE_COST, now):
            self._leave_out(1, TOO_MANY, now)
            return False
        self._tell_left_out(now)
        level = told.pop("level")
        self._lines.write(level, told.pop("event"), {**told, **self._whose})
        return True

    def skip(self, lines: int) -> None:
        """Count lines."""
        self._allowance.left_out += lines

    def end(self) -> None:
        """Say what is not said yet."""
        self._tell_left_out(self._lines.now())

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
            self._tell_left_out(now)

    def _tell_left_out(self, now: float) -> None:
        allowance = self._allowance
        if not allowance.left_out:
            return
        event = f"… {allowance.left_out} {'line' if allowance.left_out == 1 else 'lines'} left out"
        allowance.left_out = 0
        allowance.tell_at = now + _TELL_SECONDS
        self._lines.write("info", event, {**self._whose, "why": allowance.why})


class _Allowance:
    """What the children of one version may still print, and what of it was left out."""

    def __init__(self, now: float) -> None:
        self.left_out = 0
        self.why = ""
        self.tell_at = now
        """When lines that are left out are told again, should none come through before."""
        self._spent = False
        self._left = float(BURST)
        self._at = now

    def takes(self, characters: int, now: float) -> bool:
        """Take `characters` off where there are as many; once there were not, when it is half whole again."""
        self._refill(now)
        # A trickle would be line by line, with as many lines between them that tell what was left out.
        self._spent = self._left < (BURST / 2 if self._spent else characters)
        if self._spent:
            return False
        self._left -= characters
        return True

    def is_whole(self, now: float) -> bool:
        """True when nothing would be lost with it."""
        self._refill(now)
        return self._left >= BURST and not self.left_out

    def _refill(self, now: float) -> None:
        self._left = min(float(BURST), self._left + PER_SECOND * (now - self._at))
        self._at = now


def _read(line: bytes) -> dict[str, Any] | None:
    """`level`, `event` and, where they are known, `logger` and `exception`; None when it is empty."""
    if line.startswith(_MARKS):
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
