"""The series of one version under one alias, at hand because every request moves some of them."""

from collections.abc import Callable, Sequence
from math import inf

from router.adapters.prometheus.catalog import (
    CODES,
    CODES_AT_ZERO,
    FAILED,
    FAILURES,
    FAULTS,
    INVALID,
    OTHER,
    PASSING,
    SCORE_READS,
    SIGNS,
    Catalog,
    bounded,
)
from router.adapters.prometheus.store import Histogram, Value, number
from router.core.events import AliasBound, Answered, Predicted
from router.core.ids import PRODUCTION
from router.core.outcomes import Outcome
from router.core.score_events import ScoresRead
from router.core.scores import (
    ClassCounts,
    ClassSpec,
    OutputCounts,
    OutputSpec,
    ScoreCounts,
    ScoreSpec,
    shown_name,
)
from router.core.version_environment import VersionEnvironment

_LONGEST_TEXT = 128
"""Characters kept of a run id and of a flavor: whoever writes the registry writes them."""
_MOST_ANSWERS = 64
"""Pairs of outcome and code that are remembered: a model can name any status."""


class VersionSeries:
    """What carries `model`, `alias` and `version`; made when it is bound, so that nothing starts above 0.

    A version is served, retired, maybe served again, and at last forgotten by `Store.drop` with its labels;
    late answers count until then, and in vain after it.
    """

    def __init__(self, catalog: Catalog, model: str, alias: str, version: str) -> None:
        self._catalog = catalog
        self._labels = (model, alias, version)
        self._retired = False
        self._answers: dict[tuple[str, int], tuple[Value, Histogram | None]] = {}
        """The count and the durations of each outcome and code that was seen."""
        self._specs: tuple[OutputSpec, ...] = ()
        self._outputs: list[_Scores | _Classes] = []
        self._predict_seconds = catalog.predict_seconds.series(*self._labels)
        self._answer(Outcome.OK, 200)
        if alias != PRODUCTION:
            for kind in FAULTS:
                self.fault(kind, 0)
        for outcome, code in CODES_AT_ZERO:
            catalog.requests.series(*self._labels, outcome.value, str(code))

    def serve(
        self, bound: AliasBound, loaded_at: float, environment: VersionEnvironment | None = None
    ) -> None:
        """The alias serves it now (again); `loaded_at` in seconds since 1970. `environment` is its own."""
        self._retired = False
        self._answers.clear()
        if self._labels[1] != PRODUCTION:
            self._answer(Outcome.FALLBACK, 200)
        self._drop_info()
        texts = (bound.run_id[:_LONGEST_TEXT], bound.flavor[:_LONGEST_TEXT], bound.registry_name)
        self._catalog.model_info.series(*self._labels, *texts).value = 1
        self._catalog.loaded_at.series(*self._labels).value = loaded_at
        if environment is not None:
            own = self._catalog.environment_info.series(*self._labels, environment.python, environment.pins)
            own.value = 1
        self._count_outputs(bound.scores)
        if bound.elsewhere and bound.scores:
            for result in SCORE_READS:
                self._catalog.score_reads.series(*self._labels, result)

    def retire(self) -> None:
        """The alias serves another one now; durations go at once, but for those of good answers."""
        self._retired = True
        self._answers.clear()
        self._drop_info()
        model, alias, version = self._labels
        for outcome in PASSING:
            self._catalog.request_seconds.drop(model=model, alias=alias, version=version, outcome=outcome)

    def answered(self, answers: Sequence[Answered], wall: Callable[[], float]) -> None:
        """Requests were answered; `wall`, seconds since 1970, is asked where one has a trace."""
        known = self._answers
        for one in answers:
            place = one.outcome, one.code
            requests, durations = known.get(place) or self._answer(*place)
            requests.value += 1
            if durations is not None:
                durations.observe(one.seconds)
                if one.trace_id:
                    durations.exemplify(one.seconds, one.trace_id, wall())

    def predicted(self, event: Predicted) -> None:
        """One batch was predicted. Counts of other outputs, from before a change of them, are left out."""
        self._predict_seconds.observe(event.predict_seconds)
        self._add_scores(event.scores)

    def scores_read(self, event: ScoresRead) -> None:
        """Scores of some answers were read after these went out, or will not be."""
        self._catalog.score_reads.series(*self._labels, event.result.value).value += event.answers
        self._add_scores(event.scores)

    def fault(self, kind: str, count: int = 1) -> None:
        """Production answered what this version should have."""
        self._catalog.faults.series(*self._labels, bounded(kind, FAULTS)).value += count

    def _answer(self, outcome: str, code: int) -> tuple[Value, Histogram | None]:
        shown = bounded(outcome, CODES)
        requests = self._catalog.requests.series(
            *self._labels, shown, bounded(str(code), CODES.get(shown, ()))
        )
        durations = None
        together = FAILED if shown in FAILURES else shown
        if together not in PASSING or not self._retired:
            durations = self._catalog.request_seconds.series(*self._labels, together)
        if len(self._answers) < _MOST_ANSWERS:
            self._answers[outcome, code] = requests, durations
        return requests, durations

    def _add_scores(self, scores: Sequence[OutputCounts]) -> None:
        if len(scores) == len(self._outputs):
            for output, counts in zip(self._outputs, scores, strict=True):
                output.add(counts)

    def _count_outputs(self, specs: tuple[OutputSpec, ...]) -> None:
        if specs == self._specs:
            return
        model, alias, version = self._labels
        for family in self._catalog.of_scores:
            family.drop(model=model, alias=alias, version=version)
        self._specs = specs
        self._outputs = [
            _Classes(self._catalog, self._labels, spec)
            if isinstance(spec, ClassSpec)
            else _Scores(self._catalog, self._labels, spec)
            for spec in specs
        ]

    def _drop_info(self) -> None:
        model, alias, version = self._labels
        for family in (self._catalog.model_info, self._catalog.loaded_at, self._catalog.environment_info):
            family.drop(model=model, alias=alias, version=version)


class _Classes:
    """The classes of the one output that has them; each is there at 0 from the start."""

    def __init__(self, catalog: Catalog, labels: tuple[str, str, str], spec: ClassSpec) -> None:
        family = catalog.predicted_classes
        self._classes = [family.series(*labels, name) for name in (*spec.classes, OTHER)]

    def add(self, counts: object) -> None:
        """Add one batch. Counts of other classes are left out."""
        if isinstance(counts, ClassCounts) and len(counts.counts) == len(self._classes):
            for series, count in zip(self._classes, counts.counts, strict=True):
                series.value += count


class _Scores:
    """The `score…` families of one output. Totals are held here: a worker that restarts never lowers them."""

    def __init__(self, catalog: Catalog, labels: tuple[str, str, str], spec: ScoreSpec) -> None:
        edges = spec.edges()
        names = (*labels, shown_name(spec))
        family = catalog.score
        # A sum that can fall is no counter; score_magnitude_total gives the mean of a range with negatives.
        self._histogram = family.attach(
            names, Histogram(family.name, family.label_text(names), edges, summed=spec.low >= 0)
        )
        self._bins = [catalog.score_bins.series(*names, number(edge)) for edge in edges]
        self._positive, self._negative = (catalog.score_magnitude.series(*names, sign) for sign in SIGNS)
        self._nan, self._inf, self._non_numeric, self._out_of_range = (
            catalog.score_invalid.series(*names, kind) for kind in INVALID
        )

    def add(self, counts: object) -> None:
        """Add one batch. Counts of other bins, sent before the configuration changed, are left out."""
        if not isinstance(counts, ScoreCounts) or len(counts.bins) != len(self._bins):
            return
        for i, count in enumerate(counts.bins):
            if count:
                self._bins[i].value += count
                self._histogram.counts[i] += count
        _add_finite(self._positive, counts.positive_sum)
        _add_finite(self._negative, counts.negative_sum)
        # Scores below zero lie outside a range that exports a sum, and count as out_of_range.
        self._histogram.sum = self._positive.value
        self._nan.value += counts.nan
        self._inf.value += counts.inf
        self._non_numeric.value += counts.non_numeric
        self._out_of_range.value += counts.out_of_range


def _add_finite(total: Value, amount: float) -> None:
    # False for NaN too; a sum past the largest float would read as +Inf for ever.
    if 0 <= amount < inf and total.value + amount < inf:
        total.value += amount
