"""The check of shadow requests: what it takes to fail, what it never does, and what is shown beside it."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis.criteria import FAULTS, PAIRED_BUDGET, SCORES_BUDGET, SLOW_ANSWERS, Criteria
from router.analysis.run_state import RunState
from router.analysis.statistics.cell_recorder import CellRecorder
from router.analysis.statistics.records import CELL_SECONDS, Record, RunCell, add_record
from router.core.ids import CANARY
from router.core.verdict import Verdict
from tests.analysis.statistics.observed import Observed, request, split_of
from tests.analysis.statistics.pairs import SHADOWED, check_of, pair, shadowed


def a_worse_canary(share: float, cells: int = 12, pairs: int = 20) -> Observed:
    """In each cell the canary alone fails one bucket."""
    run = shadowed(share)
    for cell in range(cells):
        for index in range(pairs):
            bucket = 60_000 + cell * pairs + index
            run.recorder.compare(pair(bucket, share=share, canary_fault=index == 0))
        run.look((cell + 1) * CELL_SECONDS)
    return run


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_canary_that_fails_more_copies_fails_whatever_its_share(share: float) -> None:
    report = a_worse_canary(share).report()

    check = report.shadow
    assert check is not None
    assert (check.verdict, report.verdict, check.judges) == (Verdict.FAIL, Verdict.FAIL, True)
    assert (check.canary.hit_keys, check.production.hit_keys, check.failed_by) == (12, 0, "cumulative")
    assert check.difference == pytest.approx(0.05)
    assert check.failed_at == 55.0, "with the eleventh cell"
    assert report.share == share
    assert report.faults.canary.requests == 0, "nobody was routed"


def test_ten_cells_do_not_suffice_and_neither_do_fifty_buckets_of_one_cell() -> None:
    assert a_worse_canary(0.0, cells=10).report().verdict is Verdict.NOT_ENOUGH_DATA

    run = shadowed(0.0)
    for bucket in range(50):
        run.recorder.compare(pair(bucket, share=0.0, canary_fault=True))
    assert check_of(run, 5.0).verdict is Verdict.NOT_ENOUGH_DATA


def test_a_rise_below_the_limit_is_proven_and_does_not_fail() -> None:
    check = check_of(a_worse_canary(0.05, pairs=300))

    assert (check.cumulative.proven, check.cumulative.large) == (True, False)
    assert check.verdict is Verdict.NOT_ENOUGH_DATA


def test_what_both_fail_says_nothing() -> None:
    run = shadowed()
    for cell in range(20):
        for index in range(10):
            bucket = 10_000 + 10 * cell + index
            run.recorder.compare(pair(bucket, production_fault=True, canary_fault=True))
        run.look((cell + 1) * CELL_SECONDS)

    check = check_of(run)
    assert (check.counts.both_faults, check.counts.agreed) == (200, 200)
    assert (check.cumulative.ln_e, check.difference) == (0.0, 0.0)


def test_a_loop_of_one_user_is_one_event() -> None:
    run = shadowed()
    for _ in range(100):
        run.recorder.compare(pair(70_000, canary_fault=True))

    check = check_of(run, 5.0)
    assert (check.canary.alone, check.canary.hit_keys) == (100, 1)


def test_slow_copies_and_dropped_ones_judge_nothing() -> None:
    """They run later and below production's priority: they would always speak against the canary."""
    run = shadowed()
    for bucket in range(10_000, 13_000):
        run.recorder.compare(pair(bucket, canary_seconds=0.4))
        run.recorder.drop_shadow()

    check = check_of(run, 5.0)
    assert (check.verdict, check.judges, check.shows_none) == (Verdict.NOT_ENOUGH_DATA, False, True)
    assert check.counts.dropped == 3000
    assert check.canary.seconds.p50 == pytest.approx(0.4, rel=0.05)
    assert check.production.seconds.p50 == pytest.approx(0.004, rel=0.05)


def test_pairs_keep_nobody_from_passing() -> None:
    """A machine without idle processors compares nothing, and that is no canary's fault."""
    run = shadowed(0.5)
    for cell in range(120):
        for index in range(20):
            bucket = (cell * 20 + index) * 7_919 % 100_000
            run.observe(request(bucket, share=0.5))
        run.look((cell + 1) * CELL_SECONDS)

    report = run.report()
    assert report.shadow is not None
    assert report.shadow.counts.pairs == 0
    assert report.verdict is Verdict.PASS


def test_scores_and_labels_are_shown() -> None:
    run = shadowed()
    for bucket, difference in (
        (10_001, 0.2),
        (10_001, -0.9),
        (10_002, -0.0004),
        (10_003, 0.0),
        (10_004, None),
    ):
        run.recorder.compare(pair(bucket, difference=difference))
    run.recorder.compare(pair(10_005, flips=2, rows=5, agrees=False))
    run.recorder.compare(pair(10_006, same_type=False, agrees=False, difference=float("nan")))
    run.recorder.compare(pair(10_007, same_length=False, agrees=False))

    check = check_of(run, 5.0)
    counts, scores = check.counts, check.scores
    assert (scores.raised, scores.lowered) == (0, 1), "a bucket with both in one cell counts for neither"
    assert scores.counts[0] == 3
    assert sum(scores.counts) == 6
    assert (counts.flips, counts.rows, counts.other_type, counts.other_length) == (2, 12, 1, 1)
    assert (counts.pairs, counts.agreed) == (8, 5)


def test_it_says_how_many_pairs_show_a_point() -> None:
    run = shadowed()
    run.recorder.compare(pair(10_001))
    check = check_of(run, 5.0)

    assert check.pairs_needed == 1281  # (ln 800 + ln 9) / (0.01 · ln 2)
    assert check.seconds_to_show_point == pytest.approx(1281 * 5)


def test_a_request_of_another_split_counts_by_that_one() -> None:
    """It is in the record of the split that routed it, which is not the step's."""
    run = shadowed(0.05)
    run.look(5.0)
    run.change_share(0.25, 10.0)
    run.recorder.compare(pair(90_000, share=0.25, canary_fault=True))
    run.recorder.compare(pair(90_001, share=0.05, canary_fault=True))
    run.recorder.compare(pair(10_000, share=0.25, canary_fault=True))  # the canary's own bucket

    assert check_of(run, 15.0).counts.pairs == 1


def test_proof_goes_on_through_steps_and_size_begins_anew() -> None:
    run = a_worse_canary(0.05, cells=9)
    run.change_share(0.25, 9 * CELL_SECONDS)
    run.look(10 * CELL_SECONDS)
    check = check_of(run)
    assert (check.counts.pairs, check.canary.hit_keys) == (0, 9)
    for cell in range(10, 13):
        for index in range(20):
            bucket = 70_000 + 20 * cell + index
            run.recorder.compare(pair(bucket, share=0.25, canary_fault=index == 0))
        run.look((cell + 1) * CELL_SECONDS)

    assert check_of(run).verdict is Verdict.FAIL


def test_an_epoch_sees_what_begins_late() -> None:
    """A production that failed more alone outweighs the canary's faults, and not in the next epoch."""
    run = shadowed(0.0)
    for cell in range(180):
        for index in range(10):
            run.recorder.compare(pair(10 * cell + index, share=0.0, production_fault=index == 0))
        run.look((cell + 1) * CELL_SECONDS)
    for cell in range(180, 200):
        for index in range(10):
            run.recorder.compare(pair(10 * cell + index, share=0.0, canary_fault=index == 0))
        run.look((cell + 1) * CELL_SECONDS)

    check = check_of(run)
    assert (check.verdict, check.failed_by) == (Verdict.FAIL, "epoch")
    assert not check.cumulative.proven


def test_crashes_of_production_say_nothing_while_the_canary_has_no_keys() -> None:
    """Its workers have no user who could crash them, so they would lower what is proven for no reason."""
    for share, moved in ((0.0, False), (0.05, True)):
        run = shadowed(share)
        for cell in range(3):
            bucket = 60_000 + cell
            run.observe(request(bucket, share=share, fault=True, blamed_batch=cell))
            run.look((cell + 1) * CELL_SECONDS)
        assert (run.report().faults.cumulative.ln_e != 0.0) == moved


def test_the_budget_is_spent_once() -> None:
    shares = [PAIRED_BUDGET, SCORES_BUDGET, SHADOWED.budget_of(FAULTS), SHADOWED.budget_of(SLOW_ANSWERS)]

    assert sum(shares) == 1.0
    assert Criteria().budget_of(FAULTS) == 0.5


def test_without_shadow_there_is_no_such_check_and_its_facts_change_nothing() -> None:
    """So a verdict is what it was, to the last bit."""
    plain, told = (Observed(split_of(0.05)) for _ in range(2))
    for run in (plain, told):
        for bucket in range(4_990, 5_010):
            run.observe(request(bucket, fault=bucket % 3 == 0))
    for bucket in range(10_000, 10_050):
        told.recorder.compare(pair(bucket, canary_fault=True))

    assert told.report(5.0) == plain.report(5.0)
    assert told.state.digest() == plain.state.digest()
    assert told.report().shadow is None
    assert msgspec.msgpack.encode(Criteria()) == msgspec.msgpack.encode(Criteria(shadow=msgspec.UNSET))


class Process:
    """One of several gateways that compare; what it drains is merged as it comes."""

    def __init__(self) -> None:
        self.recorder = CellRecorder(CANARY, split_of(0.0), None, None)
        self.drained: list[Record] = []

    def end_cell(self, cells: int, order: random.Random) -> RunCell:
        self.drained += self.recorder.drain(groups=True)
        order.shuffle(self.drained)
        part = RunCell(True, self.recorder.ranges)
        for record in self.drained:
            add_record(part, record, 1)
        self.drained = []
        self.recorder.begin_cell(cells)
        return part


def folded(seed: int, processes: int, cells: int = 200) -> RunState:
    """The same pairs of few keys, dealt out by chance."""
    facts, dealt = random.Random(seed), random.Random(seed * 10 + processes)
    state, gateways = RunState.begin(SHADOWED, None, 7), [Process() for _ in range(processes)]
    for cell in range(cells):
        for _ in range(facts.randrange(12)):
            one = pair(
                facts.randrange(300),
                share=0.0,
                production_fault=facts.random() < 0.1,
                canary_fault=facts.random() < 0.15,
                difference=facts.choice([None, 0.0, -0.3, 0.2]),
            )
            gateway = dealt.choice(gateways)
            gateway.recorder.compare(one)
            if dealt.random() < 0.2:
                gateway.drained += gateway.recorder.drain(groups=False)
        parts = [gateway.end_cell(cell + 1, dealt) for gateway in gateways]
        dealt.shuffle(parts)
        state.fold(7 + cell, parts)
        if cell % 70 == 69:
            state = RunState.load(state.dump(), SHADOWED, None)
    return state


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_whoever_compared_which_request_the_state_is_the_same_to_the_last_bit(seed: int) -> None:
    alone, *others = (folded(seed, processes) for processes in (1, 2, 4))

    for other in others:
        assert other.digest() == alone.digest()
        assert other.dump() == alone.dump()
        assert other.report() == alone.report()
    assert alone.report().shadow is not None


def test_a_state_goes_on_where_it_was_and_one_without_pairs_is_refused() -> None:
    run = a_worse_canary(0.05, cells=9)
    data = run.state.dump()
    again = RunState.load(data, SHADOWED, None)

    assert again.digest() == run.state.digest()
    assert again.report() == run.state.report()
    with pytest.raises(ValueError, match="where requests are shadowed"):
        RunState.load(data, Criteria(), None)
