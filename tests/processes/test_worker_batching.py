"""How a worker's process predicts what it is given: side by side first, together once that is earned."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker, WorkerLoader
from router.protocol.messages import Batching, PredictStatus, Query
from router.worker.sharing_check import FIRST
from tests.processes.conftest import ask
from tests.support.saved_versions import command_query, predictions, spec_of, text_query
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="package")


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


async def repeat(worker: Worker, seconds: float) -> None:
    """Have it repeat one request."""
    repeated: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    worker.repeat(lambda: repeated.set_result(None))
    async with asyncio.timeout(seconds):
        await repeated


@pytest.mark.parametrize(("name", "differs"), [("padded", False), ("padded_without_a_mask", True)])
async def test_its_tenth_shared_predict_is_repeated_and_sharing_ends_where_that_differs(
    template: ForkServerSupervisor, versions: Path, slack: float, name: str, differs: bool
) -> None:
    worker = await worker_of(template, versions, name, slack, threads=2)
    for number in range(FIRST[0]):
        assert (worker.batching.merges, worker.to_repeat) == (True, 0)
        await ask(worker, *[text_query("text of its own" * (n * n + 1) + "x" * number) for n in range(4)])
    assert worker.to_repeat == 4

    while worker.to_repeat:
        await repeat(worker, 5 * slack)

    assert (worker.batching.merges, worker.batching.differs) == (not differs, differs)
    assert worker.parallel == (2 if differs else 1)
    [answer] = await ask(worker, text_query("good"))
    assert answer.predict_status is PredictStatus.OK
    await repeat(worker, 5 * slack)  # of what it has not kept, it repeats nothing
    await worker.close()


async def test_a_worker_shares_no_more_when_the_gateway_says_so(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    worker = await worker_of(template, versions, "signed", slack, threads=2)
    worker.stop_sharing(Batching(merges=False, why="another worker found it out", differs=True))
    assert worker.parallel == 2
    places: list[Any] = []
    worker.submit([text_query("x" * n) for n in range(4)], lambda some, _: places.extend([some]))
    await until(lambda: len(places) == 4, 5 * slack)
    assert sorted(places) == [(0,), (1,), (2,), (3,)]
    await worker.close()


async def test_a_worker_that_could_start_fewer_threads_limits_no_other_one(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    worker = await worker_of(template, versions, "signed", slack, threads=3)
    worker.stop_sharing(Batching(merges=False, why="another worker found it out", differs=True, threads=1))
    assert worker.parallel == 3
    await worker.close()


@pytest.mark.parametrize(("number", "side_by_side"), [(0, 1), (2, 2)])
async def test_where_threads_are_limited_those_that_there_are_answer_and_that_is_reported(
    template: ForkServerSupervisor, versions: Path, slack: float, number: int, side_by_side: int
) -> None:
    """A limit of processes that the load has nearly reached: the first request found no thread."""
    worker = await worker_of(template, versions, f"starts_{number}_threads", slack, threads=8)

    first = await ask(worker, text_query("x"))
    answers = await asyncio.gather(*(ask(worker, text_query("x")) for _ in range(6)))

    assert {answer.predict_status for [answer] in [first, *answers]} == {PredictStatus.OK}
    assert len({answer.body for [answer] in [first, *answers]}) == side_by_side
    assert worker.parallel == side_by_side
    assert worker.batching.why.endswith(
        f"; {side_by_side} of 8 predicts run side by side, for want of threads"
    )
    await worker.close()
