"""How much of the log the children of one version may fill, in bytes as they are written."""

import json
from collections.abc import Mapping
from typing import Any

from router.adapters.log.format import LONGEST_TEXT, LONGEST_TRACEBACK, UNPRINTABLE, UNPRINTABLE_IN_LINES

BURST = 100_000
"""Bytes of log that the children of one version and role may fill at once."""
PER_SECOND = 4_000
"""Bytes they may fill in the long run: 350 MB a day, and then only if it goes on day and night."""
NOTICE_SECONDS = 10.0
"""Between two notices of lines left out, unless a child ends and its notice can be paid for."""
_ENVELOPE_BYTES = 105
"""Of a line of JSON, at most: time, the longest level, the event's name, and that it was cut."""
_NAME_SIGNS = 6
"""Quotes, colon, comma and spaces about the name of a value."""


def written_bytes(event: str, values: Mapping[str, Any]) -> int:
    """Bytes that a JSON line takes with this event and these values, at most."""
    size = _ENVELOPE_BYTES + _escaped_bytes(event[:LONGEST_TEXT], UNPRINTABLE)
    for name, value in values.items():
        text, signs = str(value)[:LONGEST_TEXT], UNPRINTABLE
        if name == "exception":
            text, signs = str(value)[-LONGEST_TRACEBACK:], UNPRINTABLE_IN_LINES
        size += len(name) + _NAME_SIGNS + _escaped_bytes(text, signs)
    return size


def _escaped_bytes(text: str, signs: Mapping[int, str]) -> int:
    shown = text if text.isprintable() else text.translate(signs)
    # A mask may be longer than what it hides; each has one of these signs before or after it.
    masks = 2 * (shown.count("=") + shown.count(":")) + 3 * shown.count("@")
    return len(json.dumps(shown, ensure_ascii=False).encode()) + masks


class Allowance:
    """What the children of one version may still print, and what of it was left out."""

    def __init__(self, whose: Mapping[str, Any], now: float) -> None:
        """`whose` are the values that name them in a line."""
        self.whose = whose
        self.left_out = 0
        self.why = ""
        self.tell_at = self.tell_again_at = now
        """When lines that are left out are told: should none come through before, and at the earliest."""
        self._spent = False
        self._left = float(BURST)
        self._at = now

    def takes(self, size: int, now: float) -> bool:
        """Take `size` bytes off where there are as many; once there were not, when it is half whole again."""
        self._refill(now)
        # A trickle would be line by line, with as many lines between them that tell what was left out.
        self._spent = self._left < (BURST / 2 if self._spent else size)
        if self._spent:
            return False
        self._left -= size
        return True

    def owe(self, size: int, now: float) -> None:
        """Take `size` bytes off, whether there are as many or not."""
        self._refill(now)
        self._left -= size

    def is_whole(self, now: float) -> bool:
        """True when nothing but the count of what was left out would be lost with it."""
        self._refill(now)
        return self._left >= BURST

    def _refill(self, now: float) -> None:
        self._left = min(float(BURST), self._left + PER_SECOND * (now - self._at))
        self._at = now
