"""Moments as documents and operators read them."""

from datetime import UTC, datetime, timedelta

_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)


def utc(at: float, timespec: str = "milliseconds") -> str:
    """`2026-11-20T14:32:00.000Z` of seconds since 1970; `timespec` as in `datetime.isoformat`."""
    # Not fromtimestamp: what stands in a file may lie beyond what it takes.
    try:
        moment = _BEGIN + timedelta(seconds=at)
    except (OverflowError, ValueError):
        moment = datetime.min if at < 0 else datetime.max
    return f"{moment.replace(tzinfo=None).isoformat(timespec=timespec)}Z"
