"""Every load goes through one gate: productions first, so many side by side, none without room."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from router.core.events import LoadRefused
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.loads import HOLD_SECONDS
from router.core.memory import MIB
from router.core.policy import State
from router.errors import ChildLost, WorkerOutOfMemory
from router.protocol.messages import LoadSpec
from router.serving.load_gate import LoadLimits
from router.serving.models import ModelSet
from router.serving.ports import DownloadTurn
from router.serving.version_dependencies import VersionDependencies
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorker, FakeWorld
from tests.support.waiting import until

MODELS = [f"model{number:02}" for number in range(12)]


@dataclass
class Loading(FakeWorld):
    """Loads take turns of the loop; who began, and who was READY, is written down in order."""

    turns: int = 5
    story: list[tuple[str, VersionId]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    deaths: dict[VersionId, ChildLost] = field(default_factory=dict)

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> FakeWorker:
        self.story.append(("begins", spec.version))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(self.turns):
                await asyncio.sleep(0.001)
            if (death := self.deaths.get(spec.version)) is not None:
                raise death
            worker = await super().load(spec, deadline_seconds=deadline_seconds)
        finally:
            self.under_way -= 1
        self.story.append(("ready", spec.version))
        return worker


@pytest.fixture
def world() -> Loading:
    return Loading()


@pytest.fixture
async def start(world: Loading, facts: Facts) -> AsyncIterator[Callable[..., ModelSet]]:
    """Starts models with those settings; `side_by_side` loads at once."""
    started: list[ModelSet] = []

    def made(*models: str, side_by_side: int | None = 2, **keys: object) -> ModelSet:
        started.append(
            ModelSet(
                VersionDependencies(world, world, world.environments, facts, LoadLimits(5.0, side_by_side))
            )
        )
        started[-1].apply({model: settings(**keys) for model in models})
        return started[-1]

    yield made
    for models in started:
        await models.close(0.0)


def both(model: str) -> dict[str, VersionId]:
    return {PRODUCTION: VersionId(model, 1), CANARY: VersionId(model, 2)}


@pytest.mark.parametrize("side_by_side", [1, 2, 5])
async def test_every_production_is_ready_before_the_first_canarys_load_begins(
    start: Callable[..., ModelSet], world: Loading, side_by_side: int
) -> None:
    """Twelve models of two versions, each polled after the other, the first long before the last."""
    world.load_seconds = 5.0  # so that each production wants a spare
    models = start(*MODELS, side_by_side=side_by_side, workers=2)
    for model in MODELS:
        models.managers[model].set_aspired(both(model))
        await asyncio.sleep(0.003)
    await until(lambda: all(len(models.managers[m].bound) == 2 for m in MODELS), 20)

    began = [version for what, version in world.story if what == "begins"]
    first_canary = world.story.index(("begins", next(v for v in began if v.number == 2)))
    ready = [version for what, version in world.story[:first_canary] if what == "ready"]
    assert {VersionId(model, 1) for model in MODELS} <= set(ready)
    assert world.most <= side_by_side
    last_first = max(began.index(VersionId(model, 2)) for model in MODELS)
    assert set(began[:24]) == set(began), "a further worker or a spare came before the first of a canary"
    assert last_first < 24


async def test_a_production_that_fails_or_waits_for_its_next_try_holds_up_no_canary(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    broken = VersionId(MODELS[0], 1)
    world.broken.add(broken)
    models = start(*MODELS[:3])
    for model in MODELS[:3]:
        models.managers[model].set_aspired(both(model))
    await until(lambda: all(CANARY in models.managers[m].bound for m in MODELS[:3]))

    assert models.managers[MODELS[0]].harnesses[broken].state is State.ERROR


async def test_a_model_that_the_registry_does_not_answer_about_holds_up_no_canary(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    models = start(*MODELS[:2])
    models.managers[MODELS[0]].set_aspired(both(MODELS[0]))
    await until(lambda: models.managers[MODELS[0]].ready)
    await asyncio.sleep(0.05)
    assert CANARY not in models.managers[MODELS[0]].bound, "the other production may be named any moment"

    models.managers[MODELS[1]].first_poll_ended()
    await until(lambda: CANARY in models.managers[MODELS[0]].bound)


async def test_a_production_that_loads_for_ever_holds_up_canaries_for_a_while_only(
    start: Callable[..., ModelSet], world: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HOLD_SECONDS == 30.0
    monkeypatch.setattr("router.core.loads.HOLD_SECONDS", 0.2)
    models = start(*MODELS[:2])
    models.managers[MODELS[0]].set_aspired(both(MODELS[0]))
    await until(lambda: models.managers[MODELS[0]].ready)
    world.turns = 1_000_000
    models.managers[MODELS[1]].set_aspired({PRODUCTION: VersionId(MODELS[1], 1)})
    await until(lambda: ("begins", VersionId(MODELS[0], 2)) in world.story, 5)

    assert not models.managers[MODELS[1]].ready


async def test_a_production_whose_worker_died_is_replaced_beside_canaries_that_load_for_ever(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    models = start("sentiment", "other", side_by_side=1)
    models.managers["other"].first_poll_ended()
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)
    world.turns = 1_000_000
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: ("begins", V2) in world.story)

    world.turns = 1
    world.alive(V1)[0].kill()
    await until(lambda: world.alive(V1))
    assert ("ready", V2) not in world.story


async def test_a_canary_that_does_not_fit_is_not_loaded_and_its_error_has_figures(
    start: Callable[..., ModelSet], world: Loading, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.serving.load_gate.files_bytes", lambda _: 500 * MIB)
    monkeypatch.setattr("router.serving.harness.LOAD_DELAYS", (0.02,))
    world.available = 531 * MIB
    models = start("sentiment")
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: facts.of(LoadRefused))

    assert manager.ready, "production is tried: nobody can stand in for it, and the figure may be too high"
    assert V2 not in world.loads
    assert manager.harnesses[V2].error == (
        "load: no memory to load it: it needs about 532 MiB (its files have 500; load_memory_mib of"
        " its model may say otherwise), and 531 MiB are left below"
        " memory.max of 531 MiB; give the gateway more memory, or fewer models or workers"
    )
    assert {fresh for version, fresh in world.fetches if version == V2} == {False}, "its copy is not to blame"
    world.available = 532 * MIB
    await until(lambda: CANARY in manager.bound)


async def test_a_template_that_has_to_start_for_a_load_counts_in_its_need_and_one_that_runs_does_not(
    start: Callable[..., ModelSet], world: Loading, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a version with an environment of its own. Its template may be there already, for equal pins."""
    monkeypatch.setattr("router.serving.load_gate.files_bytes", lambda _: 500 * MIB)
    monkeypatch.setattr("router.serving.harness.LOAD_DELAYS", (0.02,))
    world.available, world.environments.start_bytes = 631 * MIB, 100 * MIB
    models = start("sentiment", environment="own")
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: facts.of(LoadRefused))

    assert V2 not in world.loads
    assert manager.harnesses[V2].error == (
        "load: no memory to load it: it needs about 632 MiB (its files have 500; load_memory_mib of"
        " its model may say otherwise, and 100 for the template of its environment), and 631 MiB are left"
        " below memory.max of 631 MiB; give the gateway more memory, or fewer models or workers"
    )
    world.environments.start_bytes = 99 * MIB
    await until(lambda: CANARY in manager.bound)


async def test_what_a_running_load_starts_first_counts_as_taken_until_it_has_ended(
    start: Callable[..., ModelSet], world: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its template runs soon after it began, and has not taken its memory yet."""
    monkeypatch.setattr("router.serving.load_gate.files_bytes", lambda _: 0)
    world.available, world.environments.start_bytes, world.turns = 150 * MIB, 100 * MIB, 1_000_000
    models = start("sentiment", environment="own")
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: ("begins", V1) in world.story)
    world.environments.start_bytes = 0
    gate = manager.harnesses[V1]._dependencies.gate

    assert not gate.has_room(32 * MIB)
    assert gate.has_room(18 * MIB)


async def test_productions_next_version_that_does_not_fit_waits_and_the_old_one_serves(
    start: Callable[..., ModelSet], world: Loading, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = start("sentiment")
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)
    monkeypatch.setattr("router.serving.load_gate.files_bytes", lambda _: 500 * MIB)
    world.available = 100 * MIB
    manager.set_aspired({PRODUCTION: V3})
    await until(lambda: facts.of(LoadRefused))

    assert V3 not in world.loads
    assert manager.bound[PRODUCTION] == V1


async def test_a_further_worker_that_does_not_fit_is_not_loaded_and_it_is_said(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    """A worker's own size is known from the load before."""
    world.available = 99 * MIB
    models = start("sentiment", workers=2)
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready and manager.serving(V1).pool.supply.last_error)

    assert world.loads == [V1]
    assert "it needs about 100 MiB (as its last load took), and 99 MiB are left" in (
        manager.serving(V1).pool.supply.last_error
    )
    world.available = 100 * MIB
    await until(lambda: len(world.alive(V1)) == 2, 5)


async def test_productions_only_worker_is_replaced_even_where_it_seems_not_to_fit(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    models = start("sentiment")
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready)
    world.available = 0
    world.alive(V1)[0].kill()

    await until(lambda: world.alive(V1))


async def test_a_spare_goes_when_another_version_needs_its_memory(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    world.load_seconds = 5.0
    models = start("sentiment")
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1})
    await until(lambda: manager.ready and manager.serving(V1).pool.supply.spare)
    spare = manager.serving(V1).pool.supply.spare
    assert spare is not None
    world.available = 31 * MIB  # a version needs 32 beside its files
    spare.exited.add_done_callback(lambda _: setattr(world, "available", 131 * MIB))
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: CANARY in manager.bound)

    assert spare.exited.done()
    assert manager.serving(V1).pool.supply.spare is None
    assert manager.serving(V1).pool.supply.spare_skipped_because


async def test_a_load_that_the_kernel_ended_is_not_tried_again_before_there_is_more_room(
    start: Callable[..., ModelSet], world: Loading, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.serving.harness.LOAD_DELAYS", (0.02,))
    world.available = 600 * MIB
    world.deaths[V2] = WorkerOutOfMemory("the worker ended while it loaded")
    models = start("sentiment")
    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: manager.harnesses[V2].failures >= 4)

    assert [version for what, version in world.story if what == "begins"].count(V2) == 1
    assert "the kernel ended its last load, with 600 available" in manager.harnesses[V2].error
    world.deaths.clear()
    world.available = 660 * MIB
    await until(lambda: CANARY in manager.bound)


async def test_a_load_that_is_cancelled_while_it_waits_gives_its_place_away(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    models = start("sentiment", side_by_side=1)
    manager = models.managers["sentiment"]
    world.turns = 1_000_000
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: ("begins", V1) in world.story)
    manager.set_aspired({PRODUCTION: V3})  # V1 was never bound: its load and the canary's wait are cancelled
    world.turns = 1
    await until(lambda: manager.bound.get(PRODUCTION) == V3)

    assert V2 not in world.loads


async def test_a_load_that_fails_gives_its_place_away(start: Callable[..., ModelSet], world: Loading) -> None:
    world.deaths = {V1: ChildLost("it died")}
    models = start("sentiment", side_by_side=1)
    models.managers["sentiment"].set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: CANARY in models.managers["sentiment"].bound)


async def test_a_production_that_is_to_be_fetched_does_not_wait_for_canaries(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    """Two canaries are fetched, which takes as long as it takes, when the production of a third is named."""
    a, b, c = MODELS[:3]
    models = start(a, b, c)
    for model in (a, b, c):
        models.managers[model].set_aspired({PRODUCTION: VersionId(model, 1)})
        await until(lambda model=model: models.managers[model].ready)
    world.slow_fetches, world.fetches = asyncio.Event(), []
    for model in (a, b):
        models.managers[model].set_aspired(both(model))
    await until(lambda: len(world.fetches) == 2)
    models.managers[c].set_aspired({PRODUCTION: VersionId(c, 3), CANARY: VersionId(c, 2)})
    await until(lambda: len(world.fetches) == 3)

    assert world.fetches[2][0] == VersionId(c, 3)
    world.slow_fetches.set()
    await until(lambda: VersionId(c, 2) in models.managers[c].bound.values())


async def test_canaries_are_fetched_after_every_production(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    """Two at a time; models are polled in turn: one's production comes later than others' canaries."""
    models = start(*MODELS)
    under_way, most, order = 0, 0, []
    fetch = world.fetch

    async def slow(version: VersionId, *, turn: DownloadTurn, **keys: object) -> str:
        nonlocal under_way, most
        async with turn():
            under_way += 1
            most = max(most, under_way)
            order.append(version)
            for _ in range(5):
                await asyncio.sleep(0.001)
            under_way -= 1
        return await fetch(version, deadline_seconds=5.0)

    world.fetch = slow  # type: ignore[method-assign,assignment]
    for model in MODELS:
        models.managers[model].set_aspired(both(model))
        await asyncio.sleep(0.003)
    await until(lambda: all(len(models.managers[m].bound) == 2 for m in MODELS), 20)

    assert most == 2
    assert [version.number for version in order] == [1] * len(MODELS) + [2] * len(MODELS)


async def test_a_fetch_that_is_given_up_gives_its_turn_away(
    start: Callable[..., ModelSet], world: Loading
) -> None:
    models = start(*MODELS[:3])
    world.slow_fetches = asyncio.Event()
    for model in MODELS[:3]:
        models.managers[model].set_aspired({PRODUCTION: VersionId(model, 1)})
    await until(lambda: len(world.fetches) == 2)
    models.managers[MODELS[0]].set_aspired({PRODUCTION: VersionId(MODELS[0], 2)})

    await until(lambda: len(world.fetches) == 3)

    assert world.fetches[2][0] == VersionId(MODELS[2], 1), "who waited longest is next"


async def test_what_the_settings_expect_of_a_load_stands_over_the_size_of_its_files(
    start: Callable[..., ModelSet], world: Loading, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version whose files are mostly never read would be refused for ever, for it is never measured."""

    monkeypatch.setattr("router.serving.load_gate.files_bytes", lambda directory: 900 * MIB)
    world.available, model = 500 * MIB, MODELS[0]
    models = start(model)
    manager = models.managers[model]
    manager.set_aspired(both(model))
    await until(lambda: manager.ready and facts.of(LoadRefused))
    assert "load_memory_mib" in facts.of(LoadRefused)[0].error

    models.apply({model: settings(load_memory_mib=400)})

    await until(lambda: CANARY in manager.bound)
    assert len(facts.of(LoadRefused)) == 1


async def test_what_a_load_was_measured_to_take_stands_over_what_the_settings_expect(
    start: Callable[..., ModelSet], world: Loading, facts: Facts
) -> None:
    world.available, world.worker_bytes, model = 500 * MIB, 600 * MIB, MODELS[0]
    models = start(model, load_memory_mib=400)
    manager = models.managers[model]
    manager.set_aspired(both(model))
    await until(lambda: CANARY in manager.bound)
    manager.set_aspired({PRODUCTION: VersionId(model, 1)})
    await until(lambda: VersionId(model, 2) not in manager.harnesses)
    manager.set_aspired(both(model))

    await until(lambda: facts.of(LoadRefused))

    assert "it needs about 600 MiB (as its last load took)" in facts.of(LoadRefused)[0].error
