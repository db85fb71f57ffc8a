"""One version's life in this gateway: NEW → LOADING → READY → DRAINING → GONE, or ERROR and another try."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from router.core.backoff import Backoff
from router.core.events import (
    EnvironmentDiffers,
    LoadRefused,
    VersionDraining,
    VersionGone,
    VersionLoaded,
)
from router.core.ids import Alias, VersionId
from router.core.loads import Priority
from router.core.policy import TRANSITIONS, State, Turn
from router.core.scores import OutputSpec
from router.errors import EnvironmentRefused, FetchRefused, LoadFailed, NoRoom, NotReady, WorkerOutOfMemory
from router.protocol.messages import LoadSpec, Query, VersionInfo
from router.serving.load_spec import load_spec, without_production
from router.serving.pool.pool import GATHER_SECONDS, Pool
from router.serving.pool.request_queue import PendingRequest
from router.serving.ports import Loader, PreparedEnvironment
from router.serving.version_dependencies import VersionDependencies
from router.settings import ModelSettings

LOAD_DELAYS = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Wait after the n-th load in a row that failed."""

_log = logging.getLogger(__name__)


class HarnessOwner(Protocol):
    """The model that a version belongs to; all of it is read at each use, for it may change meanwhile."""

    @property
    def settings(self) -> ModelSettings:
        """In force now."""

    def is_production(self, version: VersionId) -> bool:
        """Whether production is bound to `version`."""

    def is_kept(self, version: VersionId) -> bool:
        """Whether `version` stays loaded for a rollback, and no alias asks for it."""

    def has_served(self, version: VersionId) -> bool:
        """Whether an alias has served `version` before: then it needs no warm-up, whatever settings say."""

    def priority_of(self, version: VersionId) -> Priority:
        """That of a load of `version` while it has no worker."""

    def production_scores(self, version: VersionId) -> tuple[OutputSpec, ...] | None:
        """What production counts of its own accord; None where `version` is to decide that itself."""

    def took_a_turn(self, version: VersionId) -> bool:
        """Whether another version ended so that `version` could be loaded in its place."""

    def version_changed(self) -> None:
        """A version's state or info changed, not by a call of the owner."""

    def worker_crashed(self, version: VersionId) -> None:
        """A worker of `version` ended by itself."""


class Harness:
    """Loads, holds and unloads one version.

    `load` and `unload` may be called in any state and any order; the last call wins. `load` in NEW begins, in
    DRAINING takes the version back into service, and is without effect otherwise; a version that is GONE is
    loaded again by a new harness. Without `unload` a version stays; one in ERROR is tried again for ever.
    `submit` raises unless READY or DRAINING. `close` ends it from any state; nothing is called after it.

    Where the settings say in turn, a load waits for `begin` once the files are here, and its own environment
    where it has one. If it fails after another version ended for it, it is not tried again but as `may_retry`
    says: each try is an outage. One whose environment can not be made of what it asks for is not tried again
    before `retry_now`.

    State changes only along `core.policy.TRANSITIONS`. A breach is a fault of ours: it is logged and the
    change is made all the same, for a version must not hang because of it; tests make it raise.
    """

    def __init__(self, version: VersionId, dependencies: VersionDependencies, owner: HarnessOwner) -> None:
        self.version = version
        self.info: VersionInfo | None = None
        self.error = ""
        """Why the last load failed, of the version or, while it serves, of workers with changed settings."""
        self.variable_length = False
        """True once it answered another number of rows than it was asked for: perhaps that is its way."""
        self.without_rows = False
        """True once an answer of it had no rows to count, such as a mapping."""
        self._state = State.NEW
        self._dependencies = dependencies
        self._owner = owner
        self._load_failures = self._reload_failures = Backoff(LOAD_DELAYS)
        self.environment: PreparedEnvironment | None = None
        """Its own Python environment, from when it is here; None where it runs in the gateway's."""
        self._phase = "fetch"
        """What the load under way, or the last one, has come to: fetch, environment or load."""
        self._superseded_try = False
        """True when what the load under way depends on changed since it began."""
        self._lacked_bytes = 0
        """What the last load was expected to take, which was not tried for want of memory; else 0."""
        self._distrusts_copy = False
        """True after its files did not load: the copy may be torn, or torn where it came from and mended."""
        self._pool: Pool | None = None
        self._task: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        """Ends the workers after a drain; never cancelled."""
        self._attempted: LoadSpec | None = None
        """What the last load of this version, or of its workers under other settings, was asked for."""
        self._begins: asyncio.Event | None = None
        """Set when a load in turn may begin; None while its files, or its environment, are not here, and of
        loads beside."""
        self._is_refused = False
        """True after no environment could be made of what it asks for: another try would end alike."""
        self._costs_outage = False
        """True after a load failed for which another version had ended."""
        self._reload_costs_outage = False
        """True after a load of workers under other settings failed for which the former ones had ended."""
        self.gathers_workers = False
        """True while it is READY, for the first time, and waits some seconds for its further workers."""
        self._settings_changed = asyncio.Event()
        """Ends the pause after workers could not be loaded with the settings of then."""
        dependencies.live[version] += 1
        self.is_live = True
        """False once its workers have ended."""

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @property
    def pool(self) -> Pool:
        """The version's workers. Raises NotReady unless READY or DRAINING."""
        if self._pool is None:
            raise NotReady(f"{self.version} is {self.state}")
        return self._pool

    @property
    def loaded(self) -> bool:
        """True while the version has workers."""
        return self._pool is not None

    @property
    def failures(self) -> int:
        """Loads that failed in a row."""
        return self._load_failures.failures

    @property
    def retry_seconds(self) -> float | None:
        """Wait after the last failed load, or reload of workers; 0.0 when none failed.

        None where it is not tried again by itself.
        """
        if self._costs_outage or self._reload_costs_outage or self._is_refused:
            return None
        return self._load_failures.seconds or self._reload_failures.seconds

    @property
    def seconds_until_load(self) -> float | None:
        """Until it is tried again, after a load that failed; None in any other state, and where it is not."""
        if self.state is not State.ERROR or self._is_refused:
            return None
        return max(0.0, self._load_failures.not_before - asyncio.get_running_loop().time())

    @property
    def phase(self) -> str | None:
        """What it is at while it is LOADING, or failed at in ERROR: fetch, environment or load.

        `workers` while it is READY and gathers these; else None.
        """
        if self.gathers_workers:
            return "workers"
        return self._phase if self._state in (State.LOADING, State.ERROR) else None

    @property
    def turn(self) -> Turn | None:
        """Where it stands while it is LOADING in turn and its files are here; else None."""
        if self._begins is None or self._state is not State.LOADING:
            return None
        return Turn.TAKEN if self._begins.is_set() else Turn.WAITING

    def submit(
        self, query: Query, alias: Alias, expires_at: float, *, may_wait_for_worker: bool = True
    ) -> PendingRequest:
        """Lease the version for one request, as `Pool.submit` does. Raises Overloaded, NotReady."""
        return self.pool.submit(query, alias, expires_at, may_wait_for_worker=may_wait_for_worker)

    def load(self, aliases: tuple[Alias, ...]) -> None:
        """Start loading; or, when DRAINING, serve on."""
        if self.state is State.DRAINING:
            self._cancel()
            self._enter(State.READY)
            self.ensure_workers()  # the settings may have changed meanwhile
            self.refresh_if_outdated()
        elif self.state is State.NEW:
            self._enter(State.LOADING)
            self._begins, self._costs_outage = None, False
            on_its_way = ExitStack()
            on_its_way.enter_context(self._dependencies.gate.fetching(self))
            self._start(self._load(aliases, on_its_way)).add_done_callback(lambda _: on_its_way.close())

    def begin(self) -> None:
        """What it replaces has ended: load it. Without effect unless it waits for that."""
        if self._begins is not None:
            self._begins.set()

    def unload(self) -> None:
        """Stop loading, or drain; GONE follows. Without effect when DRAINING or GONE."""
        if self.state in (State.DRAINING, State.GONE):
            return
        self._cancel()
        if self.state is State.READY:
            self._enter(State.DRAINING)
            self._dependencies.recorder.record(VersionDraining(self.version, self.pool.leases))
            self._start(self._drain())
        elif self.state is State.LOADING and self._task is not None:
            self._enter(State.GONE)
            self._ending = asyncio.get_running_loop().create_task(
                self._end_load(self._task), name=f"end {self.version}"
            )
        else:
            self._enter(State.GONE)
            self._gone()

    def retry_now(self) -> None:
        """What loads depend on has changed: those that failed say nothing about the next one.

        After a failed load the wait is over, and the policy is to be asked. When the one that is under way
        fails, another follows at once: it was begun under what held before.
        """
        self._load_failures, self._is_refused = self._load_failures.reset(), False
        if self.state is State.ERROR:
            self._cancel()
            self._enter(State.NEW)
        elif self.state is State.LOADING:
            self._superseded_try = True

    def retry_if_it_fits(self) -> None:
        """As `retry_now`, where the last load had no room and would have some now; so for a spare."""
        gate = self._dependencies.gate
        if self.state is State.ERROR and self._lacked_bytes and gate.has_room(self._lacked_bytes):
            self.retry_now()
        elif self._pool is not None and self.state is State.READY:
            self._pool.supply.look_for_room()

    def retry_fetch_now(self) -> None:
        """The registry answers again: as `retry_now`, unless the files are here and did not load."""
        if self._phase == "fetch":
            self.retry_now()

    def may_retry(self, *, allowed: bool) -> None:
        """Whether a load that costs an outage is tried again, after its pause; idempotent.

        Without effect on any other version. Changed settings and `retry_now` end the wait in any case.
        """
        if not (self._costs_outage and self.state is State.ERROR):
            return
        waiting = self._task is not None and not self._task.done()
        if allowed and not waiting:
            # Counted from the failure: else one that is tried more often would hold it up for ever.
            self._start(self._retry(self._load_failures.not_before - asyncio.get_running_loop().time()))
        elif waiting and not allowed:
            self._cancel()

    def apply_settings(self) -> None:
        """Follow changed settings: number of workers, limits, scores. What failed to load is tried again.

        Afterwards the policy is to be asked, for a version that was to wait may be NEW again.
        """
        wanted = self._spec if self.loaded else self._first_spec
        if self._attempted is not None and without_production(self._attempted) != without_production(
            wanted(self._attempted.directory)
        ):
            self.retry_now()
            self._settings_changed.set()
        elif not self.settings.in_turn and (self._costs_outage or self._reload_costs_outage):
            self.retry_now()  # beside, a try costs nothing
            self._settings_changed.set()
        if self._pool is not None:
            self._pool.settings_changed()
        self.ensure_workers()
        self.refresh_if_outdated()

    def stop_loading(self) -> None:
        """It is kept from now on, with the workers that it has: what is being loaded for it is not needed."""
        if self._reloading is not None:
            self._reloading.cancel()
        self.pool.stop_loading()

    def ensure_workers(self) -> None:
        """See that the workers are as many as they should be, with a spare where there should be one."""
        if self._pool is not None and self.state is State.READY:
            self._pool.fill()

    def refresh_if_outdated(self) -> None:
        """Have workers that were loaded with the settings of now, unless it is kept; idempotent."""
        reloading = self._reloading
        if self.is_kept or not self.is_outdated:
            return
        if reloading is None or reloading.done() or reloading.cancelling():
            self._reloading = asyncio.get_running_loop().create_task(
                self._reload_workers(reloading), name=f"reload {self.version}"
            )

    @property
    def is_outdated(self) -> bool:
        """True while READY with workers that were loaded with other settings, or count otherwise."""
        if self._pool is None or self.state is not State.READY:
            return False
        spec = self._pool.supply.spec
        wanted = self._spec(spec.directory)
        if spec.production_scores != wanted.production_scores and self._counts_as(wanted):
            return without_production(spec) != without_production(wanted)
        return spec != wanted

    async def close(self, grace_seconds: float) -> None:
        """End everything now, without draining."""
        self._cancel()
        tasks = filter(None, (self._task, self._reloading, self._ending))
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close(grace_seconds)
        if self.state is not State.GONE:
            self._enter(State.GONE)
        self._count_out()

    # From here on: for the pool and the gate of this version.

    @property
    def settings(self) -> ModelSettings:
        """In force now."""
        return self._owner.settings

    @property
    def is_production(self) -> bool:
        """Whether production is bound to it."""
        return self._owner.is_production(self.version)

    @property
    def is_kept(self) -> bool:
        """Whether no alias asks for it, and it stays loaded for a rollback."""
        return self._owner.is_kept(self.version)

    @property
    def load_priority(self) -> Priority:
        """Of a load while it has no worker."""
        return self._owner.priority_of(self.version)

    @property
    def load_deadline_seconds(self) -> float:
        """How long a load may take."""
        where = self.settings.where
        return self._dependencies.limits.deadline_seconds if where is None else where.ready_seconds

    def worker_crashed(self) -> None:
        """A worker ended by itself."""
        self._owner.worker_crashed(self.version)

    def kept_worker_ended(self) -> None:
        """A worker ended by itself while the version was kept: without one it is kept no more."""
        self._owner.version_changed()

    def scores_chosen(self, info: VersionInfo) -> None:
        """What is counted was open until now, and is what `info` says."""
        self.info = info
        self._owner.version_changed()

    async def _load(self, aliases: tuple[Alias, ...], on_its_way: ExitStack) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._phase, self._superseded_try = "fetch", False
        shared, loader = self._dependencies, self._dependencies.loader
        phases: dict[str, float] = {}
        try:
            directory = await shared.fetcher.fetch(
                self.version,
                deadline_seconds=shared.limits.deadline_seconds,
                fresh=self._distrusts_copy,
                turn=partial(shared.gate.download_turn, self),
            )
            phases["fetch"] = loop.time() - began
            if self.settings.where is not None:
                assert shared.addresses is not None  # a gateway has them
                loader = shared.addresses.loader(self.settings.where)
                on_its_way.close()  # until it is ready elsewhere is nothing that lesser loads wait for
            elif self.settings.environment == "own":
                loader = await self._prepare(directory)
                phases["environment"] = loop.time() - began - phases["fetch"]
            if self.settings.in_turn:
                self._begins = asyncio.Event()
                loop.call_soon(self._owner.version_changed)
                await self._begins.wait()
            self._phase = "load"
            self._attempted = self._first_spec(directory)
            pool = Pool(self._spec(directory), loader, shared.recorder, self, shared.gate)
            self.info = await pool.start(
                warm_up_required=self._attempted.warm_up_required,
                proven=self._owner.has_served(self.version),
            )
        except Exception as error:  # noqa: BLE001 - else the version would be LOADING for ever, and nobody knew why
            self._refuse(error, error.phase if isinstance(error, LoadFailed) else self._phase, aliases)
            return
        self._pool, self._load_failures, self.error = pool, self._load_failures.reset(), ""
        self.gathers_workers = not (pool.gathered.is_set() or self.settings.in_turn)
        self._enter(State.READY)
        phases |= self.info.phase_seconds
        environment = self.environment
        about = None if environment is None else environment.about
        note = "; ".join(filter(None, [self.info.note, environment.note if environment else ""]))
        shared.recorder.record(VersionLoaded(self.version, aliases, phases, note, about))
        if mismatches := self.info.mismatches:
            shared.recorder.record(EnvironmentDiffers(self.version, mismatches, own=about is not None))
        self.refresh_if_outdated()
        if self.gathers_workers:
            self._start(self._gather_workers(pool))
        self._owner.version_changed()

    async def _gather_workers(self, pool: Pool) -> None:
        joined = 0
        while len(pool.slots) > joined and not pool.gathered.is_set():
            joined = len(pool.slots)
            with suppress(TimeoutError):
                await asyncio.wait_for(pool.gathered.wait(), GATHER_SECONDS)
        self.gathers_workers = False
        self._owner.version_changed()

    async def _prepare(self, directory: str) -> Loader:
        """The loader of its own environment."""
        shared, self._phase, self.environment = self._dependencies, "environment", None
        self.environment = await shared.environments.prepare(
            self.version, directory, turn=partial(shared.gate.build_turn, self)
        )
        return self.environment.loader

    def _refuse(self, error: Exception, phase: str, aliases: tuple[Alias, ...]) -> None:
        if not self._superseded_try:
            self._load_failures = self._load_failures.failed(asyncio.get_running_loop().time())
            # By what a version asks for the next try would end as this one did.
            self._is_refused = isinstance(error, EnvironmentRefused)
        self.error = f"{phase}: {error}"
        self._lacked_bytes = error.size if isinstance(error, NoRoom) else 0
        self._distrusts_copy = phase == "load" and not isinstance(error, NoRoom | WorkerOutOfMemory)
        self._enter(State.ERROR)
        self._costs_outage = self._begins is not None and self._owner.took_a_turn(self.version)
        by_rule = isinstance(error, FetchRefused | EnvironmentRefused)
        self._dependencies.recorder.record(
            LoadRefused(self.version, aliases, phase, str(error), self.retry_seconds, by_rule)
        )
        if self.retry_seconds is not None:
            self._start(self._retry(self._load_failures.seconds))
        self._owner.version_changed()

    async def _retry(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._enter(State.NEW)
        self._owner.version_changed()

    async def _end_load(self, load: asyncio.Task[None]) -> None:
        # Until then it is not gone: its worker ends, and holds whatever it has taken.
        await asyncio.wait({load})
        self._gone()

    async def _drain(self) -> None:
        # After its timeout no caller waits for an answer, so nothing is lost by ending then.
        if not await self.pool.drain(self.settings.timeout_seconds):
            self.error = "drain deadline passed with requests still running"
        # From here nothing calls it back: whoever wants this version again loads it anew.
        pool, self._pool = self.pool, None
        self._enter(State.GONE)
        self._ending = asyncio.get_running_loop().create_task(pool.close(), name=f"end {self.version}")
        await asyncio.shield(self._ending)
        self._gone()

    def _spec(self, directory: str) -> LoadSpec:
        return load_spec(self.version, directory, self.settings, self._owner.production_scores(self.version))

    def _counts_as(self, wanted: LoadSpec) -> bool:
        """Whether what is counted is what a worker loaded from `wanted` would count."""
        if self.info is None:
            return False
        chosen = self.info.suggested_scores if wanted.production_scores is None else wanted.production_scores
        return self.info.scores == chosen

    def _first_spec(self, directory: str) -> LoadSpec:
        required = self.settings.warm_up and not self._owner.has_served(self.version)
        return replace(self._spec(directory), warm_up_required=required)

    async def _reload_workers(self, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait({former})  # it was cancelled, and what it loads still ends
        self._reload_failures = self._reload_failures.reset()
        while self.is_outdated:  # once more, when the settings changed while a worker was loading
            self._attempted = spec = self._spec(self.pool.supply.spec.directory)
            self._settings_changed.clear()
            self._reload_costs_outage = False
            try:
                self.info = await self.pool.replace_workers(spec)
                self.error = ""
            except Exception as error:  # noqa: BLE001 - the old workers serve on, and the next try may do
                self.error = f"settings: {error}"
                self._reload_failures = self._reload_failures.failed(asyncio.get_running_loop().time())
                self._reload_costs_outage = self.settings.in_turn
                with suppress(TimeoutError):
                    # In turn each try is an outage: there is none before the settings are others.
                    await asyncio.wait_for(self._settings_changed.wait(), self.retry_seconds)
                    self._reload_failures = self._reload_failures.reset()
        self.error, self._reload_costs_outage = "", False
        self._owner.version_changed()

    def _enter(self, state: State) -> None:
        if state not in TRANSITIONS[self._state]:
            report_breach(self.version, self._state, state)
        self._state = state

    def _gone(self) -> None:
        # Not while the same version serves again: what is kept of it would go with the old one.
        if self._count_out():
            self._dependencies.recorder.record(VersionGone(self.version))
        self._owner.version_changed()

    def _count_out(self) -> bool:
        """Count this harness out, once; whether it was the last one of its version."""
        live = self._dependencies.live
        if self.is_live:
            self.is_live = False
            live[self.version] -= 1
            if not live[self.version]:
                del live[self.version]
                return True
        return False

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(work, name=f"{self.state} {self.version}")
        return self._task

    def _cancel(self) -> None:
        self.gathers_workers = False
        for task in (self._task, self._reloading):
            if task is not None and task is not asyncio.current_task():
                task.cancel()


def report_breach(version: VersionId, old: State, new: State) -> None:
    """Log a change of state that no version may make."""
    _log.error("%s went from %s to %s, which a version never does; please report this", version, old, new)
