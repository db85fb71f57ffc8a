"""Builds a gateway from its configuration: every part gets what it needs when it is made, so nothing is named
before it exists."""

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

from router import __version__
from router.adapters.config.file import ConfigFile, LoadedConfig
from router.adapters.http.peers import ExchangeKey
from router.adapters.log.child_log import ChildLog
from router.adapters.log.lines import LogRecorder, log_journal, log_sample
from router.adapters.prometheus.live import LiveReader
from router.adapters.prometheus.recorder import PrometheusRecorder
from router.adapters.state.state_directory import StateDirectory
from router.analysis.cell_clock import CellClock
from router.analysis.document import document
from router.analysis.fault_patterns import FaultPatterns
from router.analysis.fleet import Fleet
from router.analysis.fleet_exchange import FleetEvidence
from router.analysis.hourly_traffic import HourlyTraffic
from router.analysis.recorder import LOOK_SECONDS, AnalysisRecorder
from router.app.backends import Backends
from router.app.gauges import Gauges
from router.app.outbound import Outbound
from router.app.reload import Certificates, OperatorReload, SettingsFollowers
from router.control.alerts import AlertCaps
from router.control.alias_watch import AliasWatch, until_next_poll
from router.control.break_glass import TICK_SECONDS, BreakGlassWatch, OffFile
from router.control.caps import CapControl
from router.control.config_watch import ConfigWatch
from router.control.crash_loop import CrashLoopWatch
from router.control.exchange_messages import ExchangeMessages, NoEvidence
from router.control.fan_out import FanOut
from router.control.gate_watch import TICK_SECONDS as GATE_LOOK_SECONDS
from router.control.gate_watch import GateWatch
from router.control.history import BoundTimes, RecentEvents, WorkerExitCounts
from router.control.journal import Journal
from router.control.last_known_good import LastKnownGood
from router.control.last_minute import LastMinute
from router.control.periodic import PeriodicTask
from router.control.planner import Planner
from router.control.rollback import RollbackWatch
from router.control.status import Status, TrafficCounts
from router.core.events import Event, Recorder
from router.processes.process import Reaper
from router.processes.processors import processors, read_processors
from router.serving.caps import CapsInForce
from router.serving.dispatch import Dispatcher
from router.serving.idle_processors import IdleProcessors
from router.serving.load_gate import LoadLimits
from router.serving.models import ModelSet
from router.serving.processor_shares import ProcessorShares
from router.serving.version_dependencies import VersionDependencies
from router.serving.worker_memory import MEMORY_LOOK_SECONDS
from router.settings import SettingsInForce
from router.web.context import WebState

CONFIG_LOOK_SECONDS = 2.0
READINESS_LOOK_SECONDS = 1.0
PROCESSORS_LOOK_SECONDS = 1.0
LAST_GOOD_LOOK_SECONDS = 1.0
ROLLBACK_LOOK_SECONDS = 1.0
ORPHANS_LOOK_SECONDS = 1.0
SHARED_MEMORY_LOOK_SECONDS = 1.0
STATE_LOOK_SECONDS = 1.0


class Metrics(Protocol):
    """Counts events, and shows the counts."""

    def record(self, event: Event) -> None:
        """Count one event."""

    def watch(self, live: LiveReader) -> None:
        """Ask `live` for the gateway at this instant, at each exposition."""

    def render(self, accept: str = "", names: Sequence[str] = ()) -> tuple[bytes, str]:
        """Exposition for an Accept header and a `name[]` filter: body and content type."""


@dataclass(frozen=True, slots=True)
class Instruments:
    """What observes a gateway. A benchmark passes others, to see what these cost."""

    metrics: Metrics
    compares: bool = True
    """Whether canary and production are compared."""
    preload: tuple[str, ...] = ()
    """Modules that the fork server imports for every child."""

    @classmethod
    def of_the_product(cls) -> "Instruments":
        """Metrics for Prometheus, and the comparison."""
        return cls(PrometheusRecorder(version=__version__))


class Recorders:
    """Who gets the events of a gateway: metrics, log, journal, and what `/v1/state` shows of the past."""

    def __init__(self, metrics: Metrics, gateway: str) -> None:
        """`gateway` names this process in the journal."""
        self.recent_events = RecentEvents(time.time)
        self.worker_exits = WorkerExitCounts(time.time)
        self.bound_times = BoundTimes(time.time)
        self.last_minute = LastMinute(time.monotonic)
        self.journal = Journal(gateway, log_journal)
        self.last_hour = HourlyTraffic(time.monotonic)
        self.all = FanOut(
            metrics,
            self.last_minute,
            self.last_hour,
            deduplicated=(
                LogRecorder(),
                self.recent_events,
                self.worker_exits,
                self.bound_times,
                self.journal,
            ),
        )


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of one gateway that its life needs: what HTTP serves, what ticks, what a stop ends."""

    config: ConfigWatch
    web: WebState
    models: ModelSet
    break_glass: BreakGlassWatch
    analysis: AnalysisRecorder
    recorder: Recorder
    outbound: Outbound
    loops: Sequence[PeriodicTask]


def build_gateway(
    source: ConfigFile,
    loaded: LoadedConfig,
    instruments: Instruments,
    recorders: Recorders,
    backends: Backends,
    state_directory: StateDirectory,
    off_file: OffFile,
    child_log: ChildLog,
    certificates: Certificates,
    key: ExchangeKey | None,
) -> Gateway:
    """A gateway that does nothing yet: no loop ticks, no version is loaded, nobody listens.

    `key`: that of its fleet; None where it has no peers.
    """
    recorder = recorders.all
    in_force = SettingsInForce(loaded.settings)
    load_limits = LoadLimits.of(loaded.settings.registry)
    caps_in_force, idle = CapsInForce(), IdleProcessors()
    models = ModelSet(
        VersionDependencies(
            *(backends.fetcher, backends.loader, backends.environments, recorder, load_limits, caps_in_force),
            idle=idle,
            addresses=backends.addresses,
        )
    )
    caps = CapControl(caps_in_force, models, recorder, time.time, state_directory.save)
    caps.restore(state_directory.caps.records)
    state_directory.follow_caps(caps.merge)
    break_glass = BreakGlassWatch(caps, off_file)
    identity = state_directory.identity
    clock = CellClock(time.time, time.monotonic)
    fleet = Fleet(identity, clock.moment())
    analysis = AnalysisRecorder(models, recorder, clock=clock, fleet=fleet, sink=state_directory.evidence)
    state_directory.evidence.follow(CrashLoopWatch(caps), analysis.joined)
    patterns = FaultPatterns(models, time.monotonic)
    if instruments.compares:
        recorder.add(analysis)
        recorder.add(patterns)
    dispatcher = Dispatcher(models, recorder)
    evidence = FleetEvidence(fleet, analysis.joined, clock.moment) if instruments.compares else NoEvidence()
    messages = ExchangeMessages(identity, caps, evidence, time.monotonic)
    outbound = Outbound(in_force, recorder, messages, key, recorders.journal, identity)
    alias_watch = AliasWatch(backends.source, models, recorder, time.time)
    rollback = RollbackWatch(
        backends.copies, backends.environments, backends.addresses, models, alias_watch, recorder
    )
    gauges = Gauges(models, dispatcher, analysis, rollback, outbound, state_directory)
    instruments.metrics.watch(gauges.live)

    last_known_good = LastKnownGood(backends.keeper, backends.environments, models, rollback, recorder)

    def poll_pause() -> float:
        return until_next_poll(in_force.current.registry.poll_seconds, random.random())  # noqa: S311 - no secret

    alias_loop = PeriodicTask("aliases", alias_watch.tick, poll_pause, recorder)
    gate_watch = GateWatch(backends.gate_source, models, alias_watch, poll_pause)
    gate_loop = PeriodicTask("gate", gate_watch.tick, GATE_LOOK_SECONDS, recorder)

    async def look_at_processors() -> None:
        idle.look(time.monotonic(), read_processors)

    loops = [
        PeriodicTask("readiness", models.watch_readiness, READINESS_LOOK_SECONDS, recorder),
        alias_loop,
        gate_loop,
        PeriodicTask("last good", last_known_good.tick, LAST_GOOD_LOOK_SECONDS, recorder),
        PeriodicTask("rollback", rollback.tick, ROLLBACK_LOOK_SECONDS, recorder),
        PeriodicTask("gauges", gauges.tick, gauges.period_seconds, recorder),
        PeriodicTask("comparison", analysis.tick, LOOK_SECONDS, recorder),
        PeriodicTask(
            "processors",
            ProcessorShares(models, processors(), time.monotonic).tick,
            PROCESSORS_LOOK_SECONDS,
            recorder,
        ),
        PeriodicTask("idle processors", look_at_processors, PROCESSORS_LOOK_SECONDS, recorder),
        PeriodicTask("worker memory", analysis.costs.memory.tick, MEMORY_LOOK_SECONDS, recorder),
        PeriodicTask("break-glass", break_glass.tick, TICK_SECONDS, recorder),
        PeriodicTask("state", state_directory.tick, STATE_LOOK_SECONDS, recorder),
    ]
    # Elsewhere shared memory is nowhere to be seen, and orphans are not left to this process.
    if sys.platform == "linux":
        loops.append(PeriodicTask("orphans", Reaper().tick, ORPHANS_LOOK_SECONDS, recorder))
        shared_memory = backends.shared_memory
        loops.append(PeriodicTask("shared memory", shared_memory.tick, SHARED_MEMORY_LOOK_SECONDS, recorder))

    config = ConfigWatch(
        source,
        recorder,
        SettingsFollowers(child_log, load_limits, backends.addresses, caps, models, alias_loop),
        in_force=in_force,
        digest=loaded.digest,
    )
    loops.append(PeriodicTask("config", config.tick, CONFIG_LOOK_SECONDS, recorder))
    loops += outbound.loops
    traffic = TrafficCounts()
    status = Status(
        version=__version__,
        models=models,
        dispatcher=dispatcher,
        alias_watch=alias_watch,
        config=config,
        traffic=traffic,
        recent_events=recorders.recent_events,
        worker_exits=recorders.worker_exits,
        bound_times=recorders.bound_times,
        last_minute=recorders.last_minute,
        last_known_good=last_known_good,
        rollback=rollback,
        analysis=analysis,
        outbound=outbound,
        caps=caps,
        state_directory=state_directory,
        journal=recorders.journal,
        loops=loops,
    )

    async def look_at_registry() -> None:
        await alias_loop.tick_now()
        gate_watch.look_again()
        gate_loop.trigger()  # nobody waits for it: what the aliases name is bound by then

    planner = Planner(models, analysis, recorders.last_hour)
    web = WebState(
        models=models,
        dispatcher=dispatcher,
        recorder=recorder,
        settings=in_force,
        state=status.document,
        compare=lambda model: patterns.add_to(document(analysis, model)),
        plan=lambda model, percent: planner.plan(model, percent).to_json(),
        metrics=instruments.metrics.render,
        reload=OperatorReload(config, certificates),
        identity=identity,
        caps=caps,
        exchange=messages,
        alerts=AlertCaps(caps, models),
        break_glass=break_glass,
        look_at_registry=look_at_registry,
        mlflow_version=version("mlflow"),
        traffic=traffic,
        log_sample=log_sample,
    )
    return Gateway(config, web, models, break_glass, analysis, recorder, outbound, loops)
