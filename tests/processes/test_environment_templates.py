"""A template per environment: another Python, without the gateway in it, that is there while it is used."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

import router
from router.core.events import ChildRestarted
from router.core.ids import VersionId
from router.core.version_environment import VersionEnvironment
from router.errors import ChildLost
from router.processes.environment_templates import EnvironmentTemplates
from router.processes.forkserver import ForkServerSupervisor
from router.processes.memory import Rank, resident, score
from router.processes.worker_client import Worker, WorkerLoader
from router.protocol.messages import PredictStatus
from tests.processes.conftest import Notes, ask, child_pids, launch_seconds
from tests.support.linked_environment import environment_of, linked_environment, package_directory
from tests.support.saved_versions import command_query, predictions, spec_of, text_query
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="package")
NAME = "router-01234567"
"""What `ps` calls the template of the environment whose digest begins so."""
LOOK = """
import json, os, subprocess, sys
def printed(*command):
    return subprocess.run(command, capture_output=True, text=True, cwd="/").stdout.split()
try:
    import router
    found = router.__file__
except ModuleNotFoundError as error:
    found = str(error)
places = "import sys; from importlib.util import find_spec as f; print(sys.prefix, f('router'), f('planted'))"
answer = json.dumps({
    "router": found,
    "executable": sys.executable,
    "path": [place for place in sys.path if place],
    "started": printed(sys.executable, "-c", places),
    "started by name": printed("python", "-c", places),
    "variables": {name: value for name, value in os.environ.items() if "PYTHON" in name or "VIRTUAL" in name},
})
"""


class Sinks:
    """An output router that notes who has a sink, and reads nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, VersionId | None]] = []

    def sink_for(self, role: str, version: VersionId | None) -> "Sinks":
        self.asked.append((role, version))
        return self

    def write(self, line: bytes) -> bool:
        return True

    def skipped(self, lines: int) -> None: ...
    def requests_started(self) -> None: ...
    def died(self, how: str, lines: Sequence[str]) -> None: ...
    def end(self) -> None: ...


class Environment:
    """An environment in which the gateway is not installed, and what starts workers there."""

    def __init__(self, about: VersionEnvironment, templates: EnvironmentTemplates, versions: Path) -> None:
        self.about, self.templates, self._versions = about, templates, versions
        self._opened: list[Worker] = []

    async def load(self, name: str) -> Worker:
        loader = WorkerLoader(self.templates.launcher(self.about))
        spec = spec_of(self._versions, name)
        self._opened.append(await loader.load(spec, deadline_seconds=2 * launch_seconds()))
        return self._opened[-1]

    def running(self) -> list[psutil.Process]:
        """Its templates; what forked a worker last may be left dead, for the gateway's loop that reaps."""
        named = [child for child in psutil.Process().children() if child.name() == NAME]
        return [child for child in named if child.status() != psutil.STATUS_ZOMBIE]

    async def close_workers(self) -> None:
        for worker in self._opened:
            await worker.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="module")
def python(directory: Path) -> Path:
    return linked_environment(directory / "venv")


@pytest.fixture(scope="module")
def package(directory: Path) -> Path:
    """Where this package is for children, as on a root file system that is read-only: no bytecode can be
    written beside it, which another Python's would have to be."""
    place = directory / "package"
    source = Path(router.__file__).parent
    shutil.copytree(source, place / "router", ignore=shutil.ignore_patterns("__pycache__", "data", "page"))
    for folder in [place / "router", *(place / "router").rglob("*/")]:
        (folder / "__pycache__").touch()
    return place


@pytest.fixture(scope="module")
def sinks() -> Sinks:
    return Sinks()


@pytest.fixture(scope="module")
def all_notes() -> Notes:
    return Notes()


@pytest.fixture
def notes(all_notes: Notes) -> Notes:
    all_notes.events.clear()
    return all_notes


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def templates(
    all_notes: Notes, sinks: Sinks, package: Path, template: ForkServerSupervisor
) -> AsyncIterator[EnvironmentTemplates]:
    templates = EnvironmentTemplates(
        all_notes, sinks, None, package, template, launch_seconds=launch_seconds()
    )
    yield templates
    await templates.close()


@pytest_asyncio.fixture(loop_scope="package")
async def environment(
    templates: EnvironmentTemplates,
    python: Path,
    versions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Environment]:
    """What this process has of its own Python may be anything when a template is started."""
    (tmp_path / "planted.py").touch()
    for name, value in (
        ("PYTHONPATH", str(tmp_path)),
        ("PYTHONHOME", "/nowhere"),
        ("VIRTUAL_ENV", "/gateway/.venv"),
        ("PATH", f"/gateway/.venv/bin{os.pathsep}{os.environ['PATH']}"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    environment = Environment(environment_of(python), templates, versions)
    yield environment
    await environment.close_workers()


async def test_a_version_runs_in_the_environment_and_neither_it_nor_what_it_starts_finds_the_gateway(
    environment: Environment, python: Path
) -> None:
    worker = await environment.load("commands")

    [answer] = await ask(worker, command_query(f"run:{LOOK}"), seconds=launch_seconds())

    seen = json.loads(predictions(answer.body)[0])
    venv = str(python.parents[1])
    assert seen["router"] == "No module named 'router'"
    assert seen["executable"] == str(python)
    assert seen["started"] == seen["started by name"] == [venv, "None", "None"]
    assert seen["variables"].pop("VIRTUAL_ENV") == venv
    assert not {"PYTHONPATH", "PYTHONHOME"} & seen["variables"].keys()
    libraries = [place for place in seen["path"] if not place.startswith(sys.base_prefix)]
    assert [place for place in libraries if not place.startswith(venv)] == [
        f"{spec_of(environment._versions, 'commands').directory}/code"
    ] * (len(libraries) - 1)


async def test_a_module_named_router_is_the_versions_own_there_too(environment: Environment) -> None:
    worker = await environment.load("ships_router")

    [answer] = await ask(worker, text_query("x"))

    assert predictions(answer.body) == ["theirs"]


async def test_a_version_may_start_a_pool_there(environment: Environment) -> None:
    """multiprocessing's spawn starts the interpreter again, with the path of modules that we have."""
    worker = await environment.load("spawns")

    [answer] = await ask(worker, text_query("four"), seconds=launch_seconds())

    assert (answer.predict_status, predictions(answer.body)) == (PredictStatus.OK, [4])


async def test_versions_with_equal_pins_share_one_template_which_imports_no_registry(
    environment: Environment, sinks: Sinks
) -> None:
    await asyncio.gather(environment.load("plain"), environment.load("churn"))

    [template] = environment.running()
    assert ("template 0123456789ab", None) in sinks.asked
    assert ("worker", VersionId("plain", 1)) in sinks.asked
    maps = Path(f"/proc/{template.pid}/maps").read_text()
    assert "/sklearn/" in maps, "scikit-learn was not imported before the fork"
    assert "/sqlalchemy/" not in maps
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(Path(f"/proc/{template.pid}/oom_score_adj").read_text()) == score(own, Rank.HELPER)
    assert template.num_threads() == 1


@pytest.mark.slow
async def test_workers_outlive_it_and_another_one_is_started(
    environment: Environment, notes: Notes, slack: float
) -> None:
    worker = await environment.load("commands")
    [template] = environment.running()

    template.kill()

    [answer] = await ask(worker, command_query("fine"))
    assert answer.predict_status is PredictStatus.OK
    await environment.load("plain")
    assert [other.pid for other in environment.running()] != [template.pid]
    assert notes.events == [ChildRestarted("template 0123456789ab", "signal 9 (SIGKILL)")]


async def test_it_ends_once_no_version_uses_it_and_its_last_worker_has_ended(
    environment: Environment, slack: float
) -> None:
    worker = await environment.load("commands")
    [template] = environment.running()
    environment.templates.retain({environment.about.key})
    environment.templates.retain(())
    assert environment.running() == [template]
    [answer] = await ask(worker, command_query("fine"))
    assert answer.predict_status is PredictStatus.OK

    await environment.close_workers()

    await until(lambda: not template.is_running(), 10 * slack)
    await environment.load("plain")
    assert len(environment.running()) == 1


async def test_an_environment_that_was_built_anew_gets_another_template_after_the_launches_under_way(
    environment: Environment, slack: float
) -> None:
    """What a template imported may lie there no more."""
    worker = await environment.load("commands")
    [template] = environment.running()
    under_way = asyncio.create_task(environment.load("plain"))
    await until(lambda: environment.templates._templates[environment.about.key].launches == 1, 10 * slack)

    environment.templates.rebuilt(environment.about.key)

    await under_way
    await until(lambda: not template.is_running(), 10 * slack)
    [answer] = await ask(worker, command_query("fine"))
    assert answer.predict_status is PredictStatus.OK
    assert environment.running() == []
    await environment.load("plain")
    assert len(environment.running()) == 1


async def test_what_it_would_take_is_what_it_took_and_before_that_what_the_gateways_own_takes(
    environment: Environment, template: ForkServerSupervisor, slack: float
) -> None:
    templates, unknown = environment.templates, "f" * 64
    assert template.pid is not None
    launcher = templates.launcher(environment.about)
    await environment.load("plain")

    assert templates.extra_bytes(unknown) == resident(template.pid).total
    assert templates.extra_bytes(environment.about.key) == launcher.start_bytes == 0
    [process] = environment.running()
    took = resident(process.pid).total
    await environment.close_workers()
    templates.retain(())
    await until(lambda: not environment.running(), 10 * slack)
    assert launcher.start_bytes == pytest.approx(took, rel=0.05)
    assert launcher.start_bytes < resident(template.pid).total, "it imports less, and was not measured"


async def test_one_that_can_not_start_fails_the_load_with_the_reason_and_is_left_alone_until_the_next(
    package: Path, template: ForkServerSupervisor, tmp_path: Path, slack: float
) -> None:
    """Else it would be started for as long as its version is asked for, which does not load."""
    notes, others = Notes(), child_pids()
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    templates = EnvironmentTemplates(notes, None, None, package, template, launch_seconds=launch_seconds())
    launcher = templates.launcher(environment_of(program))

    for tries in (1, 2):
        with pytest.raises(ChildLost, match="ended before it could fork, 2 times: exit code 3"):
            await launcher.launch("worker")
        assert len(notes.events) == tries

    program.unlink()
    with pytest.raises(ChildLost, match="No such file"):
        await launcher.launch("worker")
    await templates.close()
    assert child_pids() == others


async def test_closed_while_one_starts_it_launches_nothing_and_leaves_nothing(
    package: Path, python: Path, template: ForkServerSupervisor, notes: Notes
) -> None:
    others = child_pids()
    templates = EnvironmentTemplates(notes, None, None, package, template, launch_seconds=launch_seconds())
    launcher = templates.launcher(environment_of(python))
    waiting = asyncio.create_task(launcher.launch("worker"))
    await asyncio.sleep(0)
    assert child_pids() != others

    await templates.close()

    with pytest.raises(ChildLost):
        await waiting
    with pytest.raises(ChildLost, match="closing"):
        await launcher.launch("worker")
    assert child_pids() == others
    assert notes.events == []


async def test_without_templates_a_worker_by_itself_runs_there_where_a_package_router_is_installed(
    directory: Path, versions: Path, notes: Notes
) -> None:
    """As on macOS. Of the two packages of one name, each has its own."""
    python = linked_environment(directory / "with a router")
    [libraries] = (directory / "with a router").glob("lib/python3*/site-packages")
    (libraries / "router.py").write_text("VALUE = 'installed'\n")
    package = package_directory(directory / "link")
    templates = EnvironmentTemplates(notes, None, None, package, None)
    environment = Environment(environment_of(python), templates, versions)
    try:
        worker = await environment.load("commands")

        [answer] = await ask(worker, command_query("run:import router; answer = router.VALUE"))

        assert predictions(answer.body) == ["installed"]
        assert psutil.Process(worker.pid).exe() == str(Path(python).resolve())
        assert templates.launcher(environment.about).start_bytes == 0
    finally:
        await environment.close_workers()
        await templates.close()
