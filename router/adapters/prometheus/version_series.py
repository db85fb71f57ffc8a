"""Series of one version under one alias."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from router.adapters.prometheus.catalog import OTHER, Catalog, bounded
from router.adapters.prometheus.scores import OutputSeries
from router.adapters.prometheus.series import Scope, TracedHistogram, Value
from router.core.events import AliasBound, Answered, Predicted
from router.core.ids import PRODUCTION
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.outcomes import FaultKind, Outcome
from router.core.scores import OutputSpec

CODES: Mapping[str, Sequence[str]] = {
    Outcome.OK: ("200",),
    Outcome.FALLBACK: ("200",),
    Outcome.CLIENT_ERROR: ("400", "413", "415"),
    Outcome.MODEL_ERROR: ("400", "500", "503"),
    Outcome.TIMEOUT: ("504",),
    Outcome.OVERLOADED: ("503",),
    Outcome.ABANDONED: ("499",),
}
"""Codes that have a series of their own, by outcome: all that the gateway can answer with, and 499 for what
nobody waited for. Exceptions of a model can name any status; those count under `__other__`."""
_AT_ZERO = (
    (Outcome.CLIENT_ERROR, 400),
    (Outcome.MODEL_ERROR, 500),
    (Outcome.MODEL_ERROR, 503),
    (Outcome.TIMEOUT, 504),
    (Outcome.OVERLOADED, 503),
    (Outcome.ABANDONED, 499),
)
"""Counted from 0 on: `increase()` does not see the first event of a series that was not there before."""
_FAULT_KINDS = tuple(FaultKind)
_GOOD = (Outcome.OK, Outcome.FALLBACK)
FAILED = "failed"
_FAILED = (Outcome.MODEL_ERROR, Outcome.TIMEOUT, Outcome.OVERLOADED, Outcome.ABANDONED, OTHER)
"""Outcomes that share the duration histogram `failed`: twenty series each are more than what they tell."""
_LONGEST_TEXT = 128
"""Characters kept of a run id and of a flavor: whoever writes the registry writes them."""


class _Answers(NamedTuple):
    requests: Value
    seconds: TracedHistogram


class VersionSeries:
    """What carries `model`, `alias` and `version`; made when it is bound, so that nothing starts above 0."""

    def __init__(self, catalog: Catalog, model: str, alias: str, number: int) -> None:
        self._catalog = catalog
        self._labels = (model, alias, str(number))
        self._kept = Scope()
        """Until the version is forgotten."""
        self._failures = Scope()
        """Durations of what went wrong, until it is retired."""
        self._info = Scope()
        """Until it is retired, or bound with other words."""
        self._retired = False
        self._answers: dict[tuple[str, int], _Answers] = {}
        self._predict_seconds = self._kept.series(catalog.predict_seconds, *self._labels)
        self._scores: OutputSeries | None = None
        self._answer(Outcome.OK, 200)
        if alias != PRODUCTION:
            self._answer(Outcome.FALLBACK, 200)
            for kind in FaultKind:
                self.fault(kind, 0)
        for outcome, code in _AT_ZERO:
            self._requests(outcome.value, str(code))

    def serve(self, bound: AliasBound, loaded_at: float) -> None:
        """The alias serves it now (again); `loaded_at` in seconds since 1970."""
        if self._retired:
            self._retired = False
            self._answers = {key: answers for key, answers in self._answers.items() if _outlives(key[0])}
        self._info.close()
        texts = (bound.run_id[:_LONGEST_TEXT], bound.flavor[:_LONGEST_TEXT], bound.registry_name)
        self._info.series(self._catalog.model_info, *self._labels, *texts).value = 1
        self._info.series(self._catalog.loaded_at, *self._labels).value = loaded_at
        self._count_scores(bound.scores)

    def retire(self) -> None:
        """The alias serves another one now; late answers still count."""
        self._retired = True
        self._info.close()
        self._failures.close()

    def close(self) -> None:
        """Forget it; late answers count in vain."""
        self.retire()
        self._kept.close()
        self._count_scores(())

    def answered(self, event: Answered, at: float) -> None:
        """One request was answered; `at`, seconds since 1970, counts where it has a trace."""
        outcome, code, seconds = event.outcome, event.code, event.seconds
        answers = self._answers.get((outcome, code)) or self._answer(outcome, code)
        answers.requests.value += 1
        answers.seconds.observe(seconds)
        if event.trace_id:
            answers.seconds.exemplify(seconds, event.trace_id, at)

    def predicted(self, event: Predicted) -> None:
        """One batch was predicted."""
        self._predict_seconds.observe(event.predict_seconds)
        if event.scores and self._scores is not None:
            self._scores.add(event.scores)

    def fault(self, kind: str, count: int = 1) -> None:
        """Production answered what this version should have."""
        text = bounded(kind, _FAULT_KINDS)
        self._kept.series(self._catalog.faults, *self._labels, text).value += count

    def _answer(self, outcome: str, code: int) -> _Answers:
        shown = bounded(outcome, CODES)
        requests = self._requests(shown, bounded(str(code), CODES.get(shown, ())))
        family = self._catalog.request_seconds
        if _outlives(shown):
            seconds = self._kept.series(family, *self._labels, shown)
        elif self._retired:
            # Counted in vain: its peers went when the version was retired.
            seconds = TracedHistogram(family.name, "", REQUEST_SECONDS)
        else:
            seconds = self._failures.series(family, *self._labels, FAILED if shown in _FAILED else shown)
        answers = _Answers(requests, seconds)
        if len(self._answers) < 64:  # a model can name any status, and each would be remembered
            self._answers[outcome, code] = answers
        return answers

    def _requests(self, outcome: str, code: str) -> Value:
        return self._kept.series(self._catalog.requests, *self._labels, outcome, code)

    def _count_scores(self, specs: tuple[OutputSpec, ...]) -> None:
        if self._scores is not None and self._scores.specs != specs:
            self._scores.close()
            self._scores = None
        if self._scores is None and specs:
            self._scores = OutputSeries(self._catalog, self._labels, specs)


def _outlives(outcome: str) -> bool:
    """Whether durations of this outcome are still exported after the version is retired."""
    return outcome in _GOOD
