"""Real children, and what tests of them share."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest
import pytest_asyncio
from msgspec.structs import replace

from router.core.events import Event
from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker, WorkerLoader
from router.protocol.messages import Answer, Query
from tests.support import slowness
from tests.support.saved_versions import saved_versions, spec_of


def launch_seconds() -> float:
    """How long a launch may take on a machine that does much else; the imports come first."""
    return 60.0 * slowness.slack()


class Answers(Protocol):
    """A worker, of whichever loader."""

    def submit(self, queries: Sequence[Query], on_answers: Any) -> int: ...


class Notes:
    """A recorder that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)


async def ask(worker: Answers, *queries: Query, seconds: float = 30.0) -> list[Answer]:
    """Every answer to one frame of requests, in the order of the requests."""
    loop = asyncio.get_running_loop()
    answers: dict[int, Answer] = {}
    whole: asyncio.Future[None] = loop.create_future()

    def take(places: Sequence[int], heard: Sequence[Answer]) -> None:
        assert not answers.keys() & set(places)
        answers.update(zip(places, heard, strict=True))
        if len(answers) == len(queries):
            whole.set_result(None)

    worker.submit(queries, take)
    async with asyncio.timeout(seconds):
        await whole
    return [answers[place] for place in range(len(queries))]


def child_pids() -> set[int | None]:
    """Our children, those that ended and were not waited for included."""
    return {child.pid for child in psutil.Process().children()}


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the saved versions."""
    return saved_versions(tmp_path_factory)


@pytest.fixture
def notes() -> Notes:
    """What was recorded."""
    return Notes()


@asynccontextmanager
async def running(template: ForkServerSupervisor) -> AsyncIterator[ForkServerSupervisor]:
    """Runs it for the block."""
    await template.start()
    try:
        yield template
    finally:
        await template.close()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def template() -> AsyncIterator[ForkServerSupervisor]:
    """A template for all tests that leave it alive."""
    async with running(ForkServerSupervisor(Notes(), launch_seconds=launch_seconds())) as template:
        yield template


@pytest_asyncio.fixture(loop_scope="package")
async def load(template: ForkServerSupervisor, versions: Path) -> AsyncIterator[Any]:
    """Loads versions by name, from the template that is shared, and closes what it loaded."""
    async with loading(template, versions) as by_name:
        yield by_name


@asynccontextmanager
async def loading(template: ForkServerSupervisor, versions: Path) -> AsyncIterator[Any]:
    """Loads versions by name within the block, and closes what it loaded."""
    opened: list[Worker] = []

    async def by_name(name: str, *, warm_up_required: bool = False) -> Worker:
        spec = replace(spec_of(versions, name), warm_up_required=warm_up_required)
        opened.append(await WorkerLoader(template).load(spec, deadline_seconds=60 * slowness.slack()))
        return opened[-1]

    yield by_name
    for worker in opened:
        await worker.close()
