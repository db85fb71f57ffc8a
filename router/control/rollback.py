"""How soon a rollback of each model would serve: shown in state and metrics, reported when it gets worse."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from router.control.alias_watch import AliasWatch
from router.core.events import Recorder, RollbackReadyLost
from router.core.ids import PRODUCTION, VersionId
from router.core.policy import State
from router.core.rollback import Rollback, readiness
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.ports import Addresses, CopyHolder, Environments

COPY_LOOK_SECONDS = 60.0
"""Between two looks for the files of one version, and its environment; in between another gateway may have
brought them."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a look for a version's files, and its environment, found, and what it was about."""

    version: VersionId
    loaded: bool
    at: float
    has_copy: bool
    has_environment: bool
    """Whether its own Python environment is here as well, or it has none of its own."""
    is_there: bool
    """Whether it answers at its address, or runs here."""


class RollbackWatch:
    """Looks after what a rollback of each model goes back to, so that its files stay in the cache."""

    def __init__(
        self,
        copies: CopyHolder,
        environments: Environments,
        addresses: Addresses,
        models: ModelSet,
        alias_watch: AliasWatch,
        recorder: Recorder,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._copies = copies
        self._environments = environments
        self._addresses = addresses
        self._models = models
        self._alias_watch = alias_watch
        self._recorder = recorder
        self._monotonic = monotonic
        self._looked: dict[str, _Looked] = {}
        self._before: dict[str, Rollback] = {}

    async def tick(self) -> None:
        """Look once at every model."""
        for gone in self._before.keys() - self._models.managers.keys():
            self._before.pop(gone)
            self._looked.pop(gone, None)
        for manager in list(self._models.managers.values()):
            await self._look_for_copy(manager)
            now = self.of(manager)
            before = self._before.get(manager.model, now)
            self._before[manager.model] = now
            if now.version and now.is_lost_since(before, expired=manager.previous.is_over):
                self._recorder.record(RollbackReadyLost(manager.model, now.version, now.reason))

    def of(self, manager: ModelManager) -> Rollback:
        """What a rollback of the model would meet now."""
        previous = manager.previous
        version = previous.version
        if version is None:
            return Rollback(reason=_nothing(manager))
        harness = manager.harnesses.get(version)
        ready, reason = readiness(
            previous.workers_of(version),
            has_copy=self.has_copy(manager),
            has_environment=self._has_environment(manager),
            is_there=self._is_there(manager),
            error=harness.error if harness is not None and harness.state is State.ERROR else "",
            lost_because=previous.lost_because(version),
        )
        return Rollback(version, ready, reason, previous.until if previous.kept == version else None)

    def has_copy(self, manager: ModelManager) -> bool | None:
        """Whether the files of what a rollback goes back to are in the cache; None: not known yet."""
        looked = self._last_look(manager)
        return looked.has_copy if looked is not None else None

    def _has_environment(self, manager: ModelManager) -> bool:
        looked = self._last_look(manager)
        return looked is not None and looked.has_environment

    def _is_there(self, manager: ModelManager) -> bool:
        looked = self._last_look(manager)
        return looked is None or looked.is_there

    def _last_look(self, manager: ModelManager) -> _Looked | None:
        """What is known of what a rollback goes back to; None: nothing yet."""
        looked = self._looked.get(manager.model)
        return looked if looked is not None and looked.version == manager.previous.version else None

    async def _look_for_copy(self, manager: ModelManager) -> None:
        """Also so that they stay, whatever the cache's bound says."""
        version, now = manager.previous.version, self._monotonic()
        if version is None:
            return
        loaded = manager.previous.workers_of(version) is not None
        if not loaded and manager.model in self._alias_watch.errors:
            return  # the registry may have to be asked, and polls would wait for that
        looked = self._looked.get(manager.model)
        if (
            looked is None
            or (looked.version, looked.loaded) != (version, loaded)
            or now - looked.at >= COPY_LOOK_SECONDS
        ):
            found = await self._copies.hold_copy(version)
            whole = manager.settings.environment == "shared" or await self._environments.has(version)
            where = manager.settings.where
            there = loaded or where is None or await self._addresses.is_ready(where, version)
            self._looked[manager.model] = _Looked(version, loaded, now, found, whole, there)


def _nothing(manager: ModelManager) -> str:
    if PRODUCTION not in manager.bound:
        return "production serves nothing yet"
    if manager.previous.named is not None:
        return f"{manager.settings.previous_name} names the version that production serves"
    return "what production served before is not known"
