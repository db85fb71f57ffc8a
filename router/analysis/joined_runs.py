"""What all gateways know of every run together: sealed cells go in, one after the other.

A run is kept for some days after its last request, also where no gateway serves its versions: the same two may
meet again, and a run that one gateway keeps must not differ from that of another.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from router.analysis.checks import Report
from router.analysis.run_key import RunSubject, unpack_subject
from router.analysis.run_state import RunState
from router.analysis.statistics.records import CELL_SECONDS, Batch, RunCell, RunId

KEPT_CELLS = 7 * 86_400 // CELL_SECONDS
"""After the last request of a run."""
KEPT_RUNS = 8
"""Of one alias; those with the newest requests."""


class JoinedRun:
    """One run, as of the last sealed cell."""

    def __init__(self, subject: RunSubject, number: int, state: RunState) -> None:
        """`number` as of `RunId`."""
        self.id = RunId(subject.key, number)
        self.subject = subject
        self.state = state
        self.last_request_cell = max(state.horizon, state.first_cell)
        """The last cell in which any gateway observed something, as far as is known."""
        self.report: Report = state.report()

    @classmethod
    def begin(cls, subject: RunSubject, number: int, first_cell: int) -> "JoinedRun":
        """One of which nothing is known yet."""
        return cls(subject, number, RunState.begin(subject.criteria, subject.output, first_cell))

    @property
    def model_and_alias(self) -> tuple[str, str]:
        """What is compared with production."""
        return self.subject.model, self.subject.alias

    @property
    def is_empty(self) -> bool:
        """Whether no cell was folded yet."""
        return self.state.horizon < self.state.first_cell

    def fold(self, cell: int, parts: Sequence[RunCell]) -> None:
        """Take in one sealed cell, what each gateway observed in it, and judge."""
        if self.is_empty and cell < self.state.first_cell:
            # Another gateway began before this one: the run began there.
            self.state = RunState.begin(self.subject.criteria, self.subject.output, cell)
        self.state.fold(cell, parts)
        if any(part.records for part in parts):
            self.last_request_cell = cell
        if any(part.outage for part in parts):
            self.state.note_outage(cell)
        self.report = self.state.report()

    def note_outage(self, cell: int) -> None:
        """Half of the last fifty requests of the canary failed at some gateway: FAIL, before it is sealed."""
        self.state.note_outage(cell)
        self.report = self.state.report()


class JoinedRuns:
    """Every run by its key. Of two with one key that of the higher number is in force, and the other is over."""

    def __init__(self) -> None:
        self._runs: dict[str, JoinedRun] = {}

    def __iter__(self) -> Iterator[JoinedRun]:
        return iter(list(self._runs.values()))

    def get(self, key: str) -> JoinedRun | None:
        """The run in force; None where nothing is known of it."""
        return self._runs.get(key)

    def begin(self, subject: RunSubject, number: int, cell: int) -> JoinedRun:
        """A run that begins with `cell`, in place of the one with its key."""
        run = self._runs[subject.key] = JoinedRun.begin(subject, number, cell)
        return run

    def put(self, run: JoinedRun) -> None:
        """A run of which more is known elsewhere, in place of the one with its key."""
        self._runs[run.id.key] = run

    def fold(self, key: str, cell: int, batches: Mapping[str, Batch]) -> Mapping[str, RunCell]:
        """Take in what each process observed in one sealed cell of the run with that key.

        Returns what counts of it, by process: what is of a lower number than another's does not. A cell that
        was folded before changes nothing, nor does one of a run of which nobody says what it is about.
        """
        observed = {process: batch.runs[key] for process, batch in batches.items() if key in batch.runs}
        number = max((number for number, _ in observed.values()), default=0)
        run = self._runs.get(key)
        if number > (run.id.number if run is not None else 0):
            subject = run.subject if run is not None else _subject_of(key, observed.values())
            run = self.begin(subject, number, cell) if subject is not None else None
        if run is None or run.state.horizon >= cell:
            return {}
        parts = {process: part for process, (of, part) in observed.items() if of == run.id.number}
        if parts or not run.is_empty:
            run.fold(cell, list(parts.values()))
        return parts

    def forget_old(self, cell: int, compared: Collection[str]) -> list[RunId]:
        """Keep the runs with the keys `compared`, and of the others those that may be needed by `cell`.

        Returns which are forgotten.
        """
        kept: Counter[tuple[str, str]] = Counter()
        forgotten = []
        for run in sorted(self, key=lambda one: (one.id.key not in compared, -one.last_request_cell)):
            place, is_old = run.model_and_alias, cell - run.last_request_cell > KEPT_CELLS
            if run.id.key not in compared and (is_old or kept[place] >= KEPT_RUNS):
                del self._runs[run.id.key]
                forgotten.append(run.id)
            else:
                kept[place] += 1
        return forgotten


def _subject_of(key: str, observed: Iterable[tuple[int, RunCell]]) -> RunSubject | None:
    """What the run of that key is about, as whoever began it says; None where nobody does."""
    for _, part in observed:
        with suppress(ValueError):
            if part.subject is not None and (subject := unpack_subject(part.subject)).key == key:
                return subject
    return None
