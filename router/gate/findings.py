"""What one check of the gate found, and what all of them come to."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from router.core.redaction import redact_line
from router.core.verdict import Verdict

_LONGEST_WHY, _LONGEST_NOTE, _MOST_NOTES = 2000, 500, 20


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
    """`metadata`, `signature`, `environment`, `load`, `example`, `answers` or `holdout`."""
    outcome: Outcome
    why: str
    """One sentence, without its full stop."""
    notes: tuple[str, ...] = ()
    """What should be known and decides nothing, a sentence each."""


def found(check: str, outcome: Outcome, why: str, notes: Iterable[str] = ()) -> Finding:
    """`why` and `notes` in one printable line each, bounded and without credentials: versions name their
    columns, and what they raise is their own words."""
    shown = tuple(redact_line(note, _LONGEST_NOTE) for note in islice(notes, _MOST_NOTES))
    return Finding(check, outcome, redact_line(why, _LONGEST_WHY), shown)


def judged(check: str, faults: Iterable[str], well: str, notes: Iterable[str] = ()) -> Finding:
    """FAIL with all of `faults` where there are any, else PASS with the sentence `well`."""
    why = "; ".join(faults)
    return found(check, Outcome.FAIL if why else Outcome.PASS, why or well, notes)


def not_checked(check: str, why: str) -> Finding:
    """What could not be looked at stands in nobody's way, and is shown."""
    return found(check, Outcome.NOT_CHECKED, why)


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """One FAIL fails; else too little data in any of them is not enough data; else it passes."""
    outcomes = {finding.outcome for finding in findings}
    if Outcome.FAIL in outcomes:
        return Verdict.FAIL
    return Verdict.NOT_ENOUGH_DATA if Outcome.NOT_ENOUGH_DATA in outcomes else Verdict.PASS
