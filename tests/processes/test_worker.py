"""A worker as a process: what it does to others, and what others can do to it."""

import asyncio
import errno
import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from router.errors import ChildLost, WarmUpLost
from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker, WorkerLoader
from router.protocol.messages import PredictStatus
from tests.processes.conftest import ask, child_pids
from tests.support.saved_versions import command_query, predictions, spec_of, text_query
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="package")


def gone(pid: int) -> bool:
    """True when no process has this number; one that ended and was not waited for still has."""
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    ("command", "how"),
    [("die:3", "exit code 3"), ("segfault:", "signal 11 (SIGSEGV)")],
)
async def test_a_version_that_ends_its_process_ends_no_other(
    load: Any, slack: float, command: str, how: str
) -> None:
    """Answers that were there come before the end; the first one missing is the one that did it."""
    worker, other = await load("commands"), await load("commands")
    answers: list[int] = []

    worker.submit(
        [command_query("fine"), command_query(command), command_query("never")],
        lambda places, _answers: answers.extend(places),
    )
    async with asyncio.timeout(10 * slack):
        ended = await asyncio.shield(worker.exited)

    assert str(ended) == how
    assert answers == [0]
    assert (await ask(other, command_query("fine")))[0].predict_status is PredictStatus.OK
    assert gone(worker.pid)


async def test_a_worker_that_hangs_in_c_is_ended(load: Any, slack: float, tmp_path: Path) -> None:
    worker = await load("commands")
    worker.submit([command_query(f"hang:{tmp_path}/hanging")], lambda _places, _answers: None)
    await until((tmp_path / "hanging").exists, 5 * slack)

    worker.kill()

    async with asyncio.timeout(2 * slack):
        assert (await asyncio.shield(worker.exited)).signal == signal.SIGKILL
    assert gone(worker.pid)


async def test_closing_a_worker_that_hangs_takes_the_grace_and_no_longer(
    load: Any, slack: float, tmp_path: Path
) -> None:
    worker = await load("commands")
    worker.submit([command_query(f"hang:{tmp_path}/hanging")], lambda _places, _answers: None)
    await until((tmp_path / "hanging").exists, 5 * slack)

    async with asyncio.timeout(2 * slack):
        await worker.close(grace_seconds=0.1)

    assert gone(worker.pid)


async def test_a_worker_that_is_killed_from_outside_says_by_which_signal(load: Any, slack: float) -> None:
    worker = await load("plain")

    os.kill(worker.pid, signal.SIGKILL)

    async with asyncio.timeout(2 * slack):
        assert str(await asyncio.shield(worker.exited)) == "signal 9 (SIGKILL)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
async def test_a_worker_leads_a_group_and_a_stop_of_all_of_it_is_not_for_the_worker(
    load: Any, template: ForkServerSupervisor, number: signal.Signals
) -> None:
    worker = await load("plain")
    assert os.getpgid(worker.pid) == worker.pid
    assert os.getpgid(template.pid or 0) not in (worker.pid, os.getpgid(0))

    os.killpg(os.getpgid(worker.pid), number)
    os.killpg(os.getpgid(template.pid or 0), number)

    assert await load("plain")
    assert (await ask(worker, text_query("good")))[0].predict_status is PredictStatus.OK


@pytest.mark.parametrize(
    ("name", "how"), [("dies_on_load", "exit code 7"), ("dies_of_memory_on_load", r"signal 9 \(SIGKILL\)")]
)
async def test_a_load_that_ends_the_process_says_how(load: Any, name: str, how: str) -> None:
    with pytest.raises(ChildLost, match=rf"{name} v1: {how}"):
        await load(name)


@pytest.mark.parametrize("moment_seconds", [0.0, 0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3])
async def test_a_start_that_is_cancelled_leaves_no_process(
    load: Any, template: ForkServerSupervisor, versions: Path, slack: float, moment_seconds: float
) -> None:
    children = child_pids()
    start = asyncio.create_task(
        Worker.start(template, spec_of(versions, "slow_to_load"), deadline_seconds=30)
    )
    await asyncio.sleep(moment_seconds)

    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    await (await load("plain")).close()  # the template forks one after the other: now ours was forked too
    await until(lambda: child_pids() == children, 5 * slack)


@pytest.mark.parametrize("name", ["raises_on_load", "dies_on_load", "raises_on_example"])
async def test_a_load_that_fails_leaves_no_process_and_no_descriptor(
    load: Any, slack: float, name: str
) -> None:
    children, descriptors = child_pids(), _descriptors()

    with pytest.raises(Exception, match=r"Error|ended"):
        await load(name, warm_up_required=True)

    await until(lambda: child_pids() == children and _descriptors() == descriptors, 5 * slack)


async def test_workers_that_come_and_go_leave_no_descriptor(load: Any, slack: float) -> None:
    descriptors = _descriptors()

    for _ in range(5):
        worker = await load("plain")
        await ask(worker, text_query("good"))
        await worker.close()

    await until(lambda: _descriptors() == descriptors, 5 * slack)


async def test_a_worker_that_loses_its_socket_is_ended(load: Any, slack: float) -> None:
    """It could never be asked again."""
    worker = await load("commands")

    worker._child.connection.data_received(b"\xff" * 100)  # as if the version had written into it

    async with asyncio.timeout(5 * slack):
        assert (await asyncio.shield(worker.exited)).signal == signal.SIGKILL


@pytest.mark.parametrize("command", ["fork:60", "fork_away:60"], ids=["in its group", "in one of its own"])
async def test_a_process_that_a_version_started_does_not_delay_the_news_of_its_end(
    load: Any, slack: float, command: str
) -> None:
    """It inherits the socket, so no end of file comes. In the worker's group, it ends with it."""
    worker = await load("commands")
    [answer] = await ask(worker, command_query(command))
    [orphan] = predictions(answer.body)

    worker.kill()

    async with asyncio.timeout(3 * slack):
        await asyncio.shield(worker.exited)
    if command.startswith("fork_away"):
        assert os.waitpid(orphan, os.WNOHANG) == (0, 0)
        os.kill(orphan, signal.SIGKILL)
    async with asyncio.timeout(3 * slack):  # ours to wait for, as orphans are
        _, status = await asyncio.to_thread(os.waitpid, orphan, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("end", ["die:3", "close"])
async def test_what_a_version_started_ends_with_a_worker_that_ends_by_itself(
    load: Any, slack: float, end: str
) -> None:
    worker = await load("commands")
    [answer] = await ask(worker, command_query("fork:60"))
    [orphan] = predictions(answer.body)

    if end == "close":
        await worker.close(10 * slack)
    else:
        worker.submit([command_query(end)], lambda _places, _answers: None)

    async with asyncio.timeout(10 * slack):
        how = await asyncio.shield(worker.exited)
        _, status = await asyncio.to_thread(os.waitpid, orphan, 0)
    assert str(how) == ("exit code 0" if end == "close" else "exit code 3")
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("at", ["pipe", "socketpair", "connect", "send_fds"])
async def test_a_launch_without_a_descriptor_left_is_a_lost_child_and_leaves_none_open(
    template: ForkServerSupervisor, monkeypatch: pytest.MonkeyPatch, slack: float, at: str
) -> None:
    """Whoever launches tries again later; an OSError would end the loop that does."""
    await (await template.launch("worker")).stop(5.0)
    descriptors = _descriptors()

    def refuse(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        owner: object = {"pipe": os, "connect": asyncio.get_running_loop()}.get(at, socket)
        patch.setattr(owner, "create_unix_connection" if at == "connect" else at, refuse)
        with pytest.raises(ChildLost, match="Too many open files"):
            await template.launch("worker")

    await until(lambda: _descriptors() == descriptors, 5 * slack)
    await (await template.launch("worker")).stop(5.0)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("name", "seconds", "reported"),
    [
        ("dies_on_example", None, "ended while it predicted its input example: exit code 9"),
        ("hangs_on_example", 0.5, r"was not predicted within 0\.5 s"),
    ],
)
async def test_a_warm_up_that_ends_its_worker_or_takes_too_long_is_reported_as_that(
    template: ForkServerSupervisor,
    versions: Path,
    slack: float,
    name: str,
    seconds: float | None,
    reported: str,
) -> None:
    spec = replace(spec_of(versions, name), warm_up_seconds=seconds)
    with pytest.raises(WarmUpLost, match=reported):
        await WorkerLoader(template).load(spec, deadline_seconds=30 * slack)


@pytest.mark.parametrize("name", ["dies_on_example", "hangs_on_example"])
async def test_without_its_warm_up_such_a_version_serves_and_says_so(
    template: ForkServerSupervisor, versions: Path, slack: float, name: str
) -> None:
    spec = replace(spec_of(versions, name), warm_up_seconds=0.0)
    worker = await WorkerLoader(template).load(spec, deadline_seconds=30 * slack)
    try:
        [answer] = await ask(worker, text_query("other"))
        assert predictions(answer.body) == [0.5]
        assert "an earlier warm-up took too long" in worker.info.note
    finally:
        await worker.close()
