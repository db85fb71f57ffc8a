"""Moments as documents and operators read them."""

import re
from datetime import UTC, datetime, timedelta

_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def utc(at: float, timespec: str = "milliseconds") -> str:
    """`2026-11-20T14:32:00.000Z` of seconds since 1970; `timespec` as in `datetime.isoformat`."""
    # Not fromtimestamp: what stands in a file may lie beyond what it takes.
    try:
        moment = _BEGIN + timedelta(seconds=at)
    except (OverflowError, ValueError):
        moment = datetime.min if at < 0 else datetime.max
    return f"{moment.replace(tzinfo=None).isoformat(timespec=timespec)}Z"


def seconds_of(text: str) -> float:
    """Seconds since 1970 of `2026-11-20T14:32:07Z`, and of nothing else: `utc(at, "seconds")`. Raises
    ValueError."""
    if not _WHOLE_SECONDS.fullmatch(text):
        raise ValueError("it is not a time such as 2026-11-20T14:32:07Z")
    return (datetime.fromisoformat(text) - _BEGIN).total_seconds()
