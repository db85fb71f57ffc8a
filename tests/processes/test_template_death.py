"""The template may die, hang or fail to start: its children live on, and later launches find another one."""

import asyncio
import errno
import os
import resource
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from router.core.events import ChildRestarted
from router.errors import ChildLost
from router.processes import forkserver as fork_server
from router.processes.forkserver import ForkServerSupervisor
from router.protocol.messages import PredictStatus
from tests.processes.conftest import Notes, ask, child_pids, launch_seconds, loading, running
from tests.support.saved_versions import command_query, text_query
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def all_notes() -> Notes:
    """What was recorded of the template that these tests share."""
    return Notes()


@pytest.fixture
def notes(all_notes: Notes) -> Notes:
    """Of this test alone."""
    all_notes.events.clear()
    return all_notes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own_template(all_notes: Notes) -> AsyncIterator[ForkServerSupervisor]:
    """Whoever kills it leaves the next one."""
    async with running(ForkServerSupervisor(all_notes, launch_seconds=launch_seconds())) as template:
        yield template


@pytest_asyncio.fixture(loop_scope="module")
async def own_load(own_template: ForkServerSupervisor, versions: Path) -> AsyncIterator[Any]:
    async with loading(own_template, versions) as by_name:
        yield by_name


async def test_workers_outlive_the_template_and_new_ones_come_from_another(
    own_template: ForkServerSupervisor, own_load: Any, notes: Notes, slack: float
) -> None:
    worker, first = await own_load("commands"), own_template.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)

    [answer] = await ask(worker, command_query("fine"))
    assert answer.predict_status is PredictStatus.OK
    another = await own_load("plain")
    assert (await ask(another, text_query("good")))[0].predict_status is PredictStatus.OK
    assert own_template.pid not in (None, first)
    assert notes.events == [ChildRestarted("template", "signal 9 (SIGKILL)")]
    worker.kill()
    async with asyncio.timeout(2 * slack):
        assert (await asyncio.shield(worker.exited)).signal == signal.SIGKILL


async def test_launches_under_way_survive_the_death_of_the_template(
    own_template: ForkServerSupervisor, own_load: Any, slack: float
) -> None:
    others = child_pids() - {own_template.pid}
    await own_load("plain")
    starts = [asyncio.create_task(own_load("plain")) for _ in range(5)]
    await asyncio.sleep(0.01)

    os.kill(own_template.pid or 0, signal.SIGKILL)

    workers = await asyncio.gather(*starts)
    assert len({worker.pid for worker in workers}) == 5
    for worker in workers:
        assert (await ask(worker, text_query("good")))[0].predict_status is PredictStatus.OK
    for worker in workers:
        await worker.close()
    await until(lambda: len(child_pids() - others) == 2, 5 * slack)  # the template and the first worker


async def test_a_launch_that_first_hears_of_the_death_of_the_template_waits_for_another(
    own_template: ForkServerSupervisor, own_load: Any, slack: float
) -> None:
    """The news of it may still be on its way when the next launch is asked for."""
    await own_load("plain")
    template = psutil.Process(own_template.pid)

    template.kill()
    give_up = time.monotonic() + 5 * slack
    while template.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < give_up  # without a turn of the loop, which would read the news

    await own_load("plain")


async def test_without_a_descriptor_left_a_launch_fails_and_a_later_one_does_not(
    own_template: ForkServerSupervisor, own_load: Any, notes: Notes
) -> None:
    await own_load("plain")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    for spare in range(5):
        highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
        fillers = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1 + spare, hard))
        try:
            with suppress(ChildLost):
                await (await own_template.launch("worker")).stop(1.0)
                assert spare >= 4  # two for the socket pair, two for the lifeline; three of them come back
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                os.close(filler)

    await own_load("plain")
    assert notes.events == []


async def test_a_request_that_cannot_be_sent_is_not_waited_for(
    own_template: ForkServerSupervisor, own_load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await own_load("plain")
    server = own_template._server
    assert server is not None

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    with monkeypatch.context() as patch:
        patch.setattr(fork_server.socket, "send_fds", refuse)
        with pytest.raises(ChildLost, match="cannot be asked"):
            await own_template.launch("worker")

    assert server._requests == {}
    await own_load("plain")


async def test_a_stopped_template_is_replaced(
    own_template: ForkServerSupervisor,
    own_load: Any,
    notes: Notes,
    slack: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await own_load("plain")
    os.kill(own_template.pid or 0, signal.SIGSTOP)

    with monkeypatch.context() as patch:
        patch.setattr(fork_server, "_REPLY_SECONDS", 0.3)
        loading = asyncio.create_task(own_load("plain"))
        await until(lambda: len(notes.events) == 1, 10 * slack)

    await loading
    assert notes.events == [ChildRestarted("template", "signal 9 (SIGKILL)")]


async def test_a_template_that_cannot_start_is_tried_again_with_patience(
    notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slack: float
) -> None:
    (tmp_path / "threadpoolctl.py").write_text("raise SystemExit(5)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    template = ForkServerSupervisor(notes, launch_seconds=120.0 * slack)
    await template.start()
    loop = asyncio.get_running_loop()
    started = loop.time()
    waiting = asyncio.create_task(template.launch("worker"))

    await until(lambda: len(notes.events) == 2, 60 * slack)
    await template.close()

    assert loop.time() - started > 0.5 + 1.0
    assert set(notes.events) == {ChildRestarted("template", "exit code 5")}
    with pytest.raises(ChildLost):
        await waiting


@pytest.mark.parametrize(
    "harm",
    [
        "import os; os.abort()",
        "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
    ],
    ids=["dies", "starts a thread"],
)
async def test_a_library_that_a_template_does_not_survive_is_left_to_those_who_need_it(
    harm: str, notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slack: float
) -> None:
    """Else nothing at all would be started any more, not even production's next worker."""
    (tmp_path / "harmful.py").write_text(harm)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    template = ForkServerSupervisor(notes, launch_seconds=60.0 * slack)
    await template.start()
    try:
        asking, plain = await asyncio.gather(
            template.launch("worker", ("harmful",)), template.launch("worker")
        )
        for child in (asking, plain):
            child.kill()
            await child.stop(0.0)
    finally:
        await template.close()

    assert len(notes.events) == 2, "one that imported it, and one that had to at its start"
