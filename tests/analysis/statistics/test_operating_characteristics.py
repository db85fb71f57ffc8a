"""How often verdicts are wrong and how long they take, measured on seeded made-up days.

The quick ones keep the promises from breaking unseen; the slow ones measure, and `docs/evidence.md` shows
what.
"""

import random
from collections.abc import Callable, Sequence
from time import thread_time

import numpy as np
import pytest

from router.analysis.criteria import Criteria
from router.analysis.statistics.cell_recorder import Observation
from router.analysis.statistics.fault_test import (
    FAULT,
    WORSE,
    BucketFlags,
    FirstHitTest,
    OddsMixture,
    cumulative_level,
    epoch_level,
)
from router.core.scores import ScoreSpec
from tests.analysis.statistics.days import (
    Traffic,
    canary_requests_until,
    days_of_first_hits,
    evidence_on,
    failed,
    highest_ln_e,
    passed,
    reported,
)
from tests.analysis.statistics.observed import Observed, split_of
from tests.conftest import Figure

FAULTS_ALPHA = 0.005
EPOCH_SECONDS = 900.0


def percent(count: int, days: int) -> str:
    return f"{100 * count / days:.1f} % of {days}"


def as_published(taken: Sequence[float | None], median: float, late: float, came: float = 1.0) -> None:
    """`taken` has the median and the 95th percentile that the document shows, and as many came to an end.

    Medians within a fifth, the tail within two fifths: the days are seeded, but another numpy draws others.
    """
    done = [one for one in taken if one is not None]
    assert len(done) >= (came - 0.05) * len(taken)
    found = np.quantile(done, [0.5, 0.95])
    assert found[0] == pytest.approx(median, rel=0.2)
    assert found[1] == pytest.approx(late, rel=0.4)


def proven_wrongly(seed: int, share: float, requests_per_second: float) -> bool:
    """One day of heavy, sticky keys and equal versions: whether either process ever proves a rise."""
    traffic = Traffic(seed, share=share, base=0.01, heavy=True)
    start, *epochs = days_of_first_hits(traffic, requests_per_second, 24.0, EPOCH_SECONDS)
    if highest_ln_e(start, traffic.edge, WORSE) >= cumulative_level(FAULTS_ALPHA):
        return True
    return any(
        highest_ln_e(hits, traffic.edge, WORSE) >= epoch_level(FAULTS_ALPHA, number)
        for number, hits in enumerate(epochs, start=1)
    )


def test_the_other_program_says_the_same() -> None:
    """What the days are counted with is not the code under test; on one of them both must agree."""
    traffic = Traffic(5, heavy=True)
    start, *_ = days_of_first_hits(traffic, 10.0, 1.0, EPOCH_SECONDS)
    mixture, clean, clean_canary, highest = OddsMixture(), 100_000, traffic.edge, 0.0
    for production, canary in start.T.tolist():
        mixture.add(canary, production + canary, clean_canary / clean)
        clean -= production + canary
        clean_canary -= canary
        highest = max(highest, mixture.ln_e)

    assert max(0.0, highest_ln_e(start, traffic.edge, WORSE)) == pytest.approx(highest)


def test_equal_versions_are_rarely_proven_unequal_by_heavy_users() -> None:
    days = 15

    assert sum(proven_wrongly(seed, 0.05, 10.0) for seed in range(days)) == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("share", [0.01, 0.05, 0.5], ids=["1%", "5%", "50%"])
def test_a_day_of_equal_versions_and_heavy_users(share: float, figure: Figure) -> None:
    """24 h, looked at every 10 s, no size gate: proven at the faults' budget of 0.5 %."""
    days = 150
    wrong = sum(proven_wrongly(1000 + seed, share, 100.0) for seed in range(days))
    figure(f"share {share:.0%}: false proof in {percent(wrong, days)}")

    assert wrong / days <= 0.02


def fails_wrongly(seed: int, hours: float, *, heavy: bool) -> bool:
    """Request by request, 10 a second, faults and durations, everything that judges."""
    traffic = Traffic(seed, base=0.01, heavy=heavy, slow=0.04)
    seen = evidence_on(traffic)

    def any_fails(one: Observed) -> bool:
        return bool(one.state._faults.state.failed_by or one.state._latency.state.failed_by)

    found = canary_requests_until(any_fails, seen, traffic, per_look=100, most=int(hours * 36_000))
    return found is not None


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("heavy", [False, True], ids=["independent", "heavy"])
def test_three_hours_of_equal_versions_request_by_request(*, heavy: bool, figure: Figure) -> None:
    runs = 100
    wrong = sum(fails_wrongly(seed, 3.0, heavy=heavy) for seed in range(runs))
    figure(f"{'heavy' if heavy else 'independent'}: false FAIL in {percent(wrong, runs)}")

    assert wrong / runs <= 0.02


def to_fail(seed: int, share: float, base: float, rise: float, most: int) -> int | None:
    traffic = Traffic(seed, share=share, base=base, rise=rise)
    per_look = max(20, round(10 / share))
    return canary_requests_until(failed, evidence_on(traffic), traffic, per_look=per_look, most=most)


@pytest.mark.parametrize(("rise", "median"), [(0.05, (80, 260)), (0.2, (50, 70))], ids=["+5", "+20"])
def test_a_worse_canary_fails_soon(rise: float, median: tuple[int, int]) -> None:
    """5 % split, base 1 %; measured with more runs: 150 and 50 canary requests."""
    runs = [to_fail(seed, 0.05, 0.01, rise, 40_000) for seed in range(15)]

    assert all(runs)
    assert median[0] <= np.median([one for one in runs if one]) <= median[1]


UNTIL_FAIL = [
    (0.01, 0.0, [(277, 493), (62, 118), (54, 63), (54, 61)]),
    (0.01, 0.01, [(2259, 3870), (122, 263), (54, 63), (54, 61)]),
    (0.05, 0.0, [(290, 661), (59, 114), (56, 63), (54, 57)]),
    (0.05, 0.01, [(2009, 5063), (134, 347), (56, 63), (54, 57)]),
    (0.5, 0.0, [(964, 1717), (205, 307), (56, 84), (53, 60)]),
    (0.5, 0.01, [(3583, 6823, 0.96), (294, 665), (66, 113), (53, 60)]),
]
"""Share, base, and for each rise the median, the 95th percentile, and which part of the runs ended."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("share", "base", "published"), UNTIL_FAIL, ids=lambda one: f"{one}"[:5])
def test_canary_requests_until_a_worse_canary_fails(
    share: float, base: float, published: list[tuple[float, ...]], figure: Figure
) -> None:
    """Canary requests until FAIL at +1, +5, +20 and +100 points are as the document says."""
    measured = []
    for rise, runs in ((0.01, 25), (0.05, 60), (0.2, 60), (1.0, 20)):
        rise, most = min(rise, 1.0 - base), round(16_000 / share)
        measured.append([to_fail(seed, share, base, rise, most) for seed in range(runs)])
    figure(f"share {share:.0%}, base {base:.0%}: {' · '.join(map(reported, measured))}")

    for taken, expected in zip(measured, published, strict=True):
        as_published(taken, *expected)


def to_pass(traffic: Traffic, most: int, criteria: Criteria = Criteria()) -> int | None:  # noqa: B008 - frozen
    seen = evidence_on(traffic, criteria=criteria)
    per_look = max(50, round(50 / traffic.share))
    return canary_requests_until(passed, seen, traffic, per_look=per_look, most=most)


UNTIL_PASS = [
    (0.01, 0.05, [(96, 120), (102, 121), (108, 203)]),
    (0.05, 0.01, [(361, 381), (362, 1082), (1020, 3033)]),
    (0.25, 0.005, [(742, 758), (888, 1892), (2814, 10_034, 0.95)]),
    (0.5, 0.005, [(802, 813), (812, 2919), (3701, 8300, 0.82)]),
]
"""Share, margin, and for each base what `UNTIL_FAIL` has for each rise."""


def test_an_equal_canary_passes_in_time() -> None:
    """5 % split, margin half a point, no faults: 680 canary requests by measurement."""
    runs = [to_pass(Traffic(seed, base=0.0), 40_000) for seed in range(8)]

    assert all(runs)
    assert 600 <= np.median([one for one in runs if one]) <= 900


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("share", "margin", "published"), UNTIL_PASS, ids=["1%", "5%", "25%", "50%"])
def test_canary_requests_until_an_equal_canary_passes(
    share: float, margin: float, published: list[tuple[float, ...]], figure: Figure
) -> None:
    """At base fault rates of 0, 0.1 and 1 % they are as the document says."""
    criteria, measured = Criteria(max_increase=margin), []
    for base, runs in ((0.0, 10), (0.001, 60), (0.01, 40)):
        traffics = [Traffic(seed, share=share, base=base) for seed in range(runs)]
        measured.append([to_pass(each, round(12_000 / share), criteria) for each in traffics])
    figure(f"share {share:.0%}, base 0, 0.1 and 1 %: {' · '.join(map(reported, measured))}")

    for taken, expected in zip(measured, published, strict=True):
        as_published(taken, *expected)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("heavy", [False, True], ids=["independent", "heavy"])
@pytest.mark.parametrize("base", [0.0, 0.01], ids=["base-0", "base-1%"])
def test_a_canary_worse_by_the_margin_rarely_passes(base: float, *, heavy: bool, figure: Figure) -> None:
    """Promise: about 5 %. 5 % split, margin 1 point, 4 000 canary requests."""
    criteria, runs = Criteria(max_increase=0.01), 100
    taken = [
        to_pass(Traffic(seed, base=base, rise=0.01, heavy=heavy), 80_000, criteria) for seed in range(runs)
    ]
    wrong = sum(one is not None for one in taken)
    figure(f"base {base:.0%}, {'heavy' if heavy else 'independent'}: wrong PASS in {percent(wrong, runs)}")

    assert wrong / runs <= 0.12


def crashing_day(seed: int) -> float:
    """A crash of each arm's only worker every two hours, each with up to 16 requests of different keys."""
    drawn = random.Random(seed)
    owned = BucketFlags(range(5_000), range(5_000, 100_000))
    hits, highest = FirstHitTest(FAULT), 0.0
    hits.recount(owned)
    for _ in range(24):
        canary = drawn.random() < 0.5
        bucket = drawn.randrange(5_000) if canary else drawn.randrange(5_000, 100_000)
        hits.take(owned, (), (bucket,))
        highest = max(highest, hits.ln_e)
    return highest


def test_crashes_of_equal_versions_are_no_proof() -> None:
    days = 400
    wrong = sum(crashing_day(seed) >= cumulative_level(FAULTS_ALPHA) for seed in range(days))

    assert wrong / days <= 0.0125


def stalling(seed: int, hours: float) -> tuple[bool, bool]:
    """A stall of 3 s per worker every 2 min: whether the proof by keys alone, and whether both fail."""
    drawn, per_second = np.random.default_rng(seed), 50
    split = split_of(0.05)
    seen = Observed(split)
    stalls = [np.cumsum(drawn.exponential(120.0, int(hours * 40) + 10)) for _ in range(2)]
    by_keys = False
    for look in range(int(hours * 360)):
        at = look * 10.0 + np.sort(drawn.random(10 * per_second)) * 10.0
        buckets = drawn.integers(0, 100_000, len(at))
        canary = buckets < 5_000
        stalled = np.zeros(len(at), bool)
        for arm in (0, 1):
            last = np.searchsorted(stalls[arm], at) - 1
            since = at - np.where(last >= 0, stalls[arm][last], -1e9)
            stalled |= (canary == arm) & (since < 3.0)
        slow = stalled | (drawn.random(len(at)) < 0.03)
        for bucket, is_canary, took in zip(
            buckets.tolist(), canary.tolist(), np.where(slow, 0.2, 0.004).tolist(), strict=True
        ):
            seen.observe(Observation(bucket, is_canary, split, False, took, None, None, False))
        seen.look((look + 1) * 10.0)
        latency = seen.state._latency
        for proof in (latency.cumulative_proof, latency.epoch_proof):
            by_keys = by_keys or (proof.large and proof.ln_e >= proof.level)
    return by_keys, bool(seen.state._latency.state.failed_by)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_stalls_of_equal_versions_are_no_proof_of_being_slow(figure: Figure) -> None:
    runs = 25
    found = [stalling(seed, 2.0) for seed in range(runs)]
    keys, both = (sum(one[which] for one in found) for which in (0, 1))
    figure(f"2 h with stalls: by keys alone {percent(keys, runs)}, both proofs {percent(both, runs)}")

    assert both / runs <= 0.05
    assert keys / runs >= 0.15, "else the second proof guards against nothing here"


def late(seed: int, rise: float, base: float) -> float | None:
    """10 requests a second, good for 3.6 h, then worse: seconds until FAIL."""
    traffic = Traffic(seed, base=base)
    seen = evidence_on(traffic)
    for look in range(1296):
        for one in traffic.requests(100):
            seen.observe(one)
        seen.look((look + 1) * 10.0)
    if failed(seen):
        return None
    traffic.rise = rise
    for look in range(2 * 1440):
        for one in traffic.requests(50):
            seen.observe(one)
        now = 12_960.0 + (look + 1) * 5.0
        seen.look(now)
        if failed(seen):
            return now - 12_960.0
    return None


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("rise", "base", "published"),
    [(0.05, 0.01, (729, 1225)), (0.05, 0.001, (332, 620)), (0.999, 0.001, (15, 29))],
    ids=["+5-on-1%", "+5", "breaks"],
)
def test_a_canary_that_turns_bad_late_fails(
    rise: float, base: float, published: tuple[float, float], figure: Figure
) -> None:
    runs = [late(seed, rise, base) for seed in range(30)]
    done = [one for one in runs if one is not None]
    median, last = np.quantile(done, [0.5, 0.95])
    came = f"{len(done)} of {len(runs)} runs"
    figure(f"base {base:.1%}, +{100 * rise:.0f} after 3.6 h: {median:.0f}/{last:.0f} s to FAIL in {came}")

    as_published(runs, *published)


def slow_seconds(seed: int, rise: float) -> int | None:
    traffic = Traffic(seed, base=0.0, slow=0.04, slow_rise=rise)
    seen = evidence_on(traffic)
    for look in range(720):
        for one in traffic.requests(500):
            seen.observe(one)
        seen.look((look + 1) * 5.0)
        if seen.state._latency.state.failed_by:
            return (look + 1) * 5
    return None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_seconds_until_a_slow_canary_fails(figure: Figure) -> None:
    """100 requests a second, 5 % split, slow share 4 % before: +10 points in 12 min, +20 in 7, +50 in 6."""
    published = {0.1: (750, 794), 0.2: (420, 450), 0.5: (360, 360)}
    measured = {rise: [slow_seconds(seed, rise) for seed in range(12)] for rise in published}
    rises = (f"+{100 * rise:.0f}: {reported(measured[rise])}" for rise in published)
    figure(f"seconds to FAIL: {' · '.join(rises)}")

    for rise, expected in published.items():
        as_published(measured[rise], *expected)


def test_observe_is_cheap_enough_for_every_request(slack: float, figure: Figure) -> None:
    """About 1 µs on an idle core; the bound leaves room for a slow one that is traced."""
    requests = Traffic(1, slow=0.04).requests(20_000)
    seen = Observed(split_of(0.05), output=ScoreSpec())
    best = min(timed(lambda: [seen.observe(one) for one in requests]) for _ in range(5)) / len(requests)
    figure(f"observe {best * 1e6:.2f} µs a request")

    assert best < 20e-6 * slack


def timed(work: Callable[[], object]) -> float:
    started = thread_time()
    work()
    return thread_time() - started
