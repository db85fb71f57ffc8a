"""How the demo ends early: by a signal, or because a task beside it failed."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from router.errors import RouterError

T = TypeVar("T")

Stop = asyncio.Future[None]
"""Done once a signal asks the demo to end; holds an exception when a task beside it failed."""


class Stopped(RouterError):
    """A signal asked the demo to end before it was through."""


def stop_on_signals() -> Stop:
    """A future that Ctrl-C, SIGTERM and a closed terminal resolve."""
    loop = asyncio.get_running_loop()
    stop: Stop = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: None if stop.done() else stop.set_result(None))
    return stop


async def unless(stop: Stop, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled once `stop` is done. Raises Stopped, or `stop`'s exception."""
    task = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {task, stop}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    stop.result()
    raise Stopped("asked to end")


def beside(stop: Stop, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """`work` as a task whose failure ends the demo."""
    task = asyncio.ensure_future(work)

    def pass_on(ended: "asyncio.Task[None]") -> None:
        if not ended.cancelled() and (error := ended.exception()) and not stop.done():
            stop.set_exception(error)

    task.add_done_callback(pass_on)
    return task
