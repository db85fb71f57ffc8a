"""Keeps a record of what serves, so that the gateway can start from it when the registry is down."""

from router.control.rollback import RollbackWatch
from router.core.cache_events import LastGoodNotWritten
from router.core.events import Recorder
from router.core.ids import VersionId
from router.errors import CacheRefused
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.ports import Environments, LastKnownGoodStore

_Wanted = tuple[dict[str, VersionId], set[str]]


class LastKnownGood:
    """Records every change of what is bound, and lets go of copies and environments that nothing uses."""

    def __init__(
        self,
        keeper: LastKnownGoodStore,
        environments: Environments,
        models: ModelSet,
        rollback: RollbackWatch,
        recorder: Recorder,
    ) -> None:
        self.errors: dict[str, str] = {}
        """Why the last try for a model failed; models that are recorded as they serve are absent."""
        self._keeper = keeper
        self._environments = environments
        self._models = models
        self._rollback = rollback
        self._recorder = recorder
        self._recorded: dict[str, _Wanted] = {}

    async def tick(self) -> None:
        """Record what changed since the last tick; what failed is tried again."""
        used = self._models.versions
        self._keeper.retain(used)
        self._environments.retain(used)
        for gone in (self.errors.keys() | self._recorded.keys()) - self._models.managers.keys():
            self.errors.pop(gone, None)
            self._recorded.pop(gone, None)
        for manager in list(self._models.managers.values()):
            if not (manager.polled and manager.bound):
                continue  # before the registry's first word the record is where this came from
            wanted = self._wanted(manager)
            if self._recorded.get(manager.model) != wanted:
                await self._record(manager.model, wanted)

    async def _record(self, model: str, wanted: _Wanted) -> None:
        try:
            await self._keeper.remember(model, *wanted)
        except CacheRefused as error:
            if self.errors.get(model) != str(error):
                self._recorder.record(LastGoodNotWritten(model, str(error)))
            self.errors[model] = str(error)
            return
        self.errors.pop(model, None)
        self._recorded[model] = wanted

    def _wanted(self, manager: ModelManager) -> _Wanted:
        """What serves by the registry's names, with what a rollback goes back to, whose copy stays as well;
        and the names whose versions do not serve yet."""
        names = manager.settings.aliases
        served = {names[alias]: version for alias, version in manager.bound.items()}
        pending = {names[alias] for alias in manager.aspired if alias not in manager.bound}
        previous, has_copy = manager.previous.version, self._rollback.has_copy(manager)
        if previous is not None and has_copy:
            served[manager.settings.previous_name] = previous
        elif previous is not None and has_copy is None:
            pending.add(manager.settings.previous_name)
        return served, pending
