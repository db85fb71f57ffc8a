"""The report of a gate: one JSON document, whose schema is `config/gate-report.schema.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from router.core.gate_record import GateRecord, Registered
from router.core.utc import utc
from router.core.verdict import Verdict
from router.gate.findings import Finding, verdict_of
from router.gate.statistics.difference import CONFIDENCE, Difference
from router.gate.statistics.verdict import Judgement

FORMAT = 1


@dataclass(frozen=True, slots=True)
class HoldoutResult:
    """Both versions on the hold-out, and what follows."""

    source: str
    """As the operator named the data, without credentials."""
    digest: str
    """SHA-256 of the data, hexadecimal."""
    target: str
    group: str | None
    output: int | str
    """Which part of the answers was compared."""
    rows_asked: int
    """Some may not have been answered; `difference.rows` were compared."""
    difference: Difference
    max_loss: float
    min_gain: float | None
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class GateReport:
    """All that a gate found of one version."""

    of: Registered
    against: int
    """Number of the version it was compared with."""
    at: float
    """Seconds since 1970."""
    by: str
    router: str
    """Version of this package."""
    findings: Sequence[Finding]
    holdout: HoldoutResult | None = None
    """None: there was none, or an answer that can not be compared."""
    mlflow_run: str | None = None
    """The run in which it was logged, too."""

    @property
    def verdict(self) -> Verdict:
        """What all findings come to."""
        return verdict_of(self.findings)

    @property
    def why(self) -> str:
        """What decided the verdict, in one sentence without a full stop."""
        decided = [finding.why for finding in self.findings if finding.outcome == self.verdict.value]
        if self.verdict is Verdict.PASS and self.holdout is None:
            return "nothing speaks against it; no hold-out was asked about"
        # What a hold-out says is last, and of all that passed the only one worth saying.
        return decided[-1] if self.verdict is Verdict.PASS else "; ".join(decided)

    def to_json(self) -> dict[str, Any]:
        """By the schema; what is not finite is null."""
        return {
            "format": FORMAT,
            "model": self.of.version.model,
            "version": self.of.version.number,
            "run_id": self.of.run_id,
            "model_id": self.of.model_id,
            "against": self.against,
            "verdict": self.verdict.value,
            "why": self.why,
            "time": utc(self.at, "seconds"),
            "by": self.by,
            "router": self.router,
            "checks": [
                {
                    "check": finding.check,
                    "outcome": finding.outcome.value,
                    "why": finding.why,
                    "notes": list(finding.notes),
                }
                for finding in self.findings
            ],
            "holdout": None if self.holdout is None else _holdout(self.holdout),
            "mlflow_run": self.mlflow_run,
        }

    def record(self) -> GateRecord:
        """What the version's tag says of it."""
        return GateRecord(
            self.of,
            self.verdict,
            self.against,
            self.at,
            self.by,
            self.holdout.digest if self.holdout is not None else None,
            _figures(self.findings, self.holdout),
        )


def _holdout(result: HoldoutResult) -> dict[str, Any]:
    difference = result.difference
    return {
        "source": result.source,
        "sha256": result.digest,
        "target": result.target,
        "group": result.group,
        "output": result.output,
        "rows_asked": result.rows_asked,
        "rows": difference.rows,
        "groups": difference.groups,
        "metric": difference.metric,
        "greater_is_better": difference.greater_is_better,
        "candidate": difference.candidate,
        "production": difference.production,
        "difference": {
            "point": difference.point,
            "low": finite(difference.low),
            "high": finite(difference.high),
            "confidence": CONFIDENCE,
            "method": difference.method.value,
            "notes": list(difference.notes),
        },
        "max_loss": result.max_loss,
        "min_gain": result.min_gain,
        "criteria": [
            {
                "name": one.name,
                "bound": one.bound,
                "verdict": one.verdict.value,
                "why": one.sentence,
                "rows_to_decide": one.rows_to_decide,
            }
            for one in result.judgement.criteria
        ],
        "rows_to_decide": result.judgement.rows_to_decide,
    }


def _figures(findings: Sequence[Finding], holdout: HoldoutResult | None) -> Mapping[str, Any]:
    """The most important first: a tag has room for some of them only.

    Of checks their names alone: why one failed may quote rows of the hold-out, and what a version raised.
    """
    figures: dict[str, Any] = {}
    if holdout is not None:
        difference = holdout.difference
        figures |= {
            "metric": difference.metric,
            "difference": _short(difference.point),
            "interval": [_short(difference.low), _short(difference.high)],
            "candidate": _short(difference.candidate),
            "production": _short(difference.production),
            "rows": difference.rows,
            "rows_asked": holdout.rows_asked,
            "groups": difference.groups,
            "method": difference.method.value,
            "max_loss": holdout.max_loss,
            "min_gain": holdout.min_gain,
        }
    figures["checks"] = {finding.check: finding.outcome.value for finding in findings}
    return figures


def finite(value: float) -> float | None:
    """None for an end of an interval that nothing is known of."""
    return value if isfinite(value) else None


def _short(value: float) -> float | None:
    """Six digits are enough for a record."""
    return float(f"{value:.6g}") if isfinite(value) else None
