"""Judges every answer: status, version, alias, stickiness and the prediction itself."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from router.demo.answer import Answer
from router.demo.material import Material, Prediction
from router.demo.timeline import Timeline

BUCKETS = 100_000
TOLERANCE = 1e-9
TOLD = 20
"""Wrong answers described in words; all are counted."""
STAND_INS = frozenset({"canary_absent", "canary_not_ready", "breaker_open"})
"""Reasons for which production answers a key of the canary."""


def bucket_of(model: str, key: str) -> int:
    """The published formula, written down a second time: the demo takes nobody's word for it."""
    digest = hashlib.sha256(f"{model}:{key}".encode()).hexdigest()
    return int(digest[:8], 16) * BUCKETS >> 32


def owner_of(bucket: int, canary_percent: float) -> str:
    """The alias that owns `bucket` when the canary has `canary_percent` of all."""
    return "canary" if bucket < round(canary_percent * BUCKETS / 100) else "production"


class Checker:
    """Knows what was asked for, and counts what was answered otherwise."""

    def __init__(
        self,
        materials: Mapping[str, Material],
        splits: Mapping[str, Timeline[float]],
        named: Mapping[tuple[str, str], Timeline[int | None]],
    ) -> None:
        self._materials = materials
        self.splits = splits
        """Percent of the canary, by registered model."""
        self.named = named
        """Version that the registry names, by registered model and alias."""
        self.judged = 0
        self.wrong = 0
        self.problems: list[str] = []
        self.reasons: Counter[str] = Counter()
        self._alias_of_key: dict[tuple[str, float], dict[str, str]] = {}

    def judge(self, answer: Answer) -> None:
        """Count one answer; answers come in the order in which they were received."""
        self.judged += 1
        self.reasons[answer.reason] += 1
        if problem := self._problem(answer):
            self.wrong += 1
            if len(self.problems) < TOLD:
                self.problems.append(f"{answer.model}, {answer.key}: {problem}")

    def splits_seen(self) -> list[tuple[str, float]]:
        """Registered models and the percentages their canary had, in the order of their first answers."""
        return list(self._alias_of_key)

    def keys_seen(self, model: str, canary_percent: float) -> Mapping[str, str]:
        """Alias by key, as answered while the canary had `canary_percent`."""
        return self._alias_of_key.get((model, canary_percent), {})

    def keys_that_left(self) -> list[str]:
        """Keys that had the canary and lost it while its share was wider; none is the promise."""
        return sorted(
            key
            for (model, narrow), aliases in self._alias_of_key.items()
            for (other, wide), later in self._alias_of_key.items()
            if model == other and narrow < wide
            for key, alias in aliases.items()
            if alias == "canary" and later.get(key, alias) != alias
        )

    def _problem(self, answer: Answer) -> str:
        if answer.status != 200:
            return f"status {answer.status}: {answer.problem}" if answer.status else answer.problem
        return self._wrong_alias(answer) or self._wrong_version(answer) or self._wrong_prediction(answer)

    def _wrong_alias(self, answer: Answer) -> str:
        bucket = bucket_of(answer.model, answer.key)
        if answer.bucket != bucket:
            return f"bucket {answer.bucket}, by the published formula {bucket}"
        if answer.reason in STAND_INS and answer.route_alias == "production":
            return ""
        split = self.splits[answer.model].explanation(
            answer.sent, answer.received, lambda percent: owner_of(bucket, percent) == answer.route_alias
        )
        if split is None:
            return f"given to {answer.route_alias}, which does not own bucket {bucket}"
        before = self._alias_of_key.setdefault((answer.model, split.value), {})
        if before.setdefault(answer.key, answer.route_alias) != answer.route_alias:
            return f"not sticky: {before[answer.key]}, then {answer.route_alias} at the same split"
        return ""

    def _wrong_version(self, answer: Answer) -> str:
        timeline = self.named.get((answer.model, answer.alias))
        if timeline is None:
            return f"answered by an alias nobody configured: {answer.alias!r}"
        if not timeline.explanation(answer.sent, answer.received, lambda number: number == answer.version):
            return (
                f"@{answer.alias} answered with v{answer.version}, the alias names v{timeline.latest.value}"
            )
        return ""

    def _wrong_prediction(self, answer: Answer) -> str:
        trained = self._materials[answer.model].versions.get(answer.version or 0)
        if trained is None:
            return f"v{answer.version} was never trained"
        expected = trained.expected[answer.row]
        if len(answer.predictions) != 1 or not _equal(answer.predictions[0], expected):
            return f"v{answer.version} predicted {list(answer.predictions)}, offline it says [{expected}]"
        return ""


def _equal(answered: object, expected: Prediction) -> bool:
    """Numbers, or lists of numbers, within TOLERANCE; `answered` is whatever JSON held."""
    ours, theirs = _numbers(answered), _numbers(expected)
    return len(ours) == len(theirs) and all(
        abs(a - b) <= TOLERANCE for a, b in zip(ours, theirs, strict=True)
    )


def _numbers(prediction: object) -> Sequence[float]:
    """The numbers of one prediction; none when it holds anything else."""
    parts: Sequence[object] = prediction if isinstance(prediction, Sequence) else [prediction]
    numbers = [part for part in parts if isinstance(part, (int, float))]
    return numbers if len(numbers) == len(parts) else []
