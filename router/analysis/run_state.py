"""The state of one run: cells go in, one after the other, and it says what is known so far.

`state = fold(state, joined cell)`, and nothing else: no clock, no I/O, no chance. Two gateways that fold the
same cells have the same state, whichever of them had which request, and however their records were merged.
"""

from collections.abc import Sequence

from msgspec import Struct

from router.analysis.checks import Criteria, Report
from router.analysis.statistics.records import Ranges, RunCell
from router.core.scores import OutputSpec


class RunStateData(Struct, array_like=True):
    """All of a `RunState`, for the disk and for another gateway."""

    first_cell: int
    horizon: int


class RunState:
    """What is known of one run, as of the last cell that was folded. About 300 KB, whatever the traffic.

    `fold` is called once for each sealed cell, in order, with what every gateway in that cell says of this
    run. A cell that is skipped is as one in which nobody said anything. Not safe for threads.
    """

    first_cell: int
    """That in which the run began. Epochs end at multiples of 900 and 3 600 s after its begin."""
    horizon: int
    """The last cell that was folded; `first_cell` − 1 before the first."""
    step_cell: int
    """That in which the present split began to count."""
    ranges: Ranges | None
    """The split whose requests count; None until one was in force at all gateways that compare."""
    line: float | None
    """Seconds above which an answer is slow; None until production's 95th percentile is known, then fixed.
    What was held against another line says nothing of latency."""

    @classmethod
    def begin(cls, criteria: Criteria, output: OutputSpec | None, first_cell: int) -> "RunState":
        """A state that has seen nothing. `output`: the score or class that both versions count alike."""
        raise NotImplementedError

    @classmethod
    def load(cls, data: RunStateData, criteria: Criteria, output: OutputSpec | None) -> "RunState":
        """The state that `dump` wrote: it goes on as the one that was dumped would, to the last bit.

        Raises ValueError for data that no state with such an `output` dumps.
        """
        raise NotImplementedError

    def dump(self) -> RunStateData:
        """Everything that there is to know, as a copy."""
        raise NotImplementedError

    def fold(self, cell: int, parts: Sequence[RunCell]) -> None:
        """Take in one sealed cell: what each gateway that has this run observed in it.

        The split that counts changes at the first cell that all parts which compare began with one other
        split. Records of another split do not count, nor do those of another line for latency.

        Raises ValueError unless the cell is after `horizon`.
        """
        raise NotImplementedError

    def report(self) -> Report:
        """What is known, as of `horizon`."""
        raise NotImplementedError

    def digest(self) -> bytes:
        """16 bytes that are the same where the same cells were folded.

        Of whole numbers only: logarithms may differ in the last digits from library to library. What
        `note_outage` and `note_unclean_end` say is not in it either.
        """
        raise NotImplementedError

    def note_outage(self, cell: int) -> None:
        """The breaker's rule broke in that cell, which need not be sealed: FAIL until the share changes."""
        raise NotImplementedError

    def note_unclean_end(self, cell: int, host: str) -> None:
        """A gateway ended without writing what it knew. Two within a day hold PASS; the same one counts
        once."""
        raise NotImplementedError

    @property
    def unclean_ends(self) -> list[tuple[int, str]]:
        """Those of the last day: cell and host."""
        raise NotImplementedError
