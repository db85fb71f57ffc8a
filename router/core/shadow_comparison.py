"""How far two versions' answers to one request are the same: counts only, nothing of an answer. Pure.

It runs in the worker that gave the later answer, so that the gateway reads neither.
"""

from dataclasses import dataclass
from math import isfinite

from router.core.answer_reading import AnswerReading, Kind, read_answer
from router.core.scores import OutputSpec


@dataclass(frozen=True, slots=True)
class AnswersCompared:
    """Two answers, as far as they could be compared."""

    same_type: bool = True
    """Whether their items are of the same JSON types; True where either could not be read."""
    flips: int = 0
    """Rows whose scores lie on two sides of the cut-off, or only one of which has a score, or whose labels
    differ."""
    rows: int = 0
    """That were compared; 0 where the answers have neither scores nor labels, or not equally many."""
    difference: float | None = None
    """Of the first row's score, the canary's minus production's; None where either has none."""


NOT_COMPARED = AnswersCompared()


def compare_answers(
    production: bytes, canary: bytes, output: OutputSpec | None, cut_off: float
) -> AnswersCompared:
    """The bodies of two good answers, by the output that is counted; None: by the first one."""
    of_production, of_canary = read_answer(production, output), read_answer(canary, output)
    same_type = _same_type(of_production, of_canary)
    scores = of_production.scores, of_canary.scores
    if scores[0] and len(scores[0]) == len(scores[1]):
        flips = sum(_side(p, cut_off) != _side(c, cut_off) for p, c in zip(*scores, strict=True))
        return AnswersCompared(same_type, flips, len(scores[0]), _difference(scores[0][0], scores[1][0]))
    labels = of_production.labels, of_canary.labels
    if labels[0] and len(labels[0]) == len(labels[1]):
        flips = sum(p != c for p, c in zip(*labels, strict=True))
        return AnswersCompared(same_type, flips, len(labels[0]))
    return AnswersCompared(same_type)


def _same_type(production: AnswerReading, canary: AnswerReading) -> bool:
    if not production.kinds or not canary.kinds:
        return True
    both = [*production.kinds, *canary.kinds]
    # Of lists whose length differs from row to row anyway, such as the hits of a search, no length is another
    # type; so with the keys of objects.
    any_width = _vary(production, "list") or _vary(canary, "list")
    any_keys = _vary(production, "object") or _vary(canary, "object")
    free = {name for name, varies in (("list", any_width), ("object", any_keys)) if varies}
    seen = {kind: Kind(kind.name) if kind.name in free else kind for kind in both}
    return {seen[kind] for kind in production.kinds} == {seen[kind] for kind in canary.kinds}


def _vary(reading: AnswerReading, name: str) -> bool:
    return sum(kind.name == name for kind in reading.kinds) > 1


def _side(score: float | None, cut_off: float) -> bool | None:
    return None if score is None else score >= cut_off


def _difference(production: float | None, canary: float | None) -> float | None:
    if production is None or canary is None:
        return None
    difference = canary - production
    return difference if isfinite(difference) else None
