"""Versions in service: turns what is aspired into what is bound, and publishes the routing table."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from router.core.events import AliasAspired, AliasBound, AliasUnbound, ServingFromCache
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.loads import Priority
from router.core.policy import Action, Bind, Load, Snapshot, State, Unbind, Unload, next_action
from router.core.routing import ModelRoutes
from router.errors import NotReady
from router.protocol.messages import VersionInfo
from router.serving.breakers import Breakers
from router.serving.harness import Harness, VersionDependencies
from router.settings import ModelSettings

OPERATOR_RESET = "an operator reset it"
"""Why a breaker was closed when it was for none of the reasons that close it by itself."""


@dataclass(frozen=True, slots=True)
class _UnnamedProduction:
    """Production that the registry has not named yet: its load is to be expected."""

    load_priority: Priority = Priority.UNSERVED


class ModelManager:
    """Turns one registered model's aspired versions into bound ones, with a harness for each version.

    `set_aspired` is complete: an alias missing from it is withdrawn, except production, which keeps its
    version. It may be called at any time, also while a load is under way; the last call wins, and what is the
    same as before changes nothing. `set_aspired_from_cache` holds until the first `set_aspired`, and is
    without effect after it. `apply_settings` may come at any time. `reconcile` starts what is to be done; it
    never waits, and each version's harness has it called again when something has changed. An alias serves
    its version until the next one is READY. After `drain` or `close` nothing is bound or published any more.
    """

    def __init__(
        self,
        model: str,
        settings: ModelSettings,
        dependencies: VersionDependencies,
        publish: Callable[[ModelRoutes], None],
    ) -> None:
        self.model = model
        self.settings = settings
        self.harnesses: dict[VersionId, Harness] = {}
        self.polled = False
        """True after the first good poll."""
        self.from_cache = False
        """True while what is aspired is what served last, because the registry has not answered yet."""
        self.breakers = Breakers(model, dependencies.recorder, self._publish_routes)
        """Judges the canaries; what it takes out of the split is published at once."""
        self._dependencies = dependencies
        self._publish = publish
        self._aspired: dict[Alias, VersionId] = {}
        self._bound: dict[Alias, VersionId] = {}
        self._served: set[VersionId] = set()
        """Versions that an alias has served, also before a restart: their warm-up is required no more."""
        self._reported: dict[Alias, VersionInfo] = {}
        """What was last reported of each bound alias; changed scores are reported anew."""
        self._superseded: set[Harness] = set()
        """Those whose version was loaded again before their workers had ended."""
        self._reconciling = False
        self._closed = False
        self._expecting = ExitStack()
        """Until the registry was asked, a load of production is to be expected."""
        self._expecting.enter_context(dependencies.gate.fetching(_UnnamedProduction()))
        self._publish_routes()

    @property
    def aspired(self) -> Mapping[Alias, VersionId]:
        """What the last good poll named; before the first, what the cache's record named."""
        return self._aspired

    @property
    def bound(self) -> Mapping[Alias, VersionId]:
        """What serves now."""
        return self._bound

    @property
    def ready(self) -> bool:
        """True once production is bound."""
        return PRODUCTION in self._bound

    def serves(self, version: VersionId) -> bool:
        """Whether `version` has a worker alive."""
        harness = self.harnesses.get(version)
        return harness is not None and harness.loaded and harness.pool.can_answer

    @property
    def can_answer(self) -> bool:
        """True while production is bound to a version that has a worker alive."""
        return self.ready and self.serves(self._bound[PRODUCTION])

    def note_served(self, versions: Iterable[VersionId]) -> None:
        """By this machine's record, these versions served before the restart."""
        self._served.update(versions)

    def set_aspired_from_cache(self, recorded: Mapping[Alias, VersionId]) -> None:
        """Serve what served last, until the first good poll. Later, and for an empty record, nothing."""
        if self.polled or not recorded or recorded == self._aspired:
            return
        self.from_cache = True
        self.note_served(recorded.values())
        self._aspired = dict(recorded)
        self._dependencies.recorder.record(ServingFromCache(self.model, self._aspired))
        self._publish_routes()
        self.reconcile()

    def set_aspired(self, aspired: Mapping[Alias, VersionId]) -> None:
        """Follow a good poll, which names every alias that shall serve."""
        from_cache, self.from_cache = self.from_cache, False
        if not self.polled and PRODUCTION not in aspired:
            # Nothing changed, and yet it is news: without it nothing is served, and nobody would know why.
            self._record(AliasAspired(self.model, PRODUCTION, None, None))
        self.polled = True
        if from_cache or aspired != self._aspired:
            # The record was our own word; this is the first of the registry.
            before = {} if from_cache else self._aspired
            for alias in sorted({*aspired, *before}):
                old, new = before.get(alias), aspired.get(alias)
                if old != new:
                    self._record(AliasAspired(self.model, alias, old, new))
            self._aspired = dict(aspired)
            self._publish_routes()
        if from_cache:
            for harness in self.harnesses.values():
                harness.retry_now()  # what the cache could not give, the registry may
        self.reconcile()
        self.first_poll_ended()

    def first_poll_ended(self) -> None:
        """The registry was asked, whatever it answered: nobody waits for this production to be named."""
        self._expecting.close()

    def apply_settings(self, settings: ModelSettings) -> None:
        """Follow changed settings; the split is in force when this returns."""
        former, self.settings = self.settings, settings
        if former.split != settings.split:
            self.breakers.reset(self._bound, "the split changed")
        self._publish_routes()
        if former != settings:
            for harness in self.harnesses.values():
                harness.apply_settings()
            self.reconcile()

    def reset_breakers(self) -> None:
        """An operator says that the canaries shall have their shares back."""
        self.breakers.reset(self._bound, OPERATOR_RESET)
        self._publish_routes()

    def reconcile(self) -> None:
        """Do what the policy says until it says nothing; idempotent."""
        if self._reconciling or self._closed:
            return  # a change made by an action is seen by the loop that is already running
        self._reconciling = True
        try:
            while (action := next_action(self._snapshot())) is not None:
                self._start(action)
        finally:
            self._reconciling = False
        self._dependencies.gate.look()  # what a load is for may have changed

    def serving(self, version: VersionId) -> Harness:
        """The harness of a bound version. Raises NotReady when it is gone."""
        if (harness := self.harnesses.get(version)) is None:
            raise NotReady(f"{version} is gone")
        return harness

    # From here to `drain`: for the harnesses of this model.

    def is_production(self, version: VersionId) -> bool:
        """Whether production is bound to `version`."""
        return self._bound.get(PRODUCTION) == version

    def has_served(self, version: VersionId) -> bool:
        """Whether an alias has served `version`, also before a restart."""
        return version in self._served

    def priority_of(self, version: VersionId) -> Priority:
        """That of a load of `version` while it has no worker."""
        bound = self._bound.get(PRODUCTION)
        if version not in (bound, self._aspired.get(PRODUCTION)):
            return Priority.OTHER_ALIAS
        serving = self.harnesses.get(bound) if bound is not None else None
        has_workers = serving is not None and serving.loaded and serving.pool.workers
        return Priority.PRODUCTION if has_workers else Priority.UNSERVED

    def version_changed(self) -> None:
        """Bind and unload what can be now; report what is bound with other scores."""
        self._superseded = {harness for harness in self._superseded if harness.is_live}
        # One whose workers still end counts until they have: its files are in use, and a stop waits for it.
        self.harnesses = {v: h for v, h in self.harnesses.items() if h.is_live}
        for alias, version in self._bound.items():
            harness = self.harnesses.get(version)
            if harness is not None and harness.info is not self._reported.get(alias):
                self._report_bound(alias, version, version)
        self.reconcile()

    def worker_crashed(self, version: VersionId) -> None:
        """A worker of `version` ended by itself."""
        self.breakers.crash(version)

    async def drain(self) -> set[VersionId]:
        """The model left the configuration: let what runs finish, then end its versions, which it returns."""
        # First of all: what ends from now on must not bind anything, nor publish over a successor's routes.
        self._closed = True
        self._expecting.close()
        versions = set(self.harnesses)
        loading = [h for h in self.harnesses.values() if not h.loaded]
        await asyncio.gather(*(harness.close(0.0) for harness in loading))
        loaded = [h.pool for h in self.harnesses.values() if h.loaded]
        await asyncio.gather(*(pool.drain(self.settings.timeout_seconds) for pool in loaded))
        await self.close(grace_seconds=1.0)
        return versions

    async def close(self, grace_seconds: float) -> None:
        """End every version now."""
        self._closed = True
        self._expecting.close()
        for harness in (*self.harnesses.values(), *self._superseded):
            await harness.close(grace_seconds)

    def _snapshot(self) -> Snapshot:
        states = {version: harness.state for version, harness in self.harnesses.items()}
        return Snapshot(self._aspired, self._bound, states)

    def _start(self, action: Action) -> None:
        match action:
            case Load(version):
                aliases = tuple(alias for alias, wanted in self._aspired.items() if wanted == version)
                self._harness(version).load(aliases)
            case Bind(alias, version):
                self._bind(alias, version)
            case Unbind(alias):
                old = self._bound[alias]
                self._bound = {a: version for a, version in self._bound.items() if a != alias}
                self.breakers.reset(self._bound, f"{alias} was unbound")
                self._publish_routes()
                self._record(AliasUnbound(self.model, alias, old))
            case Unload(version):
                self.harnesses[version].unload()

    def _bind(self, alias: Alias, version: VersionId) -> None:
        old = self._bound.get(alias)
        self._bound = {**self._bound, alias: version}
        self._served.add(version)
        self.breakers.reset(self._bound, f"{alias} serves {version}")
        self._publish_routes()
        self._report_bound(alias, old, version)
        for harness in self.harnesses.values():
            harness.ensure_workers()  # only production's version may have a spare

    def _report_bound(self, alias: Alias, old: VersionId | None, new: VersionId) -> None:
        info = self.harnesses[new].info
        if info is not None:
            self._reported[alias] = info
            name = self.settings.aliases[alias]
            self._record(AliasBound(self.model, alias, old, new, info.run_id, info.flavor, info.scores, name))

    def _harness(self, version: VersionId) -> Harness:
        harness = self.harnesses.get(version)
        if harness is None or harness.state is State.GONE:
            if harness is not None:
                self._superseded.add(harness)
            harness = self.harnesses[version] = Harness(version, self._dependencies, self)
        return harness

    def _publish_routes(self) -> None:
        if self._closed:
            return
        settings = self.settings
        self._publish(
            ModelRoutes(
                self.model,
                settings.salt,
                settings.split,
                bound=self._bound.copy(),
                aspired=frozenset(self._aspired),
                broken=self.breakers.broken,
            )
        )

    def _record(self, event: AliasAspired | AliasBound | AliasUnbound) -> None:
        self._dependencies.recorder.record(event)
