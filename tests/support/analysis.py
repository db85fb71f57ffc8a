"""Comparisons by clocks of a test."""

from collections.abc import Callable, Iterator, Sequence

from router.analysis.cell_clock import CellClock
from router.analysis.fleet import FleetState, FleetView, Moment, SealedCell
from router.analysis.recorder import AnalysisRecorder
from router.analysis.statistics.records import Batch, RunId
from router.core.events import Recorder
from router.serving.models import ModelSet


class AloneFleet:
    """This gateway alone: a cell is sealed as soon as it is over."""

    def __init__(self) -> None:
        self.first_cell: int | None = 0
        self._over: list[Batch] = []
        self._numbers: dict[str, int] = {}

    def own(self, batch: Batch, now: Moment) -> Batch | None:
        batch.process = "0" * 16
        self._over.append(batch)
        return batch

    def seal(self, now: Moment) -> Iterator[SealedCell]:
        over, self._over = self._over, []
        for batch in over:
            runs = {RunId(key, number): [cell] for key, (number, cell) in batch.runs.items()}
            yield SealedCell(batch.cell, {batch.process: batch}, runs, ())

    def note_running(self, cell: int, runs: object) -> None:
        pass

    def outages(self) -> Sequence[tuple[RunId, str]]:
        return ()

    def number(self, key: str) -> int:
        return self._numbers.get(key, 1)

    def reset(self, key: str) -> RunId:
        self._numbers[key] = self.number(key) + 1
        return RunId(key, self._numbers[key])

    def open_breaker(self, run: RunId, why: str) -> None:
        pass

    def state(self) -> FleetState | None:
        return None

    def describe(self, now: Moment) -> FleetView:
        return FleetView(None, ("gw-1",), (), ())


def analysis_of(
    models: ModelSet, recorder: Recorder, wall: Callable[[], float], monotonic: Callable[[], float]
) -> AnalysisRecorder:
    """The comparisons of `models` by a gateway that is alone, and keeps nothing on disk."""
    return AnalysisRecorder(models, recorder, clock=CellClock(wall, monotonic), fleet=AloneFleet())  # type: ignore[arg-type]
