"""Evidence as the event loop sees it: handed to the thread that writes, and waited for by nobody."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from router.adapters.state.evidence_files import Append, Change, End, Forget, Replace, Seal
from router.analysis.evidence_sink import EvidenceFollower, StoredEvidence
from router.analysis.run_key import RunSubject
from router.analysis.run_state import RunStateData
from router.analysis.statistics.records import RunCell, RunId

MOST_WAITING = 5_000
"""Changes that wait for the disk. What is above them is not kept, and a new state of its run is wanted."""


class ChangeWriter(Protocol):
    """Writes changes in a thread, in the order in which they come."""

    @property
    def changes_done(self) -> int:
        """How many of them are written, or left out."""

    def change_evidence(self, change: Change) -> None:
        """Write one more, soon."""


class EvidenceLog:
    """Implements `EvidenceSink`, on the event loop. Keeps nothing while the directory is not its own."""

    def __init__(self, writer: ChangeWriter | None, wanted: dict[str, float]) -> None:
        """`wanted`: by key of a run, from which moment on the writer wants a new state of it."""
        self._writer = writer
        self._wanted = wanted
        self._active = False
        self._kept: dict[str, int] = {}
        """Number of each run of which a state was handed over, and all that followed it."""
        self._handed = 0
        self._followers: Sequence[EvidenceFollower] = ()
        self._unread: list[StoredEvidence] = []

    def follow(self, *followers: EvidenceFollower) -> None:
        """These get what is found from now on, and at once what was found already."""
        self._followers = followers
        for stored in self._unread:
            self._pass_on(stored)
        self._unread.clear()

    def begin(self, stored: StoredEvidence) -> None:
        """The directory is ours from now on, and this was found in it."""
        self._active = True
        self._kept.clear()
        if self._followers:
            self._pass_on(stored)
        else:
            self._unread.append(stored)

    def end(self) -> None:
        """It is not ours any more."""
        self._active = False
        self._kept.clear()

    def append(self, run: RunId, cell: int, delta: RunCell) -> None:
        """As `EvidenceSink`, and so of the next ones."""
        if self._keeps(run):
            self._hand_over(run, Append(run, cell, delta))

    def seal(self, run: RunId, cell: int, others: Mapping[str, RunCell]) -> None:
        """See there."""
        if self._keeps(run):
            self._hand_over(run, Seal(run, cell, others))

    def replace(
        self,
        run: RunId,
        subject: RunSubject,
        state: RunStateData,
        verdict_cell: int,
        unsealed: Sequence[tuple[int, RunCell]],
    ) -> None:
        """See there."""
        if self._active:
            self._wanted.pop(run.key, None)
            self._kept[run.key] = run.number
            self._hand_over(run, Replace(run, subject, state, verdict_cell, unsealed))

    def needs_state(self, run: RunId) -> bool:
        """See there."""
        if not self._active or self._waiting() >= MOST_WAITING // 2:
            return False
        if not self._keeps(run):
            return True
        wanted_from = self._wanted.get(run.key)
        return wanted_from is not None and time.monotonic() >= wanted_from

    def supersede(self, run: RunId) -> None:
        """See there."""
        if self._kept.get(run.key, 0) <= run.number:
            self._kept.pop(run.key, None)

    def forget(self, run: RunId) -> None:
        """See there."""
        if self._active and self._kept.get(run.key, 0) <= run.number:
            self._kept.pop(run.key, None)
            self._hand_over(run, Forget(run))

    def note_clean_end(self) -> None:
        """See there."""
        if self._active and self._writer is not None:
            self._handed += 1
            self._writer.change_evidence(End())

    def _keeps(self, run: RunId) -> bool:
        return self._kept.get(run.key) == run.number

    def _waiting(self) -> int:
        return self._handed - self._writer.changes_done if self._writer is not None else 0

    def _hand_over(self, run: RunId, change: Change) -> None:
        if self._writer is None:
            return
        if self._waiting() >= MOST_WAITING:
            self._kept.pop(run.key, None)
            return
        self._handed += 1
        self._writer.change_evidence(change)

    def _pass_on(self, stored: StoredEvidence) -> None:
        for follower in self._followers:
            follower.take_stored(stored)
