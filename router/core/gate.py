"""Whether a version has passed the gate, by what the registry says of it. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from router.core.gate_record import (
    GateRecord,
    Objection,
    Objections,
    Override,
    Registered,
    objections_to_gate,
    objections_to_override,
    read_gate_record,
    read_override,
)
from router.core.ids import VersionId
from router.core.utc import utc


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """What the registry says of one version."""

    of: Registered
    gate_tag: str | None
    """Value of GATE_TAG; None where there is none."""
    override_tag: str | None
    """Value of OVERRIDE_TAG; None where there is none."""
    missing: tuple[str, ...] = ()
    """Of the required metadata, what neither the version nor its run or LoggedModel has."""


@dataclass(frozen=True, slots=True)
class GateRules:
    """What a version must have."""

    max_age_seconds: float | None = None
    """None: a record does not age."""
    key: bytes | None = field(default=None, repr=False)
    """What signs; None: no signature is looked at."""
    holdout: bool = False
    """Whether only an examination on a hold-out counts."""


@dataclass(frozen=True, slots=True)
class GateJudgement:
    """What was found of one version."""

    version: VersionId
    to_gate: Objections
    """Why its record of the gate does not let it through; or of both tags, where none was read."""
    to_override: Objections | None = None
    """Why its override does not; None where there is none, or none is needed."""
    record: GateRecord | None = None
    """By which it passed."""
    override: Override | None = None
    """By which it is let through without having passed."""

    @property
    def passes(self) -> bool:
        """Whether it is let through."""
        return self.record is not None or self.override is not None

    @property
    def objections(self) -> Objections:
        """Why it is not let through; empty: it is."""
        return {} if self.passes else _joined(self.to_gate, self.to_override or {})

    def counts_but_for(self, excused: Collection[Objection]) -> bool:
        """Whether one of its tags lets it through, or would if nobody minded what is `excused`.

        Each tag for itself: what an override lets through needs no record of the gate.
        """
        both = (self.to_gate, self.to_override)
        return self.passes or any(one is not None and one.keys() <= set(excused) for one in both)

    @property
    def why_not(self) -> str:
        """All objections in one sentence, without a full stop; empty where there is none."""
        return "; ".join(self.objections.values())

    def by_what(self, production: int | None = None) -> str:
        """What lets it through, in a sentence; `production` is the number of the version that is it now."""
        if self.override is not None:
            until = utc(self.override.until, "seconds")
            return f"let through by {self.override.by} until {until}: {self.override.reason}"
        if self.record is None:
            return "it was let through before"
        if self.record.against is None:
            return f"passed at {utc(self.record.at, 'seconds')}, by {self.record.by}"
        moved = production not in (None, self.record.against, self.version.number)
        note = f"; production is now v{production}" if moved else ""
        return f"passed against v{self.record.against} at {utc(self.record.at, 'seconds')}{note}"


def judge(evidence: GateEvidence, rules: GateRules, now: float) -> GateJudgement:
    """By its record of the gate or, where that does not count, by an override; `now`: seconds since 1970."""
    of = evidence.of
    objections = objections_to_gate(
        evidence.gate_tag,
        of,
        now=now,
        max_age_seconds=rules.max_age_seconds,
        key=rules.key,
        holdout=rules.holdout,
        missing=evidence.missing,
    )
    if not objections:
        assert evidence.gate_tag is not None  # or that were an objection
        return GateJudgement(of.version, {}, record=read_gate_record(evidence.gate_tag))
    if evidence.override_tag is None:
        return GateJudgement(of.version, objections)
    to_override = objections_to_override(evidence.override_tag, of, now=now, key=rules.key)
    if not to_override:
        return GateJudgement(of.version, objections, {}, override=read_override(evidence.override_tag))
    return GateJudgement(of.version, objections, to_override)


def not_judged(version: VersionId, why: Objection, sentence: str) -> GateJudgement:
    """Of a version of which nothing is known: it is not let through."""
    return GateJudgement(version, {why: sentence})


def _joined(one: Mapping[Objection, str], other: Mapping[Objection, str]) -> dict[Objection, str]:
    both = {**one, **other}
    return {kind: "; ".join(o[kind] for o in (one, other) if kind in o) for kind in both}
