"""The check of shadow requests: what the canary does with copies of what production was asked, pair by pair.

It can fail a canary, at any share and also where that is 0 %, and never keeps one from passing: requests are
shadowed only where processors are idle, and a busy machine is no canary's fault. Latency, scores and labels
are shown beside it, and judged by nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct, field

from router.analysis.criteria import PAIRED_BUDGET, Criteria
from router.analysis.proof import Proof
from router.analysis.statistics import fault_test
from router.analysis.statistics.bucket_set import BITMAP_BYTES, BucketSet
from router.analysis.statistics.counts import ArmTotals, RecentTotals
from router.analysis.statistics.durations import BINS, add_to
from router.analysis.statistics.fault_test import EPOCH_REQUESTS
from router.analysis.statistics.latency import Quantiles, quantiles
from router.analysis.statistics.paired_test import EVEN, PairedTest
from router.analysis.statistics.records import CELL_SECONDS
from router.analysis.statistics.shadow_record import (
    DIFFERENCE_BINS,
    DIFFERENCE_EDGES,
    ShadowCounts,
    ShadowRecord,
)
from router.core.verdict import Verdict

EPOCH_CELLS = 180
"""Its epochs end at multiples of so many cells since the run began, as those of faults do."""
SHOWN_RISE = 0.01
_ROUNDING = 1e-12


class PairedState(Struct, array_like=True):
    """All that `PairedEvidence` knows."""

    cumulative: PairedTest
    epoch: PairedTest
    recent: RecentTotals
    counts: ShadowCounts = field(default_factory=ShadowCounts)
    """Of this step, as are the next."""
    differences: list[int] = field(default_factory=lambda: [0] * DIFFERENCE_BINS)
    durations: tuple[list[int], list[int]] = field(default_factory=lambda: ([0] * BINS, [0] * BINS))
    """Of production and of the canary."""
    differed: bytearray = field(default_factory=lambda: bytearray(BITMAP_BYTES))
    """Buckets whose first difference of scores is counted, as in a `BucketSet`."""
    raised: int = 0
    lowered: int = 0
    epoch_number: int = 1
    epoch_base: ArmTotals = ArmTotals()
    """As of `RateState`, and so are the others."""
    epoch_carried: int = 0
    failed_cell: int | None = None
    failed_by: str = ""

    @property
    def total(self) -> ArmTotals:
        """Of this step; both arms have the same requests."""
        counts = self.counts
        return ArmTotals(counts.pairs, counts.production_faults, counts.pairs, counts.canary_faults)


@dataclass(frozen=True, slots=True)
class PairedArm:
    """One version in the pairs of this step."""

    alone: int
    """Requests that it failed and the other did not."""
    hit_keys: int
    """Different buckets with such a request, in all of this run, each by its first."""
    seconds: Quantiles[float | None]
    """Of the predicts that held the requests. A shadow waits for idle processors and shares its predict with
    fewer requests, or none: they are shown, and compared with nothing."""


@dataclass(frozen=True, slots=True)
class ScoreDifferences:
    """Scores of first rows, the canary's minus production's, in this step."""

    raised: int
    """Buckets whose first difference was upwards…"""
    lowered: int
    """…and downwards."""
    edges: Sequence[float]
    """Upper edges of |difference| but for the first and the last of `counts`: none at all, and larger."""
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class PairedCheck:
    """Copies of production's requests."""

    check: str
    verdict: Verdict
    """FAIL or NOT ENOUGH DATA: it never passes anything."""
    judges: bool
    """Only while it fails; so a canary whose shadows are dropped can pass by the other checks."""
    alpha: float
    """Of the whole run, as `Criteria` has it."""
    limit: float
    """Rise from which on a proven rise fails."""
    counts: ShadowCounts
    production: PairedArm
    canary: PairedArm
    difference: float | None
    """Canary's fault rate minus production's, −1 to 1; None without a pair."""
    cumulative: Proof
    epoch: Proof
    failed_at: float | None
    """End of the cell in which FAIL was said in this step, in seconds since 1970."""
    failed_by: str
    """cumulative or epoch; empty unless failed."""
    scores: ScoreDifferences
    pairs_needed: int | None
    """In which one percentage point more faults would be proven, were it there; from nothing, in the mean."""
    seconds_to_show_point: float | None
    """The same at the present rate of pairs; None while there are none."""

    @property
    def shows_none(self) -> bool:
        """Whether so many pairs were compared that a rise of a point would have shown, and none did."""
        enough = self.pairs_needed is not None and self.counts.pairs >= self.pairs_needed
        return enough and self.verdict is not Verdict.FAIL


class PairedEvidence:
    """What is known of pairs, cell by cell. Size, and what is shown, is of this step; proof goes on."""

    def __init__(self, criteria: Criteria, first_cell: int, state: PairedState | None = None) -> None:
        """`first_cell`: of the run. `state`: what is known already; ValueError for one of other sizes."""
        self.criteria = criteria
        self._alpha = criteria.alpha * PAIRED_BUDGET
        self._first_cell = first_cell
        self.state = state or PairedState(PairedTest(), PairedTest(), RecentTotals.since(first_cell))
        if [len(each) for each in self.state.durations] != [BINS, BINS]:
            raise ValueError(f"durations are counted in {BINS} bins")
        if len(self.state.differences) != DIFFERENCE_BINS:
            raise ValueError(f"differences are counted in {DIFFERENCE_BINS} bins")
        for bits in (self.state.differed, self.state.cumulative.used, self.state.epoch.used):
            BucketSet(bits)

    def begin_step(self, cell: int) -> None:
        """Another split from that cell on."""
        state = self.state
        state.epoch_carried += state.total.since(state.epoch_base).canary_requests
        state.counts, state.epoch_base = ShadowCounts(), ArmTotals()
        state.recent = RecentTotals.since(cell)
        state.differences = [0] * DIFFERENCE_BINS
        state.durations = [0] * BINS, [0] * BINS
        state.differed, state.raised, state.lowered = bytearray(BITMAP_BYTES), 0, 0
        if state.failed_cell is None or state.failed_cell < cell:
            state.failed_cell, state.failed_by = None, ""

    def take(self, cell: int, observed: ShadowRecord) -> None:
        """Take in what was compared in a cell."""
        state, after = self.state, cell + 1
        state.counts.add(observed.counts)
        self._take_shown(observed)
        total = state.total
        state.recent.add(after, total)
        for test in (state.cumulative, state.epoch):
            test.take(observed.canary_alone, observed.production_alone)
        if not state.failed_by:
            proofs = (("cumulative", self.cumulative_proof), ("epoch", self.epoch_proof))
            state.failed_by = next((name for name, proof in proofs if proof.proven and proof.large), "")
            state.failed_cell = cell if state.failed_by else None
        carried = state.epoch_carried + total.since(state.epoch_base).canary_requests
        if (after - self._first_cell) % EPOCH_CELLS == 0 and carried >= EPOCH_REQUESTS:
            state.epoch_number += 1
            state.epoch, state.epoch_base, state.epoch_carried = PairedTest(), total, 0

    def _take_shown(self, observed: ShadowRecord) -> None:
        state = self.state
        for index, count in observed.differences.items():
            if 0 <= index < DIFFERENCE_BINS:
                state.differences[index] += count
        add_to(state.durations[0], observed.production_durations)
        add_to(state.durations[1], observed.canary_durations)
        differed = BucketSet(state.differed)
        raised, lowered = set(differed.new(observed.raised)), set(differed.new(observed.lowered))
        differed.add(raised | lowered)
        state.raised += len(raised - lowered)
        state.lowered += len(lowered - raised)

    @property
    def cumulative_proof(self) -> Proof:
        """Since the run began."""
        level = fault_test.cumulative_level(self._alpha)
        return self._proof(self.state.cumulative, level, self.state.total)

    @property
    def epoch_proof(self) -> Proof:
        """Of the epoch under way."""
        level = fault_test.epoch_level(self._alpha, self.state.epoch_number)
        return self._proof(self.state.epoch, level, self.state.total.since(self.state.epoch_base))

    def _proof(self, test: PairedTest, level: float, counts: ArmTotals) -> Proof:
        ln_e = test.ln_e
        large = test.canary_hits >= self.criteria.min_hit_keys and (
            self._is_large(counts) or self._is_large(self.state.recent.totals())
        )
        return Proof(ln_e, level, ln_e >= level, large)

    def _is_large(self, counts: ArmTotals) -> bool:
        difference = counts.difference
        enough = counts.canary_requests >= self.criteria.min_requests
        return enough and difference is not None and difference >= self.criteria.max_increase - _ROUNDING

    def numbers(self) -> tuple[object, ...]:
        """Whole numbers that are the same where the same cells were folded."""
        state = self.state
        tests = (
            (test.used, test.production_hits, test.canary_hits, test.ties)
            for test in (state.cumulative, state.epoch)
        )
        shown = state.counts, state.differences, state.durations, state.differed, state.raised, state.lowered
        return (*tests, *shown, state.epoch_number, state.epoch_base, state.epoch_carried)

    def check(self) -> PairedCheck:
        """What is known, as of the last cell."""
        state, counts = self.state, self.state.counts
        failed, hits = bool(state.failed_by), state.cumulative
        production, canary = map(quantiles, state.durations)
        needed = self._pairs_needed()
        seconds = state.recent.seconds()
        per_second = state.recent.totals().canary_requests / seconds if seconds else 0.0
        return PairedCheck(
            check="shadow",
            verdict=Verdict.FAIL if failed else Verdict.NOT_ENOUGH_DATA,
            judges=failed,
            alpha=self.criteria.alpha,
            limit=self.criteria.max_increase,
            counts=ShadowCounts(*(getattr(counts, name) for name in counts.__struct_fields__)),
            production=PairedArm(
                counts.production_faults - counts.both_faults, hits.production_hits, production
            ),
            canary=PairedArm(counts.canary_faults - counts.both_faults, hits.canary_hits, canary),
            difference=state.total.difference,
            cumulative=self.cumulative_proof,
            epoch=self.epoch_proof,
            failed_at=None if state.failed_cell is None else float((state.failed_cell + 1) * CELL_SECONDS),
            failed_by=state.failed_by,
            scores=ScoreDifferences(state.raised, state.lowered, DIFFERENCE_EDGES, tuple(state.differences)),
            pairs_needed=needed,
            seconds_to_show_point=needed / per_second if needed is not None and per_second > 0.0 else None,
        )

    def _pairs_needed(self) -> int | None:
        counts = self.state.counts
        alone = counts.production_faults - counts.both_faults
        rate = alone / counts.pairs if counts.pairs else 0.0
        level = fault_test.cumulative_level(self._alpha)
        needed = fault_test.requests_to_show(SHOWN_RISE, rate, EVEN, level)
        return None if needed is None else round(needed)
