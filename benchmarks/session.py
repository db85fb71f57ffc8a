"""One run, from an empty directory to its figures. What fails or comes too late is skipped, saying why."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import launches, scale, swaps, throughput
from benchmarks.load import Loader, build_registry
from benchmarks.plan import LAUNCHES, SCALE, SWAPS, Agenda, Cell
from benchmarks.processes import Ended
from benchmarks.results import Results
from benchmarks.servers import Place


class Session:
    """Takes the measurements of one agenda, one after the other."""

    def __init__(
        self, agenda: Agenda, loader: Loader, server_core: int | None, say: Callable[[str], None]
    ) -> None:
        self.results = Results()
        self._agenda, self._loader, self._core = agenda, loader, server_core
        self._say = say
        self._ends_at = time.monotonic() + agenda.plan.limit_seconds

    def measure(self) -> Results:
        """Everything on the agenda. Raises Unequal when servers answer differently."""
        agenda, plan, results = self._agenda, self._agenda.plan, self.results
        with tempfile.TemporaryDirectory(prefix="canary-router-bench-") as directory:
            place = Place(Path(directory), self._core)
            self._say("training and registering the versions")
            build_registry(place.directory, agenda.registered)
            parts: dict[str, Callable[[], None]] = {
                LAUNCHES: partial(launches.measure, plan.launches, sorted(agenda.peers), place, results)
            }
            for model, cells in agenda.by_model.items():
                parts[f"speed on {model}"] = partial(self._throughput, model, cells, place)
            parts[SCALE] = partial(scale.measure, plan, place, self._loader, results, self._say)
            # The last one: afterwards production is another version.
            parts[SWAPS] = partial(swaps.measure, plan, place, self._loader, results)
            for what, measure in parts.items():
                if what in agenda.parts or what.startswith("speed"):
                    self._part(what, measure)
        results.skipped += [f"{name}: {reason}" for name, reason in results.missing.items()]
        return results

    def _throughput(self, model: str, cells: list[Cell], place: Place) -> None:
        for news in throughput.measure(model, cells, place, self._loader, self.results, self._on_time):
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
        limit = self._agenda.plan.limit_seconds
        self.results.skipped.append(f"{what}: the time limit of {limit:g} s was reached")
        return False
