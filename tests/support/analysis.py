"""Comparisons by clocks of a test."""

from collections.abc import Callable
from typing import Any

from router.analysis.cell_clock import CellClock
from router.analysis.fleet import Fleet
from router.analysis.recorder import AnalysisRecorder
from router.core.events import Recorder
from router.core.ids import GatewayId
from router.serving.models import ModelSet


def analysis_of(
    models: ModelSet,
    recorder: Recorder,
    wall: Callable[[], float],
    monotonic: Callable[[], float],
    **parts: Any,
) -> AnalysisRecorder:
    """The comparisons of `models` at a gateway that is alone, unless it has a `fleet`, and is started."""
    clock = parts.pop("clock", None) or CellClock(wall, monotonic)
    fleet = parts.pop("fleet", None) or Fleet(GatewayId("0" * 16, "gw-1"), clock.moment())
    analysis = AnalysisRecorder(models, recorder, clock=clock, fleet=fleet, **parts)
    analysis.start()
    return analysis
