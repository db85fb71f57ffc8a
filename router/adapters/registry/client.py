"""The MLflow registry as the gateway sees it: which versions are aspired, and their files in the cache."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from router.adapters.cache_locks import CacheLocks
from router.adapters.registry.agent import (
    POLL_SECONDS,
    START_SECONDS,
    Agent,
    RegistryAddress,
    registry_environment,
)
from router.adapters.registry.downloads import Downloads, FetchPolicy
from router.core.events import Recorder, RegistrySchemaNewer
from router.core.gate import GateEvidence
from router.core.gate_record import Registered
from router.core.ids import STAGE, Alias, VersionId
from router.errors import (
    CacheRefused,
    FetchFailed,
    ModelUnknown,
    RegistryError,
    RegistryRefused,
    RegistryUnavailable,
)
from router.processes.child import Launcher
from router.processes.disk import in_disk_thread
from router.serving.ports import DownloadTurn

_HOLD_TRIES = 3
_ERRORS = {"unknown_model": ModelUnknown, "refused": RegistryRefused}
"""By the agent's word for what went wrong; whatever else it says, the registry gave no answer."""


class RegistryClient:
    """`Source`, `GateSource`, `Fetcher`, `CopyHolder` and `LastKnownGoodStore` through child processes;
    implements `serving.ports`."""

    def __init__(
        self,
        launcher: Launcher,
        *,
        registry_uri: str,
        tracking_uri: str,
        cache_dir: Path,
        recorder: Recorder,
        policy: FetchPolicy | None = None,
        described: Callable[[str], bool] = lambda model: False,
        environ: Mapping[str, str] = os.environ,
        credentials: Mapping[str, str] | None = None,
        poll_deadline_seconds: float = POLL_SECONDS,
        start_deadline_seconds: float = START_SECONDS,
    ) -> None:
        """From `environ` the processes get what `registry_environment` picks. `credentials`: as in the
        address. `described`: whether versions of a registered model run elsewhere: of these MLmodel and
        input example are all that is fetched."""
        address = RegistryAddress(
            registry_uri, tracking_uri, registry_environment(environ), credentials or {}
        )
        self._agent = Agent(launcher, address, recorder, poll_deadline_seconds, start_deadline_seconds)
        # An agent of its own, which starts with the first question: no poll waits for what the gate asks.
        self._gate_agent = Agent(launcher, address, recorder, poll_deadline_seconds, start_deadline_seconds)
        self._downloads = Downloads(
            launcher, address, cache_dir, policy or FetchPolicy(), recorder, described
        )
        self._described = described
        self._locks = CacheLocks()
        self._recorder = recorder
        self._newer_schema: Mapping[str, str] | None = None
        self._recalled: set[VersionId] = set()
        """Versions that the record named while the registry gave no answer; their fetches do not ask it."""
        self._distrusted: set[VersionId] = set()
        """Versions whose recorded copy was refused."""

    @property
    def agent_pid(self) -> int | None:
        """Process id of the agent that polls; None before the first poll."""
        return self._agent.pid

    async def poll(
        self, model: str, aliases: Mapping[Alias, str], *, deadline_seconds: float | None = None
    ) -> Mapping[Alias, VersionId]:
        """All that the registry names at one instant: roles with their versions.

        `aliases` maps roles to the registry's names for them. Takes 8 s at most, less with a deadline, and
        up to a minute more where the agent has to be started. Raises ModelUnknown, RegistryRefused,
        RegistryUnavailable.
        """
        answer = await self._ask(
            {"op": "poll", "model": model, "aliases": list(aliases.values())}, deadline_seconds
        )
        self._recalled = {version for version in self._recalled if version.model != model}
        self._note_schema(answer.get("newer_schema"))
        return _aspired(model, aliases, answer)

    async def registrations(
        self, versions: Collection[VersionId], *, deadline_seconds: float | None = None
    ) -> Mapping[VersionId, str]:
        """What the registry says of each version, as a text that differs when it says otherwise.

        Takes as long as `poll` at most. Raises RegistryRefused, RegistryUnavailable.
        """
        asked = sorted(versions)
        answer = await self._ask(
            {"op": "registrations", "versions": [[version.model, version.number] for version in asked]},
            deadline_seconds,
        )
        return dict(zip(asked, answer["registrations"], strict=True))

    async def gate_evidence(
        self, version: VersionId, required: Sequence[str], *, deadline_seconds: float | None = None
    ) -> GateEvidence:
        """What the registry has of `version` for the gate, and which of the `required` metadata it has not.

        Takes as long as `poll` at most, which does not wait for it. Raises ModelUnknown, RegistryRefused,
        RegistryUnavailable.
        """
        order = {"op": "gate", "model": version.model, "version": version.number}
        order |= {"required": list(required)}
        answer = _checked(await self._gate_agent.ask(order, deadline_seconds))
        of = Registered(version, answer["run_id"], answer["model_id"], answer["fingerprint"])
        return GateEvidence(of, answer["gate"], answer["override"], tuple(answer["missing"]))

    def _note_schema(self, newer: Mapping[str, str] | None) -> None:
        if newer and newer != self._newer_schema:  # once, not at every poll of every model
            self._recorder.record(RegistrySchemaNewer(**newer))
        self._newer_schema = newer

    async def fetch(
        self,
        version: VersionId,
        *,
        deadline_seconds: float,
        fresh: bool = False,
        turn: DownloadTurn = nullcontext,
    ) -> str:
        """Absolute path of a complete directory of the version's files, held until `retain`.

        Each download runs within a `turn`.

        `fresh`: do not trust a copy in the cache, say after it could not be loaded. The version is downloaded
        once whatever lies there, and replaces a copy that differs. Asked for again, until `retain` leaves it
        out, the copy is compared with that download, and replaced where something changed. After
        `last_known_good` and before the registry answers, the recorded copy is verified instead, whatever
        `fresh` says. Raises FetchFailed.
        """
        for _ in range(_HOLD_TRIES):
            files = await self._fetch(version, deadline_seconds, fresh=fresh, turn=turn)
            if await self._locks.acquire(version, files):
                return files
        raise FetchFailed(f"{version}: its copy was removed from the cache by another gateway")

    async def _fetch(
        self, version: VersionId, deadline_seconds: float, *, fresh: bool, turn: DownloadTurn
    ) -> str:
        if version in self._recalled:
            try:
                return await self._downloads.fetch(
                    version, deadline_seconds=deadline_seconds, recorded=True, turn=turn
                )
            except FetchFailed:
                self._distrusted.add(version)
                raise
        # A copy that was refused byte by byte must not come back because its sizes are right.
        fresh = fresh or version in self._distrusted
        # A rollback is to a version that was here before: the agent, which runs anyway, finds it in
        # milliseconds, where a download's process needs half a second to open the registry.
        found = None if fresh else await self._located(version)
        if found is None:
            found = await self._downloads.fetch(
                version, deadline_seconds=deadline_seconds, fresh=fresh, turn=turn
            )
        self._distrusted.discard(version)
        return found

    async def _located(self, version: VersionId) -> str | None:
        order = {"op": "locate", "model": version.model, "version": version.number}
        order |= {"described": self._described(version.model)}
        try:
            answer = await self._ask({**order, **self._cache()})
        except RegistryError:
            return None  # the download asks again, for longer, and reports what is wrong
        return answer.get("directory")

    async def hold_copy(self, version: VersionId) -> bool:
        """Whether the version's files are in the cache, whole; if so they are held until `retain`.

        Downloads nothing. Of a copy that is not held yet the registry is asked whether it is the version's.
        """
        if (held := self._locks.files_of(version)) is not None:
            return await in_disk_thread(os.path.isdir, held)
        files = None if version in self._distrusted else await self._located(version)
        return files is not None and await self._locks.acquire(version, files)

    async def last_known_good(self, model: str, aliases: Mapping[Alias, str]) -> Mapping[Alias, VersionId]:
        """What served last, by the cache's record of this registry: roles with their versions, maybe none.

        From now on and until a good poll of `model`, these versions are fetched without the registry.
        Raises CacheRefused for a record that cannot be used.
        """
        answer = await self._ask_cache({"op": "recall", "model": model})
        recorded = answer["aliases"]
        aspired = {
            role: VersionId(model, recorded[name]) for role, name in aliases.items() if name in recorded
        }
        self._recalled |= set(aspired.values())
        return aspired

    async def remember(self, model: str, served: Mapping[str, VersionId], pending: Collection[str]) -> None:
        """Record what serves, by the registry's names of the aliases; on disk when this returns.

        What was recorded of the aliases in `pending` stays. Raises CacheRefused.
        """
        places = {
            name: [version.number, files]
            for name, version in served.items()
            if (files := self._locks.files_of(version)) is not None
        }
        await self._ask_cache(
            {"op": "remember", "model": model, "served": places, "pending": sorted(pending)}
        )

    def retain(self, versions: Collection[VersionId]) -> None:
        """Release the copies of all other versions: they may leave the cache."""
        self._locks.retain(versions)
        self._downloads.retain(versions)

    async def _ask(
        self, order: Mapping[str, Any], deadline_seconds: float | None = None
    ) -> Mapping[str, Any]:
        """The agent's answer. Raises ModelUnknown, RegistryRefused, RegistryUnavailable."""
        return _checked(await self._agent.ask(order, deadline_seconds))

    async def _ask_cache(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return await self._ask({**order, **self._cache()})
        except RegistryError as error:
            raise CacheRefused(str(error)) from error

    def _cache(self) -> dict[str, str]:
        return {"cache_dir": str(self._downloads.cache_dir)}

    async def close(self) -> None:
        """End every process that talks to the registry, and release every copy."""
        await self._downloads.close()
        await self._agent.close()
        await self._gate_agent.close()
        await self._locks.close()


def _checked(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """`answer`, where it is one. Raises ModelUnknown, RegistryRefused, RegistryUnavailable."""
    if "error" in answer:
        raise _ERRORS.get(answer["error"], RegistryUnavailable)(answer["message"])
    return answer


def _aspired(model: str, aliases: Mapping[Alias, str], answer: Mapping[str, Any]) -> dict[Alias, VersionId]:
    aspired = {}
    for role, name in aliases.items():
        if name.startswith(STAGE):
            number = answer["stages"].get(name.removeprefix(STAGE).lower())
        else:
            number = answer["aliases"].get(name)
        if number is not None:
            aspired[role] = VersionId(model, number)
    return aspired
