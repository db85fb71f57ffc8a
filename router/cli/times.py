"""Moments as operators write them, and as tables show them."""

import re
from datetime import datetime

from router.core.utc import utc

_AGO = re.compile(r"(\d{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)")


def moment(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time; the seconds may be left out. Raises ValueError."""
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"a time with its offset is needed, such as 2026-11-20T14:32Z, not {text!r}")
    return datetime.fromisoformat(text.upper()).timestamp()


def since(text: str, now: float) -> float:
    """Seconds since 1970 of an RFC 3339 time, or of so long before `now`. Raises ValueError."""
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _SECONDS[ago[2]]
    try:
        return moment(text)
    except ValueError:
        sentence = f"90s, 30m, 2h, 7d or a time such as 2026-11-20T14:32Z is needed, not {text!r}"
        raise ValueError(sentence) from None


def utc_table(at: float) -> str:
    """`2026-11-20 14:32:00` of seconds since 1970, in UTC."""
    return utc(at, "seconds").replace("T", " ").removesuffix("Z")
