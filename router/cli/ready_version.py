"""Brings one version to READY as a gateway would, for commands that look at it before any caller does."""

from dataclasses import dataclass
from pathlib import Path

import click
from msgspec.structs import replace

from router.app.backends import Backends
from router.core.ids import VersionId
from router.core.scores import OutputSpec
from router.serving.load_spec import load_spec
from router.serving.ports import PreparedEnvironment, WorkerHandle
from router.settings import ModelSettings, Settings

LONGEST_WAIT_SECONDS = 30.0
"""For a version that runs elsewhere to be ready: whoever asks waits for the answer."""


@dataclass(frozen=True, slots=True)
class VersionHere:
    """A version whose files, and whose own environment if it has one, are on this machine."""

    version: VersionId
    directory: Path
    """Of its files, held until the backends are closed."""
    environment: PreparedEnvironment | None
    """None: it runs in the gateway's."""


async def bring_here(
    backends: Backends, settings: Settings, wanted: ModelSettings, version: VersionId
) -> VersionHere:
    """Its files and, with `environment: own`, its environment, which is built where it is missing.

    Raises FetchFailed, EnvironmentFailed.
    """
    limit = settings.registry.download_timeout_seconds
    directory = await backends.fetcher.fetch(version, deadline_seconds=limit)
    if wanted.environment != "own":
        return VersionHere(version, Path(directory), None)
    # To standard error, and beforehand: it may take minutes.
    click.echo(f"{version}: its environment is looked for, and built where it is missing", err=True)
    own = await backends.environments.prepare(version, directory)
    return VersionHere(version, Path(directory), own)


async def load(
    backends: Backends,
    settings: Settings,
    wanted: ModelSettings,
    here: VersionHere,
    production_scores: tuple[OutputSpec, ...] | None,
) -> WorkerHandle:
    """A READY worker of its own, which the caller closes.

    `production_scores`: what production counts of its own accord; None for production itself. Raises
    LoadFailed, ChildLost, ChildTimeout.
    """
    spec = load_spec(here.version, str(here.directory), wanted, production_scores)
    spec = replace(spec, warm_up_required=wanted.warm_up)
    if wanted.where is not None:
        return await backends.addresses.loader(wanted.where).load(
            spec, deadline_seconds=min(wanted.where.ready_seconds, LONGEST_WAIT_SECONDS)
        )
    loader = backends.loader if here.environment is None else here.environment.loader
    return await loader.load(spec, deadline_seconds=settings.registry.download_timeout_seconds)
