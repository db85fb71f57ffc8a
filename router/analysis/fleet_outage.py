"""The outage rule for a whole fleet, which waits for no cell to be sealed; and the numbers of runs. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from router.analysis.fleet_messages import MOST_PROCESSES, MOST_RUNS, Running, RunningCounts
from router.analysis.statistics.records import RunId
from router.core.breaker import OUTAGE_FAULTS, OUTAGE_REQUESTS

CellCounts = tuple[int, int, int]
"""Cell, the canary's requests, and its faults, excused ones apart."""


class FleetOutage:
    """Knows the newest requests to the canary of each run, at all gateways.

    Each gateway says how its own newest 50 went, by cell. So a fleet, whatever its size, finds out with about
    the first 50, and not with 50 at each gateway.
    """

    def __init__(self, process: str) -> None:
        """`process` is this gateway's."""
        self._process = process
        self.numbers: dict[str, int] = {}
        """By key of the run: the highest number known, where it is not 1. The longest known come first."""
        self.running: dict[str, Running] = {process: Running(process, 1, {})}
        """By process."""

    def number(self, key: str) -> int:
        """That is in force of a run, from 1."""
        return self.numbers.get(key, 1)

    def raise_numbers(self, numbers: Mapping[str, int]) -> list[RunId]:
        """These are in force too, by key of the run, unless higher ones are. Returns which were news."""
        news = [RunId(key, number) for key, number in numbers.items() if number > self.number(key)]
        for run in news:
            self.numbers.pop(run.key, None)
            self.numbers[run.key] = run.number
        while len(self.numbers) > MOST_RUNS:
            del self.numbers[next(iter(self.numbers))]
        return news

    def note_running(self, cell: int, runs: Mapping[RunId, tuple[int, int]]) -> None:
        """Of the running cell here, so far: the canary's requests, and its faults, excused ones apart."""
        before = self.running[self._process]
        after = dict(before.runs)
        for run, (requests, faults) in runs.items():
            known = after.pop(run.key, None)
            cells = [] if known is None or known.number != run.number else known.cells
            earlier = [one for one in cells if one[0] != cell]
            newest = _newest([*earlier, (cell, requests, faults)] if requests else earlier)
            after[run.key] = RunningCounts(run.number, newest)
        while len(after) > MOST_RUNS:
            del after[next(iter(after))]
        if after != before.runs:
            self.running[self._process] = Running(self._process, before.version + 1, after)

    def newer_than(self, versions: Mapping[str, int]) -> list[Running]:
        """What somebody lacks who has these versions, by process."""
        return [one for one in self.running.values() if one.version > versions.get(one.process, 0)]

    def merge(self, news: Iterable[Running], latest: int) -> None:
        """Take over what others counted, up to the cell `latest`."""
        for running in news:
            known = self.running.get(running.process)
            if running.process == self._process or (known and known.version >= running.version):
                continue
            runs = {
                key: RunningCounts(counts.number, [one for one in counts.cells if one[0] <= latest])
                for key, counts in running.runs.items()
            }
            self.running[running.process] = Running(running.process, running.version, runs)
        while len(self.running) > MOST_PROCESSES:
            others = (one for one in self.running.values() if one.process != self._process)
            del self.running[min(others, key=_newest_cell).process]

    def outages(self, since: Mapping[str, int]) -> Iterator[tuple[RunId, str]]:
        """Runs in force whose canary fails half of its newest 50 requests in the fleet, or of as many more as
        the cells have that hold them; and a sentence's end that says so. The same ones again until other
        requests are the newest, or the number is raised. `since`: by key, the first cell that counts."""
        for key in sorted({key for running in self.running.values() for key in running.runs}):
            run = RunId(key, self.number(key))
            newest = _newest(self._by_cell(run, since.get(key, 0)))
            requests, faults = sum(one for _, one, _ in newest), sum(one for *_, one in newest)
            if requests >= OUTAGE_REQUESTS and faults * OUTAGE_REQUESTS >= requests * OUTAGE_FAULTS:
                yield run, f"{faults} of its newest {requests} requests in the fleet were faults"

    def _by_cell(self, run: RunId, first: int) -> list[CellCounts]:
        """Of all processes together, from the cell `first` on, oldest first."""
        totals: dict[int, CellCounts] = {}
        for running in self.running.values():
            counts = running.runs.get(run.key)
            if counts is None or counts.number != run.number:
                continue
            for cell, requests, faults in counts.cells:
                _, before, faulty = totals.get(cell, (cell, 0, 0))
                totals[cell] = cell, before + requests, faulty + faults
        return [totals[cell] for cell in sorted(totals) if cell >= first]


def _newest(cells: list[CellCounts]) -> list[CellCounts]:
    """The last of `cells` that hold 50 requests; all where these hold fewer."""
    total = 0
    for index in range(len(cells) - 1, -1, -1):
        total += cells[index][1]
        if total >= OUTAGE_REQUESTS:
            return cells[index:]
    return cells


def _newest_cell(running: Running) -> int:
    return max((counts.cells[-1][0] for counts in running.runs.values() if counts.cells), default=-1)
