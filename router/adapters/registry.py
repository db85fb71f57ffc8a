"""The MLflow registry as the gateway sees it: which versions are wished for, and their files."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.adapters.address import Address, registry_environment
from router.adapters.agent import POLL_SECONDS, START_SECONDS, Agent
from router.adapters.downloads import Downloads
from router.children.launcher import Launcher
from router.core.events import Recorder
from router.core.ids import Alias, VersionId
from router.errors import ModelUnknown, RegistryUnavailable

STAGE = "stage:"
"""An alias spelled `stage:Production` means the highest version in that stage, in any case of letters."""


class AgentRegistry:
    """`Source` and `Fetcher` through child processes; implements `serving.ports`."""

    def __init__(
        self,
        launcher: Launcher,
        *,
        registry_uri: str,
        tracking_uri: str,
        cache_dir: Path,
        recorder: Recorder,
        environ: Mapping[str, str] = os.environ,
        poll_deadline_seconds: float = POLL_SECONDS,
        start_deadline_seconds: float = START_SECONDS,
    ) -> None:
        """From `environ` the processes get what `registry_environment` picks."""
        address = Address(registry_uri, tracking_uri, registry_environment(environ))
        self._agent = Agent(launcher, address, recorder, poll_deadline_seconds, start_deadline_seconds)
        self._downloads = Downloads(launcher, address, cache_dir)

    @property
    def agent_pid(self) -> int | None:
        """Process id of the agent that polls; None before the first poll."""
        return self._agent.pid

    async def poll(self, model: str, aliases: Mapping[Alias, str]) -> Mapping[Alias, VersionId]:
        """The complete wish of the registry at one instant: roles it names now, with their versions.

        `aliases` maps roles to the registry's names for them. Takes 8 s at most, and up to a minute
        more where the agent has to be started. Raises ModelUnknown, RegistryUnavailable.
        """
        answer = await self._agent.ask({"op": "poll", "model": model, "aliases": list(aliases.values())})
        if "error" in answer:
            unknown = answer["error"] == "unknown_model"
            raise (ModelUnknown if unknown else RegistryUnavailable)(answer["message"])
        return _wish(model, aliases, answer)

    async def fetch(self, version: VersionId, *, deadline_seconds: float, fresh: bool = False) -> str:
        """Absolute path of a complete directory of the version's files. Raises FetchFailed.

        `fresh`: distrust a copy in the cache, say after it could not be loaded. The version is downloaded
        whatever lies there, and replaces a copy that differs.
        """
        # A rollback is to a version that was here before: the agent, which runs anyway, finds it in
        # milliseconds, where a download's process needs half a second to open the registry.
        found = None if fresh else await self._located(version)
        return found or await self._downloads.fetch(version, deadline_seconds=deadline_seconds, fresh=fresh)

    async def _located(self, version: VersionId) -> str | None:
        order = {"op": "locate", "model": version.model, "version": version.number}
        try:
            answer = await self._agent.ask({**order, "cache_dir": str(self._downloads.cache_dir)})
        except RegistryUnavailable:
            return None  # the download asks again, with more patience, and tells what is wrong
        return answer.get("directory")

    async def close(self) -> None:
        """End every process that talks to the registry."""
        await self._downloads.close()
        await self._agent.close()


def _wish(model: str, aliases: Mapping[Alias, str], answer: Mapping[str, Any]) -> dict[Alias, VersionId]:
    wish = {}
    for role, name in aliases.items():
        if name.startswith(STAGE):
            number = answer["stages"].get(name.removeprefix(STAGE).lower())
        else:
            number = answer["aliases"].get(name)
        if number is not None:
            wish[role] = VersionId(model, number)
    return wish
