"""Environments from the gateway's side: each is found or built by a process of its own."""

import asyncio
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.adapters.registry.downloads import GIB
from router.adapters.shared_tasks import SharedTasks, TasksClosed
from router.core.environment_events import (
    EnvironmentBuilt,
    EnvironmentRebuilt,
    EnvironmentsOverBound,
    EnvironmentsRemoved,
)
from router.core.events import Recorder
from router.core.ids import VersionId
from router.core.package_index import index_variables
from router.core.version_environment import FOLDER, VersionEnvironment
from router.errors import ChildLost, ChildTimeout, EnvironmentFailed, EnvironmentRefused, IndexUnreachable
from router.processes.child import Child, Launcher
from router.processes.disk import in_disk_thread, remove_tree
from router.serving.ports import DownloadTurn
from router.settings.environments import EnvironmentsSettings

ROLE = "environment"
FIND_SECONDS = 60.0
"""To look for an environment that is there already: milliseconds, unless the disk is slow."""
_GRACE_SECONDS = 1.0
_REMOVE_TRIES = 20
_REMOVE_PAUSE_SECONDS = 0.05
_ERRORS = {"refused": EnvironmentRefused, "index": IndexUnreachable}
"""By the process' word for what went wrong; whatever else it says, another try may do."""


@dataclass(frozen=True, slots=True)
class BuildPolicy:
    """What environments are made of, from where, and how much of them is kept."""

    rules: Mapping[str, Any]
    """What may be used: python, python_mismatch, only_binary, exclude_newer and extra, as the settings of
    these names; without `own`, the gateway's own requirements, the process finds what they are."""
    index: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of the package index, which may hold passwords."""
    max_bytes: int = 20 * GIB
    """Of all environments. Above it, those that nobody needs are removed."""
    timeout_seconds: float = 900.0
    """To resolve and build one."""

    @classmethod
    def of(cls, settings: EnvironmentsSettings, environ: Mapping[str, str]) -> "BuildPolicy":
        """That of these settings in this environment, whose paths are those of where this process runs."""
        rules = {
            "python": list(settings.python),
            "python_mismatch": settings.python_mismatch,
            "only_binary": settings.only_binary,
            "exclude_newer": settings.exclude_newer,
            "extra": list(settings.extra),
        }
        index = index_variables(environ, settings.index, _working_directory())
        return cls(rules, index, int(settings.max_gib * GIB), settings.build_timeout_seconds)


@dataclass(frozen=True, slots=True)
class Found:
    """An environment that is here, whole, but not held: it may be removed at any time."""

    about: VersionEnvironment
    note: str
    rebuilt: bool
    """Whether it was replaced at its place just now."""


class _Unanswered(EnvironmentFailed):
    """The process that looks for environments, or builds them, did not come to an answer."""

    def __init__(self, version: VersionId, why: str) -> None:
        super().__init__(f"{version}: {why}")
        self.why = why


class Builds:
    """Finds environments of versions in the cache, and builds them there."""

    def __init__(self, launcher: Launcher, cache_dir: Path, policy: BuildPolicy, recorder: Recorder) -> None:
        self._launcher = launcher
        self._policy = policy
        self._recorder = recorder
        self._over_bound = False
        self._cache_dir = cache_dir.absolute()
        self._shared: SharedTasks[tuple[VersionId, str], Found] = SharedTasks()

    async def prepare(self, version: VersionId, directory: str, turn: DownloadTurn) -> Found:
        """The environment of `version`, whose files are in `directory`: found, or built within a `turn`.

        Raises EnvironmentFailed, EnvironmentRefused, IndexUnreachable. Who asks for a version that is under
        way gets the same answer at the same time; when all have been cancelled the build ends and leaves
        nothing.
        """
        try:
            return await self._shared.run(
                (version, directory), lambda: self._prepare(version, directory, turn)
            )
        except TasksClosed:
            raise EnvironmentFailed(f"{version}: the gateway is closing") from None

    async def locate(self, version: VersionId) -> VersionEnvironment | None:
        """The environment that `version` was last prepared in, when it is here, whole, and of this release of
        the gateway and its MLflow. Raises EnvironmentFailed."""
        answer = await self._order(version, {"op": "locate"}, FIND_SECONDS)
        return None if answer["op"] == "missing" else _environment(answer["about"])

    async def close(self) -> None:
        """End every build; those who wait for one get EnvironmentFailed."""
        await self._shared.close()

    async def _prepare(self, version: VersionId, directory: str, turn: DownloadTurn) -> Found:
        order = {
            "op": "prepare",
            "files": directory,
            "rules": dict(self._policy.rules),
            "index": dict(self._policy.index),
            "max_bytes": self._policy.max_bytes,
        }
        # As long as a build may take: one that was copied to a slow disk is read whole, once.
        look_seconds = max(FIND_SECONDS, self._policy.timeout_seconds)
        answer = await self._order(version, {**order, "build": False}, look_seconds)
        if answer["op"] == "missing":
            async with turn():
                answer = await self._build(version, order, look_seconds)
        about = _environment(answer["about"])
        self._report(version, about, answer)
        return Found(about, answer["note"], answer["rebuilt"] != "")

    async def _build(
        self, version: VersionId, order: Mapping[str, Any], look_seconds: float
    ) -> Mapping[str, Any]:
        """The answer to `order`; of a build that is ended, or ends, without one, what can stand in for it."""
        try:
            return await self._order(version, {**order, "build": True}, self._policy.timeout_seconds)
        except _Unanswered as unanswered:
            frame = {**order, "op": "stand in", "why": unanswered.why}
            try:
                answer = await self._order(version, frame, look_seconds)
            except EnvironmentFailed:
                raise unanswered from None
            if answer["op"] == "missing":
                raise
            return answer

    async def _order(
        self, version: VersionId, order: Mapping[str, Any], deadline_seconds: float
    ) -> Mapping[str, Any]:
        """What a process of its own answers to `order`; nothing of it is left afterwards."""
        try:
            child = await self._launcher.launch(ROLE, version=version)
        except (ChildLost, ChildTimeout) as error:
            raise EnvironmentFailed(f"the build of an environment could not be started: {error}") from error
        token = secrets.token_hex(8)
        frame = {
            **order,
            "model": version.model,
            "version": version.number,
            "cache_dir": str(self._cache_dir),
            "token": token,
        }
        try:
            return await self._ask(child, version, frame, deadline_seconds)
        except BaseException:
            child.kill()
            raise
        finally:
            # Shielded: whoever gives up during the clean-up does not leave half of it.
            await asyncio.shield(asyncio.ensure_future(self._clean(child, token)))

    async def _ask(
        self, child: Child, version: VersionId, frame: Mapping[str, Any], deadline_seconds: float
    ) -> Mapping[str, Any]:
        try:
            answer = (await child.connection.call(frame, timeout_seconds=deadline_seconds)).header
        except ChildTimeout:
            raise _Unanswered(
                version, f"its environment was not ready within {deadline_seconds:g} s"
            ) from None
        except ChildLost:
            ended = await child.stop(0)
            raise _Unanswered(version, f"the build of its environment ended with {ended}") from None
        self._report_swept(answer)
        if answer["op"] == "failed":
            raise _ERRORS.get(answer["kind"], EnvironmentFailed)(f"{version}: {answer['error']}")
        return answer

    def _report(self, version: VersionId, about: VersionEnvironment, answer: Mapping[str, Any]) -> None:
        if answer["rebuilt"]:
            self._recorder.record(EnvironmentRebuilt(version, answer["rebuilt"]))
        if answer["built"]:
            self._recorder.record(EnvironmentBuilt(version, about, answer["resolved_seconds"]))

    def _report_swept(self, answer: Mapping[str, Any]) -> None:
        if "left_bytes" not in answer:
            return
        left_bytes, removed = answer["left_bytes"], tuple(answer["removed"])
        if removed:
            self._recorder.record(EnvironmentsRemoved(removed, answer["removed_bytes"], left_bytes))
        was_over, self._over_bound = self._over_bound, left_bytes > self._policy.max_bytes
        if self._over_bound and not was_over:  # once, not at every build
            self._recorder.record(EnvironmentsOverBound(left_bytes, self._policy.max_bytes))

    async def _clean(self, child: Child, token: str) -> None:
        """End the process and what it started, then remove what it left: nothing, unless it was killed."""
        await child.stop(_GRACE_SECONDS)
        await in_disk_thread(_remove_parts, self._cache_dir / FOLDER, token)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed: what would lie below it lies nowhere
        return os.sep


def _environment(fields: Mapping[str, Any]) -> VersionEnvironment:
    return VersionEnvironment(**{**fields, "differences": tuple(fields["differences"])})


def _remove_parts(folder: Path, token: str) -> None:
    # What a killed process had started is killed with it, and may write for a moment longer.
    for _ in range(_REMOVE_TRIES):
        parts = list(folder.glob(f".part-*-{token}"))
        if not parts:
            return
        for part in parts:
            remove_tree(part)
        time.sleep(_REMOVE_PAUSE_SECONDS)
