"""One run, from an empty directory to its figures. What fails or comes too late is skipped, saying why."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import busy, launches, pythons, scale, swaps, throughput
from benchmarks.load import Loader, build_registry
from benchmarks.peers import PEERS
from benchmarks.plan import BUSY, LAUNCHES, SCALE, SWAPS, Agenda, Cell
from benchmarks.processes import Ended
from benchmarks.registry_layout import HEAVY, lacking
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

    def measure(self) -> Results:
        """Everything on the agenda. Raises Unequal when MLflow and the gateway answer differently."""
        agenda, plan, results = self._agenda, self._agenda.plan, self.results
        results.lacking = {model: why for model in agenda.by_model if (why := lacking(model))}
        gateways, results.missing = pythons.prepare(agenda.pythons, self._say)
        self._peers = PEERS | gateways
        self._ends_at = time.monotonic() + plan.limit_seconds
        with tempfile.TemporaryDirectory(prefix="canary-router-bench-") as directory:
            place = Place(Path(directory), self._core)
            self._say("training and registering the versions")
            registered = agenda.registered.items()
            build_registry(
                place.directory, {name: what for name, what in registered if name not in results.lacking}
            )
            parts: dict[str, Callable[[], None]] = {
                LAUNCHES: partial(launches.measure, plan.launches, sorted(agenda.peers), place, results)
            }
            for model, cells in agenda.by_model.items():
                if model in results.lacking:
                    continue
                parts[f"speed on {model}"] = partial(self._throughput, model, cells, place)
            parts[SCALE] = partial(scale.measure, plan, place, self._loader, results, self._say)
            parts[BUSY] = partial(busy.measure, plan, place, self._loader, results)
            # The last one: afterwards production is another version.
            parts[SWAPS] = partial(swaps.measure, plan, place, self._loader, results)
            for what, measure in parts.items():
                if what in agenda.parts or what.startswith("speed"):
                    self._part(what, measure)
        absent = results.missing | results.lacking
        results.skipped += [f"{name}: {reason}" for name, reason in absent.items()]
        return results

    def _throughput(self, model: str, cells: list[Cell], place: Place) -> None:
        if model in HEAVY:
            place = Place(place.directory, core=None)
        given = (self._peers, place, self._loader, self.results, self._on_time)
        for news in throughput.measure(model, cells, *given):
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
