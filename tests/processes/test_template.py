"""The template: warm, single-threaded, never in the way of the loop, and gone when it is closed."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from router.errors import ChildLost, ChildTimeout
from router.processes import process
from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker, WorkerLoader, modules_for
from router.protocol.messages import PredictStatus
from tests.processes.conftest import Notes, ask, child_pids, launch_seconds, loading, running
from tests.support.saved_versions import command_query, spec_of

READY_SECONDS = 30.0
on_the_shared_loop = pytest.mark.asyncio(loop_scope="package")
"""That of the template which other tests use, too."""


async def test_a_launch_that_takes_too_long_is_given_up(notes: Notes) -> None:
    template = ForkServerSupervisor(notes, launch_seconds=0.05)
    await template.start()

    with pytest.raises(ChildTimeout, match=r"within 0\.05 s"):
        await template.launch("worker")

    await template.close()


async def test_a_closed_template_launches_nothing(notes: Notes) -> None:
    others = child_pids()
    template = ForkServerSupervisor(notes, launch_seconds=launch_seconds())
    await template.start()
    waiting = asyncio.create_task(template.launch("worker"))
    await asyncio.sleep(0)

    await template.close()

    with pytest.raises(ChildLost):
        await waiting
    with pytest.raises(ChildLost):
        await template.launch("worker")
    assert child_pids() == others


@on_the_shared_loop
async def test_an_unknown_role_is_refused_and_the_template_lives(
    template: ForkServerSupervisor, load: Any
) -> None:
    child = await template.launch("butler")

    assert (await child.exited).code == 1
    await child.stop(1.0)
    await load("plain")


async def test_starting_and_loading_never_hold_up_the_loop(
    versions: Path, notes: Notes, slack: float
) -> None:
    """The gateway listens and answers meanwhile. Most of the time goes into the template's imports."""
    loop, longest = asyncio.get_running_loop(), 0.0
    started = loop.time()

    async def watch() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before)

    watching = asyncio.create_task(watch())
    template = ForkServerSupervisor(notes, launch_seconds=launch_seconds())
    await template.start()
    worker = await Worker.start(template, spec_of(versions, "signed"), deadline_seconds=30 * slack)
    await worker.close()
    await template.close()
    watching.cancel()

    assert longest < (loop.time() - started) / 3


@on_the_shared_loop
async def test_a_launch_from_a_warm_template_takes_no_second(load: Any, slack: float) -> None:
    await load("plain")
    loop = asyncio.get_running_loop()

    started = loop.time()
    await asyncio.gather(*(load("plain") for _ in range(5)))

    assert loop.time() - started < 5 * slack


@on_the_shared_loop
async def test_the_template_has_one_thread_and_loads_no_version_itself(
    template: ForkServerSupervisor, load: Any
) -> None:
    """A fork would copy the locks that another thread holds."""
    await load("churn")

    assert psutil.Process(template.pid).num_threads() == 1


async def test_a_library_is_imported_once_before_the_first_worker_that_needs_it_and_by_the_next_template(
    notes: Notes, versions: Path
) -> None:
    """A template without versions of scikit-learn saves its 40 MB; with them, all workers share these. And a
    worker of production that ends when the template does is not to wait for the import."""
    async with (
        running(ForkServerSupervisor(notes, launch_seconds=launch_seconds())) as template,
        loading(template, versions) as load,
    ):

        def files() -> str:
            return Path(f"/proc/{template.pid}/maps").read_text()

        await load("plain")
        before = files()
        workers = await asyncio.gather(load("churn"), load("churn"))
        await load("plain")

        assert "/sklearn/" not in before
        assert "/sklearn/" in files()
        assert {worker.info.flavor for worker in workers} == {"sklearn"}

        first = template.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await load("plain")

        assert template.pid != first
        assert "/sklearn/" in files()


@pytest.mark.parametrize(
    ("requirements", "needs"),
    [
        ("mlflow==3.17.2\nscikit-learn==1.9.1\n", True),
        ("scikit_learn>=1", True),
        ("  Scikit.Learn[extra] ; python_version > '3'", True),
        ("scikit-learn-extra==0.3\n# scikit-learn\nnumpy\n", False),
        ("", False),
        ("\xff\xfe\n" + "x" * 70_000 + "\nscikit-learn", False),
        (None, False),
    ],
    ids=["pinned", "underscore", "dots and extras", "another", "empty", "far behind", "no file"],
)
def test_what_a_version_needs_is_read_from_its_requirements(
    requirements: str | None, needs: bool, tmp_path: Path
) -> None:
    if requirements is not None:
        (tmp_path / "requirements.txt").write_bytes(requirements.encode("latin-1"))

    assert ("mlflow.sklearn" in modules_for(tmp_path)) is needs


async def test_without_the_right_to_wait_for_grandchildren_it_says_what_to_allow(
    monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    class Refusing:
        def prctl(self, *arguments: int) -> int:
            return -1

    monkeypatch.setattr(process.ctypes, "CDLL", lambda *_a, **_k: Refusing())

    with pytest.raises(process.SubreaperRefused, match="allow prctl"):
        await ForkServerSupervisor(notes).start()


def test_it_runs_under_uvloop_as_well(versions: Path, slack: float) -> None:
    async def story() -> None:
        notes = Notes()
        template = ForkServerSupervisor(notes, launch_seconds=launch_seconds())
        await template.start()
        loader = WorkerLoader(template)
        worker = await loader.load(spec_of(versions, "commands"), deadline_seconds=READY_SECONDS * slack)
        good, bad = await ask(worker, command_query("x" * 3_000_000), command_query("exit:"))
        assert (good.predict_status, bad.predict_status) == (PredictStatus.OK, PredictStatus.MODEL_ERROR)
        os.kill(template.pid or 0, signal.SIGKILL)
        worker.submit([command_query("die:9")], lambda _places, _answers: None)
        assert str(await asyncio.shield(worker.exited)) == "exit code 9"
        again = await loader.load(spec_of(versions, "plain"), deadline_seconds=READY_SECONDS * slack)
        await again.close()
        await worker.close()
        await template.close()
        assert len(notes.events) == 1

    uvloop.run(story())
