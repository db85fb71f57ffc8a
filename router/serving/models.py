"""All registered models of this gateway: one routing table, one manager each."""

import asyncio
from collections.abc import Iterable, Mapping

from router.core.events import (
    ModelRemoved,
    PinsChanged,
    ReadinessChanged,
    RoutesChanged,
    SplitInForce,
    VersionGone,
)
from router.core.ids import VersionId
from router.core.routing import ModelRoutes, RoutingTable
from router.serving.manager import ModelManager
from router.serving.version_dependencies import VersionDependencies
from router.settings import ModelSettings


class ModelSet:
    """Owns the routing table. Readers take `table` once; every change publishes a new one."""

    def __init__(self, dependencies: VersionDependencies) -> None:
        self.table = RoutingTable({})
        self.managers: dict[str, ModelManager] = {}
        self._dependencies = dependencies
        self._awaited: frozenset[str] | None = None
        self._was_ready = self._reported_ready = False
        self._retiring: dict[asyncio.Task[None], ModelManager] = {}

    @property
    def ready(self) -> bool:
        """True once every model of the first configuration had production bound, and from then on while any
        of them can answer: one bad model does not take the others off a load balancer."""
        models = self._start_up_models()
        return self._was_ready and (not models or any(model.can_answer for model in models))

    @property
    def versions(self) -> set[VersionId]:
        """Every version that is loading, serving or ending, also of models that left the configuration; and
        what a rollback goes back to.

        One that makes way for the next is among them: if that does not load, it is loaded again.
        """
        managers = [*self.managers.values(), *self._retiring.values()]
        previous = [one.previous.version for one in self.managers.values()]
        used = {version for one in managers for version in (*one.harnesses, *one.bound.values())}
        return used | {version for version in previous if version is not None}

    def apply(self, models: Mapping[str, ModelSettings]) -> None:
        """Follow a configuration: add, change and remove models. The first one names who must be ready."""
        for name, settings in models.items():
            if (manager := self.managers.get(name)) is not None:
                manager.apply_settings(settings)
            else:
                self.managers[name] = ModelManager(name, settings, self._dependencies, self._publish)
        for name in [name for name in self.managers if name not in models]:
            self._remove(name)
        # A dict of the configuration's order: the first model also answers at /invocations.
        self.managers = {name: self.managers[name] for name in models}
        self.table = RoutingTable({name: self.table.models[name] for name in models})
        if self._awaited is None:
            self._awaited = frozenset(models)
        self._look_ready()

    def caps_changed(self, models: Iterable[str]) -> None:
        """The caps of these are others; those that are not served here have no routes to change."""
        for name in models:
            if (manager := self.managers.get(name)) is not None:
                manager.caps_changed()

    async def close(self, grace_seconds: float = 1.0) -> None:
        """End every version now."""
        managers = [*self.managers.values(), *self._retiring.values()]
        await asyncio.gather(*(manager.close(grace_seconds) for manager in managers))
        await asyncio.gather(*self._retiring)

    def _publish(self, routes: ModelRoutes) -> None:
        before = self.table.models.get(routes.model)
        self.table = RoutingTable({**self.table.models, routes.model: routes})
        self._look_ready()
        if routes != before:
            self._dependencies.recorder.record(RoutesChanged(routes))
        if before is not None and routes.pins != before.pins:
            self._dependencies.recorder.record(
                PinsChanged(routes.model, routes.pins.count, routes.pins.digest)
            )
        shares = _split_event(routes)
        if before is None or _split_event(before) != shares:
            self._dependencies.recorder.record(shares)

    def _remove(self, name: str) -> None:
        manager = self.managers.pop(name)
        self.table = RoutingTable({n: routes for n, routes in self.table.models.items() if n != name})
        task = asyncio.get_running_loop().create_task(self._retire(manager), name=f"retire {name}")
        self._retiring[task] = manager
        task.add_done_callback(lambda done: self._retiring.pop(done))

    async def _retire(self, manager: ModelManager) -> None:
        versions = await manager.drain()
        if manager.model not in self.managers:
            self._dependencies.recorder.record(ModelRemoved(manager.model))
            return
        # It was put back meanwhile: what is known of it stays, but for versions that serve no more.
        for version in sorted(versions - self._dependencies.live.keys()):
            self._dependencies.recorder.record(VersionGone(version))

    async def watch_readiness(self) -> None:
        """Report that readiness changed, if it did: a worker that is replaced at once goes unnoticed."""
        if self._was_ready and self._reported_ready != self.ready:
            self._reported_ready = self.ready
            self._dependencies.recorder.record(ReadinessChanged(ready=self._reported_ready))

    def _look_ready(self) -> None:
        if self._was_ready or self._awaited is None:
            return
        if all(manager.ready for manager in self._start_up_models()):
            self._was_ready = self._reported_ready = True
            self._dependencies.recorder.record(ReadinessChanged(ready=True))

    def _start_up_models(self) -> list[ModelManager]:
        """Those of the first configuration; one that a reload took out of it is no longer waited for."""
        return [self.managers[name] for name in self._awaited or () if name in self.managers]


def _split_event(routes: ModelRoutes) -> SplitInForce:
    return SplitInForce(routes.model, routes.split_in_force.ratios(), routes.configured_split.ratios())
