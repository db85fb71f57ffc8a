"""Workers repeat what they shared while their version has no request, one at a time; nobody waits for it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from router.core.events import WorkerEnded
from router.core.ids import PRODUCTION
from router.errors import CallerGone
from router.protocol.messages import Batching, LoadSpec, Query
from router.serving.load_gate import LoadGate, LoadLimits
from router.serving.pool.pool import Pool
from router.serving.pool.request_queue import PendingRequest
from tests.serving.conftest import V1, FakeVersion, pool_of
from tests.serving.virtual_time import no_files, run, settle
from tests.support.fakes import Facts, FakeWorker, FakeWorld

DIFFERS = Batching(merges=False, why="it differs", differs=True)


class Situation:
    """A pool whose workers have requests to repeat."""

    def __init__(self, *, workers: int = 1, predict_timeout_seconds: float = 1.0) -> None:
        self.world, self.facts = FakeWorld(threads=4), Facts()
        keys = {"workers": workers, "predict_timeout_seconds": predict_timeout_seconds}
        gate = LoadGate(self.world, LoadLimits(5.0), measure=no_files)
        self.pool: Pool = pool_of(FakeVersion(keys), self.world, self.facts, gate)

    @property
    def workers(self) -> list[FakeWorker]:
        return self.world.alive(V1)

    def ask(self) -> PendingRequest:
        return self.pool.submit(Query(b"{}", None), PRODUCTION, asyncio.get_running_loop().time() + 60.0)

    async def begin_repeat(self, worker: FakeWorker, of: int = 1) -> None:
        """Let `worker` answer a request and be in the first of so many repeats, which stays under way."""
        worker.to_repeat = of
        await self.ask().answer
        self.world.held = True
        await asyncio.sleep(0.5)
        assert worker.repeats == 1


def situation(scenario: Callable[[Situation], Awaitable[None]], **more: float) -> None:
    async def whole() -> None:
        one = Situation(**more)  # type: ignore[arg-type]
        await one.pool.start()
        await settle()
        await scenario(one)
        await one.pool.close(0.0)

    run(whole())


def test_an_idle_version_repeats_all_it_has_kept_one_after_the_other() -> None:
    async def scenario(one: Situation) -> None:
        [worker] = one.workers
        worker.to_repeat = 3
        await asyncio.sleep(5.0)
        assert worker.repeats == 0, "nothing is looked for without requests"
        await one.ask().answer
        await asyncio.sleep(5.0)
        assert (worker.repeats, worker.to_repeat) == (3, 0)
        assert one.pool.leases == 0

    situation(scenario)


def test_nothing_is_repeated_while_a_request_runs_or_waits() -> None:
    async def scenario(one: Situation) -> None:
        [worker] = one.workers
        worker.to_repeat, one.world.held = 1, True
        first, second = one.ask(), one.ask()
        await asyncio.sleep(0.5)
        worker.release()
        await first.answer
        third = one.ask()
        await asyncio.sleep(0.5)
        assert worker.repeats == 0
        one.world.held = False
        worker.release_all()
        await asyncio.gather(second.answer, third.answer)
        await asyncio.sleep(1.0)
        assert worker.repeats == 1

    situation(scenario)


def test_requests_that_follow_each_other_closely_leave_no_time_to_repeat() -> None:
    async def scenario(one: Situation) -> None:
        [worker] = one.workers
        worker.to_repeat = 1
        for _ in range(100):
            await one.ask().answer
            await asyncio.sleep(0.008)
        assert worker.repeats == 0
        await asyncio.sleep(0.1)
        assert worker.repeats == 1

    situation(scenario)


def test_a_request_that_comes_during_a_repeat_is_next_or_goes_to_a_free_worker() -> None:
    async def scenario(one: Situation) -> None:
        first, other = one.workers
        await one.begin_repeat(first, of=2)
        asked = one.ask()
        await settle()
        assert len(other.frames) == 1
        waits = one.ask()
        await settle()
        assert (len(first.frames), len(other.frames)) == (1, 1), "one repeats, and the other is busy"
        first.end_repeat()
        await settle()
        assert len(first.frames) == 2
        one.world.held = False
        first.release_all()
        other.release_all()
        await asyncio.gather(asked.answer, waits.answer)
        await asyncio.sleep(1.0)
        assert first.to_repeat == 0

    situation(scenario, workers=2)


def test_a_repeat_that_never_ends_costs_its_worker_and_no_request() -> None:
    async def scenario(one: Situation) -> None:
        [worker] = one.workers
        await one.begin_repeat(worker)
        asked = one.ask()
        one.world.held = False
        assert (await asked.answer).status == 200
        assert [(end.reason, worker.exited.done()) for end in one.facts.of(WorkerEnded)] == [
            ("predict_timeout", True)
        ]

    situation(scenario)


@pytest.mark.parametrize("way", ["closed", "hangs up", "crashes"])
def test_what_happens_meanwhile_is_as_ever(way: str) -> None:
    async def scenario(one: Situation) -> None:
        [worker] = one.workers
        await one.begin_repeat(worker)
        asked = one.ask()
        await settle()
        one.world.held = False
        if way == "hangs up":
            asked.hang_up()
            with pytest.raises(CallerGone):
                await asked.answer
            worker.end_repeat()
        elif way == "crashes":
            worker.kill(11)
            assert (await asked.answer).status == 200
            assert len(one.workers) == 1
        else:
            await one.pool.close(0.0)
            with pytest.raises(Exception, match="unloaded"):
                await asked.answer
        await settle()
        assert one.pool.leases == 0

    situation(scenario)


def test_what_one_worker_found_out_holds_for_all_and_for_those_to_come() -> None:
    async def scenario(one: Situation) -> None:
        first, other = one.workers
        await one.begin_repeat(first)
        first.batching = DIFFERS
        one.world.held = False
        first.end_repeat()
        assert other.batching == DIFFERS
        other.kill()
        await asyncio.sleep(5.0)
        assert [worker.batching for worker in one.workers] == [DIFFERS] * 2

        await one.pool.replace_workers(LoadSpec(V1, "/cache", None, nan_is_null=True))
        await asyncio.sleep(5.0)
        assert [worker.batching for worker in one.workers] == [DIFFERS] * 2
        await one.pool.replace_workers(LoadSpec(V1, "/cache", None, rtol=0.01))
        await asyncio.sleep(5.0)
        assert all(worker.batching.merges for worker in one.workers), "by another measure it may not differ"

    situation(scenario, workers=2)
