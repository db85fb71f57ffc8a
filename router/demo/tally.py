"""Counts for the screen: who answered how often, how fast and with which scores, lately and in all."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, quantiles

from router.demo.answer import Answer

LATELY_SECONDS = 10.0
SCORE_OUTPUT = {"sentiment": 0, "churn_predictor": 1}
"""Which number of a prediction is the score, as the demo's router.yaml has it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One alias of one registered model with one version that answered lately."""

    model: str
    alias: str
    version: int
    requests: int
    """In all."""
    share: float
    """Percent of this model's requests that were given to this alias lately, at the split now in force."""
    p50_ms: float
    p95_ms: float
    mean_score: float


class Tally:
    """Totals since the start, and the answers of the last ten seconds."""

    def __init__(self) -> None:
        self.requests = 0
        self.by_version: Counter[tuple[str, str, int]] = Counter()
        """Good answers by registered model, alias that answered and version."""
        self._lately: deque[Answer] = deque()

    def count(self, answer: Answer) -> None:
        """Note one answer."""
        self.requests += 1
        if answer.status == 200 and answer.version is not None:
            self.by_version[answer.model, answer.alias, answer.version] += 1
            self._lately.append(answer)

    def lines(self, now: float, split_since: Mapping[str, float]) -> Iterator[Line]:
        """What answered lately: sentiment before churn, production before canary, newer versions first.

        `split_since` says by registered model when its split came into force.
        """
        while self._lately and self._lately[0].received < now - LATELY_SECONDS:
            self._lately.popleft()
        settled = [one for one in self._lately if one.sent >= split_since[one.model]]
        given = Counter((one.model, one.route_alias) for one in settled)
        asked = Counter(one.model for one in settled)
        for model, alias, version in sorted(self.by_version, reverse=True):
            own = [a for a in self._lately if (a.model, a.alias, a.version) == (model, alias, version)]
            if not own:
                continue
            milliseconds = [(one.received - one.sent) * 1000 for one in own]
            yield Line(
                model,
                alias,
                version,
                self.by_version[model, alias, version],
                100 * given[model, alias] / max(1, asked[model]),
                _quantile(milliseconds, 50),
                _quantile(milliseconds, 95),
                fmean(_score(one) for one in own),
            )


def _quantile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def _score(answer: Answer) -> float:
    if not answer.predictions:
        return float("nan")
    prediction = answer.predictions[0]
    return float(
        prediction if isinstance(prediction, (int, float)) else prediction[SCORE_OUTPUT[answer.model]]
    )
