"""Versions in service: turns what is aspired into what is bound, and publishes the routing table."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from router.core.cache_events import ServingFromCache
from router.core.events import AliasAspired, AliasBound, AliasUnbound, AliasWithoutVersion
from router.core.gate import GateJudgement
from router.core.ids import PRODUCTION, ROLLBACK, Alias, VersionId
from router.core.loads import Priority
from router.core.policy import Action, Begin, Bind, Load, Snapshot, State, Turn, Unbind, Unload, next_action
from router.core.routing import ModelRoutes
from router.core.scores import OutputSpec
from router.errors import NotReady
from router.protocol.messages import VersionInfo
from router.serving.breakers import Breakers
from router.serving.gate_holds import GateHolds
from router.serving.harness import Harness
from router.serving.preflight import Preflight
from router.serving.previous import PreviousProduction
from router.serving.shadows import Shadows
from router.serving.version_dependencies import VersionDependencies
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
    its version until the next one is READY; in turn, until the files of the next one are here, and again if
    that one does not load. Meanwhile production stays in the routing table and answers NotReady, and any
    other alias is taken out of it, so that production has its share. What production served before may stay
    loaded, as `previous` says. After `drain` or `close` nothing is bound or published any more.
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
        self.breakers = Breakers(model, dependencies.recorder, dependencies.caps, self._publish_routes)
        """Judges the canaries; what it takes out of the split is published at once."""
        self.previous = PreviousProduction(self, dependencies.gate)
        """What a rollback goes back to; it says what stays loaded though no alias asks for it."""
        self.gate_holds = GateHolds(model, self, dependencies.recorder, dependencies.caps)
        """What has passed the gate; who has not gets nothing as a canary, where that is required."""
        self.shadows: Shadows | None = None
        """Sends copies of requests to other versions than production; None while the settings name none."""
        self._dependencies = dependencies
        self._publish = publish
        self._aspired: dict[Alias, VersionId] = {}
        self._bound: dict[Alias, VersionId] = {}
        self._served: set[VersionId] = set()
        """Versions that an alias has served, also before a restart: their warm-up is required no more."""
        self._productions: set[VersionId] = set()
        """Versions that production has served in this process."""
        self._registrations: Mapping[VersionId, str] = {}
        """What the registry last said of each version that has no workers here."""
        self._reported: dict[Alias, VersionInfo] = {}
        """What was last reported of each bound alias; changed scores are reported anew."""
        self._production_scores: tuple[OutputSpec, ...] | None = None
        """What the bound production suggests to count; it stays while that is loaded anew."""
        self._superseded: set[Harness] = set()
        """Those whose version was loaded again before their workers had ended."""
        self._reconciling = False
        self._closed = False
        self._expecting = ExitStack()
        """Until the registry was asked, a load of production is to be expected."""
        self._expecting.enter_context(dependencies.gate.fetching(_UnnamedProduction(), named=False))
        self.preflight = Preflight(model, self, dependencies.recorder, dependencies.caps)
        """Holds back, and holds, what fails the last requests before it gets a user."""
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
    def out_of_service(self) -> set[Alias]:
        """Aliases whose version ended so that the next one can be loaded, or is loaded again after that."""
        return {alias for alias, version in self._bound.items() if not self._is_in(State.READY, version)}

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

    @property
    def seconds_until_load(self) -> float | None:
        """Until the version that production shall serve is tried again; None unless its last load failed."""
        aspired = self._aspired.get(PRODUCTION)
        harness = self.harnesses.get(aspired) if aspired is not None else None
        return harness.seconds_until_load if harness is not None else None

    def note_served(self, versions: Iterable[VersionId]) -> None:
        """By this machine's record, these versions served before the restart."""
        self._served.update(versions)

    def set_aspired_from_cache(self, recorded: Mapping[Alias, VersionId]) -> None:
        """Serve what served last, until the first good poll. Later, and for an empty record, nothing."""
        aspired = _serving(recorded)
        if self.polled or not aspired or aspired == self._aspired:
            return
        self.from_cache = True
        self.note_served(recorded.values())
        self.previous.named = recorded.get(ROLLBACK)
        self._aspired = aspired
        self._dependencies.recorder.record(ServingFromCache(self.model, self._aspired))
        self._publish_routes()
        self.reconcile()

    def set_aspired(self, named: Mapping[Alias, VersionId]) -> None:
        """Follow a good poll, which names every alias that shall serve, and ROLLBACK where that is set."""
        aspired, self.previous.named = _serving(named), named.get(ROLLBACK)
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
            self._aspired = aspired
            self._publish_routes()
        if from_cache:
            for harness in self.harnesses.values():
                harness.retry_now()  # what the cache could not give, the registry may
        self.reconcile()
        self.gate_holds.forget_what_left()
        self.first_poll_ended()

    def not_loaded(self, named: Mapping[Alias, VersionId]) -> set[VersionId]:
        """Versions that would serve, if `named` were aspired, and have no workers here yet."""
        wanted = {*_serving(named).values(), *self._bound.values()}
        return {v for v in wanted if v not in self.harnesses or not self.harnesses[v].loaded}

    def note_registrations(self, registrations: Mapping[VersionId, str]) -> None:
        """What the registry says of the versions that are `not_loaded`: one of which that changed is tried
        again at once."""
        former, self._registrations = self._registrations, registrations
        for version, said in registrations.items():
            if version in self.harnesses and former.get(version, said) != said:
                self.harnesses[version].retry_now()
        self.reconcile()

    def registry_recovered(self) -> None:
        """The registry answers again: fetches that failed without it are tried again at once."""
        for harness in self.harnesses.values():
            harness.retry_fetch_now()
        self.reconcile()

    def look_for_room(self) -> None:
        """Memory may have come free meanwhile: versions that had none are tried again where they fit now.

        Or it has become short: then what is kept goes.
        """
        self._dependencies.gate.leave_room_to_grow()
        for harness in self.harnesses.values():
            harness.retry_if_it_fits()
        self.reconcile()

    def first_poll_ended(self) -> None:
        """The registry was asked, whatever it answered: nobody waits for this production to be named."""
        self._expecting.close()

    def apply_settings(self, settings: ModelSettings) -> None:
        """Follow changed settings; the split is in force when this returns."""
        former, self.settings = self.settings, settings
        if former.split != settings.split:
            self.breakers.reset(self._bound, "the split changed")
        self.preflight.apply_settings()
        self._publish_routes()
        if former != settings:
            for harness in self.harnesses.values():
                harness.apply_settings()
                if former.load_memory_mib != settings.load_memory_mib:
                    harness.retry_now()  # what had no room may have it by this figure
            self.reconcile()

    def note_gate(self, judgement: GateJudgement) -> None:
        """What was found of a version that is `gate_holds.to_judge`; it is in force when this returns."""
        self.gate_holds.note(judgement)
        self._publish_routes()

    def caps_changed(self) -> None:
        """The caps in force are others: so are breakers and routes, when this returns."""
        self.breakers.follow_records()
        self._publish_routes()

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
            self.preflight.hold_failed()
            self._settle()
            while self.preflight.settle():
                self._settle()
        finally:
            self._reconciling = False
        self.previous.settle()
        self._dependencies.gate.look()  # what a load is for may have changed

    def _settle(self) -> None:
        while (action := next_action(self._snapshot())) is not None:
            self._start(action)

    def serving(self, version: VersionId) -> Harness:
        """The harness of a bound version. Raises NotReady when it is gone, or makes way for the next one."""
        harness = self.harnesses.get(version)
        if harness is not None and (harness.state is not State.DRAINING or not self._is_bound(version)):
            return harness
        raise NotReady(
            f"{version} is being replaced, in turn" if self._is_bound(version) else f"{version} is gone"
        )

    # From here to `drain`: for the harnesses of this model.

    def is_production(self, version: VersionId) -> bool:
        """Whether production is bound to `version`."""
        return self._bound.get(PRODUCTION) == version

    def is_kept(self, version: VersionId) -> bool:
        """Whether `version` stays loaded for a rollback, and no alias asks for it."""
        return self.previous.kept == version

    def has_served(self, version: VersionId) -> bool:
        """Whether an alias has served `version`, also before a restart."""
        return version in self._served

    def priority_of(self, version: VersionId) -> Priority:
        """That of a load of `version` while it has no worker."""
        if not self._is_of_production(version):
            return Priority.OTHER_ALIAS
        return Priority.PRODUCTION if self.can_answer else Priority.UNSERVED

    def production_scores(self, version: VersionId) -> tuple[OutputSpec, ...] | None:
        """What production counts of its own accord; None for production's own versions, and before it serves.

        Two versions are compared by what both count, so production's choice holds for all others. One that is
        kept is compared with none, and counts as when it was production, which it may be again.
        """
        own = self._is_of_production(version) or self.is_kept(version)
        return None if own else self._production_scores

    def took_a_turn(self, version: VersionId) -> bool:
        """Whether another version ended so that `version` could be loaded in its place."""
        return any(not self._is_in(State.READY, old) for old in self._replaced_by(version))

    def version_changed(self) -> None:
        """Bind and unload what can be now; report what is bound with other scores."""
        self._superseded = {harness for harness in self._superseded if harness.is_live}
        # One whose workers still end counts until they have: its files are in use, and a stop waits for it.
        self.harnesses = {v: h for v, h in self.harnesses.items() if h.is_live}
        for alias, version in self._bound.items():
            harness = self.harnesses.get(version)
            if harness is not None and harness.loaded and harness.info is not self._reported.get(alias):
                self._report_bound(alias, version, version)
        for version, harness in self.harnesses.items():
            # While what it replaces serves, or comes back, a try would be an outage; else it costs nothing.
            harness.may_retry(
                allowed=all(self._is_in(State.ERROR, old) for old in self._replaced_by(version))
            )
        self._publish_routes()
        self.reconcile()

    def worker_crashed(self, version: VersionId) -> None:
        """A worker of `version` ended by itself."""
        self.breakers.crash(version)
        if self._is_bound(version) and not self.serves(version):
            asyncio.get_running_loop().call_soon(self.reconcile)  # what waits to take its place may do so now

    async def drain(self) -> set[VersionId]:
        """The model left the configuration: let what runs finish, then end its versions, which it returns."""
        # First of all: what ends from now on must not bind anything, nor publish over a successor's routes.
        self._closed = True
        self._expecting.close()
        self.previous.close()
        self.preflight.close()
        self._shadow_no_more()
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
        self.previous.close()
        self.preflight.close()
        self._shadow_no_more()
        harnesses = (*self.harnesses.values(), *self._superseded)
        await asyncio.gather(*(harness.close(grace_seconds) for harness in harnesses))

    def _snapshot(self) -> Snapshot:
        states = {version: harness.state for version, harness in self.harnesses.items()}
        # While former workers of one that was loaded again still end, nothing begins.
        turns = {
            version: Turn.TAKEN if self._superseded else turn
            for version, harness in self.harnesses.items()
            if (turn := harness.turn) is not None
        }
        return Snapshot(
            self._aspired,
            self._bound,
            states,
            self.settings.in_turn,
            turns,
            self.previous.kept,
            self.preflight.held_back,
            frozenset(filter(self._gathers_workers, self._bound)),
        )

    def _gathers_workers(self, alias: Alias) -> bool:
        """Whether the next version of `alias` has too few workers yet, and the present one answers so long.

        A former production is taken back with its first worker: the version after it may be a bad one.
        """
        bound, aspired = self._bound[alias], self._aspired.get(alias)
        if aspired in (None, bound) or aspired not in self.harnesses or not self.serves(bound):
            return False
        is_former = aspired in self._productions or aspired == self.previous.version
        return not self.serves(aspired) or (self.harnesses[aspired].gathers_workers and not is_former)

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
                self.breakers.follow_bound(self._bound, f"{alias} was unbound")
                self._publish_routes()
                self._record(AliasUnbound(self.model, alias, old))
            case Begin(version):
                self.harnesses[version].begin()
            case Unload(version):
                self.harnesses[version].unload()
                self._report_outage(version)

    def _bind(self, alias: Alias, version: VersionId) -> None:
        old = self._bound.get(alias)
        self._bound = {**self._bound, alias: version}
        self._served.add(version)
        if alias == PRODUCTION:
            self._productions.add(version)
            self.previous.production_moved(version)
        self.breakers.follow_bound(self._bound, f"{alias} serves {version}")
        self._publish_routes()
        self._report_bound(alias, old, version)
        for harness in self.harnesses.values():
            harness.ensure_workers()  # only production's version may have a spare
        self.harnesses[version].refresh_if_outdated()  # while it was kept, it was not

    def _report_outage(self, version: VersionId) -> None:
        """`version` was let go: if an alias still serves it, it makes way for what is loaded in its place."""
        for alias, bound in self._bound.items():
            if bound == version:
                self._record(AliasWithoutVersion(self.model, alias, version, self._aspired[alias]))
        self._publish_routes()

    def _is_bound(self, version: VersionId) -> bool:
        return version in self._bound.values()

    def _is_of_production(self, version: VersionId) -> bool:
        return version in (self._bound.get(PRODUCTION), self._aspired.get(PRODUCTION))

    def _is_in(self, state: State, version: VersionId) -> bool:
        harness = self.harnesses.get(version)
        return harness is not None and harness.state is state

    def _replaced_by(self, version: VersionId) -> list[VersionId]:
        """Versions that aliases serve which are to serve `version`."""
        aliases = [alias for alias, wanted in self._aspired.items() if wanted == version]
        return [old for alias in aliases if (old := self._bound.get(alias, version)) != version]

    def _report_bound(self, alias: Alias, old: VersionId | None, new: VersionId) -> None:
        info = self.harnesses[new].info
        if info is not None:
            self._reported[alias] = info
            name = self.settings.aliases[alias]
            self._record(
                AliasBound(
                    *(self.model, alias, old, new, info.run_id, info.flavor, info.scores, name),
                    elsewhere=self.settings.elsewhere,
                )
            )
            if alias == PRODUCTION:
                self._production_scores = info.suggested_scores
                for harness in self.harnesses.values():
                    harness.refresh_if_outdated()

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
        settings, left_out = self.settings, self.out_of_service - {PRODUCTION}
        self.gate_holds.settle()
        routes = ModelRoutes(
            self.model,
            settings.salt,
            settings.split,
            bound={alias: version for alias, version in self._bound.items() if alias not in left_out},
            aspired=frozenset(self._aspired),
            broken=self.breakers.broken,
            capped=self._capped(),
            gated=self.gate_holds.held | self.preflight.held,
            pins=settings.pins.compiled(settings.salt),
        )
        self._publish(routes)
        self._shadow(routes)

    def _shadow(self, routes: ModelRoutes) -> None:
        if (settings := self.settings.shadow) is None:
            self._shadow_no_more()
            return
        if self.shadows is None:
            self.shadows = Shadows(self, self._dependencies.recorder, self._dependencies.idle)
        self.shadows.follow(routes, settings)

    def _shadow_no_more(self) -> None:
        if self.shadows is not None:
            shadows, self.shadows = self.shadows, None
            shadows.close()

    def _capped(self) -> dict[Alias, int]:
        """Buckets that caps leave to what serves now, by alias."""
        shares = {
            alias: self._dependencies.caps.share_of(self.model, alias, version.number)
            for alias, version in self._bound.items()
            if alias != PRODUCTION
        }
        return {alias: share for alias, share in shares.items() if share is not None}

    def _record(self, event: AliasAspired | AliasBound | AliasUnbound | AliasWithoutVersion) -> None:
        self._dependencies.recorder.record(event)


def _serving(named: Mapping[Alias, VersionId]) -> dict[Alias, VersionId]:
    """Without what is read and never served."""
    return {alias: version for alias, version in named.items() if alias != ROLLBACK}
