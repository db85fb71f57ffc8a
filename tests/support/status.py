"""The state of a gateway that has no HTTP in front of it."""

from dataclasses import dataclass
from typing import Any

from router.analysis.recorder import AnalysisRecorder
from router.control.alias_watch import AliasWatch
from router.control.history import BoundTimes, RecentEvents, WorkerExitCounts
from router.control.last_known_good import LastKnownGood
from router.control.last_minute import LastMinute
from router.control.periodic import PeriodicTask
from router.control.rollback import RollbackWatch
from router.control.status import Status, TrafficCounts
from router.core.events import Recorder
from router.serving.dispatch import Dispatcher
from router.serving.models import ModelSet


@dataclass(frozen=True)
class Config:
    """What is in force."""

    digest: str = "3f9c"
    error: str | None = None


def status_of(models: ModelSet, watch: AliasWatch, recorder: Recorder, world: Any, **parts: Any) -> Status:
    """Its parts are new, and know nothing yet, but for those that are given."""
    rollback = RollbackWatch(world, models, watch, recorder)
    new = {
        "version": "0",
        "models": models,
        "dispatcher": Dispatcher(models, recorder),
        "alias_watch": watch,
        "config": Config(),
        "traffic": TrafficCounts(),
        "recent_events": RecentEvents(lambda: 1e9),
        "worker_exits": WorkerExitCounts(lambda: 1e9),
        "bound_times": BoundTimes(lambda: 1e9),
        "last_minute": LastMinute(lambda: 0.0),
        "last_known_good": LastKnownGood(world, models, rollback, recorder),
        "rollback": rollback,
        "analysis": AnalysisRecorder(models, recorder, wall=lambda: 1e9, monotonic=lambda: 0.0),
        "loops": [PeriodicTask("aliases", watch.tick, 5.0, recorder)],
    }
    return Status(**{**new, **parts})
