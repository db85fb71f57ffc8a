"""What the faults of each canary share that its good answers do not: traits in, a ranking and sentences out.

Of this gateway alone, and in memory alone: a restart begins anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from router.analysis.statistics.trait_counts import MIN_OBSERVATIONS, Ranking, Shared, TraitCounts
from router.core.events import BreakerClosed, ConfigApplied, Event, ModelRemoved
from router.core.ids import Alias, VersionId
from router.core.traits import COLUMN_KINDS, Trait, TraitsSeen, trait_table
from router.serving.manager import OPERATOR_RESET
from router.serving.models import ModelSet

RANK_SECONDS = 5.0
"""How long a ranking is shown before there is another."""
MOST_SHARED = 10
"""Traits that are shown."""
_IN_SENTENCE = 3


class Finding(StrEnum):
    """What is known of a canary's faults."""

    OFF = "off"
    FEW_FAULTS = "few_faults"
    FEW_GOOD_ANSWERS = "few_good_answers"
    NO_PATTERN = "no_pattern"
    PATTERN = "pattern"


@dataclass(slots=True)
class _Evidence:
    """Of one version under one alias."""

    version: VersionId
    table: tuple[Trait, ...]
    columns: int
    columns_left_out: int
    counts: TraitCounts
    ranking: Ranking
    ranked_at: float
    ranked_of: int = 0
    """Observations that were ranked."""


class FaultPatterns:
    """Implements `Recorder`: counts the traits of what each canary is asked, and ranks them."""

    def __init__(self, models: ModelSet, monotonic: Callable[[], float]) -> None:
        self._models = models
        self._monotonic = monotonic
        self._evidence: dict[tuple[str, Alias], _Evidence] = {}

    def record(self, event: Event) -> None:
        """Take one fact."""
        if type(event) is TraitsSeen:
            self._seen(event)
        elif isinstance(event, BreakerClosed) and event.why == OPERATOR_RESET:
            self._evidence.pop((event.model, event.alias), None)  # what was at fault is repaired
        elif isinstance(event, ConfigApplied | ModelRemoved):
            for key in [key for key in self._evidence if not self._is_on(key[0])]:
                del self._evidence[key]

    def add_to(self, compared: dict[str, Any]) -> dict[str, Any]:
        """The document of `/v1/compare`, with what the faults of each canary share as its `pattern`."""
        for model, aliases in compared["models"].items():
            for alias, entry in aliases.items():
                entry["pattern"] = self.describe(model, alias, entry["version"])
        return compared

    def describe(self, model: str, alias: Alias, number: int | None) -> dict[str, Any]:
        """What is known of the faults of version `number`, JSON-ready."""
        if not self._is_on(model):
            return _document(Finding.OFF, None, Ranking(0, 0, (), 0))
        evidence = self._evidence.get((model, alias))
        if evidence is None or evidence.version.number != number:
            return _document(Finding.FEW_FAULTS, None, Ranking(0, 0, (), 0))
        ranking = self._ranked(evidence)
        if ranking.faults < MIN_OBSERVATIONS:
            finding = Finding.FEW_FAULTS
        elif ranking.good < MIN_OBSERVATIONS:
            finding = Finding.FEW_GOOD_ANSWERS
        else:
            finding = Finding.PATTERN if ranking.shared else Finding.NO_PATTERN
        return _document(finding, evidence, ranking)

    def _is_on(self, model: str) -> bool:
        manager = self._models.managers.get(model)
        return manager is not None and manager.settings.why

    def _seen(self, event: TraitsSeen) -> None:
        place = event.version.model, event.alias
        evidence = self._evidence.get(place)
        if evidence is None or evidence.version != event.version:
            manager = self._models.managers.get(event.version.model)
            harness = manager.harnesses.get(event.version) if manager is not None else None
            if harness is None or harness.info is None:
                return  # it is gone, or loaded anew
            info = harness.info
            evidence = self._evidence[place] = _Evidence(
                event.version,
                trait_table(info.trait_columns),
                len(info.trait_columns),
                info.columns_left_out,
                TraitCounts(),
                Ranking(0, 0, (), 0),
                ranked_at=float("-inf"),
            )
        evidence.counts.take(event.bucket, event.ordinal, event.traits, event.size, fault=event.fault)

    def _ranked(self, evidence: _Evidence) -> Ranking:
        """At most every 5 s anew: whoever looks at the page asks every two seconds."""
        now = self._monotonic()
        if evidence.counts.taken != evidence.ranked_of and now - evidence.ranked_at >= RANK_SECONDS:
            evidence.ranking = evidence.counts.rank(evidence.table)
            evidence.ranked_at, evidence.ranked_of = now, evidence.counts.taken
        return evidence.ranking


def _document(finding: Finding, evidence: _Evidence | None, ranking: Ranking) -> dict[str, Any]:
    without = evidence.counts.without_traits if evidence else 0
    left_out = evidence.columns_left_out if evidence else 0
    return {
        "finding": finding,
        "why": _sentences(finding, ranking, without, left_out),
        "faults": ranking.faults,
        "good_answers": ranking.good,
        "faults_without_traits": without,
        "columns": evidence.columns if evidence else 0,
        "columns_left_out": left_out,
        "traits_compared": ranking.tests,
        "shared": [_shared(one) for one in ranking.shared[:MOST_SHARED]],
    }


def _shared(one: Shared) -> dict[str, Any]:
    return {
        "trait": one.trait.phrase(),
        "kind": one.trait.kind,
        "column": one.trait.what if one.trait.kind in COLUMN_KINDS else None,
        "faults": one.faults,
        "good_answers": one.good,
        "p": one.p,
    }


def _sentences(finding: Finding, ranking: Ranking, without: int, left_out: int) -> str:
    sentences = [_sentence(finding, ranking)]
    if without:
        sentences.append(
            f"Of {_counted(without, 'fault')} nothing is known: its worker ended, it came too late, or with"
            " more than are looked at."
        )
    if left_out:
        sentences.append(f"{_counted(left_out, 'column')} more are not looked at.")
    return " ".join(sentences)


def _sentence(finding: Finding, ranking: Ranking) -> str:
    faults, good = _counted(ranking.faults, "fault"), _counted(ranking.good, "good answer")
    match finding:
        case Finding.OFF:
            return "Nothing is looked at: `why` of this model is off."
        case Finding.FEW_FAULTS:
            return f"Under {MIN_OBSERVATIONS} faults of different keys so far: {ranking.faults}."
        case Finding.FEW_GOOD_ANSWERS:
            return f"Nearly all it was asked failed: {faults} beside {good} to compare them with."
        case Finding.NO_PATTERN:
            return f"No pattern: nothing that was looked at tells {faults} from {good}."
    named = [
        f"{one.trait.phrase()} ({one.faults} of {faults}, {one.good} of {good})"
        for one in ranking.shared[:_IN_SENTENCE]
    ]
    more = len(ranking.shared) - len(named)
    return f"Its faults share: {'; '.join(named)}{f'; and {more} more' if more else ''}."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
