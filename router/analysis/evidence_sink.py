"""What keeps the evidence of runs beyond the life of a process, and what of it the next one finds.

A store has, for each run, one state and what came after it: what this process observed, as differences, and
what others observed in the cells that were sealed since. Folding the latter into the former gives the state
that the process had in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from router.analysis.statistics.records import Batch, RunCell, RunId

UNCLEAN_WINDOW_CELLS = 120
"""Ten minutes: in them three unclean ends, each with requests of the canary, open its breaker."""
MOST_UNCLEAN = 3


class RunSubject(Struct, frozen=True, array_like=True):
    """What a run is about, for whoever finds it and does not compare these versions now."""

    model: str
    alias: str
    production: int
    """Version's number, and so of the next."""
    version: int


class UncleanEnd(Struct, frozen=True, array_like=True):
    """A process that wrote here ended without a word: killed, or its machine went down."""

    process: str
    host: str
    cell: int
    """The last of which it wrote something."""
    canary_requests: int
    """That it had observed in this run."""


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
class StoredRun:
    """One run as it was found: `RunState.load(state)`, then `fold` each of `sealed`."""

    run: RunId
    subject: RunSubject
    state: Struct
    """`RunStateData`."""
    sealed: Sequence[tuple[int, Sequence[RunCell]]] = ()
    """Cells after the state's, in order and without a gap, with what each process observed in them."""
    unclean_ends: Sequence[UncleanEnd] = ()
    """Of the last day, oldest first, those that were noted in the state before included."""
    new_unclean_ends: Sequence[UncleanEnd] = ()
    """Those of them that are in no state yet."""

    @property
    def goes_down(self) -> bool:
        """Whether the canary is to be broken off: three unclean ends of this store within ten minutes, each
        after requests to the canary."""
        ends = [end for end in self.unclean_ends if end.canary_requests]
        return any(
            last.cell - first.cell <= UNCLEAN_WINDOW_CELLS
            for first, last in zip(ends, ends[MOST_UNCLEAN - 1 :], strict=False)
        )


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
        process did was appended. Each cell after the state's, in order."""

    def replace(
        self, run: RunId, subject: RunSubject, state: Struct, unsealed: Sequence[tuple[int, RunCell]]
    ) -> None:
        """`state`, a `RunStateData`, holds all that was sealed; `unsealed` is what this process observed in
        the cells after it."""

    def needs_state(self, run: RunId) -> bool:
        """Whether to call `replace`: nothing is kept of the run yet, more was appended than a state takes, or
        a write failed some seconds ago."""

    def forget(self, run: RunId) -> None:
        """The run is over, and nobody needs it."""

    def note_clean_end(self) -> None:
        """This process ends now, and has appended all that it observed. A `replace` may follow."""


class EvidenceFollower(Protocol):
    """Gets what was found as soon as the store is this process's own."""

    def take_stored(self, stored: StoredEvidence) -> None:
        """Once, before anything is served; or later, where another gateway had the store until now or the
        disk took long. Of two states of one run that differ, the one with more sealed requests stays."""
