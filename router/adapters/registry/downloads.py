"""Downloads from the gateway's side: a process each, shared by who asks for one version."""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.adapters.registry.agent import RegistryAddress
from router.adapters.shared_tasks import SharedTasks, TasksClosed
from router.core.artifact_source import STORES
from router.core.cache_events import CacheEvicted, CacheOverBound, CopyMended, Downloaded
from router.core.events import Recorder
from router.core.ids import VersionId
from router.errors import ChildLost, ChildTimeout, FetchFailed, FetchRefused
from router.processes.child import Child, Launcher
from router.processes.disk import in_disk_thread
from router.processes.memory import files_bytes
from router.serving.ports import DownloadTurn

ROLE = "fetch"
GIB = 1 << 30
_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be downloaded, from where, and how much of it is kept."""

    max_bytes: int = 20 * GIB
    """Of the cache. Above it, copies that nobody uses are removed."""
    schemes: Sequence[str] = STORES
    roots: Sequence[str] = ()
    registry_is_local: bool = True
    tracking_uri: str = ""

    def frame(self) -> dict[str, Any]:
        """The part of a download's order that says so."""
        allowed = {
            "schemes": list(self.schemes),
            "roots": list(self.roots),
            "any_local": self.registry_is_local,
            "tracking_uri": self.tracking_uri,
        }
        return {"allowed": allowed, "cache_max_bytes": self.max_bytes}


@dataclass(frozen=True, slots=True)
class _Wanted:
    version: VersionId
    fresh: bool
    """A caller who wants no copy from before cannot share a download that may use one."""
    recorded: bool


class Downloads:
    """Brings versions into the cache."""

    def __init__(
        self,
        launcher: Launcher,
        address: RegistryAddress,
        cache_dir: Path,
        policy: FetchPolicy,
        recorder: Recorder,
        described: Callable[[str], bool] = lambda model: False,
    ) -> None:
        """`described`: whether MLmodel and input example are all that is fetched of a registered model."""
        self._launcher = launcher
        self._address = address
        self._policy = policy
        self._recorder = recorder
        self._described = described
        self._over_bound = False
        self.cache_dir = cache_dir.absolute()
        """Where versions lie, one directory each."""
        self._shared: SharedTasks[_Wanted, str] = SharedTasks()
        self._known: dict[VersionId, Mapping[str, str]] = {}
        """By what the copy of a version is compared that was downloaded anew: the listing of its store then,
        and its manifest."""

    async def fetch(
        self,
        version: VersionId,
        *,
        deadline_seconds: float,
        fresh: bool = False,
        recorded: bool = False,
        turn: DownloadTurn = nullcontext,
    ) -> str:
        """Absolute path of the version's files.

        Raises FetchFailed, of which FetchRefused where a rule forbids it. `fresh`: no copy from before is
        taken as it is. It is downloaded anew, but once until `retain`: after that the copy is compared with
        that download, byte by byte, and downloaded only when it, the registration or the store's listing
        differs. `recorded`: the registry is not asked; the copy that is recorded as last good is verified
        instead. The deadline runs from the download's turn. Who asks for a version that is under way gets the
        same answer at the same time; when all have been cancelled the download ends and leaves nothing.
        """
        wanted = _Wanted(version, fresh, recorded)
        try:
            return await self._shared.run(wanted, lambda: self._download(wanted, deadline_seconds, turn))
        except TasksClosed:
            raise FetchFailed(f"{version}: the gateway is closing") from None

    def retain(self, versions: Collection[VersionId]) -> None:
        """Nothing here uses any other version: who asks for one `fresh` gets a download again."""
        self._known = {version: known for version, known in self._known.items() if version in versions}

    async def close(self) -> None:
        """End every download; those who wait for one get FetchFailed."""
        await self._shared.close()

    async def _download(self, wanted: _Wanted, deadline_seconds: float, turn: DownloadTurn) -> str:
        async with turn():
            try:
                child = await self._launcher.launch(ROLE, version=wanted.version)
            except (ChildLost, ChildTimeout) as error:
                raise FetchFailed(f"the download could not be started: {error}") from error
            token = secrets.token_hex(8)
            try:
                return await self._ask(child, wanted, token, deadline_seconds)
            except BaseException:
                child.kill()
                raise
            finally:
                # Shielded: whoever gives up during the clean-up does not leave half of it.
                await asyncio.shield(asyncio.ensure_future(self._clean(child, wanted.version, token)))

    async def _ask(self, child: Child, wanted: _Wanted, token: str, deadline_seconds: float) -> str:
        version = wanted.version
        order = {
            **self._address.frame(),
            "model": version.model,
            "version": version.number,
            "cache_dir": str(self.cache_dir),
            "token": token,
            "fresh": wanted.fresh,
            "known": self._known.get(version) if wanted.fresh else None,
            "recorded": wanted.recorded,
            "described": self._described(version.model),
            **self._policy.frame(),
        }
        try:
            answer = (await child.connection.call(order, timeout_seconds=deadline_seconds)).header
        except ChildTimeout:
            raise FetchFailed(f"{version} was not downloaded within {deadline_seconds:g} s") from None
        except ChildLost:
            raise FetchFailed(f"the download of {version} ended with {await child.stop(0)}") from None
        self._report_download(version, answer["downloaded_bytes"])
        if answer["op"] != "fetched":
            refused = FetchRefused if answer.get("refused") else FetchFailed
            raise refused(f"{version}: {answer['error']}")
        if answer.get("changed"):
            self._recorder.record(CopyMended(version, tuple(answer["changed"])))
        if "cache_bytes" in answer:
            self._report_cache(answer["cache_bytes"], tuple(answer["removed"]))
        if wanted.fresh and "known" in answer:
            self._known[version] = answer["known"]
        return str(answer["directory"])

    def _report_download(self, version: VersionId, size: int) -> None:
        if size:
            self._recorder.record(Downloaded(version, size))

    def _report_cache(self, cache_bytes: int, removed: tuple[str, ...]) -> None:
        if removed:
            self._recorder.record(CacheEvicted(removed, cache_bytes))
        was_over, self._over_bound = self._over_bound, cache_bytes > self._policy.max_bytes
        if self._over_bound and not was_over:  # once, not at every download
            self._recorder.record(CacheOverBound(cache_bytes, self._policy.max_bytes))

    async def _clean(self, child: Child, version: VersionId, token: str) -> None:
        """End the process, then remove what it left, which is nothing unless it was killed."""
        await child.stop(_GRACE_SECONDS)
        self._report_download(version, await in_disk_thread(_remove_parts, self.cache_dir, token))


def _remove_parts(cache_dir: Path, token: str) -> int:
    """Returns the bytes that were in them."""
    size = 0
    for part in cache_dir.glob(f"*/.part-*-{token}*"):
        size += files_bytes(str(part))
        shutil.rmtree(part, ignore_errors=True)
    return size
