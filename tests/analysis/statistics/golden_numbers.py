"""The numbers that the statistics must give, from the formulas of `docs/evidence.md`, by other means.

Nothing of `router` is imported: that is the worth of this file. Where the gateway bisects, a polynomial is
solved; where it counts as it goes, whole arrays are summed; sets of buckets are arrays of 100 000 booleans.

    python -m tests.analysis.statistics.golden_numbers
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import logsumexp, rel_entr

BUCKETS = 100_000
CELL_SECONDS = 5
WORSE = np.array([1.25, 1.5, 2, 4, 8, 16, 64, 256, 1024])
STAKES = np.array([0.25, 0.5, 0.75, 0.95])
Pair = tuple[int, int]
"""The first bucket of a range, and the one after its last."""


# FAIL: buckets hit for the first time


def ln_e(looks: Iterable[tuple[float, float, float]]) -> float:
    """ln E of looks (k, d, π)."""
    k, d, share = np.array(list(looks), float).reshape(-1, 3).T
    odds = WORSE[:, None]
    exponents = (k * np.log(odds) - d * np.log(1 + share * (odds - 1))).sum(axis=1)
    return float(logsumexp(exponents) - np.log(len(WORSE)))


def level(alpha: float, epoch: int | None = None) -> float:
    """ln(1/α) of the process from the start, which has half of `alpha`, or of an epoch = 1, 2, …"""
    return float(-np.log(alpha / 2 if epoch is None else alpha / (2 * epoch * (epoch + 1))))


def keys_in_a_row(share: float, wanted: float) -> int:
    """Hit keys of the canary that prove it while production has none."""
    return next(keys for keys in range(1, 100) if ln_e([(1, 1, share)] * keys) >= wanted)


@dataclass
class Hits:
    """Buckets that processes reported in one cell, one set for each process."""

    own: Sequence[set[int]] = ()
    """With an event of their own."""
    calls: Sequence[set[int]] = ()
    """First bucket of each call that failed as a whole."""
    canary: Pair = (0, 5_000)
    production: Pair = (5_000, BUCKETS)


def marked(sets: Iterable[set[int]]) -> Any:
    """An array of booleans by bucket."""
    flags = np.zeros(BUCKETS, bool)
    flags[sorted(set().union(*sets))] = True
    return flags


def looks_of(cells: Sequence[Hits], workers: float = 0.5) -> list[list[tuple[float, float, float]]]:
    """For each cell the looks (k, d, π) up to it: buckets of the union that were clean before the cell."""
    dirty, looks, after = np.zeros(BUCKETS, bool), [], []
    index = np.arange(BUCKETS)
    for cell in cells:
        canary = (index >= cell.canary[0]) & (index < cell.canary[1])
        either = canary | ((index >= cell.production[0]) & (index < cell.production[1]))
        clean = either & ~dirty
        share = (clean & canary).sum() / clean.sum()
        own = marked(cell.own) & clean
        calls = marked(cell.calls) & clean & ~own
        looks.append(((own & canary).sum(), own.sum(), share))
        looks.append(((calls & canary).sum(), calls.sum(), max(share, workers)))
        dirty |= own | calls
        after.append(list(looks))
    return after


# PASS: non-inferiority


PAIRS: tuple[tuple[set[int], set[int]], ...] = (
    ({1, 2, 3}, {9}),
    ({1, 4}, {4, 5}),
    (set(), set()),
    ({7, 8, 9}, {2, 6}),
    ({20, 21}, set()),
)
"""Buckets of which the canary alone, and production alone, failed a copy, cell by cell."""


def ln_e_of_pairs(cells: Sequence[tuple[set[int], set[int]]]) -> list[list[float]]:
    """After each cell: ln E of buckets, each by its first cell and half of them due to the canary; then of
    cells, each by which version had more of them."""
    canary, production = (
        np.array([[bucket in cell[arm] for bucket in range(30)] for cell in cells]) for arm in (0, 1)
    )
    either = canary | production
    first = either & (np.cumsum(either, axis=0) == 1)
    heads, tails = (
        (first & each & ~other).sum(axis=1) for each, other in ((canary, production), (production, canary))
    )
    coins = [(int(k > t), 1, 0.5) for k, t in zip(heads, tails, strict=True) if k != t]
    told = np.cumsum(heads != tails)
    looks = [(int(k), int(k + t), 0.5) for k, t in zip(heads, tails, strict=True)]
    return [
        [ln_e(looks[: cell + 1]) for cell in range(len(cells))],
        [ln_e(coins[:count]) for count in told],
    ]


def nearest(rate: float, margin: float, production: float, canary: float) -> float:
    """p: the root in (0, 1 − δ) of n_b·(θ−p)·q·(1−q) + n_c·(θ−q)·p·(1−p), q = p + δ: a cubic."""
    p = np.polynomial.Polynomial([0, 1])
    q = p + margin
    cubic = production * (rate - p) * q * (1 - q) + canary * (rate - q) * p * (1 - p)
    roots = [root.real for root in cubic.roots() if abs(root.imag) < 1e-9]
    return float(next(root for root in roots if 0 < root < 1 - margin))


def block(n_b: int, x_b: int, n_c: int, x_c: int, rate: float, margin: float) -> float:
    """What a block adds to L: logarithms of likelihoods at (θ, θ) less those at (p, p + δ)."""
    p = nearest(rate, margin, n_b, n_c)
    log = stats.binom.logpmf
    equal = log(x_b, n_b, rate) + log(x_c, n_c, rate)
    return float(equal - log(x_b, n_b, p) - log(x_c, n_c, p + margin))


def ln_l(cells: Sequence[tuple[int, int, int, int]], margin: float) -> list[float]:
    """L after each cell (n_b, x_b, n_c, x_c); those in which an arm has no request go with the next."""
    total, taken, evidence, after = np.zeros(4, int), np.zeros(4, int), 0.0, []
    for cell in cells:
        total = total + cell
        n_b, x_b, n_c, x_c = map(int, total - taken)
        if n_b and n_c:
            rate = (taken[1] + taken[3] + 0.5) / (taken[0] + taken[2] + 50)
            evidence += block(n_b, x_b, n_c, x_c, rate, margin)
            taken = total
        after.append(evidence)
    return after


def clean_requests_to_pass(margin: float) -> int:
    """Canary requests in blocks of 950 and 50 without an event."""
    after = np.array(ln_l([(950, 0, 50, 0)] * 40, margin))
    return 50 * int(1 + np.argmax(after >= np.log(20)))


def effect(requests: Sequence[int], events: Sequence[int]) -> float:
    """Design effect of groups with traffic."""
    n, x = np.array(requests, float), np.array(events, float)
    n, x = n[n > 0], x[n > 0]
    rate = x.sum() / n.sum()
    ratio = len(n) / (len(n) - 1) * np.square(x - rate * n).sum() / n.sum() ** 2
    return float(ratio / (rate * (1 - rate) / n.sum()))


def divergence(a: float, b: float) -> float:
    """KL(a‖b)."""
    return float(rel_entr([a, 1 - a], [b, 1 - b]).sum())


def still_needed(share: float, rate: float, margin: float) -> float:
    """Canary requests to PASS from nothing."""
    weight = (1 - share) / share
    p = nearest(rate, margin, weight, 1)
    return float(np.log(20) / (weight * divergence(rate, p) + divergence(rate, p + margin)))


# Latency: blocks, epochs, the line


def ln_e_of_blocks(differences: Sequence[float]) -> float:
    """Betting on blocks with these differences of slow shares."""
    bets = np.log(1 + STAKES[:, None] * np.clip(differences, -0.25, 0.25) / 0.25).sum(axis=1)
    return float(logsumexp(bets) - np.log(len(STAKES)))


def blocks_of(cells: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, float]]:
    """(Last cell, D) of the fewest cells in a row with 30 s, 20 canary requests and one of production."""
    found, first = [], 0
    for last in range(len(cells)):
        n_b, x_b, n_c, x_c = np.sum(cells[first : last + 1], axis=0)
        if (last + 1 - first) * CELL_SECONDS >= 30 and n_c >= 20 and n_b:
            found.append((last, float(x_c / n_c - x_b / n_b)))
            first = last + 1
    return found


def epochs_of(canary_requests: Sequence[int], seconds: int) -> list[int]:
    """Last cell of each epoch; the run's first is 0."""
    sums, period, ends = np.cumsum(canary_requests), seconds // CELL_SECONDS, list[int]()
    for end in range(period - 1, len(sums), period):
        before = sums[ends[-1]] if ends else 0
        if sums[end] - before >= 500:
            ends.append(end)
    return ends


SHOWN_EDGES = [0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4]
"""Milliseconds: the edges of the published histogram, which are edges here too."""


def bin_edges() -> Any:
    """Seconds, the first 0: from 0.1 ms to 600 s in the fewest equal ratios of at most 1.05 between shown
    edges."""
    pieces = [np.array([0.0])]
    for low, high in itertools.pairwise([0.1, *SHOWN_EDGES, 6e5]):
        parts = int(np.ceil(np.log(high / low) / np.log(1.05)))
        pieces.append(np.geomspace(low, high, parts + 1)[:-1] / 1e3)
    return np.concatenate([*pieces, [600.0]])


def percentile_95(durations: Sequence[float]) -> float:
    """The 95th percentile of durations that are known by bin only: linear within its bin."""
    edges = bin_edges()
    counts = np.histogram(-np.array(durations), -edges[::-1])[0][::-1]  # an edge ends its bin
    reached = np.cumsum(counts)
    at = int(np.searchsorted(reached, 0.95 * len(durations)))
    part = 1 - (reached[at] - 0.95 * len(durations)) / counts[at]
    return float(edges[at] + part * (edges[at + 1] - edges[at]))


def line(durations: Sequence[float], min_ratio: float = 1.2, min_seconds: float = 0.002) -> float:
    """Seconds beyond which an answer is slow."""
    q = percentile_95(durations)
    return max(min_ratio * q, q + min_seconds)


# Scores


def psi(production: Sequence[int], canary: Sequence[int]) -> float:
    """Population stability index."""
    shares = [(np.array(each) + 0.5) / (sum(each) + len(each) / 2) for each in (production, canary)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def psi_line(bins: int, production: int, canary: int) -> float:
    """99.9 % line, by Wilson & Hilferty's cube of a normal variable."""
    spread = 2 / (9 * (bins - 1))
    cube = (1 - spread + stats.norm.isf(0.001) * np.sqrt(spread)) ** 3
    return float((bins - 1) * cube * (1 / canary + 1 / production))


def ks(production: Sequence[int], canary: Sequence[int]) -> float:
    """Kolmogorov-Smirnov distance."""
    arms = [np.repeat(np.arange(len(each)), each) for each in (production, canary)]
    return float(stats.ks_2samp(*arms, method="asymp").statistic)


def ks_bound(n: int, m: int, look: int, alpha: float = 0.0025) -> float:
    """Distance that equal versions exceed with at most α/(i(i + 1))."""
    return float(np.sqrt(np.log(2 * look * (look + 1) / alpha) * (n + m) / (2 * n * m)))


# What the numbers are of

JOINED = (
    Hits(own=({10, 20, 6000}, {10, 7000}), calls=({20}, {30})),
    Hits(),
    Hits(own=({10, 40}, {50, 8000, 40}), calls=(set(), {60, 9000})),
    Hits(own=({9000, 24_000, 6000}, {60_000}), canary=(0, 25_000), production=(25_000, BUCKETS)),
    Hits(own=(set(range(100, 106)),), canary=(0, 25_000), production=(25_000, BUCKETS)),
)
"""Two processes. Bucket 20 has faults of both kinds and is an ordinary one; 10 is reported twice; the split
is raised to 25 % with the fourth cell, where 6000 is the canary's by then, and used up."""
REQUESTS_BY_CELL = (
    (95, 1, 0, 0),
    (0, 0, 5, 0),
    (190, 2, 10, 0),
    (0, 0, 0, 0),
    (80, 0, 6, 1),
    (950, 9, 50, 0),
)
"""(n_b, x_b, n_c, x_c): the first two are one block, the fourth goes with the fifth."""
TIMED_BY_CELL = (
    *((95, 4, 5, 1),) * 4,
    *((95, 4, 1, 1),) * 2,
    *((95, 4, 4, 2),) * 6,
    *((95, 4, 2, 0),) * 9,
    (0, 0, 2, 1),
    *((95, 5, 20, 9),) * 7,
)
"""(n_b, x_b, n_c, x_c): 22 canary requests in the first six cells; 24 in the next; two a cell take ten."""
DURATIONS = tuple(0.0101 + 0.0001 * step for step in range(200))
"""200 answers: 95 % take up to 29 ms."""
FAST_DURATIONS = tuple(each / 10 for each in DURATIONS)


def numbers() -> dict[str, list[float]]:
    """All of them, by what they are of."""
    looks = looks_of(JOINED)
    few, many = [2] * 1000, [3] * 1000
    return {
        "looks: ln E": [
            ln_e([(k, d, canary / clean) for k, d, canary, clean in each])
            for each in (
                [(3, 3, 5000, 100000)],
                [(12, 12, 50000, 100000)],
                [(5, 100, 5000, 100000)],
                [(0, 40, 5000, 100000)],
                [(2, 10, 5000, 100000), (4, 12, 4998, 99990), (6, 9, 4994, 99978)],
                [(3, 7, 1000, 100000), (9, 20, 4990, 99993)],
                [(40, 400, 5000, 100000)],
                [],
            )
        ],
        "levels: from the start, epochs 1, 2, 10, 96": [
            level(0.005),
            *(level(0.005, number) for number in (1, 2, 10, 96)),
        ],
        "faulty canary keys in a row at 1, 5, 10, 25, 50 %": [
            keys_in_a_row(share, np.log(400)) for share in (0.01, 0.05, 0.1, 0.25, 0.5)
        ],
        "blocks of counts: p": [
            nearest(rate, margin, n_b, n_c) for n_b, _, n_c, _, rate, margin in BLOCKS_OF_COUNTS
        ],
        "blocks of counts: L": [block(*each) for each in BLOCKS_OF_COUNTS],
        "no faults: canary requests to pass at 0.5, 1, 5 points": [
            clean_requests_to_pass(margin) for margin in (0.005, 0.01, 0.05)
        ],
        "design effects": [
            effect([10] * 4, [0, 0, 0, 4]),
            effect([50, 30, 20], [1, 0, 2]),
            effect([100, 1, 1, 1, 1], [10, 0, 0, 0, 0]),
        ],
        "still needed": [
            still_needed(*each)
            for each in ((0.05, 0.01, 0.005), (0.5, 0.01, 0.005), (0.05, 0.001, 0.005), (0.01, 0.01, 0.05))
        ],
        "blocks of time: ln E": [
            ln_e_of_blocks(each) for each in ([0.15, 0.15, -0.05], [0.6] * 4, [-0.3, 0.1, 0.2, 0.25, 0.25])
        ],
        "scores: PSI, floor, line, K-S": [
            number
            for production, canary in (([100, 200, 300, 400], [25] * 4), ([250] * 4, [0, 0, 50, 50]))
            for number in (
                psi(production, canary),
                3 * (1 / 100 + 1 / 1000),
                psi_line(4, 1000, 100),
                ks(production, canary),
            )
        ],
        "scores: keys at looks": [float(np.ceil(50 * 1.25**i)) for i in range(8)],
        "scores: K-S bound": [ks_bound(50, 950, 1), ks_bound(98, 1862, 4), ks_bound(5000, 95000, 21)],
        "joined cells: ordinary k, d": [number for k, d, _ in looks[-1][::2] for number in (k, d)],
        "joined cells: whole calls k, d": [number for k, d, _ in looks[-1][1::2] for number in (k, d)],
        "joined cells: π before each": [share for _, _, share in looks[-1][::2]],
        "joined cells: ln E after each": [ln_e(each) for each in looks],
        "pairs: ln E of buckets after each cell": ln_e_of_pairs(PAIRS)[0],
        "pairs: ln E of cells after each cell": ln_e_of_pairs(PAIRS)[1],
        "PASS by cells: L after each at 0.5 points": ln_l(REQUESTS_BY_CELL, 0.005),
        "PASS by cells: L after each at 5 points": ln_l(REQUESTS_BY_CELL, 0.05),
        "blocks of time: last cells": [last for last, _ in blocks_of(TIMED_BY_CELL)],
        "blocks of time: D": [difference for _, difference in blocks_of(TIMED_BY_CELL)],
        "blocks of time by cells: ln E": [ln_e_of_blocks([each for _, each in blocks_of(TIMED_BY_CELL)])],
        "epochs of 900 s at 2 canary requests a cell: last cells": epochs_of(few, 900),
        "epochs of 900 s at 3": epochs_of(many, 900),
        "epochs of 900 s, none, then 100 a cell": epochs_of([0] * 200 + [100] * 400, 900),
        "epochs of 3 600 s at 1 and at 2": [*epochs_of([1] * 2000, 3600), *epochs_of([2] * 2000, 3600)],
        "line: q, line": [percentile_95(DURATIONS), line(DURATIONS)],
        "line of fast answers: q, line": [percentile_95(FAST_DURATIONS), line(FAST_DURATIONS)],
    }


BLOCKS_OF_COUNTS = (
    (950, 0, 50, 0, 0.01, 0.005),
    (9500, 95, 500, 5, 0.01, 0.005),
    (9500, 95, 500, 15, 0.01, 0.005),
    (500, 5, 500, 5, 0.01, 0.005),
    (1, 0, 1, 1, 0.01, 0.005),
    (950, 48, 50, 3, 0.05, 0.05),
)


def main() -> None:
    for name, values in numbers().items():
        print(f"{name}: {' · '.join(f'{float(value):.7g}' for value in values)}")


if __name__ == "__main__":
    main()
