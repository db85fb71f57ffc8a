"""What is said of a canary's faults, from facts to sentences."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from router.analysis.fault_patterns import RANK_SECONDS, FaultPatterns
from router.core.events import BreakerClosed, ConfigApplied, ModelRemoved
from router.core.ids import CANARY, PRODUCTION
from router.core.traits import TraitColumn, TraitKind, TraitsSeen, trait_table
from router.serving.manager import OPERATOR_RESET
from tests.analysis.gateways import HALF, Gateway
from tests.serving.conftest import V1, V2, settings

COLUMNS = (TraitColumn("plan", "categories"), TraitColumn("age"))
NULL_PLAN = [(one.kind, one.what) for one in trait_table(COLUMNS)].index((TraitKind.NULL, "plan"))


class Watched(Gateway):
    """A gateway whose canary has two columns that are looked at, and six that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.patterns = FaultPatterns(self.models, lambda: self.now)

    async def start(self, **keys: Any) -> None:
        await self.serve({PRODUCTION: V1, CANARY: V2}, **{"why": "on", **keys})
        harness = self.models.managers["sentiment"].harnesses[V2]
        assert harness.info is not None
        harness.info = replace(harness.info, trait_columns=COLUMNS, columns_left_out=6)

    def see(self, faults: int, good: int, *, with_plan: bool = False, known: bool = True) -> None:
        for bucket in range(faults + good):
            fault = bucket < faults
            traits = (0,) if with_plan or not fault else (0, NULL_PLAN)
            seen = TraitsSeen(CANARY, V2, bucket, 1, traits if known else None, 100, fault)
            self.patterns.record(seen)
        self.now += RANK_SECONDS

    def found(self, number: int | None = 2) -> dict[str, Any]:
        return self.patterns.describe("sentiment", CANARY, number)


@pytest.fixture
async def gateway() -> AsyncIterator[Watched]:
    gateway = Watched()
    await gateway.start()
    yield gateway
    await gateway.models.close(0.0)


async def test_what_faults_share_is_named_with_its_figures(gateway: Watched) -> None:
    gateway.see(20, 100)

    found = gateway.found()
    [shared] = found.pop("shared")
    assert found == {
        "finding": "pattern",
        "why": "Its faults share: column plan null (20 of 20 faults, 0 of 100 good answers)."
        " 6 columns more are not looked at.",
        "faults": 20,
        "good_answers": 100,
        "faults_without_traits": 0,
        "columns": 2,
        "columns_left_out": 6,
        "traits_compared": 1,
    }
    assert 0.0 < shared.pop("p") < 1e-18
    assert shared == {
        "trait": "column plan null",
        "kind": "null",
        "column": "plan",
        "faults": 20,
        "good_answers": 0,
    }


@pytest.mark.parametrize(
    ("faults", "good", "finding", "why"),
    [
        (7, 100, "few_faults", "Under 8 faults of different keys so far: 7."),
        (
            90,
            1,
            "few_good_answers",
            "Nearly all it was asked failed: 90 faults beside 1 good answer to compare them with.",
        ),
        (
            20,
            100,
            "no_pattern",
            "No pattern: nothing that was looked at tells 20 faults from 100 good answers.",
        ),
    ],
)
async def test_where_there_is_no_pattern_it_is_said_why(
    gateway: Watched, faults: int, good: int, finding: str, why: str
) -> None:
    gateway.see(faults, good, with_plan=True)

    found = gateway.found()
    assert (found["finding"], found["shared"]) == (finding, [])
    assert found["why"] == f"{why} 6 columns more are not looked at."


async def test_faults_of_which_nothing_is_known_are_said(gateway: Watched) -> None:
    gateway.see(20, 0, known=False)
    assert gateway.found()["why"].startswith(
        "Under 8 faults of different keys so far: 0. Of 20 faults nothing is known: its worker ended, it"
        " came too late, or with more than are looked at."
    )


async def test_a_ranking_is_made_at_most_every_five_seconds(gateway: Watched) -> None:
    gateway.see(20, 100)
    assert gateway.found()["faults"] == 20
    for bucket in range(1000, 1020):
        gateway.patterns.record(TraitsSeen(CANARY, V2, bucket, 1, (0, NULL_PLAN), 100, fault=True))
    assert gateway.found()["faults"] == 20
    gateway.now += RANK_SECONDS
    assert gateway.found()["faults"] == 40


async def test_another_version_begins_anew_and_one_that_is_gone_is_not_taken_for_it(gateway: Watched) -> None:
    gateway.see(20, 100)
    assert gateway.found(3)["finding"] == gateway.found(None)["finding"] == "few_faults"
    gateway.patterns.record(TraitsSeen(CANARY, V1, 1, 1, (0,), 100, fault=True))
    assert gateway.found()["finding"] == "few_faults"


@pytest.mark.parametrize(
    "event",
    [
        BreakerClosed("sentiment", CANARY, V2, OPERATOR_RESET),
        ConfigApplied("3f9c", ("models.sentiment.why",)),
        ModelRemoved("sentiment"),
    ],
)
async def test_what_was_noted_is_forgotten_when_it_is_repaired_or_turned_off(
    gateway: Watched, event: Any
) -> None:
    gateway.see(20, 100)
    if not isinstance(event, BreakerClosed):
        gateway.models.apply({"sentiment": settings(split=HALF)})
        gateway.patterns.record(event)
        assert gateway.found()["why"] == "Nothing is looked at: `why` of this model is off."
        gateway.models.apply({"sentiment": settings(split=HALF, why="on")})
    gateway.patterns.record(event)

    assert gateway.found()["finding"] == "few_faults"


async def test_another_change_of_the_configuration_forgets_nothing(gateway: Watched) -> None:
    gateway.see(20, 100)
    gateway.patterns.record(ConfigApplied("3f9c", ("models.sentiment.timeout_seconds",)))
    gateway.patterns.record(BreakerClosed("sentiment", CANARY, V2, "its time was over"))
    assert gateway.found()["finding"] == "pattern"
