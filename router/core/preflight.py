"""Whether a version may get its first user: by how it and production answered the same requests. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

from router.core.answer_reading import NOTHING_READ, AnswerReading, Kind
from router.core.memory import MIB

LEAST_REQUESTS = 20
"""Of fewer nothing is concluded, unless the version failed all of them, and at least `LEAST_FAULTS`."""
LEAST_FAULTS = 5
MOST_DEATHS = 5
"""Requests that ended a worker of the version alone, by which it fails however many it answered: chance ends
no worker."""
MOST_KINDS = 50
"""Types of answers of either version, after which no more are looked for: they are kept until the end."""
MOST_CHANCE = 0.001
"""That a version which fails as often as production fails by itself so much more often."""


class PreflightVerdict(StrEnum):
    """How it ended. The names are label values of a metric."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_ENOUGH_DATA = "not_enough_data"
    LEFT_OUT = "left_out"  # a request may have effects elsewhere, which must not be repeated


@dataclass(frozen=True, slots=True)
class PreflightLimits:
    """From when on a version fails."""

    max_flips: float = 0.2
    """Share of the rows, on the average over requests, whose score lies on the other side of `cut_off`."""
    cut_off: float = 0.5
    min_agreement: float | None = None
    """Share of the rows, likewise, whose labels have to be equal; None: labels are not judged."""
    growth_bytes: int | None = None
    """That a worker may grow; None: any number."""
    any_length: bool = False
    """Whether an answer may have another number of items than the request has rows."""


@dataclass(frozen=True, slots=True)
class TakenRequest:
    """How one version took one request."""

    fault: bool
    """It could not answer, or all NaN."""
    one_per_row: bool = True
    """Whether the answer has one item per row, or has none to count."""
    seconds: float = 0.0
    """Of its predict."""
    reading: AnswerReading = NOTHING_READ
    ended_worker: bool = False
    """Whether it could not answer because its worker ended, or had to be ended for want of an answer."""


@dataclass(slots=True)
class PreflightEvidence:
    """Counts over requests that both versions took."""

    requests: int = 0
    faults_alone: int = 0
    """Requests that the version failed, and production answered."""
    deaths_alone: int = 0
    """Of these, those by which a worker ended, or had to be ended."""
    production_faults_alone: int = 0
    faults_of_both: int = 0
    odd_lengths: int = 0
    """Answers with another number of items than the request has rows, where production had one per row."""
    production_odd_lengths: int = 0
    kinds: set[Kind] = field(default_factory=set)
    production_kinds: set[Kind] = field(default_factory=set)
    scored: int = 0
    """Requests whose scores could be compared row by row."""
    flipped: float = 0.0
    """Sum over these of the share of their rows that flipped."""
    score_difference: float = 0.0
    """Sum over these of the mean difference of their rows' scores, without its sign."""
    largest_difference: float = 0.0
    labelled: int = 0
    """Requests whose labels could be compared row by row."""
    agreeing: float = 0.0
    """Sum over these of the share of their rows whose labels are equal."""
    ratios: list[float] = field(default_factory=list)
    """Of each request that both answered: the version's seconds by production's."""
    growth_bytes: int = 0
    """The most that a worker of the version had grown by."""

    def add(self, version: TakenRequest, production: TakenRequest, cut_off: float) -> None:
        """One more request."""
        self.requests += 1
        if version.fault or production.fault:
            self.faults_of_both += version.fault and production.fault
            self.faults_alone += not production.fault
            self.deaths_alone += version.ended_worker and not production.fault
            self.production_faults_alone += not version.fault
            return
        self.odd_lengths += production.one_per_row and not version.one_per_row
        self.production_odd_lengths += not production.one_per_row
        looked_for = max(len(self.kinds), len(self.production_kinds)) < MOST_KINDS
        if looked_for and version.reading.kinds and production.reading.kinds:
            self.kinds |= version.reading.kinds
            self.production_kinds |= production.reading.kinds
        self._compare_scores(version.reading.scores, production.reading.scores, cut_off)
        self._compare_labels(version.reading.labels, production.reading.labels)
        if production.seconds > 0:
            self.ratios.append(version.seconds / production.seconds)

    @property
    def flips(self) -> float | None:
        """Share of the rows on the other side of the cut-off; None where no scores could be compared."""
        return self.flipped / self.scored if self.scored else None

    @property
    def agreement(self) -> float | None:
        """Share of the rows with equal labels; None where none could be compared."""
        return self.agreeing / self.labelled if self.labelled else None

    @property
    def mean_difference(self) -> float | None:
        """Of the scores, without sign; None where none could be compared."""
        return self.score_difference / self.scored if self.scored else None

    @property
    def latency_ratio(self) -> float | None:
        """The median over requests of the version's seconds by production's; None without any."""
        return median(self.ratios) if self.ratios else None

    @property
    def other_kinds(self) -> list[str]:
        """Names of the types that production showed nowhere, and the version did."""
        # Of lists that differ in length anyway, such as the hits of a search, no length is another type; so
        # with the keys of objects that are made up by the request.
        any_width = len({kind.width for kind in self.production_kinds if kind.name == "list"}) > 1
        any_keys = len({kind.keys for kind in self.production_kinds if kind.name == "object"}) > 1

        def comparable(kind: Kind) -> Kind:
            free = (kind.name == "list" and any_width) or (kind.name == "object" and any_keys)
            return Kind(kind.name) if free else kind

        others = set(map(comparable, self.kinds)) - set(map(comparable, self.production_kinds))
        return sorted({kind.name for kind in others})

    def _compare_scores(
        self, version: tuple[float | None, ...], production: tuple[float | None, ...], cut_off: float
    ) -> None:
        if len(version) != len(production):
            return
        # A row that has no score any more is decided otherwise, whatever is made of it.
        sides = [
            v is None or (v >= cut_off) != (p >= cut_off)
            for v, p in zip(version, production, strict=True)
            if p is not None
        ]
        if not sides:
            return
        self.scored += 1
        self.flipped += sum(sides) / len(sides)
        differences = [
            abs(v - p) for v, p in zip(version, production, strict=True) if v is not None and p is not None
        ]
        if differences:
            self.score_difference += sum(difference / len(differences) for difference in differences)
            self.largest_difference = max(self.largest_difference, *differences)

    def _compare_labels(self, version: tuple[str, ...], production: tuple[str, ...]) -> None:
        if version and len(version) == len(production):
            self.labelled += 1
            equal = sum(v == p for v, p in zip(version, production, strict=True))
            self.agreeing += equal / len(version)


@dataclass(frozen=True, slots=True)
class PreflightJudgement:
    """What the evidence says."""

    verdict: PreflightVerdict
    why: str
    """A sentence, without its end, that quotes no request and no answer."""


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """How it ended, as it is shown: figures only, nothing of a request or of an answer."""

    verdict: PreflightVerdict
    why: str
    """As `PreflightJudgement.why`."""
    production: int
    """Number of the version that answered the same requests; 0 where none did."""
    seconds: float = 0.0
    """That it took."""
    requests: int = 0
    """That both versions took."""
    faults_alone: int = 0
    production_faults_alone: int = 0
    flips: float | None = None
    """Share of the rows whose score is on the other side of the cut-off; None where none was compared. So are
    the rest."""
    agreement: float | None = None
    """Share of the rows with equal labels."""
    mean_difference: float | None = None
    """Of scores, without sign."""
    largest_difference: float | None = None
    latency_ratio: float | None = None
    """The median of its predict seconds by production's."""

    @classmethod
    def of(
        cls, judgement: PreflightJudgement, evidence: PreflightEvidence, production: int, seconds: float
    ) -> "PreflightReport":
        """What is shown of that evidence."""
        return cls(
            judgement.verdict,
            judgement.why,
            production,
            seconds,
            evidence.requests,
            evidence.faults_alone,
            evidence.production_faults_alone,
            evidence.flips,
            evidence.agreement,
            evidence.mean_difference,
            evidence.largest_difference if evidence.scored else None,
            evidence.latency_ratio,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "verdict": str(self.verdict),
            "why": self.why,
            "production": self.production or None,
            "seconds": round(self.seconds, 3),
            "requests": self.requests,
            "faults_alone": self.faults_alone,
            "production_faults_alone": self.production_faults_alone,
            **{name: _rounded(getattr(self, name)) for name in _SHOWN},
        }


_SHOWN = ("flips", "agreement", "mean_difference", "largest_difference", "latency_ratio")


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else float(f"{figure:.6g}")


def judge(evidence: PreflightEvidence, limits: PreflightLimits) -> PreflightJudgement:
    """FAIL by whatever speaks against the version; else PASS, once there are `LEAST_REQUESTS`."""
    failed = _faults(evidence)
    enough = evidence.requests >= LEAST_REQUESTS
    if enough:
        failed += _other_answers(evidence, limits)
    if failed:
        return PreflightJudgement(PreflightVerdict.FAIL, "; ".join(failed))
    if not enough:
        return PreflightJudgement(
            PreflightVerdict.NOT_ENOUGH_DATA,
            f"{evidence.requests} requests could be passed over it, {LEAST_REQUESTS} are needed",
        )
    answered = evidence.requests - evidence.faults_alone - evidence.faults_of_both
    why = f"it answered {answered} of the last requests as it should"
    if evidence.faults_alone:
        why += f", and failed {evidence.faults_alone} that production answered"
    return PreflightJudgement(PreflightVerdict.PASS, why)


def sign_test(alone: int, other_alone: int) -> float:
    """Chance of at least `alone` of all that one side did alone, where both sides are as likely: exact."""
    both = alone + other_alone
    if alone == 0:
        return 1.0
    # Each binomial by the former one, from the end that is nearer: of thousands that takes milliseconds.
    few = min(alone - 1, other_alone)
    tail = ways = 1
    for k in range(few):
        ways = ways * (both - k) // (k + 1)
        tail += ways
    return (tail if few == other_alone else (1 << both) - tail) / (1 << both)


def _faults(evidence: PreflightEvidence) -> list[str]:
    alone, production = evidence.faults_alone, evidence.production_faults_alone
    asked, deaths, failed = evidence.requests, evidence.deaths_alone, []
    fails_all = LEAST_FAULTS <= alone == asked
    if fails_all or sign_test(alone, production) < MOST_CHANCE:
        failed.append(f"it alone failed {alone} of {asked} requests, and production alone {production}")
    if deaths >= MOST_DEATHS:
        failed.append(
            f"its worker ended, or had to be ended, by {deaths} of {asked} requests that production answered"
        )
    return failed


def _other_answers(evidence: PreflightEvidence, limits: PreflightLimits) -> list[str]:
    failed = []
    if others := evidence.other_kinds:
        known = sorted({kind.name for kind in evidence.production_kinds})
        failed.append(
            "its answers have another shape than production's"
            if set(others) <= set(known)
            else f"its answers are of another type: {', '.join(others)}, and production's {', '.join(known)}"
        )
    length_counts = not limits.any_length and not evidence.production_odd_lengths
    if length_counts and evidence.odd_lengths:
        failed.append(
            f"{evidence.odd_lengths} of {evidence.requests} answers have another number of items than the"
            " request has rows"
        )
    if evidence.flips is not None and evidence.flips > limits.max_flips:
        failed.append(
            f"{evidence.flips:.1%} of the scores are on the other side of {limits.cut_off:g},"
            f" {limits.max_flips:.1%} may be"
        )
    agreement, least = evidence.agreement, limits.min_agreement
    if least is not None and agreement is not None and agreement < least:
        failed.append(f"{agreement:.1%} of the labels are production's, {least:.1%} have to be")
    if limits.growth_bytes is not None and evidence.growth_bytes > limits.growth_bytes:
        failed.append(
            f"a worker grew by {evidence.growth_bytes // MIB} MiB, {limits.growth_bytes // MIB} are allowed"
        )
    return failed
