"""Scores of one version under one alias: counts come in per batch, the totals are held here.

A worker that restarts therefore never lowers them.
"""

from math import inf

from router.adapters.prometheus.catalog import Catalog
from router.adapters.prometheus.series import Histogram, Scope, Value, number
from router.core.bins import ScoreCounts, ScoreSpec

_LONGEST_OUTPUT = 128


class ScoreSeries:
    """The `score…` families of one output of one version under one alias."""

    def __init__(self, catalog: Catalog, labels: tuple[str, str, str], spec: ScoreSpec) -> None:
        self.spec = spec
        self._scope = Scope()
        edges = neat_edges(spec)
        names = (*labels, str(spec.output)[:_LONGEST_OUTPUT])
        family = catalog.score
        # A sum that can fall is no counter; score_magnitude_total gives the mean of a range with negatives.
        self._histogram = self._scope.attach(
            family, names, Histogram(family.name, family.label_text(names), edges, summed=spec.low >= 0)
        )
        self._bins = [self._scope.series(catalog.score_bins, *names, number(edge)) for edge in edges]
        self._positive = self._scope.series(catalog.score_magnitude, *names, "positive")
        self._negative = self._scope.series(catalog.score_magnitude, *names, "negative")
        self._nan, self._inf, self._non_numeric, self._out_of_range = (
            self._scope.series(catalog.score_invalid, *names, kind)
            for kind in ("nan", "inf", "non_numeric", "out_of_range")
        )

    def add(self, scores: ScoreCounts) -> None:
        """Add one batch. Counts of other bins, sent before the configuration changed, are left out."""
        if len(scores.bins) != self.spec.bins:
            return
        for i, count in enumerate(scores.bins):
            if count:
                self._bins[i].value += count
                self._histogram.counts[i] += count
        _add_finite(self._positive, scores.positive_sum)
        _add_finite(self._negative, scores.negative_sum)
        # Scores below zero lie outside a range that exports a sum, and are told as out_of_range.
        self._histogram.sum = self._positive.value
        self._nan.value += scores.nan
        self._inf.value += scores.inf
        self._non_numeric.value += scores.non_numeric
        self._out_of_range.value += scores.out_of_range

    def close(self) -> None:
        """Export them no longer."""
        self._scope.close()


def neat_edges(spec: ScoreSpec) -> tuple[float, ...]:
    """Upper edges as label values: 0.15 rather than 0.15000000000000002, where that keeps them apart."""
    exact = spec.edges()
    neat = tuple(float(f"{edge:.12g}") for edge in exact)
    return neat if len(set(neat)) == len(exact) else exact


def _add_finite(total: Value, amount: float) -> None:
    # False for NaN too; a sum past the largest float would read as +Inf for ever.
    if 0 <= amount < inf and total.value + amount < inf:
        total.value += amount
