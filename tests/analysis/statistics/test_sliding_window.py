"""Fifteen minutes of counts, out of counts that only grow."""

from router.analysis.statistics.counts import SLICE_SECONDS, WINDOW_SECONDS, ArmCounters, SlidingWindow
from router.analysis.statistics.durations import bin_of
from router.core.events import Answered
from router.core.ids import CANARY, VersionId
from router.core.scores import ClassCounts, ScoreCounts

V2 = VersionId("m", 2)


def answered(outcome: str = "ok", fault: str = "", seconds: float = 0.003) -> Answered:
    return Answered("m", CANARY, V2, outcome, 200, seconds, 1, fault=fault)


def test_each_request_counts_once_under_what_became_of_it() -> None:
    counters = ArmCounters([])
    for event in (
        answered(),
        answered(seconds=100.0),
        answered("fallback", "crash"),
        answered("fallback"),
        answered("client_error"),
        answered(fault="timeout"),
    ):
        counters.answered([event])
    counts = counters.snapshot()

    assert (counts.requests, counts.fallbacks, counts.faults) == (6, 2, (0, 1, 1, 0))
    assert (counts.latency[4], counts.latency[-1], sum(counts.latency)) == (1, 1, 2)


def test_scores_and_classes_are_added_up_and_those_of_other_bins_left_out() -> None:
    counters = ArmCounters([3, 2])
    counters.scored((ScoreCounts((1, 0, 2)), ClassCounts((5, 0))))
    counters.scored((ScoreCounts((0, 1, 0)), ClassCounts((0, 1))))
    counters.scored((ScoreCounts((9, 9)), ClassCounts((0, 1))))
    counters.scored((ScoreCounts((9, 9, 9)),))

    assert counters.snapshot().bins == ((1, 1, 2), (5, 2))


def test_what_is_older_than_the_window_is_forgotten() -> None:
    counters, other = ArmCounters([]), ArmCounters([])
    window = SlidingWindow(other, counters, 0.0)
    now = 0.0
    for _ in range(200):
        now += 10.0
        counters.answered([answered()])
        window.slide(now)
        assert window.seconds(now) >= WINDOW_SECONDS - SLICE_SECONDS or window.seconds(now) == now
        assert window.seconds(now) <= WINDOW_SECONDS + SLICE_SECONDS
        expected = window.seconds(now) / 10.0
        assert abs(window.counts()[1].requests - expected) <= 1


def test_its_memory_does_not_grow_with_time() -> None:
    window = SlidingWindow(ArmCounters([20]), ArmCounters([20]), 0.0)
    for second in range(20_000):
        window.slide(float(second))

    assert len(window._snapshots) <= WINDOW_SECONDS / SLICE_SECONDS + 2


def test_the_hour_before_a_rollout_is_what_its_production_is_known_by() -> None:
    counters = ArmCounters([])
    for minute in range(200):
        counters.tick(minute * 60.0)
        counters.answered([answered()])

    hour = counters.durations_of_last_hour()
    assert set(hour) == {bin_of(0.003)}
    assert 59 <= sum(hour.values()) <= 61
