"""Scores of both arms in one step: the first of each bucket is compared, all of them are shown."""

from collections.abc import Sequence

from router.analysis.criteria import SCORES_BUDGET, Limits
from router.analysis.report import ArmScores, OutputShift, ScoreCheck, Verdict
from router.analysis.statistics.counts import GROUPS
from router.analysis.statistics.drift import (
    EQUAL_ENOUGH,
    MIN_KEYS,
    MODERATE,
    Shift,
    psi,
    psi_line,
    psi_noise,
    size_of,
)
from router.analysis.statistics.interval import mean_of_groups, of_means
from router.analysis.statistics.latency import quantile

MIN_ANSWERS = 50
"""Of each arm, before it is said that most of one arm's answers hold no score."""


class Scores:
    """Counts by mark: a bin of scores, or a class. `[0]` is production's list, `[1]` the canary's."""

    def __init__(
        self, marks: int, limits: Limits, *, classes: bool, edges: Sequence[float] | None = None
    ) -> None:
        """`edges`: the lowest edge of the bins and their upper ones, `marks` + 1 numbers; None for classes.

        Raises ValueError when they are not that many, or `marks` is not at least 1.
        """
        if marks < 1 or (edges is not None and len(edges) != marks + 1):
            raise ValueError("marks is at least 1, and edges are one more")
        self._judges = limits.on_shift == "fail"
        self._classes, self._edges = classes, tuple(edges or ())
        self.marks = marks
        self.values = tuple((low + high) / 2 for low, high in zip(self._edges, self._edges[1:], strict=False))
        """Middles of the bins: what a score counts as in a mean; empty when there are no edges."""
        self._shift = Shift(limits.alpha * SCORES_BUDGET, classes=classes)
        self.restart()

    def restart(self) -> None:
        """Another step."""
        self.first = ([0] * self.marks, [0] * self.marks)
        self.all = ([0] * self.marks, [0] * self.marks)
        self.requests = ([0] * GROUPS, [0] * GROUPS)
        self.sums = ([0.0] * GROUPS, [0.0] * GROUPS)
        self.invalid = [0, 0]
        self._shift.restart()

    def add(self, mark: int | None, group: int, *, first: bool, canary: bool) -> bool:
        """Count the score of an answer; False when it has none that is on the list."""
        if mark is None or not 0 <= mark < self.marks:
            self.invalid[canary] += 1
            return False
        self.all[canary][mark] += 1
        if self.values:
            self.requests[canary][group] += 1
            self.sums[canary][group] += self.values[mark]
        if first:
            self.first[canary][mark] += 1
        return True

    def look(self) -> None:
        """Compare, if the canary has keys enough for its next look."""
        self._shift.look(*self.first)

    def report(self) -> ScoreCheck:
        """What the scores say."""
        production, canary = self.first
        m, n = sum(production), sum(canary)
        index = noise = line = None
        if min(m, n) >= MIN_KEYS:
            index, noise = psi(production, canary), psi_noise(self.marks, m, n)
            line = psi_line(self.marks, m, n)
        means = [
            mean_of_groups(*each) if self.values else None
            for each in zip(self.requests, self.sums, strict=True)
        ]
        difference = interval = None
        if means[0] and means[1]:
            difference, interval = means[1][0] - means[0][0], of_means(means[0], means[1])
        shift = self._shift
        output = OutputShift(
            kind="class" if self._classes else "score",
            uncounted=self._uncounted(),
            psi=index,
            noise=noise,
            line=line,
            size=None if index is None or noise is None or line is None else size_of(index, noise, line),
            ks=shift.distance,
            ks_bound=shift.bound,
            proven=shift.proven,
            production=self._arm(0),
            canary=self._arm(1),
            mean_difference=difference,
            mean_interval=interval,
        )
        return ScoreCheck("scores", self._verdict(output), self._judges, (output,))

    def _verdict(self, output: OutputShift) -> Verdict:
        beyond = None if output.psi is None or output.noise is None else output.psi - output.noise
        if output.proven and beyond is not None and beyond >= MODERATE:
            return Verdict.FAIL
        if (
            not output.uncounted
            and output.ks is not None
            and output.ks_bound is not None
            and output.ks + output.ks_bound <= EQUAL_ENOUGH
        ):
            return Verdict.PASS
        return Verdict.NOT_ENOUGH_DATA

    def _uncounted(self) -> str:
        """No test: it only keeps a PASS from resting on answers that nobody could look at."""
        counted = [sum(every) for every in self.all]
        if min(map(sum, zip(counted, self.invalid, strict=True))) < MIN_ANSWERS:
            return ""
        production, canary = (bad > good for good, bad in zip(counted, self.invalid, strict=True))
        return "" if production == canary else "canary" if canary else "production"

    def _arm(self, arm: int) -> ArmScores:
        every, asked = self.all[arm], sum(self.all[arm])
        mean = (
            sum(map(float.__mul__, self.values, map(float, every))) / asked if asked and self.values else None
        )
        return ArmScores(
            scores=asked,
            keys=sum(self.first[arm]),
            mean=mean,
            p50=quantile(self._edges, every, 0.5) if self._edges else None,
            p95=quantile(self._edges, every, 0.95) if self._edges else None,
            invalid=self.invalid[arm],
        )
