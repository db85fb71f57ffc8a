"""What one check of the gate found, and what all of them come to."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from router.core.gate_record import GateVerdict


class Outcome(StrEnum):
    """How one check ended: values of `outcome` in the report."""

    PASS = "pass"  # noqa: S105 - a verdict, and no password
    FAIL = "fail"
    NOT_ENOUGH_DATA = "not_enough_data"
    NOT_CHECKED = "not_checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """How one check ended, and why."""

    check: str
    """`signature`, `example`, `environment`, `metadata`, `answers` or `holdout`."""
    outcome: Outcome
    why: str
    """One sentence, without its full stop."""
    notes: tuple[str, ...] = ()
    """What should be known and decides nothing, a sentence each."""


def judged(check: str, faults: Iterable[str], well: str, notes: Iterable[str] = ()) -> Finding:
    """FAIL with all of `faults` where there are any, else PASS with the sentence `well`."""
    found = "; ".join(faults)
    return Finding(check, Outcome.FAIL if found else Outcome.PASS, found or well, tuple(notes))


def not_checked(check: str, why: str) -> Finding:
    """What could not be looked at stands in nobody's way, and is shown."""
    return Finding(check, Outcome.NOT_CHECKED, why)


def verdict_of(findings: Iterable[Finding]) -> GateVerdict:
    """One FAIL fails; else too little data in any of them is not enough data; else it passes."""
    outcomes = {finding.outcome for finding in findings}
    if Outcome.FAIL in outcomes:
        return GateVerdict.FAIL
    return GateVerdict.NOT_ENOUGH_DATA if Outcome.NOT_ENOUGH_DATA in outcomes else GateVerdict.PASS
