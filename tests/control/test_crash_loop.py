"""A canary that may have taken its gateway down with it is broken off when that has happened three times."""

import pytest

from router.analysis.evidence_sink import StoredEvidence, StoredRun, UncleanEnd
from router.control.caps import CapControl
from router.control.crash_loop import WHY, CrashLoopWatch
from router.core.caps import Caps, CapTarget, records_from_json
from router.core.events import BreakerOpened
from router.core.ids import CANARY, PRODUCTION
from router.core.routing import Reason, assign
from router.serving.caps import CapsInForce
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2
from tests.support.evidence import FIRST, RUN, a_state, subject
from tests.support.fakes import Facts
from tests.support.waiting import until

BREAKER = CapTarget("sentiment", CANARY, 2, breaker=True)


def left(cells: list[int], canary_requests: int = 1, *, went_down: bool = True) -> StoredEvidence:
    """What a directory holds where processes ended so many cells after the first one."""
    ends = [UncleanEnd(f"{cell:016x}", "gw-1", FIRST + cell, canary_requests) for cell in cells]
    run = StoredRun(RUN, subject(2), a_state(), FIRST, unclean_ends=ends, went_down=went_down)
    return StoredEvidence({RUN.key: run})


def open_breakers(control: CapControl) -> list[CapTarget]:
    """By what is written and sent to others."""
    return list(Caps(records_from_json(control.records())).open_breakers("sentiment"))


@pytest.fixture
def control(models: ModelSet, in_force: CapsInForce, facts: Facts) -> CapControl:
    control = CapControl(in_force, models, facts, lambda: 1e9)
    control.follow(models.managers)
    return control


async def test_its_breaker_is_open_before_it_serves(
    control: CapControl, models: ModelSet, facts: Facts
) -> None:
    CrashLoopWatch(control).take_stored(left([0, 60, 120]))
    [opened] = facts.of(BreakerOpened)
    assert (opened.alias, opened.version, opened.why) == (CANARY, V2, WHY)
    assert open_breakers(control) == [BREAKER]

    manager = models.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V2})
    await until(lambda: len(manager.bound) == 2)
    assigned = assign(models.table.models["sentiment"], "user-2")
    assert assigned is not None
    assert assigned.reason is Reason.BREAKER_OPEN

    CrashLoopWatch(control).take_stored(left([0, 60, 120]))
    assert len(facts.of(BreakerOpened)) == 1
    control.reset_breakers("sentiment")
    assert open_breakers(control) == []


async def test_one_that_serves_already_loses_its_share_at_once(
    control: CapControl, serving: ModelSet, facts: Facts
) -> None:
    CrashLoopWatch(control).take_stored(left([0, 1, 2]))

    assert serving.table.models["sentiment"].broken == {CANARY}
    assert [opened.why for opened in facts.of(BreakerOpened)] == [WHY]


@pytest.mark.parametrize(
    "stored",
    [
        StoredEvidence(),
        left([0, 60]),
        left([0, 60, 121]),
        left([0, 60, 120], canary_requests=0),
        left([0, 60, 120], went_down=False),
    ],
    ids=["nothing", "twice", "over ten minutes", "without the canary", "a clean end since"],
)
async def test_what_is_no_loop_opens_nothing(
    control: CapControl, facts: Facts, stored: StoredEvidence
) -> None:
    CrashLoopWatch(control).take_stored(stored)

    assert facts.of(BreakerOpened) == []
