"""When copies are sent and which are dropped, over minutes: nothing may depend on what the copy says."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.routing import Assignment, ModelRoutes, Reason
from router.core.shadow_events import ShadowCompared, ShadowDropped
from router.core.split import Split
from router.errors import RequestRefused, WorkerDied
from router.protocol.messages import Answer, PredictStatus, Query
from router.protocol.shadow_frames import Compared, ShadowQuery
from router.serving import shadows
from router.serving.idle_processors import IdleProcessors
from router.serving.pool.request_queue import PendingRequest
from router.serving.pool.worker_slot import LoneShadow
from router.serving.shadows import Shadows
from router.settings import ModelSettings
from tests.serving import virtual_time
from tests.serving.conftest import V1, V2, settings
from tests.support.fakes import Facts

CHALLENGER = Alias("challenger")
QUERY = Query(b"{}", "application/json")
GOOD = Answer(PredictStatus.OK, 200, b"[1]", "application/json", 1, 0.001, answer_rows=1)
SAME = Compared("compared", 0, PredictStatus.OK, 1, 1, False, 0.001, 0.001, 0.001)


@dataclass
class FakePool:
    """One worker, whose shadows last and end as a test says."""

    seconds: float = 0.1
    crashes: Callable[[], bool] = lambda: False
    load_seconds: float = 1.0
    """After an end."""
    keeps_waiting: bool = False
    worked: float = 0.0
    """Seconds, on shadows."""
    ends: list[float] = field(default_factory=list)
    """When shadows ended the worker."""
    free_at: float = 0.0

    def shadow_idle(self, _: ShadowQuery) -> LoneShadow | None:
        loop = asyncio.get_running_loop()
        if loop.time() < self.free_at:
            return None
        comparison: asyncio.Future[Compared] = loop.create_future()
        self.free_at = loop.time() + self.seconds
        self.worked += self.seconds
        loop.call_later(self.seconds, self._end, comparison)
        return LoneShadow(comparison)

    def _end(self, comparison: asyncio.Future[Compared]) -> None:
        if self.crashes():
            now = asyncio.get_running_loop().time()
            self.ends.append(now)
            self.free_at = now + self.load_seconds
            comparison.set_exception(WorkerDied("it ended"))
        else:
            comparison.set_result(SAME)


@dataclass
class FakeHarness:
    pool: FakePool
    loaded: bool = True
    info: None = None


@dataclass
class Idle:
    share: float = 0.9

    def watch(self, _: object) -> None: ...
    def unwatch(self, _: object) -> None: ...


class RetriedBatch:
    """Whose failed requests are asked once more."""

    def is_retried(self, *, ended_worker: bool) -> bool:
        return True


@dataclass
class Retried:
    batch: RetriedBatch = field(default_factory=RetriedBatch)


class World:
    """A model whose production is asked ten times a second."""

    def __init__(self, canary: float = 0.0, **shares: int) -> None:
        self.production, self.canary, self.idle, self.facts = FakePool(), FakePool(), Idle(), Facts()
        self.harnesses = {V1: FakeHarness(self.production), V2: FakeHarness(self.canary)}
        self.split = Split.from_percentages({"production": 100 - canary, "canary": canary, "challenger": 0})
        self.settings: ModelSettings = settings(
            split={"production": 100 - canary, "canary": canary, "challenger": 0},
            shadow=shares or {"canary": 10},
        )
        self.shadows = Shadows(cast(Any, self), self.facts, cast(IdleProcessors, self.idle))
        self.follow({PRODUCTION: V1, CANARY: V2})

    def follow(self, bound: dict[Alias, VersionId]) -> None:
        routes = ModelRoutes("sentiment", "salt", self.split, bound)
        assert self.settings.shadow is not None
        self.shadows.follow(routes, self.settings.shadow)

    def offer(self, result: Answer | RequestRefused, *, retried: bool = False) -> None:
        assigned = Assignment(PRODUCTION, V1, Reason.HASH, 99_000, split=self.split)
        pending = cast(PendingRequest, Retried()) if retried else None
        self.shadows.offer(assigned, QUERY, result, pending, any_length=False)

    def alone(self) -> tuple[int, int]:
        """Faults of production alone, and of the canary."""
        facts = self.facts.of(ShadowCompared)
        ours = sum(fact.production_fault and not fact.canary_fault for fact in facts)
        return ours, sum(fact.canary_fault and not fact.production_fault for fact in facts)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On a clock that jumps."""
    virtual_time.run(main())


@pytest.mark.parametrize(("canary", "least", "most"), [(0.0, 0.45, 0.51), (5.0, 0.04, 0.051)])
def test_shadows_have_half_of_a_versions_time_and_a_twentieth_of_one_with_users(
    canary: float, least: float, most: float
) -> None:
    """An equal canary must not look slower by those who wait for a shadow."""

    async def main() -> None:
        world = World(canary)
        for _ in range(1_000):
            world.offer(GOOD)
            await asyncio.sleep(0.1)
        assert least < world.canary.worked / 100.0 < most
        world.shadows.close()

    run(main)


@pytest.mark.parametrize("retried", [False, True])
def test_equal_versions_that_crash_by_chance_are_at_fault_alone_equally_often(
    monkeypatch: pytest.MonkeyPatch, retried: bool
) -> None:
    """Whatever their crashes keep waiting, and however busy the machine is. Where production's requests have
    a second chance, copies have it."""
    monkeypatch.setattr(shadows, "LOOK_SECONDS", 0.1)
    draw = random.Random(1)
    chance = 0.14 if retried else 0.02

    async def main() -> None:
        world = World()
        canary, production, idle = world.canary, world.production, world.idle
        canary.crashes = lambda: draw.random() < chance
        loop = asyncio.get_running_loop()
        while loop.time() < 30_000.0:
            idle.share = 0.9 if loop.time() % 31.0 < 20.0 else 0.1
            if draw.random() < (chance**2 if retried else chance):
                production.keeps_waiting = True  # for its next worker
                world.offer(WorkerDied("it ended"), retried=retried)
                await asyncio.sleep(draw.choice([0.5, 7.0]))
                production.keeps_waiting = False
            else:
                world.offer(GOOD, retried=retried)
            await asyncio.sleep(1.0)
        world.shadows.close()
        ours, theirs = world.alone()
        assert ours + theirs > 100
        assert abs(ours - theirs) < 3 * (ours + theirs) ** 0.5, (ours, theirs)

    run(main)


def test_a_fault_that_waits_for_its_second_chance_outlasts_a_busy_machine() -> None:
    async def main() -> None:
        world = World()
        world.canary.crashes, world.canary.load_seconds = lambda: True, 120.0
        world.offer(GOOD, retried=True)
        await asyncio.sleep(0.2)
        world.offer(GOOD)
        world.idle.share = 0.0
        await asyncio.sleep(119.0)
        assert len(world.facts.of(ShadowDropped)) == 1
        assert world.shadows.to_json()["canary"]["waiting"] == 1
        await asyncio.sleep(2.0)
        assert world.alone() == (0, 1)
        world.shadows.close()

    run(main)


def test_what_ended_a_worker_of_production_is_asked_though_production_has_requests_waiting() -> None:
    """They wait because it ended."""

    async def main() -> None:
        world = World()
        world.production.keeps_waiting = True
        world.offer(WorkerDied("it ended"))
        world.offer(GOOD)
        world.idle.share = 0.0  # as it loads again
        world.offer(WorkerDied("it ended"))
        await asyncio.sleep(0.2)
        assert (world.alone(), len(world.facts.of(ShadowDropped))) == ((1, 0), 2)
        world.shadows.close()

    run(main)


def test_a_canary_that_crashes_on_some_copies_rests_for_longer_and_longer() -> None:
    """Its good answers in between do not end that."""

    async def main() -> None:
        world = World()
        turns = iter(range(1_000_000))
        world.canary.crashes = lambda: next(turns) % 3 == 2
        for _ in range(3_000):
            world.offer(GOOD)
            await asyncio.sleep(0.1)
        between = [
            later - earlier for earlier, later in zip(world.canary.ends, world.canary.ends[1:], strict=False)
        ]
        assert len(between) > 5
        assert min(between[3:]) > shadows.RESTS[-1]
        world.shadows.close()

    run(main)


def test_a_version_that_crashed_a_minute_ago_rests_as_after_its_first_crash() -> None:
    async def main() -> None:
        world = World()
        ends = [True, False, True, False]
        world.canary.crashes = lambda: ends.pop(0)
        for pause in (70.0, 10.0, 2.5, 1.0):
            world.offer(GOOD)
            await asyncio.sleep(pause)
        assert ends == []
        world.shadows.close()

    run(main)


def test_a_rest_holds_for_the_version_under_whichever_alias() -> None:
    async def main() -> None:
        world = World(canary=0, challenger=10)
        world.settings = settings(
            split={"production": 100, "canary": 0, "challenger": 0}, shadow={"canary": 10, "challenger": 10}
        )
        world.follow({PRODUCTION: V1, CANARY: V2, CHALLENGER: V2})
        world.canary.crashes = lambda: True
        world.offer(GOOD)
        await asyncio.sleep(1.9)
        assert len(world.canary.ends) == 1, "a copy of each alias waits"
        await asyncio.sleep(0.5)
        assert len(world.canary.ends) == 2
        world.shadows.close()

    run(main)
