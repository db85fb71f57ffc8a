"""A worker as a process: what it does to others, and what others can do to it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from router.children.template import Template
from router.children.worker import Worker, WorkerLoader
from router.core.work import LoadSpec, Verdict
from router.errors import ChildLost
from tests.children.conftest import ask, until
from tests.worker.versions import command_query, json_query, predictions, spec_of, text_query

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def load(template: Template, versions: Path, slack: float) -> AsyncIterator[Any]:
    """Loads versions by name and closes what it loaded."""
    opened: list[Worker] = []

    async def by_name(name: str) -> Worker:
        loader = WorkerLoader(template)
        opened.append(await loader.load(spec_of(versions, name), deadline_seconds=30 * slack))
        return opened[-1]

    yield by_name
    for worker in opened:
        await worker.close()


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
        lambda index, _answer: answers.append(index),
    )
    async with asyncio.timeout(10 * slack):
        ended = await asyncio.shield(worker.exited)

    assert str(ended) == how
    assert answers == [0]
    assert (await ask(other, command_query("fine")))[0].verdict is Verdict.OK
    assert gone(worker.pid)


async def test_a_worker_that_hangs_in_c_is_ended(load: Any, slack: float, tmp_path: Path) -> None:
    worker = await load("commands")
    worker.submit([command_query(f"hang:{tmp_path}/hanging")], lambda _index, _answer: None)
    await until((tmp_path / "hanging").exists, 5 * slack)

    worker.kill()

    async with asyncio.timeout(2 * slack):
        assert (await asyncio.shield(worker.exited)).signal == signal.SIGKILL
    assert gone(worker.pid)


async def test_closing_a_worker_that_hangs_takes_the_grace_and_no_longer(
    load: Any, slack: float, tmp_path: Path
) -> None:
    worker = await load("commands")
    worker.submit([command_query(f"hang:{tmp_path}/hanging")], lambda _index, _answer: None)
    await until((tmp_path / "hanging").exists, 5 * slack)

    async with asyncio.timeout(2 * slack):
        await worker.close(grace_seconds=0.1)

    assert gone(worker.pid)


async def test_a_worker_that_is_killed_from_outside_says_by_which_signal(load: Any, slack: float) -> None:
    worker = await load("plain")

    os.kill(worker.pid, signal.SIGKILL)

    async with asyncio.timeout(2 * slack):
        assert str(await asyncio.shield(worker.exited)) == "signal 9 (SIGKILL)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_stop_of_the_whole_group_is_not_for_workers(
    load: Any, template: Template, number: signal.Signals
) -> None:
    worker = await load("plain")
    assert os.getpgid(worker.pid) == os.getpgid(template.pid or 0) != os.getpgid(0)

    os.killpg(os.getpgid(worker.pid), number)

    assert (await ask(worker, text_query("good")))[0].verdict is Verdict.OK


@pytest.mark.parametrize("names", [("helper_a", "helper_b"), ("helper_b", "helper_a")])
async def test_two_versions_with_one_module_name_each_run_their_own_code(
    load: Any, names: tuple[str, str]
) -> None:
    first, second = [await load(name) for name in names]

    for worker, name in ((first, names[0]), (second, names[1]), (first, names[0])):
        [answer] = await ask(worker, text_query("x"))
        assert predictions(answer.body) == [name[-1]]


async def test_a_version_that_ships_a_module_named_router_runs_its_own(load: Any) -> None:
    worker = await load("ships_router")

    [answer] = await ask(worker, text_query("x"))

    assert predictions(answer.body) == ["theirs"]


@pytest.mark.parametrize(
    ("name", "how"), [("dies_on_load", "exit code 7"), ("dies_of_memory_on_load", r"signal 9 \(SIGKILL\)")]
)
async def test_a_load_that_ends_the_process_says_how(load: Any, name: str, how: str) -> None:
    with pytest.raises(ChildLost, match=rf"{name} v1: {how}"):
        await load(name)


@pytest.mark.parametrize("moment_seconds", [0.0, 0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3])
async def test_a_start_that_is_cancelled_leaves_no_process(
    load: Any, template: Template, versions: Path, slack: float, moment_seconds: float
) -> None:
    children = _children()
    start = asyncio.create_task(
        Worker.start(template, spec_of(versions, "slow_to_load"), deadline_seconds=30)
    )
    await asyncio.sleep(moment_seconds)

    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    await (await load("plain")).close()  # the template forks one after the other: now ours was forked too
    await until(lambda: _children() == children, 5 * slack)


@pytest.mark.parametrize("name", ["raises_on_load", "dies_on_load", "raises_on_example"])
async def test_a_load_that_fails_leaves_no_process_and_no_descriptor(
    load: Any, slack: float, name: str
) -> None:
    children, descriptors = _children(), _descriptors()

    with pytest.raises(Exception, match=r"Error|ended"):
        await load(name)

    await until(lambda: _children() == children and _descriptors() == descriptors, 5 * slack)


async def test_workers_that_come_and_go_leave_no_descriptor(load: Any, slack: float) -> None:
    descriptors = _descriptors()

    for _ in range(5):
        worker = await load("plain")
        await ask(worker, text_query("good"))
        await worker.close()

    await until(lambda: _descriptors() == descriptors, 5 * slack)


async def test_workers_do_not_hold_each_others_sockets(load: Any, slack: float) -> None:
    """Else the end of one would not be seen while another lives."""
    workers = [await load("plain") for _ in range(3)]

    for worker in workers:
        sockets = [link for link in _links(worker.pid) if link.startswith("socket:")]
        assert len(sockets) == 1


async def test_workers_draw_different_random_numbers(load: Any) -> None:
    """A fork copies the state of numpy's generator."""
    first, second = await load("commands"), await load("commands")

    [one], [other] = await ask(first, command_query("draw:")), await ask(second, command_query("draw:"))

    assert one.body != other.body


async def test_a_worker_uses_as_many_threads_for_linear_algebra_as_it_is_told(
    template: Template, versions: Path, slack: float
) -> None:
    for threads in (1, 2):
        plain = spec_of(versions, "commands")
        spec = LoadSpec(plain.version, plain.directory, None, blas_threads=threads)
        worker = await Worker.start(template, spec, deadline_seconds=30 * slack)
        [answer] = await ask(worker, command_query("threads:"))
        await worker.close()
        assert set(predictions(answer.body)[0]) == {threads}


async def test_a_version_sees_no_secret_in_its_environment(
    versions: Path, slack: float, monkeypatch: pytest.MonkeyPatch, notes: Any
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN", "CANARY_ROUTER_REGISTRY__URI"):
        monkeypatch.setenv(name, "secret")
    template = Template(notes, preload=())
    await template.start()
    worker = await Worker.start(template, spec_of(versions, "commands"), deadline_seconds=30 * slack)

    [answer] = await ask(worker, command_query("secrets:"))
    await worker.close()
    await template.close()

    assert predictions(answer.body) == [[]]


async def test_a_worker_writes_no_line_per_request(load: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """MLflow warns about unknown columns and params on every request, and names them."""
    worker = await load("signed")
    query = json_query(
        {"dataframe_records": [{"text": "a", "secret": 1}], "params": {"secret": 1}, "more": "secret"}
    )
    capfd.readouterr()

    await ask(worker, query, query)

    assert "secret" not in "".join(capfd.readouterr())


async def test_a_worker_that_loses_its_socket_is_ended(load: Any, slack: float) -> None:
    """It could never be asked again."""
    worker = await load("commands")

    worker._child.connection.data_received(b"\xff" * 100)  # as if the version had written into it

    async with asyncio.timeout(5 * slack):
        assert (await asyncio.shield(worker.exited)).signal == signal.SIGKILL


async def test_a_process_that_a_version_started_does_not_delay_the_news_of_its_end(
    load: Any, slack: float
) -> None:
    """It inherits the socket, so no end of file comes."""
    worker = await load("commands")
    [answer] = await ask(worker, command_query("fork:60"))
    [orphan] = predictions(answer.body)

    worker.kill()

    async with asyncio.timeout(3 * slack):
        await asyncio.shield(worker.exited)
    assert not gone(orphan)
    os.kill(orphan, signal.SIGKILL)
    os.waitpid(orphan, 0)  # ours to wait for, as orphans are


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _links(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
