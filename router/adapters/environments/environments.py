"""The port `Environments`: environments that are here, each with what loads versions in it."""

import os
import secrets
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import router
from router.adapters.cache_locks import CacheLocks
from router.adapters.environments.builds import BuildPolicy, Builds
from router.core.events import Recorder
from router.core.ids import VersionId
from router.core.version_environment import FOLDER, VersionEnvironment
from router.errors import EnvironmentFailed
from router.processes.child import Launcher
from router.processes.disk import in_disk_thread
from router.serving.ports import DownloadTurn, Loader

_HOLD_TRIES = 3
_CHILD_SIDE = "router"
_PACKAGE = Path(router.__file__).resolve().parent


class EnvironmentLoaders(Protocol):
    """Loads versions in environments: one template and one loader each."""

    def loader(self, about: VersionEnvironment) -> Loader:
        """What loads versions in this environment. Its template starts with the first load."""

    def retain(self, keys: Collection[str]) -> None:
        """No other environment is used: the templates of all others end once their workers are gone."""

    def rebuilt(self, key: str) -> None:
        """That environment was built anew: its template ends, because it may have imported what was there."""


@dataclass(frozen=True, slots=True)
class VersionsEnvironment:
    """Implements `PreparedEnvironment`."""

    about: VersionEnvironment
    loader: Loader
    note: str = ""


class BuiltEnvironments:
    """Implements `Environments`: builds in processes of their own, in `.environments` of the cache.

    The environment of a version is locked from `prepare`, or `has`, until `retain` leaves the version out or
    this gateway ends, so that no gateway removes it.
    """

    def __init__(
        self,
        launcher: Launcher,
        cache_dir: Path,
        policy: BuildPolicy,
        recorder: Recorder,
        loaders: EnvironmentLoaders,
    ) -> None:
        self._builds = Builds(launcher, cache_dir, policy, recorder)
        self._locks = CacheLocks()
        self._package_directory = package_directory(cache_dir)
        self._loaders = loaders
        self._prepared: dict[VersionId, VersionEnvironment] = {}
        """In which environment each version was prepared that is still used."""

    async def prepare(
        self, version: VersionId, directory: str, *, turn: DownloadTurn = nullcontext
    ) -> VersionsEnvironment:
        """As `Environments.prepare`."""
        for _ in range(_HOLD_TRIES):
            found = await self._builds.prepare(version, directory, turn)
            await self._have_package()
            if await self._locks.acquire(version, _venv(found.about)):
                self._prepared[version] = found.about
                if found.rebuilt:
                    self._loaders.rebuilt(found.about.key)
                    await self._lock_anew(found.about.key)
                return VersionsEnvironment(found.about, self._loaders.loader(found.about), found.note)
        raise EnvironmentFailed(f"{version}: its environment was removed from the cache by another gateway")

    async def has(self, version: VersionId) -> bool:
        """As `Environments.has`; one that is found stays until `retain`."""
        if (held := self._locks.files_of(version)) is not None:
            return await in_disk_thread(os.path.isdir, held)
        try:
            about = await self._builds.locate(version)
        except EnvironmentFailed:
            return False
        if about is None:
            return False
        # It may have been prepared meanwhile: then what its workers run in is held, and stays so.
        return self._locks.files_of(version) is not None or await self._locks.acquire(version, _venv(about))

    def retain(self, versions: Collection[VersionId]) -> None:
        """As `Environments.retain`."""
        self._locks.retain(versions)
        self._prepared = {version: about for version, about in self._prepared.items() if version in versions}
        self._loaders.retain({about.key for about in self._prepared.values()})

    async def close(self) -> None:
        """End every build, and release every environment."""
        await self._builds.close()
        await self._locks.close()

    async def _have_package(self) -> None:
        try:
            await in_disk_thread(_link_package, self._package_directory)
        except OSError as error:
            raise EnvironmentFailed(f"no link can be made in the cache: {error.strerror}") from error

    async def _lock_anew(self, key: str) -> None:
        """Others whose workers run in it have locked what was there before."""
        for version, about in list(self._prepared.items()):
            if about.key == key:
                await self._locks.acquire(version, _venv(about))


def package_directory(cache_dir: Path) -> Path:
    """What `sys.path` of environments' templates gets: it holds nothing but a link to this package.

    `prepare` makes it; gateways of several installations that share a cache have one each.
    """
    digest = sha256(os.fsencode(_PACKAGE)).hexdigest()[:12]
    return cache_dir.absolute() / FOLDER / _CHILD_SIDE / digest


def _link_package(directory: Path) -> None:
    """Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    link = directory / _CHILD_SIDE
    if link.is_symlink() and Path(os.readlink(link)) == _PACKAGE:
        return
    beside = directory.with_name(f"{directory.name}-{secrets.token_hex(4)}")
    beside.symlink_to(_PACKAGE)
    try:
        beside.rename(link)
    except OSError:
        beside.unlink()
        raise


def _venv(about: VersionEnvironment) -> str:
    """The virtual environment's directory, below its place."""
    return str(Path(about.interpreter).parent.parent)
