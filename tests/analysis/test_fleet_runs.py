"""Runs beyond one process: over a restart, and of several gateways that come to one verdict."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from router.analysis.evidence_sink import StoredEvidence, StoredRun
from router.analysis.joined_runs import JoinedRun
from router.analysis.run_key import RunSubject
from router.analysis.run_state import RunState, RunStateData
from router.analysis.statistics.records import RunCell, RunId
from router.core.events import BreakerClosed, BreakerOpened, VerdictChanged
from router.core.ids import CANARY, PRODUCTION
from router.serving.manager import OPERATOR_RESET
from tests.analysis.gateways import Gateway
from tests.serving.conftest import V1, V2, V3
from tests.support.evidence import FIRST, RANGES, RUN, SUBJECT, a_state, observed

BOTH = {PRODUCTION: V1, CANARY: V2}


class Sink:
    """Keeps evidence in memory, as a state directory does on disk."""

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.appended: list[tuple[int, RunCell]] = []
        self.unsealed: Sequence[tuple[int, RunCell]] = ()
        self.superseded: set[str] = set()
        self.forgotten: list[RunId] = []
        self.is_clean = False

    def append(self, run: RunId, cell: int, delta: RunCell) -> None:
        self.appended.append((cell, delta))

    def seal(self, run: RunId, cell: int, others: Mapping[str, RunCell]) -> None:
        assert others == {}, "it is alone"

    def replace(
        self,
        run: RunId,
        subject: RunSubject,
        state: RunStateData,
        verdict_cell: int,
        unsealed: Sequence[tuple[int, RunCell]],
    ) -> None:
        self.runs[run.key] = StoredRun(run, subject, state, verdict_cell)
        self.superseded.discard(run.key)
        self.unsealed = unsealed

    def needs_state(self, run: RunId) -> bool:
        return run.key not in self.runs or run.key in self.superseded

    def supersede(self, run: RunId) -> None:
        self.superseded.add(run.key)

    def forget(self, run: RunId) -> None:
        self.forgotten.append(run)
        self.runs.pop(run.key, None)

    def note_clean_end(self) -> None:
        self.is_clean = True


class SinkOfOneOfTwo(Sink):
    """That of a gateway which is not alone."""

    def seal(self, run: RunId, cell: int, others: Mapping[str, RunCell]) -> None:
        """What others observed is not looked at."""


@pytest.fixture
async def gateways() -> AsyncIterator[list[Gateway]]:
    """To be ended at the end."""
    gateways: list[Gateway] = []
    yield gateways
    for gateway in gateways:
        await gateway.models.close(0.0)


async def two(gateways: list[Gateway], **keys: Any) -> tuple[Gateway, Gateway]:
    """Gateways that are members of one fleet; of their models' configuration, what differs from the usual."""
    one, other = Gateway("gw-1"), Gateway("gw-2")
    gateways += [one, other]
    await one.serve(BOTH, **keys)
    one.look(5.0)
    other.now = one.now
    other.ask(one)
    other.ask(one)
    await other.serve(BOTH, **keys)
    look_at_both(one, other, 45)
    return one, other


def look_at_both(one: Gateway, other: Gateway, seconds: int) -> None:
    for _ in range(seconds):
        one.look(1.0)
        other.look(1.0)
        one.ask(other)
        other.ask(one)


async def test_after_a_clean_stop_the_next_process_goes_on(gateways: list[Gateway]) -> None:
    sink = Sink()
    before = Gateway(sink=sink)
    gateways.append(before)
    await before.serve(BOTH)
    before.answer(400, PRODUCTION, V1)
    before.answer_faulty_canary()
    before.look()
    before.answer(7, PRODUCTION, V1)
    before.analysis.leave()
    shown = before.entry
    assert (shown["verdict"], sink.is_clean) == ("fail", True)

    after = Gateway("gw-2", before.now + 100.0)
    gateways.append(after)
    after.analysis.joined.take_stored(StoredEvidence(sink.runs))
    await after.serve(BOTH)
    assert (after.entry["verdict"], after.entry["since_timestamp"]) == ("fail", shown["since_timestamp"])
    assert after.facts.of(VerdictChanged) == [], "it was reported before"
    after.answer(10, PRODUCTION, V1)
    after.look()
    assert after.check("faults")["production"]["requests"] == 400 + 7 + 10


async def test_a_process_that_starts_before_what_was_sealed_begins_after_it(gateways: list[Gateway]) -> None:
    """The time of day was set back meanwhile."""
    sink = Sink()
    before = Gateway(sink=sink)
    gateways.append(before)
    await before.serve(BOTH)
    before.answer(100, PRODUCTION, V1)
    before.look()
    before.analysis.leave()

    after = Gateway("gw-2", before.now - 600.0)
    gateways.append(after)
    after.analysis.joined.take_stored(StoredEvidence(sink.runs))
    await after.serve(BOTH)
    assert after.clock.cell() > sink.runs[next(iter(sink.runs))].state.horizon
    after.answer(10, PRODUCTION, V1)
    after.look()
    assert after.check("faults")["production"]["requests"] == 110


async def test_what_the_disk_gave_late_counts_with_what_was_observed_meanwhile(
    gateways: list[Gateway],
) -> None:
    """It hung at the start, or was read-only."""
    sink = Sink()
    before = Gateway(sink=sink)
    gateways.append(before)
    await before.serve(BOTH)
    before.answer(400, PRODUCTION, V1)
    before.answer_faulty_canary()
    before.look()
    before.analysis.leave()

    after = Gateway("gw-2", before.now + 600.0)
    gateways.append(after)
    await after.serve(BOTH)
    after.answer(10, PRODUCTION, V1)
    after.look()
    after.look(20.0)
    after.analysis.joined.take_stored(StoredEvidence(sink.runs))
    after.look()
    assert after.check("faults")["production"]["requests"] == 400 + 10
    assert (after.entry["verdict"], after.entry["since_timestamp"]) == (
        "fail",
        before.entry["since_timestamp"],
    )


async def test_a_run_that_rests_is_taken_up_however_late_the_directory_is_free(
    gateways: list[Gateway],
) -> None:
    """As in a rolling update in which the former gateway drains for long."""
    sink = Sink()
    before = Gateway(sink=sink)
    gateways.append(before)
    await before.serve({PRODUCTION: V1, CANARY: V3})
    before.answer(100, PRODUCTION, V1)
    before.look()
    before.analysis.leave()

    after = Gateway("gw-2", before.now)
    gateways.append(after)
    await after.serve(BOTH)
    for _ in range(60):
        after.look()
    after.analysis.joined.take_stored(StoredEvidence(sink.runs))
    await after.serve({PRODUCTION: V1, CANARY: V3})
    after.answer(10, PRODUCTION, V1)
    after.look()
    assert after.check("faults")["production"]["requests"] == 100 + 10
    assert after.entry["since_timestamp"] == before.entry["since_timestamp"]


async def test_what_was_sealed_before_a_kill_is_taken_up_as_it_was_and_judged_once(
    gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing serves meanwhile, and there may be thousands of cells after a state."""
    gateway = Gateway()
    gateways.append(gateway)
    cells = [(FIRST + number, [observed(4, 1)]) for number in range(300)]
    run = JoinedRun.load(SUBJECT, 1, a_state(), FIRST)
    for cell, parts in cells:
        run.fold(cell, {"0": parts[0]})
    judged = []
    report = RunState.report
    monkeypatch.setattr(RunState, "report", lambda state: judged.append(state) or report(state))

    stored = StoredRun(RUN, SUBJECT, a_state(), FIRST, cells)
    gateway.analysis.joined.take_stored(StoredEvidence({RUN.key: stored}))
    found = gateway.analysis.joined.get(RUN.key)
    assert found is not None
    assert (found.state.dump(), found.report) == (run.state.dump(), run.report)
    assert (found.verdict_cell, found.last_request_cell) == (run.verdict_cell, run.last_request_cell)
    assert len(judged) < 5


async def test_the_cell_of_a_verdict_is_known_also_where_it_came_after_the_last_state(
    gateways: list[Gateway],
) -> None:
    gateway = Gateway()
    gateways.append(gateway)
    broken = RunCell(compares=True, began_with=RANGES, outage=True)
    cells = [(FIRST + number, [broken if number == 100 else observed(4, 1)]) for number in range(300)]
    gateway.analysis.joined.take_stored(
        StoredEvidence({RUN.key: StoredRun(RUN, SUBJECT, a_state(), FIRST, cells)})
    )
    found = gateway.analysis.joined.get(RUN.key)
    assert found is not None
    assert (found.report.verdict, found.verdict_cell) == ("fail", FIRST + 100)


async def test_what_came_since_the_last_second_is_kept_and_an_empty_cell_once(
    gateways: list[Gateway],
) -> None:
    sink = Sink()
    gateway = Gateway(sink=sink)
    gateways.append(gateway)
    await gateway.serve(BOTH)
    first = gateway.clock.cell()
    gateway.look(1.0)
    sink.appended.clear()
    gateway.answer(3, CANARY, V2)
    gateway.look(1.0)
    gateway.answer(2, CANARY, V2)
    gateway.look(4.0)
    gateway.look(5.0)

    kept = [(cell - first, sum(one.canary.requests for one in run.records)) for cell, run in sink.appended]
    assert kept == [(0, 3), (0, 2), (1, 0)]


async def test_two_gateways_come_to_one_verdict_on_what_both_observed(gateways: list[Gateway]) -> None:
    one, other = await two(gateways)
    for gateway in (one, other):
        gateway.answer(200, PRODUCTION, V1)
    one.answer_faulty_canary()
    look_at_both(one, other, 12)

    for gateway in (one, other):
        faults = gateway.check("faults")
        assert (faults["production"]["requests"], faults["canary"]["requests"]) == (400, 400)
        assert gateway.entry["verdict"] == "fail"
        assert gateway.entry["gateways"] == {"counted": ["gw-1", "gw-2"], "waiting": [], "left_out": []}
    assert one.entry["why"] == other.entry["why"]
    assert one.entry["since_timestamp"] == other.entry["since_timestamp"]


async def test_the_copies_of_all_gateways_are_one_verdict_also_where_nobody_has_the_canary(
    gateways: list[Gateway],
) -> None:
    """What each has seen is too little: the canary has to have failed alone in ten pairs at least."""
    nobody = {"production": 100, "canary": 0}
    one, other = await two(gateways, split=nobody, shadow={"canary": 10})
    for turn in range(7):
        for gateway, first in ((one, 60_000), (other, 70_000)):
            gateway.compare(range(first + 20 * turn, first + 20 * turn + 20))
            look_at_both(one, other, 5)
    look_at_both(one, other, 10)

    for gateway in (one, other):
        shadow = gateway.check("shadow")
        assert (shadow["pairs"], shadow["canary"]["keys"], shadow["production"]["keys"]) == (280, 14, 0)
        assert gateway.entry["verdict"] == "fail"
    assert one.entry["why"] == other.entry["why"]
    assert one.entry["since_timestamp"] == other.entry["since_timestamp"]


async def test_an_outage_that_one_gateway_saw_is_a_fail_at_both(gateways: list[Gateway]) -> None:
    one, other = await two(gateways)
    one.answer(50, CANARY, V2, fault="error")
    one.answer(50, PRODUCTION, V1)
    one.look(1.0)
    assert one.entry["verdict"] == "fail", "before its cell is over"
    other.now = one.now
    look_at_both(one, other, 2)

    assert other.entry["verdict"] == "fail", "with the next exchange"
    assert [(event.alias, event.version) for event in other.facts.of(BreakerOpened)] == [(CANARY, V2)]


async def test_what_came_in_the_last_second_of_a_cell_counts_for_an_outage_of_both(
    gateways: list[Gateway],
) -> None:
    """13 of 26 requests at each failed, all of them after the last look of a cell."""
    one, other = await two(gateways)
    look_at_both(one, other, (4 - int(one.clock.now())) % 5)
    for gateway in (one, other):
        gateway.answer(13, CANARY, V2)
        gateway.answer(13, CANARY, V2, fault="error")
    look_at_both(one, other, 2)

    for gateway in (one, other):
        [opened] = gateway.facts.of(BreakerOpened)
        assert "26 of its newest 52 requests in the fleet were faults" in opened.why


async def test_while_one_is_silent_the_verdict_stands_still_and_says_so(gateways: list[Gateway]) -> None:
    one, other = await two(gateways)
    for _ in range(30):
        one.look(1.0)

    entry = one.entry
    [waiting] = entry["gateways"]["waiting"]
    assert (waiting["host"], waiting["silent_seconds"]) == ("gw-2", pytest.approx(30.0, abs=6.0))
    assert entry["judged_up_to_seconds"] > 20.0
    moment = entry["horizon_timestamp"] % 86_400
    written = f"{moment // 3600:02.0f}:{moment % 3600 // 60:02.0f}:{moment % 60:02.0f}"
    assert f"Judged up to {written} UTC; waiting for gw-2, silent for " in entry["why"]
    assert other.entry["gateways"]["counted"] == ["gw-1", "gw-2"]


async def test_who_serves_another_share_is_named_and_nothing_passes_by_it(gateways: list[Gateway]) -> None:
    one, other = await two(gateways)
    await one.serve(BOTH, split={"production": 75, "canary": 25})
    look_at_both(one, other, 12)
    assert one.entry["why"].endswith("gw-2 still serves 50 %.")
    assert other.entry["why"].endswith("gw-1 still serves 25 %.")

    one.answer(30, PRODUCTION, V1)
    await other.serve(BOTH, split={"production": 75, "canary": 25})
    look_at_both(one, other, 12)
    assert "still serves" not in one.entry["why"] + other.entry["why"]
    assert one.check("faults")["production"]["requests"] == 0, "what came before is of no step"


async def test_a_reset_at_one_gateway_begins_the_run_anew_at_both_and_once(gateways: list[Gateway]) -> None:
    one, other = await two(gateways)
    one.answer(400, PRODUCTION, V1)
    one.answer_faulty_canary()
    look_at_both(one, other, 12)
    assert (one.entry["verdict"], other.entry["verdict"]) == ("fail", "fail")

    one.facts.record(BreakerClosed("sentiment", CANARY, V2, OPERATOR_RESET))
    look_at_both(one, other, 2)
    for gateway in (one, other):
        assert gateway.entry["verdict"] == "not_enough_data"
        [(_, _, run)] = list(gateway.analysis.runs())
        assert run.id.number == 2
    look_at_both(one, other, 12)
    assert other.check("faults")["canary"]["requests"] == 0


async def test_a_run_that_is_reset_is_kept_at_once_in_the_place_of_what_it_was(
    gateways: list[Gateway],
) -> None:
    """It was removed first, and written a second later: who was killed meanwhile had neither."""
    sink = Sink()
    gateway = Gateway(sink=sink)
    gateways.append(gateway)
    await gateway.serve(BOTH)
    gateway.look()
    [kept] = sink.runs.values()
    gateway.facts.record(BreakerClosed("sentiment", CANARY, V2, OPERATOR_RESET))

    [again] = sink.runs.values()
    assert (kept.run.number, again.run.number, sink.forgotten) == (1, 2, [])


async def test_a_reset_begins_the_run_of_a_version_anew_that_serves_nowhere_then(
    gateways: list[Gateway],
) -> None:
    gateway = Gateway()
    gateways.append(gateway)
    await gateway.serve(BOTH)
    gateway.answer(400, PRODUCTION, V1)
    gateway.answer_faulty_canary()
    for _ in range(3):
        gateway.look()
    breaker = gateway.models.managers["sentiment"].breakers.of(CANARY, V2)
    assert breaker is not None
    breaker.open("it failed")
    assert gateway.entry["verdict"] == "fail"
    await gateway.serve({PRODUCTION: V1, CANARY: V3})
    gateway.look()
    [(_, _, other)] = gateway.analysis.runs()

    gateway.caps.reset_breakers("sentiment")
    gateway.look()
    [closed] = gateway.facts.of(BreakerClosed)[-1:]
    assert (closed.version, closed.why) == (V2, OPERATOR_RESET)
    assert next(gateway.analysis.runs())[2] is other, "it was not that one"
    await gateway.serve(BOTH)
    gateway.look()

    [(_, _, run)] = gateway.analysis.runs()
    assert (run.id.number, gateway.entry["verdict"]) == (2, "not_enough_data")


async def test_what_gives_way_to_the_state_of_another_gateway_is_kept_until_that_is(
    gateways: list[Gateway],
) -> None:
    sink = SinkOfOneOfTwo()
    one, other = Gateway("gw-1", sink=sink), Gateway("gw-2")
    gateways += [one, other]
    for gateway, requests in ((one, 10), (other, 100)):
        await gateway.serve(BOTH)
        gateway.answer(requests, PRODUCTION, V1)
        for _ in range(12):
            gateway.look()
    [alone] = sink.runs.values()
    for _ in range(60):
        look_at_both(one, other, 1)
        assert len(sink.runs) == 1
    [together] = sink.runs.values()

    assert one.check("faults")["production"]["requests"] == 100, "it gave way"
    assert (together.run, sink.forgotten) == (alone.run, [])
    assert together.state.first_cell == other.analysis.joined.get(together.run.key).state.first_cell


async def test_a_run_of_versions_that_serve_here_no_more_is_kept_for_others(gateways: list[Gateway]) -> None:
    one, other = await two(gateways)
    await other.serve({PRODUCTION: V1, CANARY: V3})
    one.answer(100, PRODUCTION, V1)
    look_at_both(one, other, 12)
    await other.serve(BOTH)
    look_at_both(one, other, 12)

    assert other.check("faults")["production"]["requests"] == 100
    assert other.entry["since_timestamp"] == one.entry["since_timestamp"]


async def test_who_hears_of_a_reset_a_cell_later_knows_the_same_of_the_run(gateways: list[Gateway]) -> None:
    one, other = await two(gateways)
    look_at_both(one, other, (4 - int(one.clock.now())) % 5)
    one.facts.record(BreakerClosed("sentiment", CANARY, V2, OPERATOR_RESET))
    one.answer(100, PRODUCTION, V1)
    look_at_both(one, other, 20)

    assert known(one) == known(other)
    assert other.check("faults")["production"]["requests"] == 100


async def test_a_changed_split_closes_a_breaker_for_good(gateways: list[Gateway]) -> None:
    """What failed before says nothing any more."""
    alone = Gateway()
    gateways.append(alone)
    await alone.serve(BOTH)
    alone.look(20.0)
    alone.answer(50, CANARY, V2, fault="error")
    alone.look(1.0)
    assert len(alone.facts.of(BreakerOpened)) == 1
    alone.look(6.0)
    await alone.serve(BOTH, split={"production": 75, "canary": 25})
    for _ in range(12):
        alone.look(1.0)

    assert len(alone.facts.of(BreakerOpened)) == 1
    assert alone.entry["verdict"] == "not_enough_data"


async def test_a_changed_split_closes_the_breakers_of_a_fleet_for_good(gateways: list[Gateway]) -> None:
    """Also where one gateway reads it some seconds after the other one."""
    one, other = await two(gateways)
    one.answer(50, CANARY, V2, fault="error")
    look_at_both(one, other, 7)
    for gateway in (one, other):
        assert len(gateway.facts.of(BreakerOpened)) == 1
        await gateway.serve(BOTH, split={"production": 75, "canary": 25})
        look_at_both(one, other, 4)
    look_at_both(one, other, 20)

    assert [len(gateway.facts.of(BreakerOpened)) for gateway in (one, other)] == [1, 1]
    assert [gateway.entry["verdict"] for gateway in (one, other)] == ["not_enough_data"] * 2


def known(gateway: Gateway) -> tuple[int, bytes]:
    """Number and digest of the run that is compared."""
    [(_, _, run)] = list(gateway.analysis.runs())
    return run.id.number, run.joined.state.digest()


@pytest.mark.parametrize("later", range(12))
async def test_a_gateway_that_compares_later_knows_the_same_of_the_run(
    gateways: list[Gateway], later: int
) -> None:
    """Whose first cells are not sealed yet, or are folded already where it begins."""
    one, other = await two(gateways)
    await one.serve({PRODUCTION: V1, CANARY: V3})
    one.answer(100, PRODUCTION, V1)
    look_at_both(one, other, later)
    await other.serve({PRODUCTION: V1, CANARY: V3})
    other.answer(50, PRODUCTION, V1)
    look_at_both(one, other, 25)

    for _ in range(5):  # one may have sealed a cell more
        [ours, theirs] = [
            run.joined.state.dump() for gateway in (one, other) for *_, run in gateway.analysis.runs()
        ]
        if ours.horizon == theirs.horizon:
            break
        look_at_both(one, other, 1)
    assert ours == theirs
    assert one.check("faults")["production"]["requests"] == 150
