"""Scores and classes of one version under one alias: counts come in per batch, the totals are held here.

A worker that restarts therefore never lowers them.
"""

from math import inf

from router.adapters.prometheus.catalog import Catalog
from router.adapters.prometheus.series import Histogram, Scope, Value, number
from router.core.scores import (
    OTHER,
    ClassCounts,
    ClassSpec,
    OutputCounts,
    OutputSpec,
    ScoreCounts,
    ScoreSpec,
    shown_name,
)

SIGNS = ("positive", "negative")
INVALID = ("nan", "inf", "non_numeric", "out_of_range")
_Labels = tuple[str, str, str]


class OutputSeries:
    """Everything that is counted of one version's answers under one alias."""

    def __init__(self, catalog: Catalog, labels: _Labels, specs: tuple[OutputSpec, ...]) -> None:
        self.specs = specs
        self._outputs: list[ScoreSeries | ClassSeries] = [
            ClassSeries(catalog, labels, spec)
            if isinstance(spec, ClassSpec)
            else ScoreSeries(catalog, labels, spec)
            for spec in specs
        ]

    def add(self, counts: tuple[OutputCounts, ...]) -> None:
        """Add one batch. Counts of other outputs, sent before the configuration changed, are left out."""
        if len(counts) != len(self._outputs):
            return
        for series, counted in zip(self._outputs, counts, strict=True):
            if isinstance(series, ScoreSeries):
                if isinstance(counted, ScoreCounts):
                    series.add(counted)
            elif isinstance(counted, ClassCounts):
                series.add(counted)

    def close(self) -> None:
        """Export them no longer."""
        for series in self._outputs:
            series.close()


class ClassSeries:
    """The classes of the one output that has them; each is there at 0 from the start."""

    def __init__(self, catalog: Catalog, labels: _Labels, spec: ClassSpec) -> None:
        self._scope = Scope()
        family = catalog.predicted_classes
        self._classes = [self._scope.series(family, *labels, label) for label in (*spec.classes, OTHER)]

    def add(self, labels: ClassCounts) -> None:
        """Add one batch. Counts of other classes are left out."""
        if len(labels.counts) != len(self._classes):
            return
        for series, count in zip(self._classes, labels.counts, strict=True):
            series.value += count

    def close(self) -> None:
        """Export them no longer."""
        self._scope.close()


class ScoreSeries:
    """The `score…` families of one output of one version under one alias."""

    def __init__(self, catalog: Catalog, labels: _Labels, spec: ScoreSpec) -> None:
        self.spec = spec
        self._scope = Scope()
        edges = spec.edges()
        names = (*labels, shown_name(spec))
        family = catalog.score
        # A sum that can fall is no counter; score_magnitude_total gives the mean of a range with negatives.
        self._histogram = self._scope.attach(
            family, names, Histogram(family.name, family.label_text(names), edges, summed=spec.low >= 0)
        )
        self._bins = [self._scope.series(catalog.score_bins, *names, number(edge)) for edge in edges]
        self._positive, self._negative = (
            self._scope.series(catalog.score_magnitude, *names, sign) for sign in SIGNS
        )
        self._nan, self._inf, self._non_numeric, self._out_of_range = (
            self._scope.series(catalog.score_invalid, *names, kind) for kind in INVALID
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


def _add_finite(total: Value, amount: float) -> None:
    # False for NaN too; a sum past the largest float would read as +Inf for ever.
    if 0 <= amount < inf and total.value + amount < inf:
        total.value += amount
