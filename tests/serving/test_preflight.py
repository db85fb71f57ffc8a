"""Before its first user a canary answers the last requests; production never waits for that."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from router.control.caps import CapControl
from router.core.caps import CapTarget
from router.core.events import AliasBound, Predicted
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.lever_events import CapSet
from router.core.policy import State
from router.core.preflight import PreflightVerdict
from router.core.preflight_events import PreflightEnded
from router.core.routing import Reason, assign
from router.protocol.messages import Answer, Batching, PredictStatus, Query
from router.serving import preflight
from router.serving.caps import CapsInForce
from router.serving.dispatch import Dispatcher
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, ScriptedWorld, scored
from tests.support.waiting import until

HALF = {"production": 50, "canary": 50, "challenger": 0}
CHALLENGER = Alias("challenger")
PASS, FAIL = PreflightVerdict.PASS, PreflightVerdict.FAIL
NOT_ENOUGH, LEFT_OUT = PreflightVerdict.NOT_ENOUGH_DATA, PreflightVerdict.LEFT_OUT
PRODUCTIONS, CANARYS = "user-0", "user-2"
"""Keys in bucket 62 121 and 418."""


BROKEN = Answer(PredictStatus.MODEL_ERROR, 500, b'{"error": "it raised"}', "application/json", 0, 0.0)


@dataclass
class Gateway:
    """One model whose production serves, and keeps requests."""

    models: ModelSet
    world: ScriptedWorld
    facts: Facts
    caps: CapControl
    dispatcher: Dispatcher

    @property
    def manager(self) -> ModelManager:
        return self.models.managers["sentiment"]

    def configure(self, **keys: Any) -> None:
        self.models.apply({"sentiment": settings(split=HALF, **keys)})

    async def ask(self, number: int, first: int = 0) -> None:
        """Have production answer so many requests, each with a body of its own."""
        for one in range(first, first + number):
            query = Query(b'{"request": %d}' % one, "application/json")
            await self.dispatcher.serve("sentiment", PRODUCTIONS, query, keyed=True)

    def aspire(self, **versions: VersionId) -> None:
        self.manager.set_aspired({Alias(alias): version for alias, version in versions.items()})

    async def have_canary(self, version: VersionId = V2, seconds: float | None = None) -> PreflightEnded:
        """The registry names a canary, which is bound; what its pre-flight found."""
        self.aspire(production=V1, canary=version)
        await until(lambda: self.manager.bound.get(CANARY) == version, seconds)
        return self.facts.of(PreflightEnded)[-1]

    @property
    def reason(self) -> Reason:
        """Why the canary's key goes where it goes."""
        assigned = assign(self.models.table.models["sentiment"], CANARYS)
        assert assigned is not None
        return assigned.reason


@pytest.fixture
def world() -> ScriptedWorld:
    return ScriptedWorld(aspired={"sentiment": {PRODUCTION: V1}})


@pytest.fixture
async def gateway(models: ModelSet, world: ScriptedWorld, facts: Facts, in_force: CapsInForce) -> Gateway:
    gateway = Gateway(
        models, world, facts, CapControl(in_force, models, facts, lambda: 1e9), Dispatcher(models, facts)
    )
    gateway.configure(preflight={})
    gateway.aspire(production=V1)
    await until(lambda: PRODUCTION in gateway.manager.bound)
    return gateway


async def test_a_version_that_answers_as_production_passes_all_and_is_bound(gateway: Gateway) -> None:
    await gateway.ask(50)
    ended = await gateway.have_canary()

    report = ended.report
    assert (report.verdict, report.requests, report.faults_alone, report.flips) == (PASS, 50, 0, 0.0)
    assert (ended.aliases, ended.held, report.production) == ((CANARY,), False, 1)
    assert sorted(gateway.world.asked[V2]) == sorted(gateway.world.asked[V1][:50])
    assert len(gateway.world.asked[V1]) == 100, "production was asked once more"
    assert gateway.reason is Reason.HASH
    assert gateway.manager.preflight.to_json(V2) == report.to_json()


async def test_a_request_that_runs_elsewhere_when_its_time_is_over_is_given_up(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would keep a connection to the engine until predict_timeout_seconds."""
    monkeypatch.setattr(preflight, "LONGEST_SECONDS", 0.1)
    await gateway.ask(50)
    world = gateway.world
    world.apart, world.held, world.batching = True, True, Batching(merges=False, why="elsewhere")

    ended = await gateway.have_canary()

    assert ended.report.verdict is NOT_ENOUGH
    [worker] = [one for one in world.workers if one.version == V2]
    assert worker.given_up == [1]
    assert not worker.exited.done()


async def test_it_ends_before_the_version_is_bound_and_counts_nowhere(gateway: Gateway) -> None:
    await gateway.ask(50)
    before = len(gateway.facts.of(Predicted))
    await gateway.have_canary()

    kinds = [type(event) for event in gateway.facts.events if isinstance(event, PreflightEnded | AliasBound)]
    assert kinds == [AliasBound, PreflightEnded, AliasBound]
    assert len(gateway.facts.of(Predicted)) == before
    assert all(harness.pool.leases == 0 for harness in gateway.manager.harnesses.values())


async def test_its_processor_time_is_counted_apart_from_that_of_requests(gateway: Gateway) -> None:
    for version in (V1, V2):
        gateway.world.says[version] = lambda _: replace(scored(0.3), processor_seconds=0.002)
    await gateway.ask(50)
    await gateway.have_canary()

    spent = {
        version: harness.pool.processor_time.by_phase()
        for version, harness in gateway.manager.harnesses.items()
    }
    assert [(one["predict"], one["preflight"]) for one in (spent[V1], spent[V2])] == [
        (pytest.approx(0.1), pytest.approx(0.1)),
        (pytest.approx(0.0), pytest.approx(0.1)),
    ]


@pytest.mark.parametrize(
    ("says", "why"),
    [
        pytest.param(
            lambda _: BROKEN, "it alone failed 40 of 40 requests, and production alone 0", id="faults"
        ),
        pytest.param(
            lambda _: scored(0.9),
            "100.0% of the scores are on the other side of 0.5, 20.0% may be",
            id="flips",
        ),
        pytest.param(
            lambda _: replace(scored(0.3), body=b'{"predictions": ["ham"]}'),
            "its answers are of another type: text, and production's number",
            id="type",
        ),
        pytest.param(
            lambda _: scored(0.3, 0.3),
            "40 of 40 answers have another number of items than the request has rows",
            id="length",
        ),
    ],
)
async def test_one_that_fails_is_bound_and_held_until_it_is_resumed(
    gateway: Gateway, says: Callable[[Query], Answer], why: str
) -> None:
    gateway.world.says[V2] = says
    await gateway.ask(40)
    ended = await gateway.have_canary()

    assert (ended.report.verdict, ended.report.why, ended.held) == (FAIL, why, True)
    assert gateway.reason is Reason.GATED
    assert gateway.models.table.models["sentiment"].split_in_force.percentages()[CANARY] == 0
    [warning] = gateway.manager.preflight.warnings()
    assert warning == (
        f"canary v2 failed its pre-flight, and production has its share until it is resumed: {why}"
    )
    [cap] = gateway.caps.of_model("sentiment")
    assert (cap["version"], cap["to_percent"], cap["by"], cap["reason"]) == (2, 0.0, "pre-flight", why)

    gateway.caps.lift(gateway.caps.caps_of("sentiment"), by="ann", reason="as it should be")
    assert gateway.reason is Reason.HASH


async def test_one_that_was_resumed_is_not_held_again_by_another_load_of_it(gateway: Gateway) -> None:
    gateway.world.says[V2] = lambda _: BROKEN
    await gateway.ask(40)
    await gateway.have_canary()
    gateway.caps.lift(gateway.caps.caps_of("sentiment"), by="ann", reason="as it should be")
    gateway.aspire(production=V1)
    await until(lambda: not gateway.world.alive(V2))
    ended = await gateway.have_canary()

    assert (ended.report.verdict, ended.held) == (FAIL, False)
    assert gateway.reason is Reason.HASH


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_further_alias_that_wants_what_failed_gets_it_held(
    gateway: Gateway, *, resumed: bool
) -> None:
    """Before it is bound; what is resumed under one alias is not under another."""
    gateway.world.says[V2] = lambda _: BROKEN
    await gateway.ask(40)
    ended = await gateway.have_canary()
    if resumed:
        gateway.caps.lift(gateway.caps.caps_of("sentiment"), by="ann", reason="as it should be")
    gateway.aspire(production=V1, canary=V2, challenger=V2)

    assert gateway.manager.bound[CHALLENGER] == V2
    held = {CHALLENGER} if resumed else {CANARY, CHALLENGER}
    assert gateway.manager.preflight.held == held
    of_challenger = [
        event
        for event in gateway.facts.events
        if isinstance(event, CapSet | AliasBound) and event.alias == CHALLENGER
    ]
    assert [type(event) for event in of_challenger] == [CapSet, AliasBound]
    assert [event.why for event in of_challenger if isinstance(event, CapSet)] == [ended.report.why]
    assert len(gateway.facts.of(PreflightEnded)) == 1

    gateway.caps.lift(gateway.caps.caps_of("sentiment"), by="ann", reason="as it should be")
    gateway.aspire(production=V1, canary=V2)
    gateway.aspire(production=V1, canary=V2, challenger=V2)
    assert gateway.manager.preflight.held == frozenset(), "resumed under both"


@pytest.mark.parametrize(
    ("keys", "production", "says"),
    [
        pytest.param({"preflight": {"on_fail": "report"}}, V1, BROKEN, id="only reported"),
        pytest.param({}, V1, BROKEN, id="turned off"),
        pytest.param({"preflight": {}}, V2, BROKEN, id="production serves it"),
        pytest.param({"preflight": {}}, V1, scored(0.3), id="passed"),
    ],
)
async def test_a_further_alias_gets_it_unheld(
    gateway: Gateway, keys: dict[str, Any], production: VersionId, says: Answer
) -> None:
    gateway.world.says[V2] = lambda _: says
    await gateway.ask(40)
    await gateway.have_canary()
    gateway.configure(**keys)
    gateway.aspire(production=production, canary=V2)
    gateway.aspire(production=production, canary=V2, challenger=V2)

    assert gateway.manager.bound[CHALLENGER] == V2
    assert not gateway.caps.caps_of("sentiment", CHALLENGER)


async def test_what_another_gateway_or_a_former_process_holds_is_held_here(gateway: Gateway) -> None:
    gateway.caps.hold(CANARY, V2, "it failed there")
    ended = await gateway.have_canary()

    assert ended.report.verdict is NOT_ENOUGH
    assert gateway.reason is Reason.GATED


async def test_a_cap_by_somebody_else_is_no_hold(gateway: Gateway) -> None:
    await gateway.have_canary()
    gateway.caps.cap([CapTarget("sentiment", CANARY, 2)], 0, by="ann", reason="p95 is 2 s")

    assert gateway.reason is Reason.CAPPED


async def test_where_it_is_only_reported_the_version_has_its_share(gateway: Gateway) -> None:
    gateway.configure(preflight={"on_fail": "report"})
    gateway.world.says[V2] = lambda _: BROKEN
    await gateway.ask(40)
    ended = await gateway.have_canary()

    assert (ended.report.verdict, ended.held, gateway.reason) == (FAIL, False, Reason.HASH)
    assert gateway.manager.preflight.warnings() == [f"canary v2 failed its pre-flight: {ended.report.why}"]


async def test_long_answers_are_compared_as_short_ones(gateway: Gateway) -> None:
    """Not in the event loop, which reading them would hold up."""
    rows = 5_000
    gateway.world.says[V1] = lambda _: scored(*[0.3] * rows, rows=rows)
    gateway.world.says[V2] = lambda _: scored(*[0.3, 0.7] * (rows // 2), rows=rows)
    await gateway.ask(20)
    report = (await gateway.have_canary()).report

    assert (report.verdict, report.flips, report.requests) == (FAIL, 0.5, 20)


@pytest.mark.parametrize("number", [0, 19])
async def test_under_twenty_requests_nothing_is_asked_and_nothing_held(gateway: Gateway, number: int) -> None:
    gateway.world.says[V2] = lambda _: BROKEN
    await gateway.ask(number)
    ended = await gateway.have_canary()

    assert (ended.report.verdict, ended.held, gateway.reason) == (NOT_ENOUGH, False, Reason.HASH)
    assert ended.report.why == f"{number} of the last requests are kept, 20 are needed"
    assert V2 not in gateway.world.asked


async def test_a_rollback_and_any_move_of_production_wait_for_nothing(gateway: Gateway) -> None:
    await gateway.ask(200)
    gateway.aspire(production=V2)
    await until(lambda: gateway.manager.bound[PRODUCTION] == V2)
    gateway.aspire(production=V1)
    await until(lambda: gateway.manager.bound[PRODUCTION] == V1)

    assert gateway.facts.of(PreflightEnded) == []
    assert V2 not in gateway.world.asked


async def test_a_version_that_becomes_production_meanwhile_is_bound_at_once(gateway: Gateway) -> None:
    """And answers nothing more of the past."""
    await gateway.ask(50)
    gateway.world.held = True
    gateway.aspire(production=V1, canary=V2)
    await until(lambda: gateway.manager.preflight.to_json(V2) == {"verdict": "under_way"})
    assert CANARY not in gateway.manager.bound
    gateway.aspire(production=V2, canary=V2)

    assert gateway.manager.bound == {PRODUCTION: V2, CANARY: V2}
    gateway.world.held = False
    await asyncio.sleep(0.05)
    assert V2 not in gateway.world.asked
    assert gateway.facts.of(PreflightEnded) == []


async def test_requests_that_come_meanwhile_take_the_place_of_none(gateway: Gateway) -> None:
    gateway.configure(preflight={"requests": 20})
    await gateway.ask(20)
    gateway.aspire(production=V1, canary=V2)
    await until(lambda: gateway.manager.preflight.to_json(V2) == {"verdict": "under_way"})
    await gateway.ask(40, first=20)
    await until(lambda: CANARY in gateway.manager.bound)
    assert gateway.facts.of(PreflightEnded)[-1].report.requests == 20
    assert set(gateway.world.asked[V2]) == set(gateway.world.asked[V1][:20])

    kept = gateway.manager.preflight.kept
    assert kept is not None
    with kept.read() as before:
        pass
    await gateway.ask(400, first=60)
    with kept.read() as after:
        assert set(after) != set(before), "and afterwards others are kept again"


async def test_an_alias_that_leaves_meanwhile_lets_the_version_go(gateway: Gateway) -> None:
    await gateway.ask(50)
    gateway.world.held = True
    gateway.aspire(production=V1, canary=V2)
    await until(lambda: gateway.manager.preflight.to_json(V2) is not None)
    gateway.aspire(production=V1)
    await until(lambda: not gateway.world.alive(V2))

    assert gateway.facts.of(PreflightEnded) == []


async def test_the_former_canary_serves_while_the_next_one_is_looked_at(gateway: Gateway) -> None:
    await gateway.have_canary(V3)
    await gateway.ask(50)
    gateway.world.says[V2] = lambda _: BROKEN
    gateway.aspire(production=V1, canary=V2)
    await until(lambda: gateway.manager.preflight.to_json(V2) == {"verdict": "under_way"})

    assert gateway.manager.bound[CANARY] == V3
    await until(lambda: gateway.manager.bound[CANARY] == V2)
    assert gateway.reason is Reason.GATED


async def test_turned_off_meanwhile_the_version_is_bound_and_nothing_is_kept(gateway: Gateway) -> None:
    await gateway.ask(50)
    assert gateway.manager.preflight.kept_to_json() == {"requests": 50, "bytes": 10 * 30 + 40 * 31}
    gateway.world.held = True
    gateway.aspire(production=V1, canary=V2)
    await until(lambda: gateway.manager.preflight.to_json(V2) == {"verdict": "under_way"})
    kept = gateway.manager.preflight.kept
    gateway.configure()

    assert gateway.manager.bound[CANARY] == V2
    assert gateway.manager.preflight.kept is None
    assert kept is not None
    assert len(kept) == 0


async def test_a_request_of_a_user_waits_for_one_predict_at_most(gateway: Gateway) -> None:
    await gateway.ask(50)
    gateway.world.held = True
    gateway.aspire(production=V1, canary=V2)
    await until(lambda: bool(gateway.world.alive(V2)))
    [worker], [production] = gateway.world.alive(V2), gateway.world.alive(V1)
    await until(lambda: bool(worker.frames))
    worker.release()
    await until(lambda: len(production.frames) == 51)
    asking = asyncio.ensure_future(
        gateway.dispatcher.serve("sentiment", PRODUCTIONS, Query(b"{}", None), keyed=True)
    )
    await asyncio.sleep(0.01)
    assert [len(frame) for frame in production.frames[50:]] == [1], "it waits for the predict that runs"
    production.release()
    await until(lambda: len(production.frames) == 52)
    assert production.frames[51][0].body == b"{}", "and is next"
    production.release()
    assert (await asking).outcome == "ok"


async def test_production_that_ends_a_worker_is_asked_nothing_more(gateway: Gateway) -> None:
    await gateway.ask(50)
    [worker] = gateway.world.alive(V1)
    gateway.world.held = True
    gateway.aspire(production=V1, canary=V2)
    await until(lambda: bool(gateway.world.alive(V2)) and bool(gateway.world.alive(V2)[0].frames))
    gateway.world.alive(V2)[0].release()
    await until(lambda: len(worker.frames) == 51)
    worker.kill(11)
    await until(lambda: CANARY in gateway.manager.bound)

    report = gateway.facts.of(PreflightEnded)[-1].report
    assert (report.verdict, report.requests) == (NOT_ENOUGH, 1)
    assert report.production_faults_alone == 1


@pytest.mark.parametrize(
    ("every", "why"),
    [
        pytest.param(
            1,
            "it alone failed 5 of 5 requests, and production alone 0; its worker ended, or had to be ended,"
            " by 5 of 5 requests that production answered",
            id="each",
        ),
        pytest.param(
            5,
            "its worker ended, or had to be ended, by 5 of 25 requests that production answered",
            id="one in five",
        ),
    ],
)
async def test_a_worker_that_ends_is_a_fault_and_five_are_enough(
    gateway: Gateway, every: int, why: str, slack: float
) -> None:
    await gateway.ask(50)
    gateway.world.held = True

    async def die() -> None:
        taken: set[tuple[int, int]] = set()
        while True:
            for worker in gateway.world.alive(V2):
                request = (worker.pid, len(worker.frames))
                if worker.frames and request not in taken:
                    taken.add(request)
                    if len(taken) % every == 0:
                        worker.kill(11)
                    else:
                        worker.release()
            for production in gateway.world.alive(V1):
                production.release_all()
            await asyncio.sleep(0.001)

    dying = asyncio.ensure_future(die())
    ended = await gateway.have_canary(seconds=8.0 * slack)  # 3.75 of them until the fifth worker is due
    dying.cancel()

    assert (ended.report.verdict, ended.held) == (FAIL, True)
    assert ended.report.why == why


@pytest.mark.parametrize(("limit", "verdict"), [(3, FAIL), (30, PASS)])
async def test_a_worker_that_grows_beyond_what_it_may_fails(
    gateway: Gateway, limit: int, verdict: PreflightVerdict
) -> None:
    await gateway.ask(30)
    gateway.configure(preflight={}, worker_memory_mib=limit)
    gateway.world.grows_at_once = 4 << 20

    assert (await gateway.have_canary()).report.verdict is verdict


async def test_versions_that_may_act_elsewhere_are_left_out_unless_that_is_allowed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.ask(30)
    manager = gateway.manager
    info = manager.harnesses[V1].info
    assert info is not None
    manager.harnesses[V1].info = replace(info, effects="it is an agent")
    ended = await gateway.have_canary()
    assert (ended.report.verdict, ended.report.why, ended.held) == (LEFT_OUT, "it is an agent", False)
    assert V2 not in gateway.world.asked

    gateway.configure(preflight={"effects": "allowed"})
    assert (await gateway.have_canary(V3)).report.verdict is PASS


async def test_only_what_production_answered_well_and_soon_is_kept(gateway: Gateway) -> None:
    kept = gateway.manager.preflight.kept
    assert kept is not None
    gateway.world.says[V1] = lambda _: BROKEN
    await gateway.ask(5)
    gateway.world.says[V1] = lambda _: scored(0.3, seconds=1.5)
    await gateway.ask(5)
    gateway.world.says[V1] = lambda _: scored(0.3)
    await gateway.dispatcher.serve_direct("sentiment", PRODUCTION, Query(b"{}", None))
    large = Query(b" " * (256 << 10), "text/csv")
    await gateway.dispatcher.serve("sentiment", PRODUCTIONS, large, keyed=True)
    assert len(kept) == 0

    await gateway.ask(1)
    assert len(kept) == 1


async def test_what_pinned_keys_and_canaries_get_is_not_kept(gateway: Gateway) -> None:
    gateway.configure(preflight={}, pins={"production": [PRODUCTIONS]})
    await gateway.ask(5)
    await gateway.have_canary()
    for _ in range(5):
        await gateway.dispatcher.serve("sentiment", CANARYS, Query(b"{}", None), keyed=True)

    assert gateway.manager.preflight.kept_to_json() == {"requests": 0, "bytes": 0}


async def test_requests_go_at_their_age_though_no_more_come(gateway: Gateway) -> None:
    await gateway.ask(5)
    gateway.configure(preflight={"max_age_seconds": 0.2})
    await gateway.ask(5)
    assert gateway.manager.preflight.kept_to_json() != {"requests": 0, "bytes": 0}

    await until(lambda: gateway.manager.preflight.kept_to_json() == {"requests": 0, "bytes": 0})


@pytest.mark.parametrize("ends", ["removed", "closed"])
async def test_requests_go_with_the_model_and_at_the_end(gateway: Gateway, ends: str) -> None:
    await gateway.ask(5)
    kept = gateway.manager.preflight.kept
    assert kept is not None
    if ends == "removed":
        gateway.models.apply({})
        await until(lambda: len(kept) == 0)
    else:
        await gateway.models.close(0.0)

    assert (len(kept), kept.size) == (0, 0)


async def test_a_fault_of_ours_leaves_no_version_waiting(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a marker of a request")

    monkeypatch.setattr("router.serving.preflight.read_answer", fail)
    await gateway.ask(30)
    ended = await gateway.have_canary()

    assert (ended.report.verdict, ended.held) == (NOT_ENOUGH, False)
    assert ended.report.why == "it could not be carried out (ValueError)"
    assert "marker" not in caplog.text
    assert gateway.manager.harnesses[V2].state is State.READY
