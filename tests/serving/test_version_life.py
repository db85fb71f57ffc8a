"""One version's life: which changes of state there are, what a drain's end reports, and when it is gone."""

import asyncio
import itertools

import pytest

from router.control.history import WorkerExitCounts
from router.core.events import DrainCutShort, ModelRemoved, VersionGone, VersionLoaded, WorkerEnded
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.policy import TRANSITIONS, State
from router.errors import WorkerDied
from router.protocol.messages import Query
from router.serving import harness as harnesses
from router.serving.models import ModelSet
from router.serving.pool.request_queue import PendingRequest
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorker, FakeWorld
from tests.support.waiting import until

HALF = {"production": 50, "canary": 50}


async def occupy(models: ModelSet, world: FakeWorld, version: VersionId = V1) -> PendingRequest:
    """A request that keeps the version's only worker busy until it is released."""
    world.held = True
    expires_at = asyncio.get_running_loop().time() + 5
    pending = models.managers["sentiment"].serving(version).submit(Query(b"{}", None), PRODUCTION, expires_at)
    await until(lambda: world.alive(version)[0].frames)
    return pending


def slow_to_end(worker: FakeWorker) -> asyncio.Event:
    """The worker ends when the event is set, and not when it is asked to."""
    may_end, close = asyncio.Event(), worker.close

    async def closed(grace_seconds: float = 1.0) -> object:
        await may_end.wait()
        return await close(grace_seconds)

    worker.close = closed  # type: ignore[method-assign,assignment]
    return may_end


ALLOWED = [(old, new) for old, states in TRANSITIONS.items() for new in states]


def test_every_state_has_its_successors_and_only_gone_has_none() -> None:
    assert set(TRANSITIONS) == set(State)
    assert [state for state, successors in TRANSITIONS.items() if not successors] == [State.GONE]
    assert all(State.GONE in successors for state, successors in TRANSITIONS.items() if state != State.GONE)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(State, State)))
async def test_a_change_of_state_outside_the_table_is_reported_and_made_all_the_same(
    models: ModelSet, breaches: list[tuple[VersionId, State, State]], old: State, new: State
) -> None:
    harness = harnesses.Harness(V1, models._dependencies, models.managers["sentiment"])
    harness._state = old
    harness._enter(new)

    assert harness.state is new
    assert breaches == ([] if (old, new) in ALLOWED else [(V1, old, new)])
    breaches.clear()


def test_in_production_a_breach_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    REPORT_BREACH(V1, State.GONE, State.READY)
    assert "sentiment v1 went from gone to ready, which a version never does" in caplog.text


REPORT_BREACH = harnesses.report_breach


async def test_what_a_drains_deadline_ends_is_reported_before_the_version_is_gone(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    manager = serving.managers["sentiment"]
    serving.apply({"sentiment": settings(split=HALF, timeout_seconds=0.05)})
    pending = await occupy(serving, world)
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: facts.of(VersionGone))

    ends = [event for event in facts.events if isinstance(event, DrainCutShort | VersionGone)]
    assert ends == [DrainCutShort(V1, requests=1, workers=1, seconds=0.05), VersionGone(V1)]
    with pytest.raises(WorkerDied):
        await pending.answer


async def test_a_drain_that_ends_in_time_reports_no_cut(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    pending = await occupy(serving, world)
    serving.managers["sentiment"].set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: serving.managers["sentiment"].bound[PRODUCTION] == V3)
    world.alive(V1)[0].release()
    await pending.answer
    await until(lambda: facts.of(VersionGone))

    assert facts.of(DrainCutShort) == []


async def test_what_the_end_of_a_removed_models_drain_ends_is_reported(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    serving.apply({"sentiment": settings(split=HALF, timeout_seconds=0.05)})
    pending = await occupy(serving, world)
    serving.apply({"other": settings()})
    await until(lambda: facts.of(ModelRemoved))

    assert facts.of(DrainCutShort) == [DrainCutShort(V1, requests=1, workers=1, seconds=0.05)]
    with pytest.raises(WorkerDied):
        await pending.answer


async def test_a_version_that_is_loaded_again_while_its_workers_end_is_not_gone(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    """Else the old one's end would take along what is known of the one that serves."""
    manager, counts = serving.managers["sentiment"], WorkerExitCounts(lambda: 0.0)
    may_end = slow_to_end(world.alive(V2)[0])
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.harnesses[V2].state is State.GONE)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: manager.bound.get(CANARY) == V2)
    world.alive(V2)[-1].kill()
    await until(lambda: facts.of(WorkerEnded))
    may_end.set()
    await until(lambda: len(world.alive(V2)) == 1)
    await asyncio.sleep(0.01)

    assert len([event for event in facts.of(VersionLoaded) if event.version == V2]) == 2
    assert facts.of(VersionGone) == []
    for event in facts.events:
        counts.record(event)
    assert counts.of(V2)["counts"] == {"signal 9 (SIGKILL)": 1}
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: facts.of(VersionGone))
    assert facts.of(VersionGone) == [VersionGone(V2)]


async def test_workers_that_still_end_are_waited_for_when_the_gateway_stops(
    serving: ModelSet, world: FakeWorld
) -> None:
    """Also those of a version that was loaded again meanwhile."""
    manager = serving.managers["sentiment"]
    [old] = world.alive(V2)
    may_end = slow_to_end(old)
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.harnesses[V2].state is State.GONE)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: manager.bound.get(CANARY) == V2)
    closing = asyncio.create_task(serving.close(0.0))
    await asyncio.sleep(0.01)
    assert not closing.done()
    may_end.set()
    await closing

    assert old.exited.done()


async def test_of_a_model_that_is_put_back_only_versions_that_serve_no_more_are_gone(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    pending = await occupy(serving, world)
    serving.apply({"other": settings()})
    serving.apply({"sentiment": settings(split=HALF)})
    manager = serving.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)
    [busy, _] = world.alive(V1)
    busy.release()
    await pending.answer
    await until(lambda: facts.of(VersionGone))

    assert facts.of(VersionGone) == [VersionGone(V2)]
    assert [fact.model for fact in facts.of(ModelRemoved)] == ["other"]
    assert len(world.alive(V1)) == 1
