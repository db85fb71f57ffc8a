"""Setting and lifting caps: what holds at once, what waits until it is written, and what is said of it."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from router.control import caps as module
from router.control.caps import MOST_FOREIGN, MOST_SHOWN, NOT_KEPT, CapControl
from router.core.breaker import OUTAGE_REQUESTS
from router.core.caps import (
    KEPT_SECONDS,
    MOST_COUNTER,
    MOST_RECORDS,
    CapRecord,
    Caps,
    CapTarget,
    records_from_json,
)
from router.core.events import BreakerClosed, BreakerOpened, RoutesChanged
from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.lever_events import BreakGlassOff, BreakGlassOn, CapLifted, CapSet
from router.errors import CapRefused, CapUnknown, NothingServed
from router.serving.caps import CapsInForce
from router.serving.manager import OPERATOR_RESET
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.sample_events import Clock
from tests.support.waiting import until

TWO = CapTarget("sentiment", CANARY, 2)
ALL = CapTarget("sentiment", CANARY)
CHALLENGER = Alias("challenger")


@dataclass
class Disk:
    """Writes caps, when it may; `kept` is what is on it."""

    kept: Caps = field(default_factory=Caps)
    why_not: str = ""
    free: asyncio.Event = field(default_factory=asyncio.Event)
    writes: int = 0

    async def __call__(self, caps: Caps) -> str:
        self.writes += 1
        await self.free.wait()
        if self.why_not == "it raises":
            raise OSError(5, "Input/output error")
        if not self.why_not:
            self.kept = caps
        return self.why_not


@pytest.fixture
def clock() -> Clock:
    return Clock(1e9)


@pytest.fixture
def control(serving: ModelSet, in_force: CapsInForce, facts: Facts, clock: Clock) -> CapControl:
    """Of a gateway that writes nothing."""
    control = CapControl(in_force, serving, facts, clock)
    control.follow(serving.managers)
    return control


@pytest.fixture
def disk() -> Disk:
    disk = Disk()
    disk.free.set()
    return disk


@pytest.fixture
def durable(serving: ModelSet, in_force: CapsInForce, facts: Facts, clock: Clock, disk: Disk) -> CapControl:
    control = CapControl(in_force, serving, facts, clock, disk)
    control.follow(serving.managers)
    return control


def share(models: ModelSet) -> int:
    """Buckets of the canary in force; it has 50 000."""
    return models.table.models["sentiment"].split_in_force.canary


async def test_a_cap_is_in_force_when_the_call_returns_and_is_reported_before_its_effect(
    control: CapControl, serving: ModelSet, facts: Facts
) -> None:
    facts.events.clear()
    held = control.cap([TWO], 0, by="ann", reason="p95 is 2 s")

    assert share(serving) == 0
    assert held == {TWO: CapRecord(1, 0, "ann", "p95 is 2 s", 1e9)}
    assert facts.events[0] == CapSet("sentiment", CANARY, V2, 0.0, "ann", "p95 is 2 s")
    assert isinstance(facts.events[1], RoutesChanged)
    assert await control.settled() == NOT_KEPT


async def test_a_lift_gives_the_share_back_and_no_more(
    control: CapControl, serving: ModelSet, facts: Facts
) -> None:
    control.cap([TWO], 0, by="ann", reason="slow")
    control.lift([TWO], by="bob", reason="mended")

    assert share(serving) == 50_000
    assert facts.of(CapLifted) == [CapLifted("sentiment", CANARY, V2, "bob", "mended")]
    control.lift([TWO, ALL], by="bob", reason="again")
    assert len(facts.of(CapLifted)) == 1


async def test_a_cap_that_is_as_low_already_is_returned_with_who_set_it(
    control: CapControl, facts: Facts
) -> None:
    control.cap([TWO], 100, by="ann", reason="slow")
    held = control.cap([TWO], 5_000, by="bob", reason="me too")

    assert (held[TWO].by, held[TWO].share) == ("ann", 100)
    assert len(facts.of(CapSet)) == 1


# Durable


async def test_a_cap_waits_for_no_disk_and_says_when_it_is_durable(
    durable: CapControl, disk: Disk, serving: ModelSet
) -> None:
    disk.free.clear()
    durable.cap([TWO], 0, by="ann", reason="slow")
    assert share(serving) == 0
    assert disk.kept == Caps()

    settled = asyncio.create_task(durable.settled())
    await until(lambda: disk.writes == 1)
    assert not settled.done()
    disk.free.set()
    assert await settled == ""
    assert disk.kept.share_of("sentiment", CANARY, 2) == 0


async def begin_lift(durable: CapControl, disk: Disk) -> None:
    """TWO is capped, durably, and its lifting is being written until the disk is free."""
    durable.cap([TWO], 0, by="ann", reason="slow")
    await durable.settled()
    disk.free.clear()
    durable.lift([TWO], by="bob", reason="mended")
    await until(lambda: disk.writes == 2)


async def test_a_cap_is_lifted_only_when_that_is_written(
    durable: CapControl, disk: Disk, serving: ModelSet, facts: Facts
) -> None:
    await begin_lift(durable, disk)
    assert share(serving) == 0, "killed now, it would be capped after the restart, and was so all the time"
    assert facts.of(CapLifted) == []

    disk.free.set()
    assert await durable.settled() == ""
    assert share(serving) == 50_000
    assert len(facts.of(CapLifted)) == 1


async def test_a_cap_that_is_set_while_its_lifting_is_written_stays(
    durable: CapControl, disk: Disk, serving: ModelSet
) -> None:
    await begin_lift(durable, disk)
    durable.cap([TWO], 0, by="ann", reason="it is not")
    disk.free.set()
    await durable.settled()

    assert share(serving) == 0
    assert disk.kept.records[TWO] == CapRecord(3, 0, "ann", "it is not", 1e9)


@pytest.mark.parametrize(
    ("why_not", "reported"),
    [("No space left on device", "No space left on device"), ("it raises", "OSError: .*Input/output error")],
)
async def test_what_can_not_be_written_is_in_force_all_the_same_and_that_is_said(
    durable: CapControl, disk: Disk, serving: ModelSet, why_not: str, reported: str
) -> None:
    disk.why_not = why_not
    durable.cap([TWO], 0, by="ann", reason="slow")
    assert await durable.settled() != ""
    assert share(serving) == 0
    durable.lift([TWO], by="ann", reason="mended")

    assert re.search(reported, await durable.settled())
    assert share(serving) == 50_000
    disk.why_not = ""
    durable.cap([TWO], 0, by="ann", reason="slow")
    assert await durable.settled() == ""


async def test_what_could_not_be_written_is_tried_again_for_who_waits_for_it_and_at_no_answer_of_a_peer(
    durable: CapControl, disk: Disk
) -> None:
    disk.why_not = "No space left on device"
    durable.cap([TWO], 0, by="ann", reason="slow")
    assert await durable.settled() == "No space left on device"
    writes = disk.writes

    assert not durable.merge({TWO: CapRecord(1, 0, "ann", "slow", 1e9)})
    await asyncio.sleep(0)
    assert disk.writes == writes
    disk.why_not = ""
    assert await durable.settled() == ""
    assert disk.kept.share_of("sentiment", CANARY, 2) == 0


async def test_a_disk_that_hangs_holds_up_no_lift_for_ever(
    durable: CapControl, disk: Disk, serving: ModelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_WRITE_SECONDS", 0.02)
    disk.free.clear()
    durable.cap([TWO], 0, by="ann", reason="slow")
    durable.lift([TWO], by="ann", reason="mended")

    assert await durable.settled() == "it was not written within 0.02 s"
    assert share(serving) == 50_000


# Other gateways


async def test_what_another_gateway_knows_holds_here_and_is_news_once(
    control: CapControl, serving: ModelSet, facts: Facts
) -> None:
    theirs = {TWO: CapRecord(3, 0, "eve", "broken", 5.0)}
    assert control.merge(theirs)
    assert share(serving) == 0
    assert not control.merge(theirs)
    assert [event.by for event in facts.of(CapSet)] == ["eve"]

    assert control.merge({TWO: CapRecord(4, None, "eve", "mended", 6.0)})
    assert share(serving) == 50_000
    assert not control.merge(theirs), "what is older changes nothing"
    assert share(serving) == 50_000


async def test_of_what_is_not_signed_nothing_counts_but_what_lowers(
    control: CapControl, serving: ModelSet
) -> None:
    control.cap([TWO], 500, by="ann", reason="slow")
    for share_of_record in (None, 50_000, 500):
        assert not control.merge(
            {TWO: CapRecord(9, share_of_record, "eve", "trust me", 5.0)}, only_lower=True
        )
    assert share(serving) == 500

    assert control.merge({TWO: CapRecord(9, 0, "eve", "broken", 5.0)}, only_lower=True)
    assert share(serving) == 0
    control.lift([TWO], by="bob", reason="mended")
    assert not control.merge({TWO: CapRecord(9, 0, "eve", "broken", 5.0)}, only_lower=True)
    assert share(serving) == 50_000, "what is older changes nothing, here either"


async def test_another_fleet_among_the_peers_does_not_take_the_room_of_caps(control: CapControl) -> None:
    control.cap([TWO], 0, by="ann", reason="slow")
    theirs = CapRecord(1, 0, "eve", "broken", 9e9)
    for fleet in range(5):
        control.merge({CapTarget(f"{fleet} {n}", CANARY): theirs for n in range(MOST_RECORDS)})
    assert len(control.records()["records"]) == MOST_FOREIGN + 1

    control.merge({ALL: theirs, TWO: CapRecord(7, 5, "eve", "broken", 9e9)})
    [one, other] = control.of_model("sentiment")
    assert {one["version"], other["version"]} == {None, 2}


async def test_two_gateways_that_exchange_end_equal_and_capped_where_both_changed_at_once(
    control: CapControl, serving: ModelSet, facts: Facts, clock: Clock
) -> None:
    other = CapControl(CapsInForce(), serving, facts, clock)
    control.cap([TWO], 500, by="ann", reason="slow")
    exchange(control, other)
    control.lift([TWO], by="bob", reason="mended")
    other.cap([TWO], 0, by="eve", reason="broken")
    exchange(control, other)

    assert control.records() == other.records()
    assert share(serving) == 0
    control.lift([TWO], by="bob", reason="all of it")
    exchange(control, other)
    assert control.records() == other.records()
    assert control.of_model("sentiment") == other.of_model("sentiment") == []


def exchange(one: CapControl, other: CapControl) -> None:
    """As peers do, by JSON."""
    here, there = (records_from_json(json.loads(json.dumps(side.records()))) for side in (one, other))
    one.merge(there)
    other.merge(here)


async def test_what_was_written_before_a_restart_holds_again_without_an_event(
    durable: CapControl, disk: Disk, serving: ModelSet, facts: Facts
) -> None:
    durable.restore({TWO: CapRecord(3, 0, "ann", "slow", 5.0)})

    assert share(serving) == 0
    assert (facts.of(CapSet), disk.writes) == ([], 0)
    durable.cap([ALL], 0, by="ann", reason="none at all")
    await durable.settled()
    assert disk.kept.records[TWO].counter == 3


async def test_a_cap_whose_counter_is_at_its_end_is_not_said_to_be_lifted(control: CapControl) -> None:
    control.merge({TWO: CapRecord(MOST_COUNTER, 0, "eve", "broken", 5.0)})
    control.cap([ALL], 0, by="ann", reason="slow")

    assert control.lift([TWO, ALL], by="ann", reason="mended") == [ALL]
    assert [cap["version"] for cap in control.of_model("sentiment")] == [2]


# Breakers


BREAKER = CapTarget("sentiment", CANARY, 2, breaker=True)


def break_off(serving: ModelSet) -> None:
    breaker = serving.managers["sentiment"].breakers.of(CANARY, V2)
    assert breaker is not None
    for _ in range(OUTAGE_REQUESTS):
        breaker.judge(fault=True)


async def test_a_breaker_that_opens_is_written_and_a_reset_removes_that(
    durable: CapControl, disk: Disk, serving: ModelSet, facts: Facts, clock: Clock
) -> None:
    break_off(serving)
    assert share(serving) == 0
    assert await durable.settled() == ""
    written = disk.kept.records[BREAKER]
    assert (written.share, written.reason, written.at) == (0, "50 of its last 50 requests were faults", 1e9)
    assert (durable.of_model("sentiment"), facts.of(CapSet)) == ([], []), "it is no cap"
    assert durable.caps_of("sentiment") == [], "and resume does not close it"

    durable.reset_breakers("sentiment")
    assert share(serving) == 50_000
    assert await durable.settled() == ""
    assert disk.kept.records[BREAKER].share is None
    assert [len(facts.of(kind)) for kind in (BreakerOpened, BreakerClosed, CapLifted)] == [1, 1, 0]


async def test_what_a_breaker_does_is_in_force_whatever_the_disk_says(
    durable: CapControl, disk: Disk, serving: ModelSet
) -> None:
    disk.why_not = "the disk is full"
    break_off(serving)
    assert share(serving) == 0
    assert await durable.settled() == "the disk is full"
    durable.reset_breakers("sentiment")
    assert share(serving) == 50_000


@pytest.mark.parametrize("change", ["the split", "production"])
async def test_what_closes_a_breaker_while_its_version_serves_is_written(
    durable: CapControl, disk: Disk, serving: ModelSet, change: str
) -> None:
    break_off(serving)
    if change == "the split":
        serving.apply({"sentiment": settings(split={"production": 60, "canary": 40})})
    else:
        manager = serving.managers["sentiment"]
        manager.set_aspired({PRODUCTION: V3, CANARY: V2})
        await until(lambda: manager.bound[PRODUCTION] == V3)
    assert share(serving) > 0
    assert await durable.settled() == ""
    assert disk.kept.records[BREAKER].share is None


async def test_a_canary_that_moves_on_leaves_its_open_breaker_behind_until_an_operator_resets(
    durable: CapControl, disk: Disk, serving: ModelSet
) -> None:
    """At another gateway it may serve still."""
    break_off(serving)
    manager = serving.managers["sentiment"]
    manager.set_aspired({PRODUCTION: V1, CANARY: V3})
    await until(lambda: manager.bound[CANARY] == V3)
    assert share(serving) == 50_000
    await durable.settled()
    assert disk.kept.records[BREAKER].share == 0
    await until(lambda: V2 not in manager.harnesses)
    with pytest.raises(CapUnknown):
        durable.caps_of("sentiment", version=2)

    durable.reset_breakers("sentiment")
    await durable.settled()
    assert disk.kept.records[BREAKER].share is None
    with pytest.raises(CapUnknown):
        durable.reset_breakers("nobody")


async def test_a_version_that_is_away_when_production_moves_comes_back_with_a_closed_breaker(
    durable: CapControl, disk: Disk, serving: ModelSet, facts: Facts
) -> None:
    """It was judged against the production of then, as those that serve, whose breakers are made anew."""
    break_off(serving)
    manager = serving.managers["sentiment"]
    for aspired in ({PRODUCTION: V1}, {PRODUCTION: V3}):
        await durable.settled()
        assert disk.kept.records[BREAKER].share == 0
        manager.set_aspired(aspired)
        await until(lambda aspired=aspired: manager.bound == aspired)
    assert await durable.settled() == ""
    assert disk.kept.records[BREAKER].share is None

    manager.set_aspired({PRODUCTION: V3, CANARY: V2})
    await until(lambda: CANARY in manager.bound)
    assert share(serving) == 50_000


async def test_a_breaker_of_before_a_restart_is_open_before_anybody_else_knows_of_it(
    durable: CapControl, serving: ModelSet, facts: Facts
) -> None:
    durable.restore({BREAKER: CapRecord(3, 0, "breaker", "it crashed", 5.0)})
    assert share(serving) == 0

    durable.reset_breakers("sentiment")
    break_off(serving)
    [record] = durable.records()["records"]
    assert (record["counter"], record["to_percent"]) == (5, 0), "it opened again after the reset"


async def test_the_breaker_of_one_gateway_opens_that_of_another_and_so_does_a_reset_close_it(
    control: CapControl, serving: ModelSet, facts: Facts
) -> None:
    opened = {BREAKER: CapRecord(1, 0, "breaker", "it crashed", 5.0)}
    assert control.merge(opened)
    assert share(serving) == 0
    assert facts.of(BreakerOpened)[0].why == "it crashed"

    assert control.merge({BREAKER: CapRecord(2, None, "breaker", OPERATOR_RESET, 6.0)})
    assert share(serving) == 50_000
    assert facts.of(BreakerClosed)[0].why == OPERATOR_RESET
    assert not control.merge(opened)
    assert share(serving) == 50_000


# Models that come and go


async def test_a_model_that_left_the_configuration_keeps_its_caps_for_thirty_days(
    control: CapControl, clock: Clock
) -> None:
    control.cap([TWO], 0, by="ann", reason="slow")
    clock.now += KEPT_SECONDS
    control.follow(["other"])
    clock.now += KEPT_SECONDS - 1
    control.follow(["other", "sentiment"])
    assert control.of_model("sentiment"), "counted from when it left, not from when it was capped"

    control.follow(["other"])
    clock.now += KEPT_SECONDS
    theirs = {TWO: CapRecord(7, 0, "eve", "broken", 5.0)}
    assert not control.merge(theirs), "another gateway that still knows them does not bring them back"
    control.follow(["other"])
    assert control.records()["records"] == []
    control.follow(["other", "sentiment"])
    assert control.of_model("sentiment") == []


async def test_a_model_that_comes_back_too_late_does_not_find_its_caps(
    control: CapControl, serving: ModelSet, clock: Clock
) -> None:
    control.cap([TWO], 0, by="ann", reason="slow")
    control.follow(["other"])
    clock.now += KEPT_SECONDS
    control.follow(["other", "sentiment"])

    assert control.records()["records"] == []
    assert share(serving) == 50_000


# What is meant


async def test_without_an_alias_all_but_production_are_meant_and_without_a_version_what_serves(
    control: CapControl, serving: ModelSet
) -> None:
    assert control.targets("sentiment") == [TWO]
    assert control.targets("sentiment", all_versions=True) == [ALL]
    assert control.targets("sentiment", "canary", 1) == [CapTarget("sentiment", CANARY, 1)]

    split = {"production": 50, "canary": 40, "challenger": 10}
    serving.apply({"sentiment": settings(split=split)})
    manager = serving.managers["sentiment"]
    assert control.targets("sentiment") == [TWO], "an alias that serves nothing has no version to cap"
    manager.set_aspired({PRODUCTION: V1, CANARY: V2, CHALLENGER: V3})
    await until(lambda: len(manager.bound) == 3)
    three = CapTarget("sentiment", CHALLENGER, 3)
    assert control.targets("sentiment") == [TWO, three]
    assert control.targets("sentiment", version=3) == [three]
    assert control.targets("sentiment", "challenger") == [three]


async def test_a_canary_that_is_still_loading_can_be_capped(
    control: CapControl, serving: ModelSet, world: FakeWorld
) -> None:
    serving.managers["sentiment"].set_aspired({PRODUCTION: V1})
    with pytest.raises(NothingServed, match="all_versions"):
        control.targets("sentiment")
    world.slow_loads = asyncio.Event()
    serving.managers["sentiment"].set_aspired({PRODUCTION: V1, CANARY: V3})

    assert control.targets("sentiment") == [CapTarget("sentiment", CANARY, 3)]
    world.slow_loads.set()


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda control: control.targets("nobody"), "model: "),
        (lambda control: control.targets("sentiment", "challenger"), "alias: .*'challenger'.*canary"),
        (lambda control: control.targets("sentiment", "production"), "alias: "),
        (lambda control: control.targets("sentiment", None, 9), "version: v9 "),
        (lambda control: control.caps_of("nobody"), "model: "),
        (lambda control: control.caps_of("sentiment", "challenger"), "alias: "),
        (lambda control: control.caps_of("sentiment", None, 9), "version: v9 "),
    ],
)
async def test_what_is_not_here_is_named(
    control: CapControl, ask: Callable[[CapControl], object], named: str
) -> None:
    with pytest.raises(CapUnknown, match=f"^{named}"):
        ask(control)
    assert issubclass(CapUnknown, CapRefused)


async def test_what_is_resumed_is_what_is_capped_of_that_model_alias_and_version(control: CapControl) -> None:
    one = CapTarget("sentiment", CANARY, 1)
    control.cap([one, TWO, ALL], 0, by="ann", reason="slow")

    assert control.caps_of("sentiment") == [one, TWO, ALL]
    assert control.caps_of("sentiment", version=2) == [TWO]
    control.lift([TWO], by="ann", reason="mended")
    assert control.caps_of("sentiment", "canary") == [one, ALL]
    assert control.caps_of("sentiment", "canary", 2) == []


# What is shown


async def test_caps_of_what_serves_come_first_and_no_more_than_some_are_shown(
    control: CapControl, clock: Clock
) -> None:
    control.cap([TWO], 1_500, by="ann", reason="see http://wiki.internal/x")
    for number in range(100, 100 + MOST_SHOWN):
        clock.now += 1
        control.cap([CapTarget("sentiment", CANARY, number)], 0, by="ann", reason="old")

    shown = control.of_model("sentiment")
    assert len(shown) == MOST_SHOWN
    assert shown[0] == {
        "alias": "canary",
        "version": 2,
        "to_percent": 1.5,
        "by": "ann",
        "reason": "see http://…",
        "timestamp": 1e9,
    }
    assert [cap["version"] for cap in shown[1:3]] == [100 + MOST_SHOWN - 1, 100 + MOST_SHOWN - 2]


# Break-glass


async def test_break_glass_turns_canaries_off_at_once_and_leaves_the_records(
    control: CapControl, serving: ModelSet, facts: Facts, clock: Clock
) -> None:
    control.cap([TWO], 100, by="ann", reason="slow")
    records = control.records()
    control.break_glass(on=True, why="SIGUSR2 came")
    assert (share(serving), control.glass_broken) == (0, True)
    clock.now += 5
    control.break_glass(on=True, why="canary-off is there")
    assert control.break_glass_to_json() == {"since": 1e9, "why": "canary-off is there"}

    control.lift([TWO], by="ann", reason="mended")
    assert share(serving) == 0, "whatever the records say"
    control.cap([TWO], 200, by="ann", reason="slow")
    control.break_glass(on=False, why="ann: all is well")
    assert (share(serving), control.break_glass_to_json()) == (200, None)
    assert records["records"][0]["to_percent"] == 0.1
    assert [event.why for event in facts.of(BreakGlassOn)] == ["SIGUSR2 came", "canary-off is there"]
    assert facts.of(BreakGlassOff) == [BreakGlassOff("ann: all is well")]
    control.break_glass(on=False, why="again")
    assert len(facts.of(BreakGlassOff)) == 1
