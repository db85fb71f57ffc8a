"""The gateway without metrics, scores and comparison: `python -m benchmarks.silent_gateway serve`.

To see what they cost: nothing in the product switches them off. Facts are made here, too, for the log; nobody
counts them.
"""

import sys
from collections.abc import Sequence

from router.analysis.recorder import AnalysisRecorder
from router.app import backends as world
from router.app import run as app
from router.cli import main
from router.control.fan_out import FanOut
from router.core.events import Event, Recorder
from router.core.ids import VersionId
from router.processes.child import Child
from router.processes.forkserver_supervisor import ForkServerSupervisor


class NoMetrics:
    """In the place of what counts."""

    def __init__(self, **_: object) -> None:
        """Whatever the real one is made of."""

    def watch(self, live: object) -> None:
        """Nobody scrapes."""

    def record(self, event: Event) -> None:
        """Forget it."""

    def render(self, accept: str = "", names: Sequence[str] = ()) -> tuple[bytes, str]:
        """An empty exposition."""
        return b"", "text/plain"


class Scoreless(ForkServerSupervisor):
    """Its workers have imported `no_scores`."""

    async def launch(self, role: str, modules: Sequence[str] = (), version: VersionId | None = None) -> Child:
        """As a template does."""
        return await super().launch(role, (*modules, "benchmarks.no_scores"), version)


def without_metrics(*recorders: Recorder, deduplicated: Sequence[Recorder] = ()) -> FanOut:
    """Tells all but `NoMetrics`, and nobody who compares."""
    silent = (NoMetrics, AnalysisRecorder)
    return FanOut(*(one for one in recorders if not isinstance(one, silent)), deduplicated=deduplicated)


if __name__ == "__main__":
    for module, name, replacement in (
        (app, "PrometheusRecorder", NoMetrics),
        (app, "FanOut", without_metrics),
        (world, "ForkServerSupervisor", Scoreless),
    ):
        if not hasattr(module, name):
            raise SystemExit(f"{module.__name__} has no {name} any more: this benchmark is out of date")
        setattr(module, name, replacement)
    sys.exit(main())
