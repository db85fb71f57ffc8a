"""The demo ends at once when it is asked to, and when something beside it fails."""

import asyncio
import os
import signal

import pytest

from router.demo.shutdown import Stopped, beside, stop_on_signals, unless


async def test_work_that_ends_first_gives_its_result() -> None:
    stop = asyncio.get_running_loop().create_future()

    assert await unless(stop, asyncio.sleep(0, "result")) == "result"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_cancels_the_work_and_lets_it_clean_up(number: signal.Signals) -> None:
    stop = stop_on_signals()
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            cleaned = True

    try:
        with pytest.raises(Stopped):
            await unless(stop, work())
    finally:
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(one)
    assert cleaned


async def test_a_failure_beside_the_work_ends_it_with_that_failure() -> None:
    stop = asyncio.get_running_loop().create_future()

    async def fail() -> None:
        raise OSError("the gateway is gone")

    task = beside(stop, fail())
    with pytest.raises(OSError, match="gone"):
        await unless(stop, asyncio.sleep(60.0))
    assert task.done()
