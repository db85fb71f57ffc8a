"""What is outside the gateway process: the registry, the cache, and the processes that hold versions."""

import os
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from router.adapters.registry.client import RegistryClient
from router.adapters.registry.downloads import GIB, FetchPolicy
from router.app.directories import own_directories
from router.core.events import Recorder
from router.core.ids import VersionId
from router.errors import EnvironmentRefused
from router.processes.child import Launcher, SpawnLauncher
from router.processes.disk import in_disk_thread
from router.processes.forkserver import ForkServerSupervisor
from router.processes.output import OutputRouter
from router.processes.shared_memory import SharedMemory
from router.processes.worker_client import WorkerLoader
from router.processes.working_directories import WorkingDirectories, below_system_temporary
from router.serving.ports import (
    CopyHolder,
    DownloadTurn,
    Environments,
    Fetcher,
    LastKnownGoodStore,
    Loader,
    PreparedEnvironment,
    Source,
)
from router.settings import Settings


@dataclass(frozen=True, slots=True)
class Backends:
    """The ports that lead out of the gateway process."""

    source: Source
    fetcher: Fetcher
    loader: Loader
    """Of versions that run in the gateway's own Python environment."""
    environments: Environments
    keeper: LastKnownGoodStore
    copies: CopyHolder
    shared_memory: SharedMemory
    """Its `tick` removes what workers left behind."""


class NoEnvironments:
    """Environments while nothing builds them."""

    async def prepare(
        self, version: VersionId, directory: str, *, turn: DownloadTurn = nullcontext
    ) -> PreparedEnvironment:
        """Raises EnvironmentRefused."""
        raise EnvironmentRefused("environments can not be built here")

    async def has(self, version: VersionId) -> bool:
        """There is none."""
        return False

    def retain(self, versions: Collection[VersionId]) -> None:
        """Nothing to do."""


@asynccontextmanager
async def open_backends(
    settings: Settings,
    recorder: Recorder,
    outputs: OutputRouter | None = None,
    preload: Sequence[str] = (),
) -> AsyncIterator[Backends]:
    """The real ones: a fork server for workers, an agent that polls, fetches into an owned cache.

    Without `outputs` all of them print where this process does. The fork server imports the modules of
    `preload` at its start. Raises ConfigRefused where the cache can not be written to.
    """
    places = own_directories(settings.registry.places(os.environ))
    directories = WorkingDirectories(places.working_directories, below_system_temporary())
    directories.start()
    shared_memory = SharedMemory()
    launcher = await _launcher(recorder, outputs, preload, await _shared_temporary(directories))
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
    loader = WorkerLoader(launcher, directories, shared_memory, recorder)
    try:
        yield Backends(registry, registry, loader, NoEnvironments(), registry, registry, shared_memory)
    finally:
        await registry.close()
        await launcher.close()
        await loader.close()
        await directories.close()
        await shared_memory.close()


async def _shared_temporary(directories: WorkingDirectories) -> Path | None:
    """None where nothing can be made in the cache, as each load will report; the system's has to do."""
    try:
        return await in_disk_thread(directories.shared_temporary)
    except OSError:
        return None


async def _launcher(
    recorder: Recorder, outputs: OutputRouter | None, preload: Sequence[str], temporary: Path | None
) -> Launcher:
    if sys.platform != "linux":  # no pidfds: children start slower and share no memory
        return SpawnLauncher(outputs, temporary)
    supervisor = ForkServerSupervisor(recorder, outputs=outputs, modules=preload, temporary=temporary)
    await supervisor.start()
    return supervisor
