"""What all gateways know of every run together: sealed cells go in, one after the other.

A run is kept for some days after its last request, also where no gateway serves its versions: the same two
may meet again, and all gateways must know the same of a run.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from router.analysis.checks import Report
from router.analysis.evidence_format import check_state
from router.analysis.fleet_messages import MOST_CELL, MOST_COUNT
from router.analysis.run_key import RunSubject, unpack_subject
from router.analysis.run_state import RunState, RunStateData
from router.analysis.statistics.records import CELL_SECONDS, Ranges, RunCell, RunId

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
        self.splits: Mapping[str, Ranges] = {}
        """By which each gateway that compares routed in that cell."""
        self.verdict_cell = state.first_cell
        """That in which its verdict became what it is, as far as is known."""
        self.report: Report = state.report()

    @classmethod
    def load(
        cls, subject: RunSubject, number: int, data: RunStateData, verdict_cell: int | None = None
    ) -> "JoinedRun":
        """As another process dumped it. Raises ValueError for what none dumps."""
        run = cls(subject, number, RunState.load(data, subject.criteria, subject.output))
        if verdict_cell is not None:
            run.verdict_cell = verdict_cell
        return run

    @classmethod
    def begin(cls, subject: RunSubject, number: int, first_cell: int) -> "JoinedRun":
        """One of which nothing is known yet."""
        return cls(subject, number, RunState.begin(subject.criteria, subject.output, first_cell))

    @property
    def model_and_alias(self) -> tuple[str, str]:
        """What is compared with production."""
        return self.subject.model, self.subject.alias

    @property
    def requests(self) -> int:
        """Of both arms in this step: of two states of one run the one with more knows more."""
        faults = self.report.faults
        return faults.production.requests + faults.canary.requests

    @property
    def is_empty(self) -> bool:
        """Whether no cell was folded yet."""
        return self.state.horizon < self.state.first_cell

    def fold(self, cell: int, parts: Mapping[str, RunCell]) -> None:
        """Take in one sealed cell, what each gateway observed in it, and judge."""
        self._take(cell, parts)
        self._judge(cell)

    def fold_all(self, sealed: Sequence[tuple[int, Mapping[str, RunCell]]]) -> bool:
        """Take in many cells, in order, and judge after the last one only: to judge takes most of the time.

        False where the verdict is another one then. In which cell it became that, only `fold` of one after
        the other says.
        """
        before = self.report.verdict
        for cell, parts in sealed:
            self._take(cell, parts)
        self._judge(self.state.horizon)
        return self.report.verdict is before

    def _take(self, cell: int, parts: Mapping[str, RunCell]) -> None:
        observed = list(parts.values())
        if self.is_empty and cell != self.state.first_cell:
            # Elsewhere it began before, or what was observed here did not count yet.
            self.state = RunState.begin(self.subject.criteria, self.subject.output, cell)
            self.verdict_cell = cell
        self.state.fold(cell, observed)
        self.splits = {member: part.began_with for member, part in parts.items() if part.compares}
        if any(part.records for part in observed):
            self.last_request_cell = cell

    def _judge(self, cell: int) -> None:
        before, self.report = self.report.verdict, self.state.report()
        if self.report.verdict is not before:
            self.verdict_cell = cell

    def note_unclean_end(self, cell: int, host: str) -> None:
        """A gateway was killed, and what it knew of this run with it."""
        self.state.note_unclean_end(cell, host)
        self._judge(cell)

    def note_outage(self, cell: int) -> None:
        """Half of the last fifty requests of the canary failed at some gateway: FAIL, before it is sealed."""
        self.state.note_outage(cell)
        self._judge(cell)


class PackedRun(Struct, frozen=True, array_like=True):
    """One run as gateways hand it to each other."""

    subject: RunSubject
    number: int
    state: RunStateData
    verdict_cell: int


class JoinedRuns:
    """Every run by its key. Of two with one key that of the higher number is in force; the other is over."""

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
        """A run that another process knew, in place of the one with its key."""
        self._runs[run.id.key] = run

    def clear(self) -> None:
        """What another gateway knows stays instead."""
        self._runs = {}

    def pack(self, key: str) -> bytes | None:
        """The run for another gateway; None where nothing is known of it."""
        run = self._runs.get(key)
        if run is None or run.is_empty:
            return None
        return msgspec.msgpack.encode(
            PackedRun(run.subject, run.id.number, run.state.dump(), run.verdict_cell)
        )

    def fold(self, run: RunId, cell: int, parts: Mapping[str, RunCell]) -> JoinedRun | None:
        """Take in what each gateway, by member, observed of `run` in one sealed cell.

        Returns the run; None where nobody says what it is about. A higher number than before begins it anew,
        a lower one is over. A cell that was folded before changes nothing.
        """
        joined = self._runs.get(run.key)
        if joined is None or run.number > joined.id.number:
            subject = joined.subject if joined is not None else _subject_of(run.key, parts.values())
            if subject is None:
                return None
            joined = self.begin(subject, run.number, cell)
        # One that began here may have begun elsewhere in an earlier cell, which is sealed only now.
        is_next = bool(parts) if joined.is_empty else cell > joined.state.horizon
        if run.number == joined.id.number and is_next:
            joined.fold(cell, parts)
        return joined

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


def unpack_run(packed: bytes) -> JoinedRun:
    """What `JoinedRuns.pack` gave at another gateway. Raises ValueError for what it can not have given."""
    try:
        run = msgspec.msgpack.decode(packed, type=PackedRun)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError("the state of a run in it is no state of a run") from None
    if not (1 <= run.number <= MOST_COUNT and 0 <= run.verdict_cell <= MOST_CELL):
        raise ValueError("the number of a run in it, or the cell of its verdict, is out of range")
    check_state(run.state)
    return JoinedRun.load(run.subject, run.number, run.state, run.verdict_cell)


def _subject_of(key: str, parts: Iterable[RunCell]) -> RunSubject | None:
    """What the run of that key is about, as whoever began it says; None where nobody does."""
    for part in parts:
        with suppress(ValueError):
            if part.subject is not None and (subject := unpack_subject(part.subject)).key == key:
                return subject
    return None
