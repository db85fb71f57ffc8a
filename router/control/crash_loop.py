"""Breaks off a canary that may have taken its gateway down with it, again and again."""

from typing import Protocol

from router.analysis.evidence_sink import MOST_UNCLEAN, UNCLEAN_WINDOW_CELLS, StoredEvidence
from router.analysis.statistics.records import CELL_SECONDS
from router.core.ids import Alias, VersionId

_MINUTES = UNCLEAN_WINDOW_CELLS * CELL_SECONDS // 60
WHY = (
    f"its gateway ended {MOST_UNCLEAN} times in {_MINUTES} minutes without a clean stop,"
    " each time after requests to it"
)


class BreakerSwitch(Protocol):
    """Opens breakers."""

    def break_off(self, alias: Alias, version: VersionId, why: str) -> None:
        """Open that of `version` under `alias`, which need not serve yet."""


class CrashLoopWatch:
    """Implements `EvidenceFollower`.

    Nobody knows whether it was the canary: what it did last is lost with the process. To take its share is
    free, and a reset gives it back.
    """

    def __init__(self, switch: BreakerSwitch) -> None:
        self._switch = switch

    def take_stored(self, stored: StoredEvidence) -> None:
        """Look how those ended that had the state directory before."""
        for run in stored.runs.values():
            if run.goes_down:
                subject = run.subject
                version = VersionId(subject.model, subject.version)
                self._switch.break_off(Alias(subject.alias), version, WHY)
