"""Holds every answer against what was asked for: status, version, alias, stickiness and prediction.

Aliases are asked for in the registry and shares in the file; predictions were made offline, in training.
"""

import asyncio
import hashlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from router.demo.dataset import Dataset, Prediction
from router.demo.operator import Registry
from router.demo.traffic import Answer

T = TypeVar("T")

BUCKETS = 100_000
TOLERANCE = 1e-9
PROBLEMS_KEPT = 20
"""Wrong answers described in words; all are counted."""
STAND_INS = frozenset({"canary_absent", "canary_not_ready", "breaker_open", "capped", "gated"})
"""Reasons for which production answers a key of the canary."""
TIMELINE_KEPT = 50
"""Values of a timeline that are kept; the demo's own story makes three."""
LOOK_SECONDS = 0.25
EFFECT_SECONDS = 15.0
"""A step that no answer shows within this has failed. Expected are about two seconds."""


@dataclass(slots=True)
class Entry(Generic[T]):
    """One value: when it was asked for, when it was first seen, and when a later one was."""

    value: T
    asked_at: float
    shown_at: float | None = None
    """When the first answer arrived that no earlier value explains."""
    over_at: float = math.inf
    """When the first answer arrived that only a later value explains: from then on this one is history."""


class Timeline(Generic[T]):
    """Values of one thing that changes: an alias's version, or a split.

    A change is asked for at one moment and in force a little later. Until an answer shows the new value
    both are right; a request sent after that answer must get the new one. Times are seconds of one
    monotonic clock.
    """

    def __init__(self, value: T) -> None:
        self._entries = [Entry(value, asked_at=-math.inf, shown_at=-math.inf)]

    @property
    def latest(self) -> Entry[T]:
        """What was asked for last."""
        return self._entries[-1]

    @property
    def in_force_since(self) -> float:
        """When the value that answers showed last was first shown."""
        return max((one.shown_at for one in self._entries if one.shown_at is not None), default=-math.inf)

    def ask(self, value: T, not_before: float) -> None:
        """`value` was asked for, at `not_before` at the earliest. The same again changes nothing."""
        if value != self.latest.value:
            self._entries.append(Entry(value, asked_at=not_before))
            del self._entries[:-TIMELINE_KEPT]

    def explanation(self, sent: float, received: float, fits: Callable[[T], bool]) -> Entry[T] | None:
        """The earliest value that explains an answer, or None when the answer is wrong.

        Answers come in the order in which they were received.
        """
        possible = [one for one in self._entries if one.asked_at <= received and sent <= one.over_at]
        found = next((one for one in possible if fits(one.value)), None)
        if found is None:
            return None
        for earlier in possible[: possible.index(found)]:
            earlier.over_at = min(earlier.over_at, received)
        if found.shown_at is None:
            found.shown_at = received
        return found


@dataclass(frozen=True, slots=True)
class Effect:
    """What came of one step of the story, as far as answers show it."""

    step: str
    sign: str
    """The answer that proves it."""
    seconds: float | None
    """From the end of the command to the first such answer; None when there was none."""

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.step}: NOT SEEN in any answer within {EFFECT_SECONDS:g} s"
        return f"{self.step}: {self.sign} {self.seconds:.1f} s after the command"


def bucket_of(model: str, key: str) -> int:
    """The published formula, written a second time so that it does not repeat a mistake of the gateway."""
    digest = hashlib.sha256(f"{model}:{key}".encode()).hexdigest()
    return int(digest[:8], 16) * BUCKETS >> 32


def owner_of(bucket: int, canary_percent: float) -> str:
    """The alias that owns `bucket` when the canary has `canary_percent` of all."""
    return "canary" if bucket < round(canary_percent * BUCKETS / 100) else "production"


class Checker:
    """Knows what was asked for, counts the answers that differ from it, and the refusals apart."""

    def __init__(
        self,
        datasets: Mapping[str, Dataset],
        splits: Mapping[str, Timeline[float]],
        named: Mapping[tuple[str, str], Timeline[int | None]],
    ) -> None:
        self._datasets = datasets
        self.splits = splits
        """Percent of the canary, by registered model."""
        self.named = named
        """Version that the registry names, by registered model and alias."""
        self.judged = 0
        """Refusals are not among them."""
        self.wrong = 0
        self.refused = 0
        self.problems: list[str] = []
        self.reasons: Counter[str] = Counter()
        self._alias_of_key: dict[tuple[str, float], dict[str, str]] = {}

    def judge(self, answer: Answer) -> None:
        """Count one answer; answers come in the order in which they were received."""
        if answer.is_refused:
            self.refused += 1
            return
        self.judged += 1
        self.reasons[answer.reason] += 1
        if problem := self._problem(answer):
            self.wrong += 1
            if len(self.problems) < PROBLEMS_KEPT:
                self.problems.append(f"{answer.model}, {answer.key}: {problem}")

    def splits_seen(self) -> list[tuple[str, float]]:
        """Registered models and the percentages their canary had, in the order of their first answers."""
        return list(self._alias_of_key)

    def keys_seen(self, model: str, canary_percent: float) -> Mapping[str, str]:
        """Alias by key, as answered while the canary had `canary_percent`."""
        return self._alias_of_key.get((model, canary_percent), {})

    def keys_that_left(self) -> list[str]:
        """Keys that had the canary and lost it while its share was wider, which breaks the promise."""
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
        trained = self._datasets[answer.model].versions.get(answer.version or 0)
        if trained is None:
            return f"v{answer.version} was never trained"
        expected = trained.expected[answer.row]
        if len(answer.predictions) != 1 or not _equal(answer.predictions[0], expected):
            return f"v{answer.version} predicted {list(answer.predictions)}, offline it says [{expected}]"
        return ""


def _equal(answered: object, expected: Prediction) -> bool:
    """True for numbers, or lists of numbers, within TOLERANCE; `answered` is whatever JSON held."""
    ours, theirs = _numbers(answered), _numbers(expected)
    return len(ours) == len(theirs) and all(
        abs(a - b) <= TOLERANCE for a, b in zip(ours, theirs, strict=True)
    )


def _numbers(prediction: object) -> Sequence[float]:
    """The numbers of one prediction; empty when it holds anything else."""
    parts: Sequence[object] = prediction if isinstance(prediction, Sequence) else [prediction]
    numbers = [part for part in parts if isinstance(part, (int, float))]
    return numbers if len(numbers) == len(parts) else []


class Watch:
    """Holds each answer back until the registry and the file were read after it came, then has it judged."""

    def __init__(self, registry: Registry, config_file: Path, checker: Checker) -> None:
        self._registry = registry
        self._config_file = config_file
        self._checker = checker
        self._waiting: deque[Answer] = deque()
        self._last_look = time.monotonic()
        self._going = True

    def receive(self, answer: Answer) -> None:
        """Take an answer, to be judged at the next look."""
        self._waiting.append(answer)

    def finish(self) -> None:
        """No more answers will come."""
        self._going = False

    async def keep_looking(self) -> None:
        """Look every LOOK_SECONDS; after `finish` until every answer is judged."""
        while self._going or self._waiting:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Read what is asked for, then judge what was answered before that.

        A gateway may see a change before we do. Whatever came in before this look can only know of changes
        that this look finds; those may be as old as the look before it.
        """
        began = time.monotonic()
        try:
            aliases = {model: await self._registry.aliases(model) for model in self._checker.splits}
        except MlflowException:
            return  # locked for a moment; nothing is judged until it can be read again
        for model, percent in read_splits(self._config_file).items():
            if model in self._checker.splits:
                self._checker.splits[model].ask(percent, not_before=self._last_look)
        for (model, alias), timeline in self._checker.named.items():
            timeline.ask(aliases[model].get(alias), not_before=self._last_look)
        self._last_look = began
        while self._waiting and self._waiting[0].received <= began:
            self._checker.judge(self._waiting.popleft())


def read_splits(config_file: Path) -> dict[str, float]:
    """Percent of the canary by registered model, as the file has it; empty when it can not be read.

    A file that the gateway refuses changes nothing there, so it need change nothing here.
    """
    try:
        document = YAML(typ="safe").load(config_file)
        return {name: float(model["split"].get("canary", 0)) for name, model in document["models"].items()}
    except (OSError, YAMLError, LookupError, TypeError, ValueError, AttributeError):
        return {}
