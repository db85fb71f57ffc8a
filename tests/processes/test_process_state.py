"""What children set for themselves does not reach what a version starts."""

import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from router.processes.child import OWN_PYTHON, SpawnLauncher
from router.processes.forkserver import ForkServer, ForkServerSupervisor
from router.processes.worker_client import Worker
from tests.processes.conftest import Notes, ask, launch_seconds
from tests.support.saved_versions import command_query, predictions, text_query
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="package")

OPERATORS_UMASK = 0o002
POPEN = "p = subprocess.Popen(['sleep', '60'])"
SPAWNED = "p = os.posix_spawn('/bin/sleep', ['sleep', '60'], {})"
PROCESS = "p = multiprocessing.get_context('{}').Process(target=time.sleep, args=(60,)); p.start()"
IMPORTS = "import multiprocessing, os, signal, subprocess, time"
ENDED = "p.terminate(); p.join(10); answer = p.exitcode"
UMASK_OF_PROGRAM = "answer = int(subprocess.check_output('umask', shell=True), 8)"
POOL = (
    "pool = multiprocessing.get_context('{}').Pool(1); answer = pool.apply(os.umask, (0,)); pool.terminate()"
)


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def template() -> AsyncIterator[ForkServerSupervisor]:
    """A fork server of an operator whose group may write what is written."""
    before = os.umask(OPERATORS_UMASK)
    template = ForkServerSupervisor(Notes(), launch_seconds=launch_seconds())
    try:
        await template.start()
    finally:
        os.umask(before)
    yield template
    await template.close()


async def answer_of(worker: Worker, lines: str) -> Any:
    """What the version answers that runs `lines`."""
    [answer] = await ask(worker, command_query(f"run:{IMPORTS}\n{lines}"), seconds=60)
    return predictions(answer.body)[0]


@pytest.mark.parametrize(
    "lines",
    [
        f"{POPEN}; p.terminate(); answer = p.wait(10)",
        *(f"{PROCESS.format(way)}; {ENDED}" for way in ("fork", "spawn", "forkserver")),
    ],
    ids=["program", "fork", "spawn", "forkserver"],
)
async def test_what_a_version_starts_ends_at_sigterm(load: Any, lines: str) -> None:
    assert await answer_of(await load("commands"), lines) == -signal.SIGTERM


@pytest.mark.parametrize(
    "lines",
    [
        f"{POPEN}; p.send_signal(signal.SIGUSR2); answer = p.wait(10)",
        f"{SPAWNED}; os.kill(p, signal.SIGUSR2); answer = -os.WTERMSIG(os.waitpid(p, 0)[1])",
        f"{PROCESS.format('fork')}; os.kill(p.pid, signal.SIGUSR2); p.join(10); answer = p.exitcode",
    ],
    ids=["program", "posix_spawn", "fork"],
)
async def test_what_a_version_starts_has_the_default_of_the_signal_that_is_for_the_gateway(
    load: Any, lines: str
) -> None:
    """The handler that does nothing here is reset by an exec, which SIG_IGN would outlive."""
    assert await answer_of(await load("commands"), lines) == -signal.SIGUSR2


async def test_a_versions_own_handler_of_that_signal_stays(load: Any) -> None:
    own = "calls = []; before = signal.signal(signal.SIGUSR2, lambda *_: calls.append(1))"
    lines = (
        f"{own}; signal.raise_signal(signal.SIGUSR2); signal.signal(signal.SIGUSR2, before); answer = calls"
    )

    assert await answer_of(await load("commands"), lines) == [1]


async def test_a_fork_that_is_ended_at_once_ends(load: Any) -> None:
    """A signal between the fork and the child's defaults must wait: our handler there would swallow it."""
    once = f"{PROCESS.format('fork')}; p.terminate(); p.join(10); codes.add(p.exitcode); p.kill()"
    lines = f"codes = set()\nfor _ in range(50):\n {once}\nanswer = list(codes)"

    assert await answer_of(await load("commands"), lines) == [-signal.SIGTERM]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR2"])
async def test_a_handler_of_a_versions_own_is_inherited_by_its_forks(load: Any, name: str) -> None:
    handler = f"before = signal.signal(signal.{name}, lambda *_: os._exit(7))"
    # In naps: a handler of a signal that came just before a sleep began waits until that sleep is over.
    naps = "target = lambda: [time.sleep(0.05) for _ in range(1000)]"
    started = "p = multiprocessing.get_context('fork').Process(target=target); p.start()"
    asked = f"os.kill(p.pid, signal.{name}); p.join(10); answer = p.exitcode"
    lines = f"{handler}\n{naps}\n{started}; {asked}; p.kill(); signal.signal(signal.{name}, before)"

    assert await answer_of(await load("commands"), lines) == 7


@pytest.mark.parametrize(
    ("lines", "umask"),
    [
        ("answer = os.umask(0o077)", 0o077),
        (UMASK_OF_PROGRAM, OPERATORS_UMASK),
        (f"os.umask(0o027); {UMASK_OF_PROGRAM}; os.umask(0o077)", 0o027),
        (POOL.format("fork"), OPERATORS_UMASK),
        (POOL.format("spawn"), OPERATORS_UMASK),
    ],
    ids=["worker", "program", "own", "fork", "spawn"],
)
async def test_what_a_worker_writes_is_private_and_what_it_starts_has_the_operators_umask(
    load: Any, lines: str, umask: int
) -> None:
    assert await answer_of(await load("commands"), lines) == umask


async def test_a_version_that_ships_a_package_named_router_may_spawn(load: Any) -> None:
    """What spawn starts imports its parent's main module again, unless that has neither name nor file."""
    worker = await load("spawns")

    [answer] = await ask(worker, text_query("x", "four"), seconds=60)

    assert predictions(answer.body) == [1, 4]


async def test_a_child_without_a_fork_server_survives_a_signal_from_its_first_moment(slack: float) -> None:
    """It ends when its socket does, and not before."""
    child = await SpawnLauncher().launch("agent")
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(child.pid, number)

    assert (await child.stop(60 * slack)).code == 0


async def test_a_fork_server_survives_a_stop_signal_from_its_first_moment(slack: float) -> None:
    server = ForkServer("template", OWN_PYTHON)
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(server.pid, number)

    await until(lambda: server.ready.done() or server.exited.done(), 60 * slack)

    assert not server.exited.done()
    server.close()
    await server.exited
