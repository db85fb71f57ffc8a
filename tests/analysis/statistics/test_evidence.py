"""What an operator relies on, from requests to verdicts."""

import math
import random
from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis import text
from router.analysis.checks import (
    ArmRate,
    LatencyCheck,
    RateCheck,
    Report,
    ScoreCheck,
    SplitCheck,
)
from router.analysis.criteria import Criteria
from router.analysis.statistics.cell_recorder import Observation
from router.analysis.statistics.drift import ArmScores, OutputShift
from router.core.ids import Alias
from router.core.scores import ClassSpec, ScoreSpec
from router.core.split import Split
from router.core.verdict import Verdict
from tests.analysis.statistics.observed import Observed, request, split_of

PRODUCTION_BUCKETS = range(5_000, 100_000)
CHALLENGER = Alias("challenger")
TWO_CLASSES, THREE_CLASSES = ClassSpec(0, ("yes",)), ClassSpec(0, ("yes", "no"))
"""One more than the list: all other labels."""


def evidence(share: float = 0.05, **said: Any) -> Observed:
    return Observed(split_of(share), **said)


def buckets(count: int, seed: int = 1) -> list[int]:
    return random.Random(seed).sample(range(100_000), count)


def reported_after(seen: Observed, requests: list[Observation], now: float) -> Report:
    """In cells of 500 requests or more, by `now` in all."""
    for index, one in enumerate(requests):
        if index and not index % 500:
            seen.look(now * index / len(requests))
        seen.observe(one)
    return seen.report(now)


def healthy(count: int, share: float = 0.05, **said: Any) -> list[Observation]:
    return [request(bucket, share=share, **said) for bucket in buckets(count)]


def faulty_canary(count: int, share: float = 0.05) -> list[Observation]:
    """`count` requests of different buckets; every canary request fails."""
    edge = round(share * 100_000)
    return [request(bucket, share=share, fault=bucket < edge) for bucket in buckets(count)]


def test_nothing_seen_is_not_enough_data() -> None:
    reported = evidence().report(10.0)

    assert reported.verdict is Verdict.NOT_ENOUGH_DATA
    assert {check.verdict for check in reported.checks} == {Verdict.NOT_ENOUGH_DATA}


def test_without_canary_traffic_there_is_neither_fail_nor_pass() -> None:
    seen = evidence()
    reported = reported_after(seen, [request(bucket) for bucket in PRODUCTION_BUCKETS[:3000]], 60.0)

    assert reported.verdict is Verdict.NOT_ENOUGH_DATA
    assert reported.faults.canary.requests == 0
    assert reported.faults.interval is None
    assert reported.faults.seconds_needed is None


def test_a_canary_that_fails_everybody_fails() -> None:
    reported = reported_after(evidence(), faulty_canary(2000), 60.0)

    assert reported.verdict is Verdict.FAIL
    assert reported.faults.failed_by == "outage"
    assert reported.faults.failed_at == 30.0, "with the first cell by which it had fifty requests"
    assert reported.faults.cumulative.proven
    assert reported.faults.requests_needed is None


def test_a_rise_of_five_points_is_proven_and_large() -> None:
    drawn = random.Random(3)
    requests = [
        request(bucket, fault=drawn.random() < (0.06 if bucket < 5_000 else 0.01))
        for bucket in buckets(20_000)
    ]

    reported = reported_after(evidence(), requests, 60.0)

    assert reported.faults.verdict is Verdict.FAIL
    assert reported.faults.failed_by == "cumulative"
    assert reported.faults.interval
    assert reported.faults.interval[0] > 0.0
    assert reported.latency.verdict is Verdict.PASS


def test_a_proven_rise_below_the_limit_does_not_fail() -> None:
    limits = Criteria(max_increase=0.5)
    drawn = random.Random(3)
    requests = [
        request(bucket, fault=drawn.random() < (0.06 if bucket < 5_000 else 0.01))
        for bucket in buckets(20_000)
    ]

    reported = reported_after(evidence(criteria=limits), requests, 60.0)

    assert reported.faults.cumulative.proven
    assert not reported.faults.cumulative.large
    assert reported.faults.verdict is not Verdict.FAIL


def test_fewer_than_fifty_canary_requests_never_fail() -> None:
    requests = [request(bucket, fault=True) for bucket in range(49)]
    requests += [request(bucket) for bucket in PRODUCTION_BUCKETS[:1000]]

    reported = reported_after(evidence(), requests, 60.0)

    assert reported.faults.cumulative.proven
    assert reported.verdict is Verdict.NOT_ENOUGH_DATA


def test_one_key_that_fails_a_thousand_times_is_one_event() -> None:
    """A user who fails is no proof against the version; only the outage rule sees one single heavy key."""
    seen = evidence()
    often = [request(7, fault=index % 3 == 0) for index in range(1000)]

    reported = reported_after(seen, often + [request(bucket) for bucket in PRODUCTION_BUCKETS[:5000]], 60.0)

    assert reported.faults.canary.events == 334
    assert reported.faults.canary.hit_keys == 1
    assert not reported.faults.cumulative.proven
    assert reported.verdict is Verdict.NOT_ENOUGH_DATA


def test_one_heavy_key_whose_every_request_fails_is_an_outage() -> None:
    reported = reported_after(evidence(), [request(7, fault=True) for _ in range(50)], 60.0)

    assert reported.faults.failed_by == "outage"


def test_requests_that_production_fails_as_well_do_not_count_towards_the_outage_rule() -> None:
    reported = reported_after(evidence(), [request(7, fault=True, excused=True) for _ in range(500)], 60.0)

    assert reported.faults.excused == 500
    assert reported.faults.failed_by == ""


def test_a_healthy_canary_passes_once_there_is_enough() -> None:
    reported = reported_after(evidence(), healthy(20_000), 60.0)

    assert reported.verdict is Verdict.PASS
    assert reported.faults.seconds_needed == 0.0
    assert reported.faults.requests_needed == reported.faults.canary.requests


def test_a_few_keys_never_pass() -> None:
    """Nineteen users cannot speak for all, however often they ask."""
    requests = [request(bucket) for _ in range(500) for bucket in range(19)]
    requests += [request(bucket) for bucket in PRODUCTION_BUCKETS[:10_000]]

    reported = reported_after(evidence(), requests, 60.0)

    assert reported.faults.canary.keys == 19
    assert not reported.faults.keys_enough
    assert reported.verdict is Verdict.NOT_ENOUGH_DATA


def test_nothing_passes_while_production_itself_fails() -> None:
    drawn = random.Random(5)
    requests = [request(bucket, fault=drawn.random() < 0.2) for bucket in buckets(50_000)]

    reported = reported_after(evidence(criteria=Criteria(max_increase=0.2)), requests, 60.0)

    assert reported.faults.production_failing
    assert reported.faults.verdict is Verdict.NOT_ENOUGH_DATA
    assert reported.faults.requests_needed is None


def test_it_says_how_much_longer() -> None:
    reported = reported_after(evidence(), healthy(620), 60.0)
    faults = reported.faults

    assert faults.verdict is Verdict.NOT_ENOUGH_DATA
    assert faults.requests_needed
    assert faults.seconds_needed
    missing = faults.requests_needed - faults.canary.requests
    assert faults.seconds_needed == pytest.approx(missing / (faults.canary.requests / 60.0), rel=0.02)
    assert 500 < faults.requests_needed < 1500
    assert faults.hit_keys_needed == 3
    assert faults.seconds_to_show_point


def test_a_canary_a_little_worse_is_reported_as_one_that_will_not_pass() -> None:
    drawn = random.Random(3)
    requests = [
        request(bucket, fault=drawn.random() < (0.025 if bucket < 5_000 else 0.01))
        for bucket in buckets(6_000)
    ]

    reported = reported_after(evidence(), requests, 60.0)

    assert reported.faults.will_not_pass
    assert reported.faults.requests_needed is None
    assert reported.faults.verdict is not Verdict.PASS


def test_a_crash_that_many_requests_shared_is_one_event() -> None:
    seen = evidence()
    crash = [request(bucket, fault=True, blamed_batch=12) for bucket in range(64)]
    requests = crash + [request(bucket) for bucket in buckets(5000)]

    reported = reported_after(seen, requests, 60.0)

    assert reported.faults.canary.events == 64
    assert reported.faults.canary.hit_keys == 1
    assert not reported.faults.cumulative.proven


def test_crashes_are_tossed_between_workers_not_between_keys() -> None:
    """With one worker each, five crashes are no proof where five faulty keys at 5 % are."""
    crashed, failed = evidence(), evidence()
    clean = [request(bucket) for bucket in PRODUCTION_BUCKETS[:5000]]
    crashes = [request(bucket, fault=True, blamed_batch=bucket) for bucket in range(5)]
    faults = [request(bucket, fault=True) for bucket in range(5)]

    assert not reported_after(crashed, clean + crashes, 60.0).faults.cumulative.proven
    assert reported_after(failed, clean + faults, 60.0).faults.cumulative.proven


def test_a_new_share_restarts_counts_and_passes_but_keeps_the_proof() -> None:
    seen = evidence()
    before = reported_after(seen, faulty_canary(2000), 60.0)

    seen.change_share(0.25, 70.0)
    after = seen.report(75.0)

    assert after.verdict is Verdict.NOT_ENOUGH_DATA
    assert after.faults.canary.requests == 0
    assert after.faults.cumulative.ln_e == before.faults.cumulative.ln_e
    assert after.share == 0.25
    assert (after.seconds, after.step_seconds) == (75.0, 5.0)


def test_requests_from_before_the_new_share_are_left_out() -> None:
    """A key that moved to the canary while its request was under way belongs to neither arm."""
    seen = evidence()
    under_way = request(6_000)
    seen.change_share(0.25, 70.0)

    reported = reported_after(seen, [under_way], 80.0)

    assert reported.left_out == 1
    assert reported.faults.production.requests == 0


def test_a_raised_share_takes_faulty_buckets_with_it() -> None:
    """A bucket that was faulty under production stays used up when the canary gets it."""
    seen = evidence()
    reported_after(seen, [request(6_000, fault=True)], 60.0)
    seen.change_share(0.25, 70.0)

    reported = reported_after(seen, [request(6_000, share=0.25, fault=True)], 80.0)

    assert reported.faults.canary.events == 1
    assert reported.faults.canary.hit_keys == 0


def test_the_order_of_requests_within_a_cell_does_not_matter() -> None:
    drawn = random.Random(9)
    requests = [
        request(
            drawn.randrange(100_000),
            fault=drawn.random() < 0.05,
            seconds=drawn.expovariate(60),
        )
        for _ in range(20_000)
    ]
    shuffled = requests.copy()
    drawn.shuffle(shuffled)

    reported = []
    for ordered in (requests, shuffled):
        seen = evidence()
        for one in ordered:
            seen.observe(one)
        reported.append(seen.report(60.0))
    assert reported[0] == reported[1]


def test_a_slow_canary_fails_when_both_proofs_agree() -> None:
    seen = evidence()
    reported = None
    for look in range(1, 40):
        for bucket in buckets(1000, seed=look):
            slow = bucket < 5_000 and bucket % 2 == 0
            seen.observe(request(bucket, seconds=0.2 if slow else 0.004))
        reported = seen.report(look * 15.0)
        if look == 1:
            assert reported.latency.cumulative.ln_e > reported.latency.cumulative.level
            assert not reported.latency.cumulative.proven, "one proof is not enough"
            first = reported.latency.fail_seconds
            assert first is not None
            assert first > 300, "nor is its time: the other proof is by blocks of half a minute"
        if reported.latency.verdict is Verdict.FAIL:
            break

    assert reported
    assert reported.latency.verdict is Verdict.FAIL
    assert look * 15.0 == pytest.approx(15.0 + (first or 0.0), abs=45.0), "it fails when it was said to"
    assert reported.latency.edge_seconds == 0.025
    assert reported.latency.quantiles_seconds.canary.p95 == pytest.approx(0.2, rel=0.05)


def test_the_line_is_learned_from_productions_first_answers() -> None:
    seen = evidence(line=None)
    first = [request(bucket, seconds=0.02 if bucket % 100 < 92 else 0.07) for bucket in range(5_000, 5_199)]
    reported = reported_after(seen, first, 10.0)
    assert reported.latency.edge_seconds is None

    reported = reported_after(seen, [request(5_300), request(1)], 20.0)

    assert reported.latency.edge_seconds == pytest.approx(1.2 * 0.07, rel=0.05)
    assert reported.latency.production.requests == 0, "what it was learned from is not judged"
    assert reported.latency.canary.requests == 0

    reported = reported_after(seen, [request(5_300), request(1, seconds=0.08), request(2, seconds=0.1)], 30.0)

    assert (reported.latency.production.requests, reported.latency.canary.requests) == (1, 2)
    assert reported.latency.canary.events == 1


def two_hours(canary: float, production: float, line: float | None = None, share: float = 1.0) -> Report:
    """Four requests in ten seconds for two hours; `share` of each arm takes so long, the rest 20 ms."""
    seen, every = evidence(0.5, line=line), buckets(2880)
    for index, bucket in enumerate(every):
        long = canary if bucket < 50_000 else production
        seconds = long if index % 100 < 100 * share else 0.02
        seen.observe(request(bucket, share=0.5, seconds=seconds))
        if index % 4 == 3:
            known = seen.report((index + 1) * 2.5)
            assert known.verdict is not Verdict.PASS
            assert known.latency.verdict is not Verdict.PASS
    return known


@pytest.mark.parametrize(("canary", "production"), [(7000.0, 730.0), (1500.0, 800.0), (700.0, 700.0)])
def test_no_canary_passes_on_durations_beyond_the_last_edge(canary: float, production: float) -> None:
    """Over 600 s all durations are counted alike, so a canary that takes ten times as long looks the same."""
    known = two_hours(canary, production)

    assert known.verdict is Verdict.NOT_ENOUGH_DATA
    assert known.latency.unmeasured == "over_last_edge"
    assert known.latency.quantiles_seconds.canary.p50 == 600.0
    over = known.latency.quantiles_over_last_edge
    assert asdict(over.canary) == asdict(over.production) == {"p50": True, "p95": True, "p99": True}
    assert known.latency.requests_needed is None, "more of such requests do not help"
    assert known.latency.seconds_needed is None


def test_a_tenth_beyond_the_last_edge_is_enough_not_to_pass() -> None:
    known = two_hours(7000.0, 730.0, share=0.1)

    assert known.latency.unmeasured == "over_last_edge"
    over = known.latency.quantiles_over_last_edge
    assert asdict(over.canary) == asdict(over.production) == {"p50": False, "p95": True, "p99": True}


def test_a_canary_alone_beyond_the_last_edge_fails() -> None:
    """What one arm does within the edges and the other beyond them is a difference that can be seen."""
    seen, now = evidence(0.5, line=None), 0.0
    for block in range(40):
        for bucket in buckets(400, seed=block):
            seen.observe(request(bucket, share=0.5, seconds=7000.0 if bucket < 50_000 else 400.0))
        now += 60.0
        seen.look(now)

    line = seen.report(now).latency.edge_seconds
    assert line == pytest.approx(1.2 * 400.0, rel=0.05)
    assert seen.report(now).latency.verdict is Verdict.FAIL


def test_nothing_passes_where_production_itself_is_nearly_always_slow() -> None:
    """All answers are slower than a line from better days: a canary ten times as slow looks the same."""
    known = two_hours(0.9, 0.09, line=0.025)

    assert known.latency.unmeasured == "all_slow"
    assert known.latency.requests_needed is None


def test_an_epoch_ends_with_a_quarter_of_an_hour_in_which_its_canary_had_five_hundred_requests() -> None:
    """At multiples of 900 s since the run began, so that it ends with the same cell at all gateways."""
    seen = evidence()
    for bucket in range(499):
        seen.observe(request(bucket))
    assert seen.report(900.0).faults.epoch_number == 1

    seen.observe(request(499))
    assert seen.report(905.0).faults.epoch_number == 1
    assert seen.report(1795.0).faults.epoch_number == 1
    assert seen.report(1800.0).faults.epoch_number == 2
    assert seen.report(2700.0).faults.epoch_number == 2, "this one had none"
    assert seen.report(2700.0).latency.epoch_number == 1
    assert seen.report(3600.0).latency.epoch_number == 2


def test_an_epoch_finds_what_begins_late() -> None:
    """A day of healthy keys hides a late rise from the process that counts from the start."""
    seen, now, drawn = evidence(), 0.0, random.Random(4)
    for epoch in range(6):
        worse = 0.05 if epoch == 5 else 0.0
        for _ in range(90):
            now += 10.0
            for _ in range(300):
                bucket = drawn.randrange(100_000)
                bad = drawn.random() < 0.01 + (worse if bucket < 5_000 else 0.0)
                seen.observe(request(bucket, fault=bad))
            seen.look(now)

    reported = seen.report(now)
    assert reported.faults.verdict is Verdict.FAIL
    assert reported.faults.failed_at
    assert reported.faults.failed_at > 4500.0
    assert reported.faults.failed_by == "epoch"


def test_scores_that_moved_are_reported_and_do_not_judge() -> None:
    seen = evidence(output=ScoreSpec(bins=10))
    drawn = random.Random(2)
    scored = [
        request(bucket, bin_index=int(10 * drawn.betavariate(5 if bucket < 5_000 else 2, 2)))
        for bucket in buckets(20_000)
    ]

    reported = reported_after(seen, scored, 30.0)

    assert reported.scores
    assert reported.scores.verdict is Verdict.FAIL
    assert not reported.scores.judges
    assert reported.verdict is Verdict.PASS
    output = reported.scores.outputs[0]
    assert output.proven
    assert output.size == "large"
    assert output.mean_difference == pytest.approx(5 / 7 - 0.5, abs=0.02)
    assert output.mean_interval
    assert output.mean_interval[0] < output.mean_difference < output.mean_interval[1]


def test_scores_judge_where_the_operator_said_so() -> None:
    seen = evidence(output=TWO_CLASSES, criteria=Criteria(on_shift="fail"))
    reported = reported_after(
        seen, [request(bucket, bin_index=int(bucket < 5_000)) for bucket in buckets(20_000)], 60.0
    )

    assert reported.scores
    assert reported.scores.judges
    assert reported.scores.outputs[0].kind == "class"
    assert reported.verdict is Verdict.FAIL


def test_scores_that_stay_pass_where_they_judge() -> None:
    seen = evidence(0.5, output=THREE_CLASSES, criteria=Criteria(on_shift="fail"))
    reported = reported_after(
        seen, [request(bucket, share=0.5, bin_index=bucket % 2) for bucket in buckets(20_000)], 60.0
    )

    assert reported.scores
    assert reported.scores.verdict is Verdict.PASS


@pytest.mark.parametrize("on_shift", ["report", "fail"])
def test_scores_that_all_lie_out_of_range_never_pass(on_shift: Any) -> None:
    """5 against 50 on [0, 1]: both are above the range, so that PSI and Kolmogorov-Smirnov see nothing."""
    seen = evidence(0.5, output=ScoreSpec(), criteria=Criteria(on_shift=on_shift))
    above = ScoreSpec().above
    reported = reported_after(
        seen, [request(bucket, share=0.5, bin_index=above) for bucket in buckets(20_000)], 60.0
    )

    assert reported.scores
    [output] = reported.scores.outputs
    assert (output.size, output.ks, output.ks_at_most) == ("none", 0.0, 1.0)
    assert output.saturated
    assert reported.scores.verdict is Verdict.NOT_ENOUGH_DATA
    assert reported.verdict is (Verdict.PASS if on_shift == "report" else Verdict.NOT_ENOUGH_DATA)
    said = text.check_sentence(reported.scores)
    assert said == (
        "Not enough data: 100 % of production's scores and 100 % of those of the canary are out of range, "
        "where all count alike."
    )
    if on_shift == "fail":
        assert text.verdict_sentence(reported, "") == said


def test_a_few_scores_out_of_range_pass_and_a_shift_that_shows_fails() -> None:
    """One in a hundred may lie anywhere; where all of the canary's lie out of range, that is a shift."""
    spec, judging = ScoreSpec(), Criteria(on_shift="fail")
    few = evidence(0.5, output=ScoreSpec(), criteria=judging)
    marks = [*range(20)] * 5 + [spec.above]
    reported = reported_after(
        few, [request(b, share=0.5, bin_index=marks[b % 101]) for b in buckets(60_000)], 60.0
    )
    assert reported.scores
    assert reported.scores.verdict is Verdict.PASS

    all_of_one = evidence(0.5, output=ScoreSpec(), criteria=judging)
    requests = [
        request(b, share=0.5, bin_index=spec.above if b < 50_000 else b % 20) for b in buckets(20_000)
    ]
    reported = reported_after(all_of_one, requests, 60.0)
    assert reported.scores
    assert reported.scores.verdict is Verdict.FAIL
    assert "proven. It may be larger: 0 % of production's scores" in text.check_sentence(reported.scores)


@pytest.mark.parametrize(
    ("canary", "verdict"), [(0.0036, Verdict.FAIL), (0.0028, Verdict.PASS)], ids=["2.4 ms more", "1.6 ms"]
)
def test_what_is_slow_is_fixed_from_the_first_answers_and_two_milliseconds_on_one_may_fail(
    canary: float, verdict: Verdict
) -> None:
    """What is less than `min_seconds` above production's 95th percentile is not slow."""
    seen = evidence(0.5, line=None)
    every, now, lines = buckets(15 * 400 + 600), 0.0, set()
    for bucket in every[:600]:
        seen.observe(request(bucket, share=0.5, seconds=0.0012))
    seen.look(5.0)
    for block in range(15):
        for bucket in every[600 + block * 400 : 1000 + block * 400]:
            seen.observe(request(bucket, share=0.5, seconds=canary if bucket < 50_000 else 0.0012))
        now += 30.0
        lines.add(seen.report(now).latency.edge_seconds)
    assert list(lines) == [pytest.approx(0.0032, rel=0.05)]
    assert seen.report(now).latency.verdict is verdict

    for bucket in range(50_000, 60_000):
        seen.observe(request(bucket, share=0.5, seconds=0.2))
    assert {seen.report(now + 5.0).latency.edge_seconds} == lines, "production's busy hour does not move it"


@pytest.mark.parametrize("on_shift", ["report", "fail"])
@pytest.mark.parametrize("arm", ["production", "canary"])
def test_answers_without_a_score_on_one_side_only_keep_it_from_passing_and_never_fail_it(
    arm: str, on_shift: Any
) -> None:
    """Two of three, of either side; where both sides are alike, or it is one of three, it passes as ever."""

    def verdicts(scoreless: int, sides: set[str]) -> tuple[Verdict, Verdict, str]:
        seen = evidence(0.5, output=THREE_CLASSES, criteria=Criteria(on_shift=on_shift))
        requests = []
        for turn, bucket in enumerate(buckets(20_000)):
            without = ("canary" if bucket < 50_000 else "production") in sides and turn % 3 < scoreless
            requests.append(request(bucket, share=0.5, bin_index=None if without else bucket % 2))
        reported = reported_after(seen, requests, 60.0)
        assert reported.scores
        return reported.verdict, reported.scores.verdict, reported.scores.outputs[0].uncounted

    waits, passes = Verdict.NOT_ENOUGH_DATA, Verdict.PASS
    assert verdicts(2, {arm}) == (waits, waits, arm)
    assert verdicts(1, {arm}) == (passes, passes, "")
    assert verdicts(2, {"production", "canary"}) == (passes, passes, "")


@pytest.mark.parametrize("canary", [49, 50])
def test_fewer_than_fifty_answers_of_an_arm_say_nothing_of_missing_scores(canary: int) -> None:
    seen = evidence(0.5, output=ScoreSpec(bins=2))
    requests = [request(bucket, share=0.5) for bucket in range(canary)]
    requests += [request(50_000 + bucket, share=0.5, bin_index=1) for bucket in range(60)]
    reported = reported_after(seen, requests, 60.0)

    assert reported.scores
    assert reported.scores.outputs[0].uncounted == ("canary" if canary == 50 else "")


def test_a_bucket_scores_once() -> None:
    seen = evidence(output=ScoreSpec(bins=3))
    for cell, bin_index in enumerate((1, 2, 2, 0)):
        seen.observe(request(8, bin_index=bin_index))
        seen.look(cell * 5.0 + 5.0)

    canary = seen.report().scores.outputs[0].canary
    assert (canary.scores, canary.keys) == (4, 1)
    scores = seen.state.dump().scores
    assert scores
    assert scores.canary.first.bins == [0, 1, 0]


@pytest.mark.parametrize("bin_index", [None, -2, 5], ids=["none", "below", "beyond"])
def test_a_score_that_is_not_on_the_list_is_invalid(bin_index: int | None) -> None:
    reported = reported_after(evidence(output=ScoreSpec(bins=3)), [request(8, bin_index=bin_index)], 60.0)

    assert reported.scores
    assert (reported.scores.outputs[0].canary.invalid, reported.scores.outputs[0].canary.scores) == (1, 0)


def test_a_canary_that_gets_half_its_keys_is_called_skewed() -> None:
    requests = [request(bucket) for bucket in buckets(40_000) if bucket >= 5_000 or bucket % 2]

    reported = reported_after(evidence(), requests, 60.0)

    assert reported.split.verdict is Verdict.FAIL
    assert reported.split.observed_share == pytest.approx(0.0256, abs=0.002)
    assert not reported.split.judges
    assert reported.verdict is Verdict.PASS


def test_a_further_alias_owns_the_top_and_production_what_is_left() -> None:
    """With 10 % for one challenger and 5 % for another, π is its part of the buckets of both arms."""
    split = Split(10_000, (CHALLENGER, 5_000))
    seen = Observed(split, alias=CHALLENGER)
    reported = reported_after(
        seen,
        [
            request(bucket, split=split, canary=canary)
            for bucket, canary in ((99_999, True), (50_000, False), (3, True), (3, False))
        ],
        60.0,
    )

    assert reported.left_out == 2
    assert reported.split.expected_share == pytest.approx(5 / 90)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_arm_without_buckets_is_never_judged(share: float) -> None:
    seen = evidence(share)
    reported = reported_after(
        seen, [request(bucket, share=share, fault=bucket % 7 == 0) for bucket in buckets(5000)], 60.0
    )

    assert reported.verdict is Verdict.NOT_ENOUGH_DATA
    assert reported.faults.cumulative.ln_e == pytest.approx(0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0},
        {"max_increase": 1.0},
        {"on_shift": "shrug"},
        {"min_requests": 0},
        {"canary_workers": 2.0},
        {"min_ratio": 0.9},
        {"min_seconds": -0.001},
        {"min_seconds": math.inf},
    ],
    ids=str,
)
def test_limits_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"lie|is|are|both"):
        Criteria(**wrong)


STEP = st.tuples(
    st.sampled_from([0.0, 0.00001, 0.01, 0.05, 0.5, 0.99, 1.0]),
    st.integers(0, 120),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(1, 100_000),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEP, max_size=5), classes=st.booleans(), seed=st.integers(0, 1000))
def test_whatever_comes_every_number_is_finite_or_unknown(
    steps: list[tuple[float, int, float, float, int]], classes: bool, seed: int
) -> None:
    """No arm, no traffic, nothing but faults, one bucket: there is always a report."""
    drawn, now = random.Random(seed), 0.0
    output = THREE_CLASSES if classes else ScoreSpec(0, 0.0, 2.0, 3, (0.1, 0.5, 2.0))
    seen = evidence(output=output, line=None if seed % 2 else 0.025)
    for share, count, faults, slow, below in steps:
        seen.change_share(share, now)
        for _ in range(count):
            seen.observe(
                request(
                    drawn.randrange(below),
                    share=share,
                    fault=drawn.random() < faults,
                    seconds=90.0 if drawn.random() < slow else 0.0,
                    bin_index=drawn.choice([None, 0, 1, 2]),
                    blamed_batch=drawn.choice([None, drawn.randrange(3)]),
                )
            )
        now += drawn.choice([0.0, 10.0, 2000.0])
        unknown_or_finite(asdict(seen.report(now)))


def unknown_or_finite(reported: object) -> None:
    for value in (
        reported.values() if isinstance(reported, dict) else reported if isinstance(reported, tuple) else ()
    ):
        unknown_or_finite(value)
    if isinstance(reported, float):
        assert math.isfinite(reported)


def test_the_names_are_those_of_the_comparison() -> None:
    assert names(RateCheck) >= {
        *("check", "verdict", "judges", "limit", "production", "canary", "difference", "interval"),
        *("excused", "seconds_needed", "requests_needed"),
    }
    assert names(LatencyCheck) >= {*names(RateCheck), "edge_seconds", "quantiles_seconds"}
    assert names(ArmRate) >= {"requests", "events", "rate", "keys"}
    assert names(ScoreCheck) == {"check", "verdict", "judges", "alpha", "outputs"}
    assert names(OutputShift) >= {
        *("kind", "psi", "noise", "line", "size", "ks", "ks_bound", "proven", "production", "canary"),
        *("mean_difference", "mean_interval"),
    }
    assert names(ArmScores) >= {"scores", "keys", "mean", "p50", "p95", "invalid"}
    assert names(SplitCheck) >= {"check", "verdict", "judges", "expected_share", "observed_share"}


def names(reported: type[Any]) -> set[str]:
    return {field.name for field in fields(reported)}


def test_a_canary_whose_callers_gave_up_after_the_edge_is_slow() -> None:
    """However long it would have taken, it is longer than that."""
    requests = [
        request(bucket, abandoned=bucket < 5_000, seconds=1.0 if bucket < 5_000 else 0.004)
        for bucket in buckets(16_000)
    ]
    reported = reported_after(evidence(), requests, 3_600.0)

    assert reported.latency.canary.events == reported.latency.canary.requests > 50
    assert reported.latency.verdict is Verdict.FAIL
    assert reported.faults.canary.requests == 0, "whether it would have failed nobody knows"
    assert reported.latency.quantiles_seconds.canary.p95 is None, "how long it takes nobody knows either"


def test_what_was_abandoned_before_the_edge_says_nothing_of_either_version() -> None:
    seen = evidence()
    for bucket in buckets(2_000):
        seen.observe(request(bucket, abandoned=True, seconds=0.02))
    reported = seen.report(900.0)

    for arm in (reported.faults, reported.latency):
        assert arm.canary.requests == arm.production.requests == 0
        assert (arm.verdict, arm.cumulative.ln_e) == (Verdict.NOT_ENOUGH_DATA, 0.0)
    assert reported.split.observed_share == pytest.approx(0.05, rel=0.3), "the split gave them, all the same"


def test_callers_of_both_versions_who_give_up_alike_make_no_difference() -> None:
    """Every tenth caller hangs up, whichever version it was given."""
    requests = [
        request(bucket, abandoned=not index % 10, seconds=0.004 if index % 10 else 1.0)
        for index, bucket in enumerate(buckets(8_000))
    ]
    reported = reported_after(evidence(), requests, 3_600.0)

    assert reported.latency.production.rate == pytest.approx(0.1, rel=0.05)
    assert reported.verdict is not Verdict.FAIL
