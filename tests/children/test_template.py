"""The template: it may die, its children may not; and it never holds up the loop."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from router.children import fork_server, process
from router.children.template import Template
from router.children.worker import Worker, WorkerLoader
from router.core.events import ChildRestarted
from router.core.work import Verdict
from router.errors import ChildLost, ChildTimeout
from tests.children.conftest import FEW, Notes, ask, until
from tests.worker.versions import command_query, spec_of, text_query

READY_SECONDS = 30.0


@pytest.fixture
async def load(own_template: Template, versions: Path, slack: float) -> AsyncIterator[Any]:
    """Loads versions by name and closes what it loaded."""
    opened: list[Worker] = []

    async def by_name(name: str) -> Worker:
        loader = WorkerLoader(own_template)
        opened.append(await loader.load(spec_of(versions, name), deadline_seconds=READY_SECONDS * slack))
        return opened[-1]

    yield by_name
    for worker in opened:
        await worker.close()


async def test_workers_outlive_the_template_and_new_ones_come_from_another(
    own_template: Template, load: Any, notes: Notes, slack: float
) -> None:
    worker, first = await load("commands"), own_template.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)

    [answer] = await ask(worker, command_query("fine"))
    assert answer.verdict is Verdict.OK
    another = await load("plain")
    assert (await ask(another, text_query("good")))[0].verdict is Verdict.OK
    assert own_template.pid not in (None, first)
    assert notes.events == [ChildRestarted("template", "signal 9 (SIGKILL)")]
    worker.kill()
    async with asyncio.timeout(2 * slack):
        assert (await asyncio.shield(worker.exited)).signal == signal.SIGKILL


async def test_launches_under_way_survive_the_death_of_the_template(
    own_template: Template, load: Any, slack: float
) -> None:
    others = _children() - {own_template.pid}
    await load("plain")
    starts = [asyncio.create_task(load("plain")) for _ in range(5)]
    await asyncio.sleep(0.01)

    os.kill(own_template.pid or 0, signal.SIGKILL)

    workers = await asyncio.gather(*starts)
    assert len({worker.pid for worker in workers}) == 5
    for worker in workers:
        assert (await ask(worker, text_query("good")))[0].verdict is Verdict.OK
    for worker in workers:
        await worker.close()
    await until(lambda: len(_children() - others) == 2, 5 * slack)  # the template and the first worker


async def test_a_stopped_template_is_replaced(
    own_template: Template, load: Any, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load("plain")
    monkeypatch.setattr(fork_server, "_REPLY_SECONDS", 0.3)

    os.kill(own_template.pid or 0, signal.SIGSTOP)

    await load("plain")
    assert len(notes.events) == 1


async def test_a_template_that_cannot_start_is_tried_again_with_patience(
    notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slack: float
) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit(5)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    template = Template(notes, preload=("broken",), launch_seconds=6.0 * slack)
    await template.start()

    with pytest.raises(ChildTimeout, match="the template ended"):
        await template.launch("worker")
    await template.close()

    restarts = [event.reason for event in notes.events if isinstance(event, ChildRestarted)]
    assert set(restarts) == {"exit code 5"}
    assert 1 <= len(restarts) <= 4 * slack


async def test_a_closed_template_launches_nothing(notes: Notes) -> None:
    others = _children()
    template = Template(notes, preload=FEW)
    await template.start()
    waiting = asyncio.create_task(template.launch("worker"))
    await asyncio.sleep(0)

    await template.close()

    with pytest.raises(ChildLost):
        await waiting
    with pytest.raises(ChildLost):
        await template.launch("worker")
    assert _children() == others


async def test_an_unknown_role_is_refused_and_the_template_lives(own_template: Template, load: Any) -> None:
    child = await own_template.launch("butler")

    assert (await child.exited).code == 1
    await child.close(1.0)
    await load("plain")


async def test_starting_and_loading_never_hold_up_the_loop(
    versions: Path, notes: Notes, slack: float
) -> None:
    """The gateway listens and answers meanwhile; imports alone take two seconds."""
    loop, longest = asyncio.get_running_loop(), 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before)

    watching = asyncio.create_task(watch())
    template = Template(notes, preload=FEW)
    await template.start()
    worker = await Worker.start(template, spec_of(versions, "signed"), deadline_seconds=30 * slack)
    await worker.close()
    await template.close()
    watching.cancel()

    assert longest < 0.25 * slack


async def test_a_launch_from_a_warm_template_takes_no_second(load: Any, slack: float) -> None:
    await load("plain")
    loop = asyncio.get_running_loop()

    started = loop.time()
    await asyncio.gather(*(load("plain") for _ in range(5)))

    assert loop.time() - started < 5 * slack


async def test_the_template_has_one_thread_and_loads_no_version_itself(
    own_template: Template, load: Any
) -> None:
    """A fork would copy the locks that another thread holds."""
    await load("churn")

    assert psutil.Process(own_template.pid).num_threads() == 1


async def test_without_the_right_to_wait_for_grandchildren_it_says_what_to_allow(
    monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    class Refusing:
        def prctl(self, *arguments: int) -> int:
            return -1

    monkeypatch.setattr(process.ctypes, "CDLL", lambda *_a, **_k: Refusing())

    with pytest.raises(process.SubreaperRefused, match="allow prctl"):
        await Template(notes).start()


def test_it_runs_under_uvloop_as_well(versions: Path, slack: float) -> None:
    async def story() -> None:
        notes = Notes()
        template = Template(notes, preload=FEW)
        await template.start()
        loader = WorkerLoader(template)
        worker = await loader.load(spec_of(versions, "commands"), deadline_seconds=READY_SECONDS * slack)
        good, bad = await ask(worker, command_query("x" * 3_000_000), command_query("exit:"))
        assert (good.verdict, bad.verdict) == (Verdict.OK, Verdict.MODEL_ERROR)
        os.kill(template.pid or 0, signal.SIGKILL)
        worker.submit([command_query("die:9")], lambda _index, _answer: None)
        assert str(await asyncio.shield(worker.exited)) == "exit code 9"
        again = await loader.load(spec_of(versions, "plain"), deadline_seconds=READY_SECONDS * slack)
        await again.close()
        await worker.close()
        await template.close()
        assert len(notes.events) == 1

    uvloop.run(story())


def _children() -> set[int | None]:
    return {child.pid for child in psutil.Process().children()}
