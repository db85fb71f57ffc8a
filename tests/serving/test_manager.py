"""Aliases move; versions are loaded beside, bound, drained and let go."""

import asyncio

import pytest

from router.core.events import (
    AliasBound,
    AliasUnbound,
    LoadRefused,
    ReadinessChanged,
    SplitInForce,
    WorkerLoadFailed,
)
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.policy import State
from router.core.scores import OutputSpec, ScoreSpec
from router.protocol.messages import LoadSpec, Query
from router.serving.load_gate import LoadLimits
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.version_dependencies import VersionDependencies
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorker, FakeWorld
from tests.support.waiting import until

QUERY = Query(b"{}", None)


def manager_of(models: ModelSet) -> ModelManager:
    return models.managers["sentiment"]


async def test_the_old_version_serves_until_the_new_one_is_ready(serving: ModelSet, world: FakeWorld) -> None:
    manager = manager_of(serving)
    world.slow_loads = asyncio.Event()
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: V3 in world.loads)

    assert manager.bound[PRODUCTION] == V1
    assert serving.table.models["sentiment"].bound[PRODUCTION] == V1

    world.slow_loads.set()
    await until(lambda: manager.bound[PRODUCTION] == V3)
    await until(lambda: V1 not in manager.harnesses)
    assert not world.alive(V1)


async def test_a_version_is_unloaded_only_after_its_last_lease(serving: ModelSet, world: FakeWorld) -> None:
    manager = manager_of(serving)
    world.held = True
    loop = asyncio.get_running_loop()
    request = manager.serving(V1).submit(QUERY, PRODUCTION, loop.time() + 5)
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: manager.bound[PRODUCTION] == V3)
    [old] = world.alive(V1)

    assert manager.harnesses[V1].state is State.DRAINING
    old.release()
    assert (await request.answer).body == b"v1"
    await until(lambda: not world.alive(V1))


async def test_a_lease_ends_when_the_work_ends_not_when_the_caller_gives_up(
    serving: ModelSet, world: FakeWorld
) -> None:
    manager = manager_of(serving)
    world.held = True
    request = manager.serving(V1).submit(QUERY, PRODUCTION, asyncio.get_running_loop().time() + 5)
    await asyncio.sleep(0)  # the worker has it
    request.cancel()

    assert manager.serving(V1).pool.leases == 1
    world.alive(V1)[0].release()
    assert manager.serving(V1).pool.leases == 0


async def test_moving_an_alias_back_while_its_version_drains_loads_nothing(
    serving: ModelSet, world: FakeWorld
) -> None:
    manager = manager_of(serving)
    world.held = True
    manager.serving(V1).submit(QUERY, PRODUCTION, asyncio.get_running_loop().time() + 5)
    await asyncio.sleep(0)  # the worker has it
    manager.set_aspired({PRODUCTION: V2, CANARY: V2})
    assert manager.harnesses[V1].state is State.DRAINING

    manager.set_aspired({PRODUCTION: V1, CANARY: V2})

    assert manager.bound[PRODUCTION] == V1
    assert world.loads.count(V1) == 1
    world.alive(V1)[0].release()
    await asyncio.sleep(0.01)
    assert world.alive(V1), "the drain went on after the version was called back"


async def test_both_aliases_on_one_version_load_it_once(models: ModelSet, world: FakeWorld) -> None:
    manager = manager_of(models)
    manager.set_aspired({PRODUCTION: V1, CANARY: V1})
    await until(lambda: len(manager.bound) == 2)

    assert world.loads == [V1]


async def test_only_a_successful_poll_that_lacks_the_canary_unbinds_it(
    serving: ModelSet, facts: Facts, world: FakeWorld
) -> None:
    manager = manager_of(serving)
    manager.set_aspired({PRODUCTION: V1})

    assert dict(manager.bound) == {PRODUCTION: V1}
    assert facts.of(AliasUnbound)[-1].old == V2
    await until(lambda: not world.alive(V2))


async def test_an_empty_wish_never_takes_production_away(serving: ModelSet) -> None:
    manager = manager_of(serving)
    manager.set_aspired({})

    assert dict(manager.bound) == {PRODUCTION: V1}


async def test_a_version_that_does_not_load_is_reported_and_the_last_good_one_serves(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    manager = manager_of(serving)
    world.broken.add(V3)
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: facts.of(LoadRefused))

    refused = facts.of(LoadRefused)[0]
    assert (refused.version, refused.phase, refused.retry_seconds) == (V3, "load", 10.0)
    assert manager.bound[PRODUCTION] == V1
    assert manager.harnesses[V3].state is State.ERROR
    assert "broken on purpose" in manager.harnesses[V3].error
    assert not refused.by_rule


async def test_a_version_that_a_rule_forbids_is_distinguished_from_one_that_does_not_load(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    world.forbidden.add(V3)
    manager_of(serving).set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: facts.of(LoadRefused))

    refused = facts.of(LoadRefused)[0]
    assert (refused.version, refused.phase, refused.by_rule) == (V3, "fetch", True)


async def test_a_failed_load_is_tried_again_after_its_back_off(
    serving: ModelSet, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.serving.harness.LOAD_DELAYS", (0.01, 0.02))
    manager = manager_of(serving)
    world.unfetchable.add(V3)
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: manager.harnesses[V3].failures >= 3)
    assert manager.harnesses[V3].retry_seconds == 0.02

    world.unfetchable.clear()
    await until(lambda: manager.bound[PRODUCTION] == V3)
    assert manager.harnesses[V3].error == ""


async def test_an_alias_that_moves_on_cancels_the_load_nobody_wants(
    serving: ModelSet, world: FakeWorld
) -> None:
    manager = manager_of(serving)
    world.slow_loads = asyncio.Event()
    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: V3 in world.loads)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})

    world.slow_loads.set()
    await until(lambda: V3 not in manager.harnesses)
    assert manager.bound[PRODUCTION] == V1
    assert not world.alive(V3)


async def test_each_alias_changes_as_soon_as_its_own_version_is_ready(
    serving: ModelSet, world: FakeWorld
) -> None:
    manager = manager_of(serving)
    world.broken.add(V3)
    manager.set_aspired({PRODUCTION: V3, CANARY: V1})
    await until(lambda: manager.bound[CANARY] == V1)

    assert manager.bound[PRODUCTION] == V1


async def test_ready_is_said_once_every_model_of_the_start_has_production(
    models: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    manager = manager_of(models)
    manager.set_aspired({CANARY: V2})
    await until(lambda: CANARY in manager.bound)
    assert not models.ready

    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: models.ready)
    models.apply({"sentiment": settings(), "typo": settings()})
    assert models.ready
    assert facts.of(ReadinessChanged) == [ReadinessChanged(ready=True)]


async def test_a_changed_split_is_in_force_at_once_and_moves_no_version(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    serving.apply({"sentiment": settings(split={"production": 75, "canary": 25})})

    assert serving.table.models["sentiment"].configured_split.canary == 25_000
    assert facts.of(SplitInForce)[-1].in_force[CANARY] == 0.25
    assert world.loads == [V1, V2]


async def test_a_model_taken_out_of_the_configuration_leaves_the_table_and_its_workers_end(
    serving: ModelSet, world: FakeWorld
) -> None:
    serving.apply({"other": settings()})

    assert list(serving.table.models) == ["other"]
    await until(lambda: not world.alive(V1) and not world.alive(V2))


async def test_alias_bound_names_the_old_and_the_new_version(serving: ModelSet, facts: Facts) -> None:
    manager = manager_of(serving)
    manager.set_aspired({PRODUCTION: V2, CANARY: V2})

    bound = facts.of(AliasBound)[-1]
    assert (bound.alias, bound.old, bound.new) == (PRODUCTION, V1, V2)


async def test_the_kernel_would_end_productions_workers_last_whichever_version_that_is(
    serving: ModelSet, world: FakeWorld
) -> None:
    [production], [canary] = world.alive(V1), world.alive(V2)
    assert (production.is_last, canary.is_last) == (True, False)

    manager_of(serving).set_aspired({PRODUCTION: V2, CANARY: V2})  # promoted
    assert canary.is_last
    manager_of(serving).set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: world.alive(V3) and world.alive(V3)[0].is_last)
    assert not canary.is_last


async def test_more_workers_are_started_and_surplus_ones_retired(serving: ModelSet, world: FakeWorld) -> None:
    serving.apply({"sentiment": settings(workers=3)})
    await until(lambda: len(world.alive(V1)) == 3)

    serving.apply({"sentiment": settings(workers=1)})
    await until(lambda: len(world.alive(V1)) == 1)


async def test_another_spelling_of_nan_replaces_the_workers(serving: ModelSet, world: FakeWorld) -> None:
    [old] = world.alive(V1)
    serving.apply({"sentiment": settings(nan="null")})
    await until(lambda: old.exited.done())
    assert serving.managers["sentiment"].serving(V1).pool.supply.spec.nan_is_null


async def test_changed_scores_replace_the_workers_new_one_first(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    [old] = world.alive(V1)
    serving.apply({"sentiment": settings(scores={"range": [-1, 1]})})
    await until(lambda: old.exited.done())

    [new] = world.alive(V1)
    assert new is not old
    reported = [bound for bound in facts.of(AliasBound) if bound.old == bound.new == V1]
    assert len(reported) == 1, "the metrics start their bins over at each report"


def counts(models: ModelSet, version: VersionId) -> tuple[OutputSpec, ...]:
    info = manager_of(models).harnesses[version].info
    assert info is not None
    return info.scores


async def test_a_canary_is_counted_as_production_is_whichever_of_them_is_ready_first(
    models: ModelSet, world: FakeWorld
) -> None:
    """Each by its own example would be counted differently, and nothing could be compared."""
    world.suggested = {V1: (ScoreSpec(),), V2: (), V3: (ScoreSpec(1),)}
    manager = manager_of(models)
    manager.set_aspired({CANARY: V2})
    await until(lambda: manager.bound.get(CANARY) == V2)
    assert counts(models, V2) == ()

    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: manager.bound.get(PRODUCTION) == V1 and counts(models, V2) == (ScoreSpec(),))
    manager.set_aspired({PRODUCTION: V1, CANARY: V3})
    await until(lambda: manager.bound.get(CANARY) == V3)
    assert counts(models, V3) == (ScoreSpec(),)
    assert world.loads.count(V3) == 1


async def test_a_canary_that_becomes_production_is_counted_by_its_own_choice(
    models: ModelSet, world: FakeWorld
) -> None:
    """As after a restart, which knows of no former production."""
    world.suggested = {V1: (ScoreSpec(),), V2: (ScoreSpec(1),)}
    manager = manager_of(models)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2 and counts(models, V2) == (ScoreSpec(),))
    manager.set_aspired({PRODUCTION: V2, CANARY: V1})

    await until(lambda: counts(models, V2) == counts(models, V1) == (ScoreSpec(1),))


async def test_workers_that_count_alike_already_are_not_loaded_anew(
    models: ModelSet, world: FakeWorld
) -> None:
    world.suggested = {V1: (ScoreSpec(),), V2: (ScoreSpec(),)}
    manager = manager_of(models)
    manager.set_aspired({CANARY: V2})
    await until(lambda: manager.bound.get(CANARY) == V2)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2)
    manager.set_aspired({PRODUCTION: V2, CANARY: V1})
    await until(lambda: manager.bound == {PRODUCTION: V2, CANARY: V1})
    models.apply({"sentiment": settings(split={"production": 60, "canary": 40})})
    await asyncio.sleep(0)

    assert not any(harness.is_outdated for harness in manager.harnesses.values())
    assert sorted(world.loads) == [V1, V2]


async def test_a_configured_choice_holds_for_both_whatever_production_suggests(
    models: ModelSet, world: FakeWorld
) -> None:
    written = settings(scores={"output": 2})
    models.apply({"sentiment": written})
    world.suggested = {V1: (ScoreSpec(),), V2: ()}
    manager = manager_of(models)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2)

    assert counts(models, V1) == counts(models, V2) == written.scores.outputs
    assert sorted(world.loads) == [V1, V2]


async def test_a_models_readiness_follows_its_workers_and_the_gateways_that_of_any_model(
    models: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    """One bad model does not take the others off a load balancer."""
    one = settings(split={"production": 100})
    other = VersionId("other", 1)
    both = ModelSet(VersionDependencies(world, world, world.environments, facts, LoadLimits(5.0)))
    both.apply({"sentiment": one, "other": one.model_copy(update={"salt": "other"})})
    first, second = both.managers["sentiment"], both.managers["other"]
    first.set_aspired({PRODUCTION: V1})
    second.set_aspired({PRODUCTION: other})
    await until(lambda: both.ready)
    world.broken |= {V1, other}

    world.alive(V1)[0].kill()
    await until(lambda: not first.can_answer)
    assert (second.can_answer, both.ready) == (True, True)
    world.alive(other)[0].kill()
    await until(lambda: not second.can_answer)
    assert not both.ready
    await both.watch_readiness()
    world.broken.clear()
    await until(lambda: first.can_answer and second.can_answer)
    await both.watch_readiness()
    assert [fact.ready for fact in facts.of(ReadinessChanged)] == [True, False, True]
    await both.close(0.0)


async def test_a_version_that_served_before_is_not_held_by_a_required_warm_up(
    models: ModelSet, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    required: list[tuple[VersionId, bool]] = []
    load = world.load

    async def noted(spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        required.append((spec.version, spec.warm_up_required))
        return await load(spec, deadline_seconds=deadline_seconds)

    monkeypatch.setattr(world, "load", noted)
    models.apply({"sentiment": settings(warm_up="required", split={"production": 100})})
    manager = models.managers["sentiment"]
    manager.note_served([V3])
    for version in (V1, V2, V1, V3):
        manager.set_aspired({PRODUCTION: version})
        await until(lambda version=version: set(manager.harnesses) == {version} and manager.ready)
    assert required == [(V1, True), (V2, True), (V1, False), (V3, False)]


async def test_a_load_that_was_begun_with_other_settings_and_fails_is_followed_by_another_at_once(
    models: ModelSet, world: FakeWorld
) -> None:
    """Its failure says nothing about the settings of now."""
    world.slow_loads, world.broken = asyncio.Event(), {V1}
    manager = manager_of(models)
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: world.loads)
    models.apply({"sentiment": settings(split={"production": 50, "canary": 50}, nan="null")})
    first, second = world.slow_loads, asyncio.Event()
    world.slow_loads = second
    first.set()
    await until(lambda: len(world.loads) == 2)
    world.broken.clear()
    second.set()

    await until(lambda: manager.ready)


async def test_settings_that_do_not_concern_a_load_leave_its_pause(
    models: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    world.slow_loads, world.broken = asyncio.Event(), {V1}
    manager_of(models).set_aspired({PRODUCTION: V1})
    await until(lambda: world.loads)
    models.apply({"sentiment": settings(split={"production": 75, "canary": 25})})
    world.slow_loads.set()

    await until(lambda: facts.of(LoadRefused))

    assert [refused.retry_seconds for refused in facts.of(LoadRefused)] == [10.0]


async def test_another_number_of_threads_for_linear_algebra_loads_new_workers(
    serving: ModelSet, world: FakeWorld
) -> None:
    """Libraries read it once, when they are imported. The old workers answer until the new ones can."""
    old = {worker.pid for version in (V1, V2) for worker in world.alive(version)}
    half = {"production": 50, "canary": 50}
    serving.apply({"sentiment": settings(split=half, cpu_threads=2)})

    def all_anew() -> bool:
        alive = [worker for version in (V1, V2) for worker in world.alive(version)]
        return len(alive) >= 2 and not old & {worker.pid for worker in alive}

    await until(all_anew)
    assert {worker.cpu_threads.threads for version in (V1, V2) for worker in world.alive(version)} == {2}


async def test_a_replacement_whose_warm_up_ends_its_worker_joins_without_one(
    serving: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    """Such as where the example asks a service that is away by now: other requests are answered."""
    world.unwarmable = {V1}
    for _ in range(2):
        [worker] = world.alive(V1)
        worker.kill()
        await until(lambda former=worker: world.alive(V1) not in ([], [former]))
        await until(lambda: manager_of(serving).can_answer)

    limit = settings().predict_timeout_seconds  # how long a good one takes is not known
    assert world.warm_ups == [None, None, limit, 0.0, 0.0], "left out from the first time on"
    [failed] = facts.of(WorkerLoadFailed)
    assert (failed.version, failed.retry_seconds) == (V1, 0.0)
    assert "input example" in failed.error


@pytest.mark.parametrize(("took", "limit"), [(0.1, 5.0), (4.0, 12.0)])
async def test_the_warm_up_of_a_replacement_has_a_few_times_as_long_as_the_last_one_took(
    serving: ModelSet, world: FakeWorld, took: float, limit: float
) -> None:
    """One that hangs does not keep production without a worker for as long as a load may take."""
    world.warm_up_seconds = took
    for _ in range(2):
        [worker] = world.alive(V1)
        worker.kill()
        await until(lambda former=worker: world.alive(V1) not in ([], [former]))

    assert world.warm_ups[-1] == limit


async def test_a_first_load_whose_warm_up_ends_its_worker_does_without_unless_it_is_required(
    models: ModelSet, world: FakeWorld, facts: Facts
) -> None:
    world.unwarmable = {V1, V2}
    models.apply({"sentiment": settings(split={"production": 50, "canary": 50}, warm_up="required")})
    manager = manager_of(models)
    manager.note_served([V1])
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: manager.ready and facts.of(LoadRefused))

    [refused] = facts.of(LoadRefused)
    assert (refused.version, refused.phase) == (V2, "warmup")
    served_before = [
        limit for version, limit in zip(world.loads, world.warm_ups, strict=True) if version == V1
    ]
    assert served_before == [settings().predict_timeout_seconds, 0.0]
