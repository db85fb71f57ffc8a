"""The state of a gateway that has no HTTP in front of it."""

from dataclasses import dataclass
from typing import Any

from router.control.alias_watch import AliasWatch
from router.control.caps import CapControl
from router.control.history import BoundTimes, RecentEvents, WorkerExitCounts
from router.control.journal import Journal
from router.control.last_known_good import LastKnownGood
from router.control.last_minute import LastMinute
from router.control.periodic import PeriodicTask
from router.control.rollback import RollbackWatch
from router.control.status import Status, TrafficCounts
from router.core.events import Recorder
from router.serving.caps import CapsInForce
from router.serving.dispatch import Dispatcher
from router.serving.models import ModelSet
from tests.support.analysis import analysis_of


@dataclass(frozen=True)
class Config:
    """What is in force."""

    digest: str = "3f9c"
    error: str | None = None


class NoState:
    """Nothing is durable."""

    def describe(self) -> dict[str, Any]:
        return {"durable": False, "reason": "this user has no home directory", "held_by": None}


class NoOutbound:
    """A gateway that asks and informs nobody."""

    def fleet(self) -> dict[str, Any]:
        return {"peers": [], "look_up_error": ""}

    def notify(self) -> list[dict[str, Any]]:
        return []

    def warnings(self) -> list[str]:
        return []


def status_of(models: ModelSet, watch: AliasWatch, recorder: Recorder, world: Any, **parts: Any) -> Status:
    """Its parts are new, and know nothing yet, but for those that are given."""
    rollback = RollbackWatch(world, world.environments, world, models, watch, recorder)
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
        "last_known_good": LastKnownGood(world, world.environments, models, rollback, recorder),
        "rollback": rollback,
        "analysis": analysis_of(models, recorder, lambda: 1e9, lambda: 0.0),
        "state_directory": NoState(),
        "journal": Journal("gw-1:1", lambda _: None),
        "outbound": NoOutbound(),
        "caps": CapControl(CapsInForce(), models, recorder, lambda: 1e9),
        "loops": [PeriodicTask("aliases", watch.tick, 5.0, recorder)],
    }
    return Status(**{**new, **parts})
