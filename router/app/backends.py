"""What is outside the gateway process: the registry, the cache, and the processes that hold versions."""

import os
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from router.adapters.addresses.loader import VersionAddresses
from router.adapters.environments.builds import BuildPolicy
from router.adapters.environments.environments import BuiltEnvironments, package_directory
from router.adapters.registry.client import RegistryClient
from router.adapters.registry.downloads import GIB, FetchPolicy
from router.app.directories import own_directories
from router.core.events import Recorder
from router.core.version_environment import VersionEnvironment
from router.processes.child import Launcher, SpawnLauncher
from router.processes.disk import in_disk_thread
from router.processes.environment_templates import EnvironmentTemplates
from router.processes.forkserver import ForkServerSupervisor
from router.processes.output import OutputRouter
from router.processes.shared_memory import SharedMemory
from router.processes.worker_client import WorkerLoader
from router.processes.working_directories import WorkingDirectories, below_system_temporary
from router.serving.ports import (
    CopyHolder,
    Environments,
    Fetcher,
    GateSource,
    LastKnownGoodStore,
    Loader,
    Source,
)
from router.settings import Settings


@dataclass(frozen=True, slots=True)
class Backends:
    """The ports that lead out of the gateway process."""

    source: Source
    gate_source: GateSource
    fetcher: Fetcher
    loader: Loader
    """Of versions that run in the gateway's own Python environment."""
    environments: Environments
    addresses: VersionAddresses
    """Of versions that run elsewhere."""
    keeper: LastKnownGoodStore
    copies: CopyHolder
    shared_memory: SharedMemory
    """Its `tick` removes what workers left behind."""


class TemplateLoaders:
    """Implements `EnvironmentLoaders`: workers are forked from a template per environment."""

    def __init__(
        self,
        templates: EnvironmentTemplates,
        directories: WorkingDirectories,
        shared_memory: SharedMemory,
        recorder: Recorder,
    ) -> None:
        self._templates = templates
        self._directories = directories
        self._shared_memory = shared_memory
        self._recorder = recorder
        self._loaders: dict[str, WorkerLoader] = {}

    def loader(self, about: VersionEnvironment) -> WorkerLoader:
        """The same one for the same environment, until `retain` leaves it out."""
        launcher = self._templates.launcher(about)
        if about.key not in self._loaders:
            self._loaders[about.key] = WorkerLoader(
                launcher, self._directories, self._shared_memory, self._recorder
            )
        return self._loaders[about.key]

    def retain(self, keys: Collection[str]) -> None:
        """No other environment is used."""
        self._templates.retain(keys)
        self._loaders = {key: loader for key, loader in self._loaders.items() if key in keys}

    def rebuilt(self, key: str) -> None:
        """The next load in that environment starts another template."""
        self._templates.rebuilt(key)

    async def close(self) -> None:
        """End all templates, and remove what workers had for themselves. All workers have ended."""
        await self._templates.close()
        for loader in self._loaders.values():
            await loader.close()


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
    temporary = await _shared_temporary(directories)
    launcher, supervisor = await _launcher(recorder, outputs, preload, temporary)
    addresses = VersionAddresses(launcher, settings, recorder)
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
        described=addresses.knows,
    )
    loader = WorkerLoader(launcher, directories, shared_memory, recorder)
    loaders = TemplateLoaders(
        EnvironmentTemplates(recorder, outputs, temporary, package_directory(places.cache_dir), supervisor),
        directories,
        shared_memory,
        recorder,
    )
    policy = BuildPolicy.of(settings.environments, os.environ)
    environments = BuiltEnvironments(launcher, places.cache_dir, policy, recorder, loaders)
    try:
        yield Backends(
            *(registry, registry, registry, loader, environments),
            addresses,
            *(registry, registry, shared_memory),
        )
    finally:
        await environments.close()
        await registry.close()
        await loaders.close()
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
) -> tuple[Launcher, ForkServerSupervisor | None]:
    if sys.platform != "linux":  # no pidfds: children start slower and share no memory
        return SpawnLauncher(outputs, temporary), None
    supervisor = ForkServerSupervisor(recorder, outputs=outputs, modules=preload, temporary=temporary)
    await supervisor.start()
    return supervisor, supervisor
