"""Copies of production's requests go to a canary that has time; its users come first, and count alone."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from router.control.caps import CapControl
from router.core.backoff import Backoff
from router.core.caps import CapTarget
from router.core.events import Answered, Predicted
from router.core.idle_share import ProcessorReading
from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.shadow_events import ShadowCompared, ShadowDropped, ShadowDropReason
from router.core.split import bucket_of
from router.errors import RequestRefused, WorkerDied
from router.processes.process import Exit
from router.protocol.messages import Answer, PredictStatus, Query
from router.serving import shadows
from router.serving.caps import CapsInForce
from router.serving.dispatch import Dispatcher
from router.serving.idle_processors import IdleProcessors
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorker, ScriptedWorld, scored
from tests.support.waiting import until

BUSY, FULL, UNKNOWN = ShadowDropReason.BUSY, ShadowDropReason.QUEUE_FULL, ShadowDropReason.UNKNOWN
CHALLENGER = Alias("challenger")
NOBODY = {"production": 100, "canary": 0, "challenger": 0}
SHADOWED = next(f"user-{n}" for n in range(1000) if bucket_of("sentiment", f"user-{n}") >= 95_000)
NOT_SHADOWED = next(
    f"user-{n}" for n in range(1000) if 50_000 <= bucket_of("sentiment", f"user-{n}") < 80_000
)
CANARYS = next(f"user-{n}" for n in range(1000) if bucket_of("sentiment", f"user-{n}") < 5_000)
RAISED = Answer(PredictStatus.MODEL_ERROR, 500, b'{"error": "it raised"}', "application/json", 0, 0.001)
REFUSED = Answer(PredictStatus.CLIENT_ERROR, 400, b'{"error": "no"}', "application/json", 0, 0.0)


@dataclass
class Gateway:
    """One model with a canary, on a machine that is as idle as a test says."""

    models: ModelSet
    world: ScriptedWorld
    facts: Facts
    caps: CapControl
    dispatcher: Dispatcher
    idle: IdleProcessors
    now: float = 0.0
    idle_seconds: float = 0.0

    @property
    def manager(self) -> ModelManager:
        return self.models.managers["sentiment"]

    @property
    def canary(self) -> FakeWorker:
        [worker] = self.world.alive(V2)
        return worker

    def configure(self, **keys: Any) -> None:
        self.models.apply({"sentiment": settings(**{"split": NOBODY, **keys})})

    def be_idle(self, share: float) -> None:
        """For the last 10 s, and longer."""
        for _ in range(12):
            self.now += 1.0
            self.idle_seconds += share
            self.idle.look(self.now, lambda: ProcessorReading(self.idle_seconds, self.now))

    async def ask(self, key: str | None = SHADOWED, body: bytes = b"{}", *, keyed: bool = True) -> Any:
        return await self.dispatcher.serve("sentiment", key, Query(body, "application/json"), keyed=keyed)

    async def compared(self, number: int = 1) -> ShadowCompared:
        """The last comparison, once there are so many."""
        await until(lambda: len(self.facts.of(ShadowCompared)) >= number)
        return self.facts.of(ShadowCompared)[-1]

    @property
    def dropped(self) -> list[ShadowDropReason]:
        return [fact.reason for fact in self.facts.of(ShadowDropped)]

    async def nothing_is_copied(self) -> None:
        """Neither now nor a little later."""
        for _ in range(20):
            await asyncio.sleep(0)
        assert self.canary.shadows == []
        assert self.facts.of(ShadowCompared) == []


@pytest.fixture
def world() -> ScriptedWorld:
    return ScriptedWorld(aspired={"sentiment": {PRODUCTION: V1, CANARY: V2}})


@pytest.fixture
async def gateway(models: ModelSet, world: ScriptedWorld, facts: Facts, in_force: CapsInForce) -> Gateway:
    caps = CapControl(in_force, models, facts, lambda: 1e9)
    gateway = Gateway(models, world, facts, caps, Dispatcher(models, facts), models._dependencies.idle)
    gateway.configure(shadow={"canary": 10})
    gateway.manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(gateway.manager.bound) == 2)
    gateway.be_idle(0.9)
    return gateway


async def test_a_canary_without_a_share_answers_copies_of_what_production_answered(gateway: Gateway) -> None:
    gateway.world.says[V2] = lambda _: scored(0.7)
    ended = await gateway.ask(body=b'{"request": 1}')
    fact = await gateway.compared()

    assert ended.answered_by.version == V1
    [asked] = gateway.canary.shadows
    assert (asked.query.body, asked.production, asked.cut_off) == (b'{"request": 1}', ended.result.body, 0.5)
    assert (fact.alias, fact.version, fact.production) == (CANARY, V2, V1)
    assert fact.split == gateway.manager.settings.split
    assert fact.bucket == bucket_of("sentiment", SHADOWED)
    assert (fact.production_fault, fact.canary_fault, fact.agrees) == (False, False, False)
    assert (fact.flips, fact.rows, fact.difference) == (1, 1, pytest.approx(0.4))
    assert (fact.production_seconds, fact.canary_seconds) == (0.0001, 0.0001)


async def test_production_has_answered_before_a_copy_is_sent(gateway: Gateway) -> None:
    await gateway.ask()  # as whoever writes the answer awaits it
    assert gateway.canary.shadows == []
    await gateway.compared()


async def test_a_shadow_counts_in_no_figure_of_users(gateway: Gateway) -> None:
    gateway.world.says[V2] = lambda _: RAISED
    await gateway.ask()
    await gateway.compared()

    assert gateway.facts.of(Answered) == []
    assert {fact.version for fact in gateway.facts.of(Predicted)} == {V1}
    [(_, breaker, _)] = gateway.manager.breakers.views(V2)
    assert (breaker.requests, breaker.crashes) == (0, 0)
    assert gateway.manager.harnesses[V2].pool.leases == 0


@pytest.mark.parametrize(
    "key", [pytest.param(NOT_SHADOWED, id="below the range"), pytest.param(None, id="without a key")]
)
async def test_what_is_not_in_the_range_by_its_key_is_not_copied(gateway: Gateway, key: str | None) -> None:
    await gateway.ask(key)
    await gateway.nothing_is_copied()
    assert gateway.dropped == []


async def test_what_the_body_stands_in_for_a_key_is_not_copied(gateway: Gateway) -> None:
    await gateway.ask(keyed=False)
    await gateway.nothing_is_copied()


async def test_what_is_pinned_direct_or_answered_in_a_canarys_place_is_not_copied(gateway: Gateway) -> None:
    gateway.configure(
        split={"production": 90, "canary": 10, "challenger": 0},
        shadow={"canary": 90},
        pins={"production": [SHADOWED]},
    )
    gateway.world.says[V2] = lambda _: RAISED
    await gateway.ask(SHADOWED)
    await gateway.ask(CANARYS)
    await gateway.dispatcher.serve_direct("sentiment", PRODUCTION, Query(b"{}", None))
    await gateway.dispatcher.serve_version("sentiment", 1, Query(b"{}", None))
    await gateway.nothing_is_copied()


@pytest.mark.parametrize(
    ("ours", "theirs", "faults"),
    [
        (scored(0.3), scored(0.3), (False, False)),
        (scored(0.3), RAISED, (False, True)),
        (RAISED, scored(0.3), (True, False)),
        (RAISED, RAISED, (True, True)),
        (scored(0.3), REFUSED, (False, True)),
        (REFUSED, scored(0.3), (True, False)),
        (REFUSED, REFUSED, (False, False)),
        (REFUSED, RAISED, (True, True)),
        (scored(0.3), scored(0.3, 0.3), (False, True)),
        (scored(0.3, 0.3), scored(0.3), (True, False)),
        (scored(0.3, 0.3), scored(0.3, 0.3), (False, False)),
    ],
)
async def test_the_rule_by_which_a_fault_is_a_versions_own_is_the_same_for_both(
    gateway: Gateway, ours: Answer, theirs: Answer, faults: tuple[bool, bool]
) -> None:
    gateway.world.says |= {V1: lambda _: ours, V2: lambda _: theirs}
    await gateway.ask()
    fact = await gateway.compared()
    assert (fact.production_fault, fact.canary_fault) == faults


async def test_a_canary_whose_worker_ends_by_a_copy_is_at_fault_and_its_breaker_knows_nothing(
    gateway: Gateway,
) -> None:
    gateway.world.held_shadows = True
    await gateway.ask()
    await until(lambda: gateway.canary.shadows)
    gateway.canary.kill(11)
    fact = await gateway.compared()

    assert (fact.production_fault, fact.canary_fault) == (False, True)
    [(_, breaker, _)] = gateway.manager.breakers.views(V2)
    assert breaker.crashes == 0
    await until(lambda: gateway.manager.serves(V2))
    await gateway.ask()
    await asyncio.sleep(3 * shadows.LOOK_SECONDS)
    assert gateway.canary.shadows == [], "it has a rest"


async def test_whom_the_kernel_ends_for_want_of_memory_is_unknown_of_either(gateway: Gateway) -> None:
    """It ends canaries first, whoever takes too much."""
    gateway.world.held_shadows = True
    await gateway.ask()
    await until(lambda: gateway.canary.shadows)
    gateway.canary._end(Exit(signal=9, out_of_memory=True))
    await until(lambda: gateway.dropped == [UNKNOWN])
    gateway.world.held = True
    asked = asyncio.ensure_future(gateway.ask())
    [production] = gateway.world.alive(V1)
    await until(lambda: len(production.frames) == 2)
    production._end(Exit(signal=9, out_of_memory=True))
    assert isinstance((await asked).result, WorkerDied)
    assert gateway.dropped == [UNKNOWN, UNKNOWN]
    assert gateway.facts.of(ShadowCompared) == []


async def test_a_canary_above_its_own_limit_of_memory_is_at_fault(gateway: Gateway) -> None:
    gateway.world.held_shadows = True
    await gateway.ask()
    await until(lambda: gateway.canary.shadows)
    [slot] = gateway.manager.harnesses[V2].pool.slots
    slot.end("memory")
    assert (await gateway.compared()).canary_fault


async def test_a_copy_that_hangs_takes_one_worker_and_no_second_one(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gateway.manager.shadows is not None
    gateway.manager.shadows._paces[V2].rests = Backoff((0.0,))
    gateway.configure(shadow={"canary": 11}, workers=2, timeout_seconds=0.02)
    await until(lambda: len(gateway.world.alive(V2)) == 2)
    gateway.world.held_shadows = True
    workers = gateway.world.alive(V2)
    await gateway.ask()
    await until(lambda: gateway.dropped == [UNKNOWN])
    monkeypatch.setattr(shadows, "WAIT_SECONDS", 0.1)
    await gateway.ask()
    await until(lambda: len(gateway.dropped) == 2)
    assert gateway.dropped == [UNKNOWN, BUSY]
    assert sum(len(one.shadows) for one in workers) == 1


async def test_a_worker_that_answered_copies_alone_is_replaced_as_one_that_answered_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a canary that crashes on some would be loaded again and again at once."""
    lost: list[bool] = []
    supply = gateway.manager.harnesses[V2].pool.supply
    monkeypatch.setattr(supply, "lost", lambda *, answered: lost.append(answered))
    await gateway.ask()
    await gateway.compared()
    gateway.canary.kill(11)
    await until(lambda: lost == [False])


async def test_what_shared_a_predict_at_production_has_a_second_chance_at_the_canary(
    gateway: Gateway,
) -> None:
    """Production's own request had it, where its predict failed."""
    answers = [RAISED, scored(0.3)]
    gateway.world.says[V2] = lambda _: answers.pop(0)
    gateway.world.held = True
    tasks = [asyncio.ensure_future(gateway.ask(key)) for key in (NOT_SHADOWED, NOT_SHADOWED, SHADOWED)]
    await until(lambda: sum(map(len, gateway.world.alive(V1)[0].frames)))
    gateway.world.held = False
    gateway.world.alive(V1)[0].release_all()
    await asyncio.gather(*tasks)
    fact = await gateway.compared()

    assert max(map(len, gateway.world.alive(V1)[0].frames)) > 1, "some shared a predict"
    assert (fact.canary_fault, answers) == (False, [])


async def test_what_ran_alone_at_production_has_none(gateway: Gateway) -> None:
    answers = [RAISED, scored(0.3)]
    gateway.world.says[V2] = lambda _: answers.pop(0)
    await gateway.ask()
    assert (await gateway.compared()).canary_fault


async def test_what_was_refused_or_timed_out_at_production_is_unknown(gateway: Gateway) -> None:
    gateway.configure(shadow={"canary": 10}, timeout_seconds=0.01)
    gateway.world.held = True
    ended = await gateway.ask()
    assert isinstance(ended.result, RequestRefused)
    assert gateway.dropped == [UNKNOWN]
    assert gateway.canary.shadows == []
    gateway.world.alive(V1)[0].release_all()


async def test_what_a_canary_does_not_answer_in_time_is_unknown(gateway: Gateway) -> None:
    gateway.configure(shadow={"canary": 10}, timeout_seconds=0.02)
    gateway.world.held_shadows = True
    await gateway.ask()
    await until(lambda: gateway.dropped == [UNKNOWN])
    gateway.canary.end_shadow()
    assert gateway.facts.of(ShadowCompared) == []


async def test_a_user_of_the_canary_comes_before_copies_that_wait_and_behind_one_at_most(
    gateway: Gateway,
) -> None:
    gateway.configure(split={"production": 90, "canary": 10}, shadow={"canary": 50})
    gateway.world.held_shadows = True
    for _ in range(3):
        await gateway.ask()
    await until(lambda: gateway.canary.shadows)
    user = asyncio.ensure_future(gateway.ask(CANARYS))
    await until(lambda: gateway.manager.harnesses[V2].pool.queued)
    assert gateway.canary.frames == [], "one predict can not be interrupted"
    gateway.world.held = True
    gateway.canary.end_shadow()
    await until(lambda: gateway.canary.frames)
    assert len(gateway.canary.shadows) == 1
    gateway.canary.release_all()
    assert (await user).answered_by.version == V2
    await until(lambda: len(gateway.canary.shadows) == 2)


async def test_a_version_answers_one_shadow_at_a_time_also_with_two_workers_and_two_aliases(
    gateway: Gateway,
) -> None:
    gateway.configure(workers=2, shadow={"canary": 10, "challenger": 10})
    gateway.manager.set_aspired({PRODUCTION: V1, CANARY: V2, CHALLENGER: V2})
    await until(lambda: len(gateway.manager.bound) == 3 and len(gateway.world.alive(V2)) == 2)
    gateway.world.held_shadows = True
    await gateway.ask()
    await gateway.ask()
    workers = gateway.world.alive(V2)
    await until(lambda: any(worker.shadows for worker in workers))
    await asyncio.sleep(3 * shadows.LOOK_SECONDS)
    assert sum(len(worker.shadows) for worker in workers) == 1
    gateway.world.held_shadows = False
    for worker in workers:
        worker.end_shadow()
    await gateway.compared(4)
    assert {fact.alias for fact in gateway.facts.of(ShadowCompared)} == {CANARY, CHALLENGER}


async def test_nothing_is_copied_while_processors_are_busy_or_not_known(gateway: Gateway) -> None:
    gateway.be_idle(0.19)
    await gateway.ask()
    assert gateway.dropped == [BUSY]
    gateway.be_idle(0.21)
    await gateway.ask()
    await gateway.compared()
    gateway.configure()
    gateway.idle.look(gateway.now, lambda: pytest.fail("nobody asks"))
    gateway.configure(shadow={"canary": 10})
    await gateway.ask()
    assert gateway.dropped == [BUSY, BUSY]


async def test_copies_that_wait_go_when_production_has_requests_waiting(gateway: Gateway) -> None:
    gateway.world.held = True
    waiting = [asyncio.ensure_future(gateway.ask(NOT_SHADOWED)) for _ in range(3)]
    worker = gateway.world.alive(V1)[0]
    await until(lambda: worker.frames)
    waiting += [asyncio.ensure_future(gateway.ask(NOT_SHADOWED))]
    await until(lambda: gateway.manager.harnesses[V1].pool.queued)
    assert gateway.manager.shadows is not None
    lane = gateway.manager.shadows._lanes[CANARY]
    assert not gateway.manager.shadows._may_run(lane)
    gateway.world.held = False
    worker.release_all()
    await asyncio.gather(*waiting)
    assert gateway.manager.shadows._may_run(lane)


async def test_as_many_copies_wait_as_may_and_so_many_bytes(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadows, "MOST_WAITING", 2)
    gateway.world.held_shadows = True
    await gateway.ask()
    await until(lambda: gateway.canary.shadows)
    for _ in range(3):
        await gateway.ask()
    assert gateway.dropped == [FULL]
    assert gateway.manager.shadows is not None
    assert gateway.manager.shadows.to_json()["canary"]["waiting"] == 2
    monkeypatch.setattr(shadows, "MOST_WAITING", 9)
    await gateway.ask(body=b"x" * shadows.MOST_BYTES)
    assert gateway.dropped == [FULL, FULL]


async def test_a_copy_waits_a_few_seconds_at_most(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "WAIT_SECONDS", 0.01)
    gateway.configure(split={"production": 90, "canary": 10}, shadow={"canary": 50})
    gateway.world.held = True
    user = asyncio.ensure_future(gateway.ask(CANARYS))
    await until(lambda: gateway.canary.frames)
    shadowed = asyncio.ensure_future(gateway.ask())
    await until(lambda: gateway.world.alive(V1)[0].frames)
    gateway.world.alive(V1)[0].release_all()
    await shadowed
    await until(lambda: gateway.dropped == [BUSY])
    gateway.canary.release_all()
    await user


@pytest.mark.parametrize("how", ["off", "split", "abort", "breaker", "unbound", "moved", "production moved"])
async def test_what_ends_shadows_drops_what_waits_at_once(gateway: Gateway, how: str) -> None:
    gateway.world.held_shadows = True
    await gateway.ask()
    await until(lambda: gateway.canary.shadows)
    await gateway.ask()
    [canary] = gateway.world.alive(V2)
    match how:
        case "off":
            gateway.configure()
            assert gateway.manager.shadows is None
        case "split":
            gateway.configure(split={"production": 0, "canary": 100, "challenger": 0}, shadow={"canary": 10})
        case "abort":
            gateway.caps.cap([CapTarget("sentiment", CANARY, 2)], 0, by="ann", reason="it is wrong")
        case "breaker":
            breaker = gateway.manager.breakers.of(CANARY, V2)
            assert breaker is not None
            breaker.open("as a test says")
            gateway.manager.caps_changed()
        case "unbound":
            gateway.manager.set_aspired({PRODUCTION: V1})
        case "moved":
            gateway.manager.set_aspired({PRODUCTION: V1, CANARY: V3})
            await until(lambda: gateway.manager.bound.get(CANARY) == V3)
        case "production moved":
            gateway.manager.set_aspired({PRODUCTION: V3, CANARY: V2})
            await until(lambda: gateway.manager.bound.get(PRODUCTION) == V3)
    assert gateway.dropped[:1] == [UNKNOWN]
    canary.end_shadow()
    await until(lambda: len(gateway.dropped) == 2 or how == "off")
    assert gateway.facts.of(ShadowCompared) == []


async def test_a_cap_above_zero_leaves_shadows(gateway: Gateway) -> None:
    gateway.caps.cap([CapTarget("sentiment", CANARY, 2)], 1000, by="ann", reason="it is slower")
    await gateway.ask()
    await gateway.compared()


async def test_a_version_that_calls_out_is_left_out_unless_that_is_allowed(gateway: Gateway) -> None:
    harness = gateway.manager.harnesses[V2]
    assert harness.info is not None
    harness.info = replace(harness.info, effects="it is an agent")
    gateway.configure(shadow={"canary": 11})
    await gateway.ask()
    await gateway.nothing_is_copied()
    assert gateway.manager.shadows is not None
    assert gateway.manager.shadows.to_json()["canary"]["left_out"] == "it is an agent"
    gateway.configure(shadow={"canary": 11, "effects": "allowed"})
    await gateway.ask()
    await gateway.compared()


async def test_shadows_cost_is_counted_apart(gateway: Gateway) -> None:
    gateway.world.says[V2] = lambda _: replace(scored(0.3), processor_seconds=0.25)
    await gateway.ask()
    await gateway.compared()
    time = gateway.manager.harnesses[V2].pool.processor_time
    assert (time.shadow, time.predict) == (0.25, 0.0)
