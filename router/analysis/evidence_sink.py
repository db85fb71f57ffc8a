"""What keeps the evidence of runs beyond the life of a process, and what of it the next one finds.

A store has, for each run, one state and what came after it: what this process observed, as differences, and
what others observed in the cells that were sealed since. Folding the latter into the former gives the state
that the process had in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from router.analysis.evidence_format import Cell, Count, Host, Process
from router.analysis.run_key import RunSubject
from router.analysis.run_state import RunStateData
from router.analysis.statistics.records import CELL_SECONDS, Batch, RunCell, RunId

UNCLEAN_WINDOW_CELLS = 600 // CELL_SECONDS
MOST_UNCLEAN = 3
"""Unclean ends in ten minutes, each after requests to the canary, that open its breaker."""


class UncleanEnd(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A process that wrote here ended without a word: killed, or its machine went down."""

    process: Process
    host: Host
    cell: Cell
    """The last of which it wrote something."""
    canary_requests: Count
    """That it had observed in this run."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run as it was found: `RunState.load(state, …)`, then `fold` each of `sealed`."""

    run: RunId
    subject: RunSubject
    state: RunStateData
    verdict_cell: int
    """In which the verdict of that state was first said."""
    sealed: Sequence[tuple[int, Sequence[RunCell]]] = ()
    """Cells after the state's, in order, with what each process observed in them; in those between two of
    them, and before the first, nobody observed anything."""
    unclean_ends: Sequence[UncleanEnd] = ()
    """Of the last day, oldest first: for the breaker. What holds PASS comes by the fleet, see `ended`."""
    went_down: bool = False
    """Whether the newest of them is that of the process which had it last."""

    @property
    def goes_down(self) -> bool:
        """Whether the canary is to be broken off now: three unclean ends of this store within ten minutes,
        each after requests to the canary, and the last one just now."""
        ends = [end.cell for end in self.unclean_ends if end.canary_requests][-MOST_UNCLEAN:]
        recent = len(ends) == MOST_UNCLEAN and ends[-1] - ends[0] <= UNCLEAN_WINDOW_CELLS
        return recent and self.went_down and self.unclean_ends[-1].canary_requests > 0


@dataclass(frozen=True, slots=True)
class EndedProcess:
    """What one process observed that is in no state yet."""

    process: str
    host: str
    clean: bool
    """Whether it noted its end."""
    batches: Sequence[Batch]
    """In the order of their cells, of all runs; a run is missing in those that are in its state already."""


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """All that was found."""

    runs: Mapping[str, StoredRun] = field(default_factory=dict)
    """By key of the run."""
    ended: Sequence[EndedProcess] = ()


class EvidenceSink(Protocol):
    """Keeps what it is given, as far as that is possible. No method waits for anything, and none raises.

    What is handed over belongs to the sink: nobody changes it afterwards. `replace` begins a run; before it
    `append` and `seal` of that run have no effect, and after a write that failed neither, until the next
    `replace`: what is kept is always a state and all that followed it, up to some moment.
    """

    def append(self, run: RunId, cell: int, delta: RunCell) -> None:
        """This process observed `delta` in `cell` since the last call; also an empty one, once a cell."""

    def seal(self, run: RunId, cell: int, others: Mapping[str, RunCell]) -> None:
        """`cell` was folded into the state, together with what `others` observed, by process; what this
        process did was appended. In order; a cell in which nobody observed anything may be left out."""

    def replace(
        self,
        run: RunId,
        subject: RunSubject,
        state: RunStateData,
        verdict_cell: int,
        unsealed: Sequence[tuple[int, RunCell]],
    ) -> None:
        """`state` holds all that was sealed, and its verdict was first said in `verdict_cell`; `unsealed` is
        what this process observed in the cells after its horizon, as far as it was appended."""

    def needs_state(self, run: RunId) -> bool:
        """Whether to call `replace`: nothing is kept of the run yet, more was appended than a state takes, or
        a write failed some seconds ago."""

    def supersede(self, run: RunId) -> None:
        """There will be another state with its key, which is wanted as soon as it is there.

        Until then what is kept stays as it is, and nothing is added to it."""

    def forget(self, run: RunId) -> None:
        """The run is over, and nobody needs it."""

    def note_clean_end(self) -> None:
        """This process ends now, and has appended all that it observed. A `replace` may follow."""


class EvidenceFollower(Protocol):
    """Gets what was found as soon as the store is this process's own."""

    def take_stored(self, stored: StoredEvidence) -> None:
        """Once, before anything is served; or later, where another gateway had the store until now or the
        disk took long. Of two states of one run that differ, the one with more sealed requests stays."""
