"""What is outside the gateway process: the registry, the cache, and the processes that hold versions."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from router.adapters.cache_limits import GIB, CacheLimits
from router.adapters.registry import AgentRegistry
from router.core.events import Recorder
from router.processes.child import Launcher
from router.processes.forkserver import ForkServerSupervisor
from router.processes.output import OutputRouter
from router.processes.spawn import SpawnLauncher
from router.processes.worker_client import WorkerLoader
from router.processes.working_directories import WorkingDirectories
from router.serving.ports import Fetcher, LastKnownGoodStore, Loader, Source
from router.settings import Settings


@dataclass(frozen=True, slots=True)
class Backends:
    """The ports that lead out of the gateway process."""

    source: Source
    fetcher: Fetcher
    loader: Loader
    keeper: LastKnownGoodStore


@asynccontextmanager
async def open_backends(
    settings: Settings, recorder: Recorder, outputs: OutputRouter | None = None
) -> AsyncIterator[Backends]:
    """The real one: a template that forks workers, an agent that polls, fetches into an owned cache.

    Without `outputs` all of them print where this process does.
    """
    places = settings.registry.places(os.environ)
    directories = WorkingDirectories(places.working_directories)
    directories.start()
    launcher = await _launcher(recorder, outputs)
    registry = AgentRegistry(
        launcher,
        registry_uri=places.uri,
        tracking_uri=places.tracking_uri,
        cache_dir=places.cache_dir,
        recorder=recorder,
        limits=CacheLimits(
            int(settings.registry.cache_max_gib * GIB),
            places.schemes,
            settings.registry.artifact_roots,
            places.are_local,
            places.tracking_uri,
        ),
    )
    try:
        yield Backends(registry, registry, WorkerLoader(launcher, directories), registry)
    finally:
        await registry.close()
        await launcher.close()
        await directories.close()


async def _launcher(recorder: Recorder, outputs: OutputRouter | None) -> Launcher:
    if sys.platform != "linux":  # no pidfds: children start slower and share no memory
        return SpawnLauncher(outputs)
    template = ForkServerSupervisor(recorder, outputs=outputs)
    await template.start()
    return template
