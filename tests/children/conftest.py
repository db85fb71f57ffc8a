"""Real children, and what tests of them share."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from router.children.template import Template
from router.core.events import Event
from router.core.work import Answer, Query
from tests.worker.versions import saved_versions

FEW = ("threadpoolctl",)
"""What a template preloads in tests: nothing that takes time."""


class Answers(Protocol):
    """A worker, of whichever loader."""

    def submit(self, queries: Sequence[Query], on_answer: Any) -> None: ...


class Notes:
    """A recorder that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)


async def ask(worker: Answers, *queries: Query, seconds: float = 30.0) -> list[Answer]:
    """Every answer to one frame of requests, in the order in which they came."""
    loop = asyncio.get_running_loop()
    answers: list[Answer] = []
    whole: asyncio.Future[None] = loop.create_future()

    def take(index: int, answer: Answer) -> None:
        assert index == len(answers)
        answers.append(answer)
        if len(answers) == len(queries):
            whole.set_result(None)

    worker.submit(queries, take)
    async with asyncio.timeout(seconds):
        await whole
    return answers


async def until(condition: Any, seconds: float) -> None:
    """Return as soon as `condition()` holds; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the saved versions."""
    return saved_versions(tmp_path_factory.getbasetemp())


@pytest.fixture
def notes() -> Notes:
    """What was recorded."""
    return Notes()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def template() -> AsyncIterator[Template]:
    """A template for all tests of a module, which leave it alive."""
    template = Template(Notes(), preload=FEW)
    await template.start()
    yield template
    await template.close()


@pytest_asyncio.fixture
async def own_template(notes: Notes) -> AsyncIterator[Template]:
    """A template that a test may kill."""
    template = Template(notes, preload=FEW)
    await template.start()
    yield template
    await template.close()
