"""Bounded waits for what other threads, tasks and processes bring about."""

import asyncio
import time
from collections.abc import Callable

import psutil

from tests.support.slowness import slack

_LATER_PAUSE_SECONDS = 0.1


def wait_until(
    true: Callable[[], object],
    seconds: float,
    story: Callable[[], str] = str,
    *,
    pause_seconds: float = 0.02,
) -> float:
    """Poll until `true()`, and return the seconds that took; fail with `story()` when it never holds.

    After a second it looks less often: each look takes processor time from what is waited for.
    """
    started = time.monotonic()
    while not true():
        waited = time.monotonic() - started
        assert waited < seconds, f"not within {seconds} s\n{story()}"
        time.sleep(pause_seconds if waited < 1 else max(pause_seconds, _LATER_PAUSE_SECONDS))
    return time.monotonic() - started


def children() -> str:
    """Our child processes, those that ended and were not waited for included."""
    return str([(child.pid, child.name(), child.status()) for child in psutil.Process().children()])


async def until(
    true: Callable[[], object], seconds: float | None = None, story: Callable[[], str] = children
) -> None:
    """The same for a task, which lets the event loop run meanwhile; by default for 2 s, widened by `slack`.

    For a second it looks every millisecond, which also sees what holds for ten only; then less often.
    """
    seconds = seconds or 2.0 * slack()
    started = time.monotonic()
    while not true():
        waited = time.monotonic() - started
        assert waited < seconds, f"not within {seconds} s\n{story()}"
        await asyncio.sleep(0.001 if waited < 1 else 0.01)
