"""One gateway's run as its tests see it: observations in, cells folded, reports out."""

from typing import Any

from router.analysis.checks import Report
from router.analysis.criteria import Criteria
from router.analysis.run_state import RunState
from router.analysis.statistics.cell_recorder import CellRecorder, Observation, ranges_of
from router.analysis.statistics.records import CELL_SECONDS, RunCell
from router.core.ids import CANARY, Alias
from router.core.scores import OutputSpec
from router.core.split import BUCKETS, Split

LINE = 0.025
"""Seconds above which an answer is slow, unless it is learned."""


def split_of(share: float) -> Split:
    """The canary has `share`, 0 to 1, and production the rest."""
    return Split(round(share * BUCKETS))


def request(bucket: int, *, share: float = 0.05, **said: Any) -> Observation:
    """One request that was answered well in 4 ms, but for what is `said`."""
    split = said.pop("split", None) or split_of(share)
    facts: dict[str, Any] = {
        "bucket": bucket,
        "canary": bucket < split.canary,
        "split": split,
        "fault": False,
        "seconds": 0.004,
        "bin_index": None,
        "blamed_batch": None,
        "excused": False,
    }
    facts.update(said)
    if facts["fault"]:
        facts["seconds"] = None
    return Observation(**facts)


class Observed:
    """A run that begins with cell 0, at one gateway. Each cell brings its counts by group."""

    def __init__(
        self,
        split: Split,
        *,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        output: OutputSpec | None = None,
        line: float | None = LINE,
        alias: Alias = CANARY,
    ) -> None:
        self.alias = alias
        data = RunState.begin(criteria, output, 0).dump()
        data.line = line
        self.state = RunState.load(data, criteria, output)
        self.recorder = CellRecorder(alias, split, line, output)
        self.observe = self.recorder.observe
        self._began_with = self.recorder.ranges

    def look(self, now: float) -> None:
        """What was observed since the last cell was that of the last one that is over by `now`, if that is
        new."""
        cell, begun = int(now // CELL_SECONDS) - 1, RunCell(compares=True, began_with=self._began_with)
        if cell <= self.state.horizon:
            return
        if cell > self.state.horizon + 1:
            self.state.fold(self.state.horizon + 1, [begun])
        begun.records = self.recorder.drain(groups=True)
        self.state.fold(cell, [begun])
        self._began_with = self.recorder.ranges
        self.recorder.begin_cell(cell + 1)
        self.recorder.change_line(self.state.line)

    def change_share(self, share: float, now: float) -> None:
        """The cell that is over by `now` is the last with the present split."""
        self.look(now)
        self.recorder.change_split(split_of(share))
        self._began_with = ranges_of(split_of(share), self.alias)

    def report(self, now: float | None = None) -> Report:
        """What is known; `now` as in `look`, which it may be called after."""
        if now is not None:
            self.look(now)
        return self.state.report()
