"""One run, from an empty directory to its figures. What fails or comes too late is skipped, saying why."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import launches, swaps, throughput
from benchmarks.load import Loader, build_registry
from benchmarks.plan import Cell, Plan
from benchmarks.processes import Ended
from benchmarks.registry_layout import NEXT
from benchmarks.results import Results
from benchmarks.servers import Place


class Session:
    """Takes the measurements of one plan, one after the other."""

    def __init__(
        self, plan: Plan, loader: Loader, server_core: int | None, say: Callable[[str], None]
    ) -> None:
        self.results = Results()
        self._plan, self._loader, self._core = plan, loader, server_core
        self._say = say
        self._ends_at = time.monotonic() + plan.limit_seconds

    def measure(self) -> Results:
        """Everything the plan names. Raises Unequal when servers answer differently."""
        plan = self._plan
        with tempfile.TemporaryDirectory(prefix="canary-router-bench-") as directory:
            place = Place(Path(directory), self._core)
            self._say("training and registering the versions")
            build_registry(place.directory, NEXT - 1 + plan.swaps, plan.workloads)
            self._part("start and memory", partial(launches.measure, plan.launches, place, self.results))
            for workload in plan.workloads:
                cells = [cell for cell in plan.cells if cell.workload == workload]
                self._part(f"speed on {workload}", partial(self._throughput, workload, cells, place))
            self._part(
                "alias moves",
                partial(swaps.measure, plan.swaps, plan.swap_rate, place, self._loader, self.results),
            )
        return self.results

    def _throughput(self, workload: str, cells: list[Cell], place: Place) -> None:
        for news in throughput.measure(workload, cells, place, self._loader, self.results, self._on_time):
            self._say(f"  {news}")

    def _part(self, what: str, measure: Callable[[], None]) -> None:
        if not self._on_time(what):
            return
        self._say(what)
        try:
            measure()
        except Ended as ended:
            self.results.broken.append(f"{what}: {ended}")

    def _on_time(self, what: object) -> bool:
        if time.monotonic() < self._ends_at:
            return True
        self.results.skipped.append(f"{what}: the time limit of {self._plan.limit_seconds:g} s was reached")
        return False
