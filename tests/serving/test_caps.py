"""What caps take out of the split, at which moment, and which versions find them."""

import asyncio

import pytest

from router.core.caps import BreakGlass, Caps, CapTarget
from router.core.events import RoutesChanged, SplitInForce
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.routing import Reason, assign
from router.protocol.messages import Query
from router.serving.caps import CapsInForce
from router.serving.dispatch import Dispatcher
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until

QUERY = Query(b"{}", None)
CANARY_KEY = "user-2"
"""In bucket 418."""
HALF = {"production": 50, "canary": 50}


@pytest.fixture
def manager(serving: ModelSet) -> ModelManager:
    return serving.managers["sentiment"]


def cap(
    in_force: CapsInForce,
    models: ModelSet,
    version: VersionId | None,
    share: int = 0,
    model: str = "sentiment",
) -> None:
    target = CapTarget(model, CANARY, version.number if version else None)
    in_force.caps = in_force.caps.capped(target, share, by="ann", reason="slow", at=1.0)
    models.caps_changed([model])


def reason(models: ModelSet, key: str = CANARY_KEY) -> Reason:
    assignment = assign(models.table.models["sentiment"], key)
    assert assignment is not None
    return assignment.reason


async def test_a_cap_holds_in_the_turn_of_the_loop_in_which_it_is_set(
    serving: ModelSet, in_force: CapsInForce, facts: Facts
) -> None:
    cap(in_force, serving, V2)

    assert reason(serving) is Reason.CAPPED, "nothing was awaited meanwhile"
    assert facts.of(SplitInForce)[-1].in_force == {PRODUCTION: 1.0, CANARY: 0.0}
    assert facts.of(SplitInForce)[-1].configured[CANARY] == 0.5
    assert facts.of(RoutesChanged)[-1].routes.capped == {CANARY: 0}


async def test_what_runs_when_a_cap_is_set_is_answered_by_whom_it_was_given_to(
    serving: ModelSet, dispatcher: Dispatcher, in_force: CapsInForce, world: FakeWorld
) -> None:
    world.held = True
    asked = asyncio.create_task(dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True))
    await until(lambda: world.alive(V2)[0].frames)
    cap(in_force, serving, V2)
    world.held = False
    world.alive(V2)[0].release_all()
    first, second = await asked, await dispatcher.serve("sentiment", CANARY_KEY, QUERY, keyed=True)

    assert (first.answered_by.version, first.outcome) == (V2, "ok")
    assert (second.assigned.version, second.assigned.reason, second.outcome) == (V1, Reason.CAPPED, "ok")
    assert world.alive(V2), "it stays loaded"


async def test_a_part_of_the_share_keeps_the_lowest_buckets(
    serving: ModelSet, in_force: CapsInForce, facts: Facts
) -> None:
    cap(in_force, serving, V2, 419)
    assert reason(serving) is Reason.HASH
    assert facts.of(SplitInForce)[-1].in_force[CANARY] == 0.00419

    cap(in_force, serving, V2, 418)
    assert reason(serving) is Reason.CAPPED


async def test_a_cap_above_the_configured_share_raises_nothing(
    serving: ModelSet, in_force: CapsInForce
) -> None:
    before = serving.table.models["sentiment"].split_in_force
    cap(in_force, serving, V2, 70_000)

    assert serving.table.models["sentiment"].split_in_force == before


async def test_the_next_version_starts_without_the_cap_and_one_that_comes_back_finds_it(
    serving: ModelSet, manager: ModelManager, in_force: CapsInForce, facts: Facts
) -> None:
    cap(in_force, serving, V2)
    manager.set_aspired({PRODUCTION: V1, CANARY: V3})
    await until(lambda: manager.bound[CANARY] == V3)
    assert reason(serving) is Reason.HASH

    facts.events.clear()
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: manager.bound[CANARY] == V2)
    assert reason(serving) is Reason.CAPPED
    routes = [event.routes for event in facts.of(RoutesChanged)]
    assert all(one.capped == {CANARY: 0} for one in routes if one.bound[CANARY] == V2), (
        "from the first moment"
    )


async def test_a_cap_of_all_versions_waits_for_a_canary_that_is_not_there_yet(
    models: ModelSet, in_force: CapsInForce
) -> None:
    manager = models.managers["sentiment"]
    cap(in_force, models, None)
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2)

    assert reason(models) is Reason.CAPPED


async def test_caps_survive_a_reload_and_a_share_that_is_raised_in_the_file(
    serving: ModelSet, in_force: CapsInForce
) -> None:
    cap(in_force, serving, V2, 400)
    serving.apply({"sentiment": settings(split={"production": 10, "canary": 90})})

    assert serving.table.models["sentiment"].split_in_force.canary == 400
    assert reason(serving) is Reason.CAPPED


async def test_a_model_that_comes_back_finds_its_caps(serving: ModelSet, in_force: CapsInForce) -> None:
    cap(in_force, serving, V2)
    serving.apply({"other": settings()})
    cap(in_force, serving, V2)  # one that is not served has no routes to change
    serving.apply({"other": settings(), "sentiment": settings(split=HALF)})
    serving.managers["other"].first_poll_ended()  # else its production is loaded before any canary
    manager = serving.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2)

    assert reason(serving) is Reason.CAPPED


async def test_a_reset_of_the_breaker_lifts_no_cap(
    serving: ModelSet, manager: ModelManager, in_force: CapsInForce
) -> None:
    breaker = manager.breakers.of(CANARY, V2)
    assert breaker is not None
    for _ in range(50):
        breaker.judge(fault=True)
    assert reason(serving) is Reason.BREAKER_OPEN
    cap(in_force, serving, V2)
    manager.reset_breakers()
    assert reason(serving) is Reason.CAPPED


async def test_a_canary_that_is_promoted_leaves_its_cap_behind(
    serving: ModelSet, manager: ModelManager, in_force: CapsInForce
) -> None:
    """Production has none, and while both serve one version there is nothing to hold back."""
    cap(in_force, serving, V2)
    manager.set_aspired({PRODUCTION: V2, CANARY: V2})
    await until(lambda: manager.bound[PRODUCTION] == V2)

    assert reason(serving) is Reason.SAME_VERSION
    assert serving.table.models["sentiment"].split_in_force.canary == 50_000


async def test_break_glass_turns_every_canary_off_whatever_the_records_say(
    serving: ModelSet, in_force: CapsInForce
) -> None:
    cap(in_force, serving, V2, 419)
    in_force.break_glass = BreakGlass(1.0, "a bad night")
    serving.caps_changed(serving.managers)
    assert reason(serving) is Reason.CAPPED
    assert reason(serving, "user-1") is Reason.HASH, "production's own keys are nobody's else"

    in_force.break_glass = None
    serving.caps_changed(serving.managers)
    assert reason(serving) is Reason.HASH
    assert serving.table.models["sentiment"].capped == {CANARY: 419}


async def test_without_a_change_nothing_is_published(
    serving: ModelSet, in_force: CapsInForce, facts: Facts
) -> None:
    facts.events.clear()
    in_force.caps = Caps()
    serving.caps_changed(["sentiment", "nobody"])

    assert facts.events == []
