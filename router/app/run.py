"""Composition root: puts the rooms together. Start and stop are one function."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from router import __version__
from router.adapters.admin_token import admin_token
from router.adapters.child_lines import ChildLines
from router.adapters.config_file import ConfigFile
from router.adapters.log import FanOut, LogRecorder, log_sampled
from router.adapters.log_format import configure_logging
from router.adapters.prometheus import PrometheusRecorder
from router.app.backends import open_backends
from router.app.gauges import Gauges
from router.control import compare
from router.control.alias_watch import AliasWatch
from router.control.bound_times import BoundTimes
from router.control.comparison import LOOK_SECONDS, Comparison
from router.control.config_watch import ConfigWatch, Reloaded
from router.control.last_known_good import LastKnownGood
from router.control.periodic import PeriodicTask
from router.control.recent_events import RecentEvents
from router.control.status import Status
from router.control.worker_exits import WorkerExitCounts
from router.core.events import ConfigApplied
from router.core.memory import MIB
from router.processes.mlflow_variables import unknown_variables
from router.processes.process import MEMORY
from router.processes.reaper import Reaper
from router.serving.dispatch import Dispatcher
from router.serving.harness import VersionDependencies
from router.serving.load_gate import LoadLimits
from router.serving.models import ModelSet
from router.settings import ServerSettings, Settings
from router.web.apps import admin_app, traffic_app
from router.web.context import WebState
from router.web.listeners import bind, connection_limit, listening, raise_descriptor_limit
from router.web.shutdown import GracefulShutdown
from router.web.tls import Certificate

CONFIG_LOOK_SECONDS = 2.0
READINESS_LOOK_SECONDS = 1.0
LAST_GOOD_LOOK_SECONDS = 1.0
ORPHANS_LOOK_SECONDS = 1.0
ADMIN_CONNECTIONS = 128

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A started gateway."""

    gateway: WebState
    traffic: tuple[str, int]
    """Host and port that were bound."""
    admin: tuple[str, int]
    reload: Callable[[], Awaitable[object]]
    """Read the configuration now, as an operator who asks for it. Raises ConfigRefused."""
    draining: GracefulShutdown
    """Its end, which comes when the context is left."""


def read_certificates(server: ServerSettings) -> tuple[Certificate | None, Certificate | None]:
    """Those of the traffic and of the admin listener. Raises ConfigRefused when one can not be used."""
    traffic = Certificate("server.tls", server.tls) if server.tls else None
    admin = Certificate("server.admin_tls", server.admin_tls) if server.admin_tls else None
    return traffic, admin


def _log_memory() -> None:
    room = MEMORY.room()
    _log.info(f"{room.available // MIB} MiB of memory are available, below {room.limit}")
    if MEMORY.ends_all_together:
        _log.warning(
            "memory.oom.group is 1: out of memory, the kernel ends this gateway and all its versions at once;"
            " only the check of room before each load prevents that"
        )


@asynccontextmanager
async def running_gateway(config_path: Path, flags: Mapping[str, str]) -> AsyncIterator[Running]:
    """A gateway from its configuration file to its last worker's end. Raises ConfigRefused, OSError."""
    source = ConfigFile(config_path, os.environ, flags)
    loaded = source.parse(source.read())
    settings = loaded.settings
    configure_logging(settings.log.level, settings.log.format)
    for notice in loaded.notices:
        _log.warning(notice)
    for name in unknown_variables(os.environ):
        _log.warning("%s is set, and versions do not get it: this gateway does not know what it opens", name)
    _log_memory()
    prometheus = PrometheusRecorder(version=__version__)
    event_log = RecentEvents(time.time)
    worker_ends = WorkerExitCounts(time.time)
    comparison = Comparison(
        lambda: fleet, lambda event: recorder.record(event), wall=time.time, monotonic=time.monotonic
    )
    bound_since = BoundTimes(time.time)
    recorder = FanOut(prometheus, comparison, of_news=(LogRecorder(), event_log, worker_ends, bound_since))
    token = admin_token(settings.server, os.environ)
    certificates = read_certificates(settings.server)
    async with AsyncExitStack() as stack:
        # Ports first: a port that is taken must be told before anything is started.
        sockets = [bind(*settings.server.listen), bind(*settings.server.admin)]
        for bound in sockets:
            stack.callback(bound.close)
        child_lines = ChildLines()
        child_lines.shown = settings.log.model_output  # the template starts before all else is put together
        world = await stack.enter_async_context(open_backends(settings, recorder, child_lines))
        load_limits = LoadLimits(settings.registry.download_timeout_seconds, settings.registry.parallel_loads)
        fleet = ModelSet(
            VersionDependencies(
                world.fetcher,
                world.loader,
                recorder,
                load_limits,
            )
        )
        stack.push_async_callback(fleet.close)

        def apply(new: Settings) -> None:
            configure_logging(new.log.level, new.log.format)
            child_lines.shown = new.log.model_output
            gateway.sample_share = new.log.sample_requests
            load_limits.deadline_seconds = new.registry.download_timeout_seconds
            load_limits.side_by_side = new.registry.parallel_loads
            fleet.apply(new.models)
            alias_loop.poke()

        config = ConfigWatch(source, recorder, apply, settings=settings, digest=loaded.digest)
        dispatcher = Dispatcher(fleet, recorder)
        alias_watch = AliasWatch(world.source, fleet, recorder, time.time)
        last_good = LastKnownGood(world.keeper, fleet, recorder)
        gauges = Gauges(fleet, dispatcher, comparison)
        prometheus.watch(gauges.live)

        async def reload() -> Reloaded:
            fresh = [(one, await asyncio.to_thread(one.read)) for one in certificates if one]
            reloaded = await config.reload(operator=True)
            for certificate, context in fresh:
                certificate.use(context)
            return reloaded

        gateway = WebState(
            fleet=fleet,
            dispatcher=dispatcher,
            recorder=recorder,
            settings=lambda: config.settings,
            state=lambda: status.document(),
            compare=lambda model: compare.document(comparison, model),
            metrics=prometheus.render,
            reload=reload,
            mlflow_version=version("mlflow"),
            tell_sampled=log_sampled,
        )
        status = Status(
            version=__version__,
            fleet=fleet,
            dispatcher=dispatcher,
            alias_watch=alias_watch,
            config=lambda: {"digest": config.digest, "error": config.error},
            events=event_log.events,
            worker_ends=worker_ends.of,
            bound_since=bound_since.of,
            stopping=lambda: gateway.stopping,
            traffic=lambda model: (gateway.received.get(model, 0), gateway.keyless.get(model, 0)),
            unwritten=lambda: last_good.errors,
            verdicts=lambda model: compare.verdicts(comparison, model),
        )
        alias_loop = PeriodicTask(
            "aliases", alias_watch.tick, lambda: config.settings.registry.poll_seconds, recorder
        )
        config_loop = PeriodicTask("config", config.tick, lambda: CONFIG_LOOK_SECONDS, recorder)
        record_loop = PeriodicTask("last good", last_good.tick, lambda: LAST_GOOD_LOOK_SECONDS, recorder)
        lag_loop = PeriodicTask("gauges", gauges.tick, lambda: gauges.period_seconds, recorder)
        compare_loop = PeriodicTask("comparison", comparison.tick, lambda: LOOK_SECONDS, recorder)
        apply(settings)
        recorder.record(ConfigApplied(loaded.digest, ()))
        readiness_loop = PeriodicTask(
            "readiness", fleet.watch_readiness, lambda: READINESS_LOOK_SECONDS, recorder
        )
        loops = [readiness_loop, alias_loop, config_loop, record_loop, lag_loop, compare_loop]
        if sys.platform == "linux":  # elsewhere orphans are not left to this process
            loops.append(PeriodicTask("orphans", Reaper().tick, lambda: ORPHANS_LOOK_SECONDS, recorder))
        for loop in loops:
            loop.start()
            stack.push_async_callback(loop.stop)

        raise_descriptor_limit()
        observable = settings.server.observe == "traffic"
        traffic = traffic_app(gateway, observable=observable)
        admin = admin_app(gateway, token.read if token else None)
        tls, admin_tls = (one.context if one else None for one in certificates)
        await stack.enter_async_context(listening(admin, sockets[1], limit=ADMIN_CONNECTIONS, tls=admin_tls))
        listener = await stack.enter_async_context(
            listening(traffic, sockets[0], limit=connection_limit(), tls=tls)
        )
        draining = GracefulShutdown(
            gateway, listener, lambda: fleet.close(0.0), lambda: config.settings.server.drain_seconds
        )
        stack.push_async_callback(draining.drain)
        yield Running(
            gateway,
            sockets[0].getsockname()[:2],
            sockets[1].getsockname()[:2],
            reload=gateway.reload,
            draining=draining,
        )
