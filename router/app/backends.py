"""What is outside the gateway process: the registry, the cache, and the processes that hold versions."""

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from router.adapters.registry.client import RegistryClient
from router.adapters.registry.downloads import GIB, FetchPolicy
from router.core.events import Recorder
from router.processes.child import Launcher, SpawnLauncher
from router.processes.forkserver import ForkServerSupervisor
from router.processes.output import OutputRouter
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
    settings: Settings,
    recorder: Recorder,
    outputs: OutputRouter | None = None,
    preload: Sequence[str] = (),
) -> AsyncIterator[Backends]:
    """The real ones: a fork server for workers, an agent that polls, fetches into an owned cache.

    Without `outputs` all of them print where this process does. The fork server imports the modules of
    `preload` at its start.
    """
    places = settings.registry.places(os.environ)
    directories = WorkingDirectories(places.working_directories)
    directories.start()
    launcher = await _launcher(recorder, outputs, preload)
    registry = RegistryClient(
        launcher,
        registry_uri=places.uri,
        tracking_uri=places.tracking_uri,
        cache_dir=places.cache_dir,
        recorder=recorder,
        credentials=settings.registry.credentials(),
        policy=FetchPolicy(
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


async def _launcher(recorder: Recorder, outputs: OutputRouter | None, preload: Sequence[str]) -> Launcher:
    if sys.platform != "linux":  # no pidfds: children start slower and share no memory
        return SpawnLauncher(outputs)
    supervisor = ForkServerSupervisor(recorder, outputs=outputs, modules=preload)
    await supervisor.start()
    return supervisor
