"""How a worker's process predicts what it is given: side by side first, together once that is earned."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker, WorkerLoader
from router.protocol.messages import PredictStatus, Query
from tests.processes.conftest import ask
from tests.support.saved_versions import command_query, predictions, spec_of, text_query
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def worker_of(
    template: ForkServerSupervisor, versions: Path, name: str, slack: float, **more: Any
) -> Worker:
    spec = replace(spec_of(versions, name), **more)
    return await WorkerLoader(template).load(spec, deadline_seconds=30 * slack)


async def test_predicts_run_beside_each_other_as_many_as_there_are_threads(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    worker = await worker_of(template, versions, "commands", slack, threads=4)
    assert worker.parallel == 4
    loop = asyncio.get_running_loop()
    started = loop.time()

    answers = await asyncio.gather(*(ask(worker, command_query("sleep:0.5")) for _ in range(4)))

    assert all(answer.predict_status is PredictStatus.OK for [answer] in answers)
    assert loop.time() - started < 0.9 * max(1.0, slack / 2)
    await worker.close()


async def test_a_version_that_earns_it_says_so_and_answers_as_before(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    worker = await worker_of(template, versions, "plain", slack, threads=4)
    assert not worker.batching.merges

    for number in range(200):
        frames = [ask(worker, text_query("x" * (number + i))) for i in range(4)]
        for i, [answer] in enumerate(await asyncio.gather(*frames)):
            assert predictions(answer.body) == pytest.approx([0.01 * (number + i)])
        if worker.batching.merges:
            break
    assert (worker.batching.merges, worker.parallel) == (True, 1), worker.batching

    answers = await ask(worker, *[text_query("x" * i, "y") for i in range(64)])
    assert [predictions(answer.body) for answer in answers] == [
        pytest.approx([0.01 * i, 0.01]) for i in range(64)
    ]
    await worker.close()


async def test_a_version_that_does_not_earn_it_says_why_and_goes_on(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    worker = await worker_of(template, versions, "counts_rows", slack, threads=2)
    for number in range(3):
        await ask(worker, text_query("x" * number))
    await until(lambda: "differently" in worker.batching.why, 5 * slack)

    [answer] = await ask(worker, text_query("a", "b", "c"))
    assert predictions(answer.body) == [3.0, 3.0, 3.0]
    assert worker.parallel == 2
    await worker.close()


async def test_a_worker_that_dies_with_several_requests_answers_none_of_them(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    """Whoever asked decides what becomes of them."""
    worker = await worker_of(template, versions, "commands", slack, threads=3)
    answers: list[Any] = []
    for command in ("sleep:5", "sleep:5", "die:3"):
        worker.submit([command_query(command)], lambda *batch: answers.append(batch))

    async with asyncio.timeout(5 * slack):
        assert str(await asyncio.shield(worker.exited)) == "exit code 3"
    assert answers == []


async def test_an_idle_worker_keeps_nothing_of_the_last_request(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    """Neither its body nor what was made of it: an idle worker would be as large as its largest request."""
    worker = await worker_of(template, versions, "signed", slack)
    await ask(worker, text_query("x"), Query(b"{", None))
    before = worker.resident().total
    await ask(worker, Query(b"{" + b" " * (64 << 20), None))

    await until(lambda: worker.resident().total - before < 16 << 20, 5 * slack)
    await worker.close()


async def test_a_thread_that_can_not_go_on_ends_the_worker_and_not_only_itself(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    """Else the gateway would wait for its request until predict_timeout_seconds, and then again."""
    worker = await worker_of(template, versions, "breaks_answering", slack, threads=2)
    worker.submit([text_query("x")], lambda *_: None)
    async with asyncio.timeout(5 * slack):
        assert str(await asyncio.shield(worker.exited)) == "exit code 1"
