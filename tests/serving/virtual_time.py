"""An event loop whose clock jumps to the next timer, so that minutes of pauses take no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: what would have been waited for is added to `now`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is scheduled, and nothing will be: this would wait for ever"
        self.now += max(timeout, 0.0)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _Jumping) -> None:
        self._clock = selector
        super().__init__(selector)

    def time(self) -> float:
        return self._clock.now


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on a loop of its own, whose time passes only while everything waits."""
    with asyncio.Runner(loop_factory=lambda: _Loop(_Jumping())) as runner:
        runner.run(main)


async def settle() -> None:
    """Let everything run that needs no time to pass."""
    for _ in range(20):
        await asyncio.sleep(0)


async def no_files(directory: str) -> int:
    """Measures no copy of a version: on this clock, time passes while a thread works."""
    return 0
