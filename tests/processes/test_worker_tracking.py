"""What a version traces and logs goes where its model's settings say, and by default nowhere."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import pytest_asyncio
import requests
from msgspec.structs import replace

from router.errors import LoadFailed
from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker, WorkerLoader
from router.processes.working_directories import WorkingDirectories
from router.protocol.messages import Tracking
from tests.processes.conftest import Notes, ask, launch_seconds, running
from tests.support.ports import free_port
from tests.support.saved_versions import json_query, predictions, spec_of, text_query
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="package")
HELLO = json_query({"input": [{"role": "user", "content": "a secret prompt"}]})


@pytest.fixture
def registry_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`mlflow.db` in the working directory, alone: MLflow's default store, and the README's registry."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("CREATE TABLE registered_models (name TEXT)")
        database.commit()
    return here / "mlflow.db"


class Loads:
    """Loads versions as the gateway does."""

    def __init__(
        self, template: ForkServerSupervisor, directories: WorkingDirectories, versions: Path, slack: float
    ):
        self.loader = WorkerLoader(template, directories)
        self.versions = versions
        self.slack = slack
        self.opened: list[Worker] = []

    async def __call__(self, name: str, tracking: Tracking | None = None) -> Worker:
        spec = replace(spec_of(self.versions, name), tracking=tracking)
        self.opened.append(await self.loader.load(spec, deadline_seconds=60 * self.slack))
        return self.opened[-1]


@asynccontextmanager
async def loading(
    template: ForkServerSupervisor, cache: Path, versions: Path, slack: float
) -> AsyncIterator[Loads]:
    """Workers with working directories of their own below `cache`."""
    directories = WorkingDirectories(cache)
    loads = Loads(template, directories, versions, slack)
    yield loads
    for worker in loads.opened:
        await worker.close()
    await directories.close()


@pytest_asyncio.fixture(loop_scope="package")
async def load(
    template: ForkServerSupervisor, tmp_path: Path, versions: Path, slack: float
) -> AsyncIterator[Loads]:
    async with loading(template, tmp_path / "cache", versions, slack) as load:
        yield load


@pytest_asyncio.fixture(loop_scope="package")
async def load_here(
    registry_file: Path, tmp_path: Path, versions: Path, slack: float
) -> AsyncIterator[Loads]:
    """From a template that was started beside `registry_file`."""
    async with (
        running(ForkServerSupervisor(Notes(), launch_seconds=launch_seconds())) as template,
        loading(template, tmp_path / "cache", versions, slack) as load,
    ):
        yield load


async def test_a_version_that_traces_writes_neither_to_the_registry_nor_beside_it(
    registry_file: Path, load_here: Loads
) -> None:
    before = hashlib.sha256(registry_file.read_bytes()).digest()
    for name, query in (
        ("traces", text_query("x")),
        ("agent", HELLO),
        ("switches_tracing_on", text_query("x")),
    ):
        worker = await load_here(name)
        for _ in range(3):
            [answer] = await ask(worker, query)
            assert answer.status == 200, answer.body
        assert os.listdir(f"/proc/{worker.pid}/cwd") == []

    assert hashlib.sha256(registry_file.read_bytes()).digest() == before
    assert os.listdir(registry_file.parent) == ["mlflow.db"]


async def test_a_version_that_traces_answers_at_once_where_nobody_can_write(
    versions: Path, slack: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow tries for a minute to open its default store; here nothing waits for one, nor is one there."""
    monkeypatch.chdir("/proc")
    async with running(ForkServerSupervisor(Notes(), launch_seconds=launch_seconds())) as template:
        for name, query in (("traces", text_query("x")), ("agent", HELLO)):
            worker = await Worker.start(template, spec_of(versions, name), deadline_seconds=30 * slack)
            [answer] = await ask(worker, query, seconds=5 * slack)
            await worker.close()
            assert (name, answer.status) == (name, 200)
            assert answer.predict_seconds < 1 * slack


async def test_a_version_that_logs_in_its_predict_is_answered_with_the_setting_to_use(load: Loads) -> None:
    worker = await load("logs")

    [answer] = await ask(worker, text_query("a secret"))

    assert answer.status == 500
    assert b"`tracking.uri`" in answer.body
    assert b"a secret" not in answer.body


@pytest.mark.parametrize("name", ["loads_another", "wraps_loading_another"])
async def test_a_version_that_loads_another_registered_model_is_refused_with_the_setting_to_use(
    load: Loads, name: str
) -> None:
    with pytest.raises(LoadFailed, match=r"`tracking\.uri` of its registered model"):
        await load(name)


async def test_a_version_that_loads_another_one_from_files_does_so_while_loading_and_predicting(
    load: Loads,
) -> None:
    """With tracing switched off, MLflow's `load_model` holds a lock that a second one within it waits for."""
    worker = await load("loads_plain")

    [answer] = await ask(worker, text_query("x"))

    assert predictions(answer.body) == [0.01]


async def test_a_worker_stands_in_a_directory_of_its_own_which_goes_with_it(
    load: Loads, tmp_path: Path, slack: float
) -> None:
    workers = [await load("plain") for _ in range(2)]
    places = [Path(os.readlink(f"/proc/{worker.pid}/cwd")) for worker in workers]

    assert len(set(places)) == 2
    for place in places:
        assert place.is_relative_to(tmp_path / "cache")
        assert place.stat().st_mode & 0o777 == 0o700
        (place / "left").mkdir(mode=0o500)
    os.kill(workers[0].pid, signal.SIGKILL)
    await until(lambda: not places[0].exists(), 10 * slack)
    assert places[1].exists()
    await workers[1].close()
    await until(lambda: not places[1].exists(), 10 * slack)


async def test_a_version_that_fails_to_load_leaves_no_directory(
    load: Loads, tmp_path: Path, slack: float
) -> None:
    with pytest.raises(LoadFailed):
        await load("raises_on_load")

    await until(lambda: not list((tmp_path / "cache").glob(".w/*/*")), 10 * slack)


async def test_credentials_that_can_not_be_read_are_noted_and_the_version_serves(
    load: Loads, tmp_path: Path
) -> None:
    tracking = Tracking("http://127.0.0.1:9", token_file=str(tmp_path / "no such token"))
    worker = await load("plain", tracking)

    [answer] = await ask(worker, text_query("x"))

    assert "its tracking credentials cannot be read" in worker.info.note
    assert predictions(answer.body) == [0.01]


@pytest.fixture
def tracking_server(tmp_path: Path, slack: float) -> Iterator[tuple[str, Path]]:
    """The address of a real tracking server, and its database."""
    port = free_port()
    root = tmp_path / "server"
    root.mkdir()
    where = ["--backend-store-uri", f"sqlite:///{root}/server.db", "--default-artifact-root", str(root)]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *where, "--port", str(port), "--workers", "1"],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def alive() -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
        except requests.ConnectionError:
            return False

    try:
        wait_until(alive, 60 * slack)
        yield f"http://127.0.0.1:{port}", root / "server.db"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
async def test_a_version_traces_and_logs_to_the_server_that_its_model_names(
    tracking_server: tuple[str, Path], registry_file: Path, load_here: Loads, slack: float
) -> None:
    uri, database = tracking_server
    for name in ("traces", "logs"):
        worker = await load_here(name, Tracking(uri))
        [answer] = await ask(worker, text_query("x"), seconds=60 * slack)
        assert answer.status == 200, answer.body

    def rows(table: str) -> int:
        with closing(sqlite3.connect(database)) as opened:
            found: int = opened.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found

    await until(lambda: rows("trace_info") >= 1 and rows("metrics") == 1, 30 * slack)
    assert os.listdir(registry_file.parent) == ["mlflow.db"]
