"""Workers always come back: whatever the order of deaths, loads and changes, a load runs or has its time."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from router.core.events import WorkerLoadFailed
from router.core.ids import PRODUCTION
from router.core.routing import Assignment
from router.core.score_events import ReadResult
from router.core.scores import ScoreSpec
from router.errors import ChildLost, LoadFailed, NotReady, Overloaded
from router.protocol.messages import LoadSpec, Query
from router.serving.load_gate import LoadGate, LoadLimits
from router.serving.pool.supply import RELOAD_DELAYS, REPLACEMENT_DELAYS
from tests.serving.conftest import V1, FakeVersion, pool_of
from tests.serving.virtual_time import no_files, run, settle
from tests.support.examples import examples
from tests.support.fakes import Facts, FakeWorker, FakeWorld

LONGEST = RELOAD_DELAYS[-1]


@dataclass
class SteeredLoads(FakeWorld):
    """A loader whose loads end when a step says so, and how; with `fails` set, at once."""

    under_way: list["asyncio.Future[None]"] = field(default_factory=list)
    fails: Exception | None = None
    at_once: bool = False
    specs: list[LoadSpec] = field(default_factory=list)
    """Of the loads that were good."""

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        self.loads.append(spec.version)
        if self.fails is not None:
            raise self.fails
        if not self.at_once:
            end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.under_way.append(end)
            try:
                await end
            finally:
                self.under_way.remove(end)
        self.specs.append(spec)
        worker = FakeWorker(spec, self)
        self.workers.append(worker)
        return worker

    def end_load(self, error: Exception | None) -> None:
        if self.under_way and not self.under_way[0].done():
            if error is None:
                self.under_way[0].set_result(None)
            else:
                self.under_way[0].set_exception(error)


class Situation:
    """One pool, and what may happen to it."""

    def __init__(self, *, workers: int = 1, production: bool = True) -> None:
        self.world, self.facts = SteeredLoads(load_seconds=3.0, at_once=True), Facts()
        self.version = FakeVersion({"workers": workers}, is_production=production)
        self.keys, self.closed = self.version.keys, False
        gate = LoadGate(self.world, LoadLimits(5.0), measure=no_files)
        self.pool = pool_of(self.version, self.world, self.facts, gate)
        self.replacements: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        await self.pool.start()
        await settle()
        self.world.at_once = False

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def do(self, step: tuple[str, Any]) -> None:  # noqa: C901 - one case per kind of step
        match step:
            case ("kill a worker", int(which)) if self.pool.workers:
                worker = self.pool.workers[which % len(self.pool.workers)]
                assert isinstance(worker, FakeWorker)
                worker.kill()
            case ("kill the spare", _) if isinstance(self.pool.supply.spare, FakeWorker):
                self.pool.supply.spare.kill()
            case ("ask", _) if not self.closed:
                await self.ask()
            case ("a load ends", bool(well)):
                self.world.end_load(None if well else LoadFailed("ValueError: on purpose", phase="load"))
            case ("a load dies", _):
                self.world.end_load(ChildLost("the worker ended while it loaded"))
            case ("workers", int(number)):
                self.keys["workers"] = number
                self.changed()
            case ("production", bool(production)):
                self.version.is_production = production
                self.pool.fill()
            case ("memory", bool(plenty)):
                self.world.available = 1 << 40 if plenty else 0
            case ("other scores", _) if not self.closed:
                self.replace_workers()
            case ("wait", float(seconds)):
                await asyncio.sleep(seconds)
            case ("close", _):
                self.closed = True
                for replacement in self.replacements:
                    replacement.cancel()
                await self.pool.close(0.0)
        await settle()

    async def ask(self) -> None:
        try:
            self.pool.submit(Query(b"{}", None), PRODUCTION, self.now + 1.0)
        except (NotReady, Overloaded):
            return

    def changed(self) -> None:
        """As a version does when its settings change."""
        self.pool.settings_changed()
        self.pool.fill()

    def replace_workers(self) -> None:
        async def replaced() -> None:
            try:
                await self.pool.replace_workers(LoadSpec(V1, "/cache", None, rtol=len(self.replacements)))
            except (LoadFailed, ChildLost):
                return

        if all(replacement.done() for replacement in self.replacements):
            self.replacements.add(asyncio.get_running_loop().create_task(replaced()))

    def check(self) -> None:
        """With too few workers a load is under way, or the time of the next one is known and not far off."""
        supply, wanted = self.pool.supply, self.keys["workers"]
        assert self.pool.can_answer == bool(self.pool.workers)
        if self.closed:
            assert not self.world.under_way
            assert not self.world.alive(V1)
        elif len(self.pool.workers) < wanted and not self.world.under_way:
            assert supply.next_load_at is not None
            assert 0.0 < supply.next_load_at - self.now <= LONGEST

    async def recover(self) -> None:
        """From now on loads have room and succeed: the longest pause later every worker is there."""
        if self.closed:
            return
        self.world.at_once, self.world.available = True, 1 << 40
        while self.world.under_way:
            self.world.end_load(None)
            await settle()
        await asyncio.sleep(LONGEST)
        await settle()
        assert len(self.pool.workers) == self.keys["workers"]
        assert self.pool.supply.last_error == ""
        await self.do(("close", None))
        self.check()


async def started(*, production: bool = True) -> Situation:
    """A version with its worker, whose further loads end when a step says so."""
    situation = Situation(production=production)
    await situation.start()
    return situation


async def started_without_its_second_worker() -> Situation:
    """A canary that is to have two workers, and whose second one never loads."""
    situation = await started(production=False)
    situation.world.fails = LoadFailed("BlockingIOError: it is locked", phase="load")
    situation.keys["workers"] = 2
    situation.changed()
    return situation


STEPS = st.one_of(
    st.tuples(st.just("kill a worker"), st.integers(0, 3)),
    st.tuples(st.just("a load ends"), st.booleans()),
    st.tuples(st.just("workers"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["production", "memory"]), st.booleans()),
    st.tuples(st.sampled_from(["kill the spare", "ask", "a load dies", "other scores"]), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.5, 2.0, 30.0, 400.0])),
)
END = st.sampled_from([[("close", None)], []])


@given(st.lists(STEPS, max_size=25), END)
@settings(max_examples=examples(200), deadline=None)
def test_a_version_with_too_few_workers_has_a_load_under_way_or_the_time_of_the_next(
    steps: list[tuple[str, Any]], end: list[tuple[str, Any]]
) -> None:
    async def scenario() -> None:
        situation = await started()
        for step in [*steps, *end]:
            await situation.do(step)
            situation.check()
        await situation.recover()

    run(scenario())


def test_a_worker_that_dies_while_its_spare_does_not_load_is_replaced_at_once() -> None:
    """Without a worker, whether a spare loads says nothing any more."""

    async def scenario() -> None:
        situation = await started()
        world, pool = situation.world, situation.pool
        await situation.do(("ask", None))
        await situation.do(("kill the spare", None))
        await situation.do(("wait", 0.3))
        assert len(world.under_way) == 1, "the spare's load"
        await situation.do(("kill a worker", 0))
        assert pool.workers == []
        await situation.do(("a load ends", False))
        await situation.do(("wait", 0.3))
        assert len(world.under_way) == 1, "the load of the missing worker"
        await situation.do(("a load ends", True))
        assert len(pool.workers) == 1

    run(scenario())


def test_a_second_worker_that_never_loads_is_tried_less_and_less_often_and_each_try_is_reported() -> None:
    async def scenario() -> None:
        situation = await started_without_its_second_worker()
        world, pool = situation.world, situation.pool
        await asyncio.sleep(60.0)
        assert len(world.loads) <= 4
        await asyncio.sleep(3600.0)
        assert len(world.loads) <= 4 + 4 + 3600 / LONGEST

        failed = situation.facts.of(WorkerLoadFailed)
        assert [fact.retry_seconds for fact in failed[: len(RELOAD_DELAYS)]] == list(RELOAD_DELAYS)
        assert "locked" in pool.supply.last_error
        assert pool.supply.retry_seconds == LONGEST

    run(scenario())


def test_the_worker_that_held_a_lock_dies_and_the_next_try_is_not_that_of_the_ladder() -> None:
    async def scenario() -> None:
        situation = await started_without_its_second_worker()
        world = situation.world
        await asyncio.sleep(1000.0)
        world.fails, world.at_once = None, True
        await situation.do(("kill a worker", 0))
        await asyncio.sleep(max(REPLACEMENT_DELAYS))
        await settle()
        assert len(situation.pool.workers) == 2

    run(scenario())


@pytest.mark.parametrize("change", ["settings", "fewer workers"])
def test_a_change_ends_the_pause_after_failed_loads(change: str) -> None:
    async def scenario() -> None:
        situation = await started_without_its_second_worker()
        world, pool = situation.world, situation.pool
        await asyncio.sleep(1000.0)
        if change == "settings":
            world.fails, world.at_once = None, True
        else:
            situation.keys["workers"] = 1
        situation.changed()
        await settle()
        assert len(pool.workers) == situation.keys["workers"]
        assert (pool.supply.last_error, pool.supply.retry_seconds) == ("", None)

    run(scenario())


def test_while_no_load_comes_in_time_callers_are_refused_at_once_and_else_they_wait() -> None:
    async def scenario() -> None:
        situation = await started(production=False)
        world, pool = situation.world, situation.pool
        await situation.do(("kill a worker", 0))
        await asyncio.sleep(0.5)
        assert len(world.under_way) == 1
        query = Query(b"{}", None)
        during = pool.submit(query, PRODUCTION, situation.now + 5.0)
        patient = pool.submit(query, PRODUCTION, situation.now + 500.0)
        await situation.do(("a load ends", False))
        await situation.do(("wait", 1.0))
        await situation.do(("a load ends", False))  # the next one comes in 20 s

        with pytest.raises(NotReady, match="no worker"):
            await during.answer
        with pytest.raises(NotReady, match="no worker"):
            pool.submit(query, PRODUCTION, situation.now + 5.0)
        assert not pool.can_answer
        world.at_once = True
        assert (await patient.answer).status == 200
        assert pool.can_answer

    run(scenario())


def test_deaths_are_followed_by_a_load_within_two_seconds_however_many() -> None:
    async def scenario() -> None:
        situation = await started(production=False)
        situation.world.at_once = True
        for _ in range(30):
            await situation.do(("kill a worker", 0))
            await asyncio.sleep(max(REPLACEMENT_DELAYS) + 0.01)
            await settle()
            assert len(situation.pool.workers) == 1

    run(scenario())


CHOSEN, ANOTHER = (ScoreSpec(1),), (ScoreSpec(0),)


def test_workers_count_what_the_first_one_of_their_spec_chose() -> None:
    """Another one's example may get no answer in time, and then it would choose what is mostly right."""

    async def scenario() -> None:
        situation = Situation(production=False)
        world, pool = situation.world, situation.pool
        world.suggested[V1] = CHOSEN
        await situation.start()
        world.suggested[V1], world.at_once = ANOTHER, True
        await situation.do(("kill a worker", 0))
        await asyncio.sleep(max(REPLACEMENT_DELAYS))
        await settle()
        fresh = await pool.supply.acquire()
        await pool.replace_workers(LoadSpec(V1, "/cache", None, rtol=0.5))
        await situation.do(("kill a worker", 0))
        await asyncio.sleep(max(REPLACEMENT_DELAYS))
        await settle()

        assert [spec.scores for spec in world.specs] == [None, CHOSEN, CHOSEN, None, ANOTHER]
        assert fresh.info.scores == CHOSEN
        assert situation.version.chosen == []

    run(scenario())


class Choosing:
    """Reads scores, and does not know yet which."""

    has_chosen = False
    results: Mapping[ReadResult, int] = {}
    error = ""

    def __init__(self) -> None:
        self.on_chosen: Callable[[], None] = lambda: None

    def offer(self, asked: Assignment, answer: bytes) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("by", ["the same worker", "another worker"])
def test_what_is_chosen_late_is_reported_and_holds_from_then_on(by: str) -> None:
    async def scenario() -> None:
        situation = Situation(production=False)
        world, pool = situation.world, situation.pool
        reader = world.score_reader = Choosing()
        await situation.start()
        world.suggested[V1], world.at_once = CHOSEN, True
        if by == "the same worker":
            [worker] = world.workers
            worker.info, reader.has_chosen = replace(worker.info, scores=CHOSEN), True
            reader.on_chosen()
        else:
            world.score_reader = None
        await situation.do(("kill a worker", 0))
        await asyncio.sleep(max(REPLACEMENT_DELAYS))
        await settle()
        assert situation.version.chosen == [CHOSEN]

        world.suggested[V1] = ANOTHER
        assert (await pool.supply.acquire()).info.scores == CHOSEN

    run(scenario())
