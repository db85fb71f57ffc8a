"""One version's life in this gateway: NEW → LOADING → READY → DRAINING → GONE, or ERROR and another try."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from router.core.events import (
    EnvironmentDiffers,
    LoadRefused,
    Recorder,
    VersionDraining,
    VersionGone,
    VersionLoaded,
)
from router.core.ids import Alias, VersionId
from router.core.loads import Priority
from router.core.policy import State
from router.errors import FetchRefused, LoadFailed, NoRoom, NotReady, WorkerOutOfMemory
from router.protocol.messages import LoadSpec, Query, VersionInfo
from router.serving.load_gate import LoadGate
from router.serving.pool.pool import Pool
from router.serving.pool.request_queue import PendingRequest
from router.serving.ports import Fetcher, Loader
from router.settings import ModelSettings

_MOST_THREADS = 32
RETRY_SECONDS = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Wait after the n-th failed load in a row; the last one repeats."""


def load_spec(version: VersionId, directory: str, settings: ModelSettings) -> LoadSpec:
    """What a worker needs to load `version`, whose files are in `directory`, as its model's settings say."""
    tracking = settings.tracking
    return LoadSpec(
        version,
        directory,
        settings.scores.outputs,
        batches=settings.batching,
        rtol=settings.batching_rtol,
        threads=settings.threads or min(_MOST_THREADS, len(os.sched_getaffinity(0)) + 4),
        nan_is_null=settings.nan,
        tracking=tracking.destination() if tracking else None,
        model_config=settings.configuration,
    )


@dataclass(frozen=True, slots=True)
class VersionDependencies:
    """What every harness of a gateway builds with."""

    fetcher: Fetcher
    loader: Loader
    recorder: Recorder
    load_deadline_seconds: Callable[[], float]
    side_by_side: Callable[[], int | None] = lambda: None
    """How many loads may run at once; None: as many as there are processors."""
    gate: LoadGate = field(init=False)
    """Through which all loads go."""

    def __post_init__(self) -> None:
        gate = LoadGate(lambda: self.loader.room(), lambda: self.side_by_side())
        object.__setattr__(self, "gate", gate)


class Harness:
    """Loads, holds and unloads one version; `on_change` is called after each change of `state`."""

    def __init__(
        self,
        version: VersionId,
        workshop: VersionDependencies,
        settings: Callable[[], ModelSettings],
        on_change: Callable[[], None],
        on_crash: Callable[[VersionId], None],
        is_production: Callable[[], bool],
        has_served: Callable[[], bool],
        priority: Callable[[], Priority],
    ) -> None:
        """`on_crash` is called when a worker of the version ended by itself.

        A version that `has_served()` an alias before needs no warm-up, whatever the settings say.
        `priority` is that of a load while the version has no worker.
        """
        self.version = version
        self.state = State.NEW
        self.info: VersionInfo | None = None
        self.failures = 0
        """Loads that failed in a row."""
        self.error = ""
        self.retry_seconds = 0.0
        self.any_length = False
        """True once it answered another number of rows than it was asked for, and meant it or not."""
        self.without_rows = False
        """True once an answer of it had no rows to count, such as a mapping."""
        self._workshop = workshop
        self._settings = settings
        self._on_change = on_change
        self._on_crash = on_crash
        self._is_production = is_production
        self._has_served = has_served
        self._priority = priority
        self._distrusts_copy = False
        """True after its files did not load: the copy may be torn, or torn where it came from and mended."""
        self._pool: Pool | None = None
        self._task: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._attempted: LoadSpec | None = None
        """What the last load of this version, or of its workers under other settings, was asked for."""
        self._settings_changed = asyncio.Event()
        """Ends the pause after workers could not be loaded with the settings of then."""

    @property
    def pool(self) -> Pool:
        """The version's workers. Raises NotReady unless READY or DRAINING."""
        if self._pool is None:
            raise NotReady(f"{self.version} is {self.state}", reason="not_ready")
        return self._pool

    @property
    def loaded(self) -> bool:
        """True while the version has workers."""
        return self._pool is not None

    def submit(self, query: Query, alias: Alias, expires_at: float, *, waits: bool = True) -> PendingRequest:
        """Lease the version for one request, as `Pool.submit` does. Raises Overloaded, NotReady."""
        return self.pool.submit(query, alias, expires_at, waits=waits)

    def load(self, aliases: tuple[Alias, ...]) -> None:
        """Start loading; or, when DRAINING, serve on."""
        if self.state is State.DRAINING:
            self._cancel()
            self.state = State.READY
            self.man()  # the settings may have changed meanwhile
            self._align()
        elif self.state is State.NEW:
            self.state = State.LOADING
            on_its_way = ExitStack()
            on_its_way.enter_context(self._workshop.gate.fetching(self._priority))
            self._start(self._load(aliases)).add_done_callback(lambda _: on_its_way.close())

    def unload(self) -> None:
        """Stop loading, or drain; GONE follows."""
        self._cancel()
        if self.state is State.READY:
            self.state = State.DRAINING
            self._workshop.recorder.record(VersionDraining(self.version, self.pool.leases))
            self._start(self._drain())
        else:
            self._gone()

    def retry_now(self) -> None:
        """After a failed load, wait no longer."""
        if self.state is State.ERROR:
            self._cancel()
            self.state = State.NEW

    def obey(self) -> None:
        """Follow changed settings: number of workers, scores. What failed to load under others is tried now.

        Afterwards the policy is to be asked, for a version that was to wait may be NEW again.
        """
        wanted = self._first_spec if self.state is State.ERROR else self._spec
        if self._attempted is not None and self._attempted != wanted(self._attempted.directory):
            self.failures = 0
            self.retry_now()
            self._settings_changed.set()
        if self._pool is not None:
            self._pool.crew.retry_now()
        self.man()
        self._align()

    def man(self) -> None:
        """See that the workers are as many as they should be, with a spare where there should be one."""
        if self._pool is not None and self.state is State.READY:
            self._pool.fill()

    async def close(self, grace_seconds: float) -> None:
        """End everything now, without draining."""
        self._cancel()
        tasks = [task for task in (self._task, self._renewal) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close(grace_seconds)
        self.state = State.GONE

    async def _load(self, aliases: tuple[Alias, ...]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        phase = "fetch"
        deadline = self._workshop.load_deadline_seconds
        try:
            directory = await self._workshop.fetcher.fetch(
                self.version, deadline_seconds=deadline(), fresh=self._distrusts_copy
            )
            fetch_seconds, phase = loop.time() - started, "load"
            self._attempted = self._first_spec(directory)
            pool = Pool(
                self._spec(directory),
                self._workshop.loader,
                self._settings,
                self._workshop.recorder,
                load_deadline_seconds=deadline,
                on_crash=lambda: self._on_crash(self.version),
                is_production=self._is_production,
                gate=self._workshop.gate,
                priority=self._priority,
            )
            self.info = await pool.start(warm_up_required=self._attempted.warm_up_required)
        except Exception as error:  # noqa: BLE001 - a version that stays LOADING for ever tells nobody why
            self._refuse(error, error.phase if isinstance(error, LoadFailed) else phase, aliases)
            return
        self._pool, self.state, self.failures, self.error = pool, State.READY, 0, ""
        phases = {"fetch": fetch_seconds, **self.info.phase_seconds}
        self._workshop.recorder.record(VersionLoaded(self.version, aliases, phases, self.info.note))
        if self.info.mismatches:
            self._workshop.recorder.record(EnvironmentDiffers(self.version, self.info.mismatches))
        self._align()
        self._on_change()

    def _refuse(self, error: Exception, phase: str, aliases: tuple[Alias, ...]) -> None:
        self.retry_seconds = RETRY_SECONDS[min(self.failures, len(RETRY_SECONDS) - 1)]
        self.failures += 1
        self.error = f"{phase}: {error}"
        self._distrusts_copy = phase == "load" and not isinstance(error, NoRoom | WorkerOutOfMemory)
        self.state = State.ERROR
        self._workshop.recorder.record(
            LoadRefused(
                self.version, aliases, phase, str(error), self.retry_seconds, isinstance(error, FetchRefused)
            )
        )
        self._start(self._retry())
        self._on_change()

    async def _retry(self) -> None:
        await asyncio.sleep(self.retry_seconds)
        self.state = State.NEW
        self._on_change()

    async def _drain(self) -> None:
        # After its timeout no caller waits for an answer, so nothing is lost by ending then.
        try:
            await asyncio.wait_for(self.pool.drained(), self._settings().timeout_seconds)
        except TimeoutError:
            self.error = "drain deadline passed with requests still running"
        # From here nothing calls it back: whoever wants this version again loads it anew.
        pool, self._pool, self.state = self.pool, None, State.GONE
        await pool.close()
        self._gone()

    def _align(self) -> None:
        """Have workers that were loaded with the settings of now; idempotent."""
        renewal = self._renewal
        if self._misaligned() and (renewal is None or renewal.done() or renewal.cancelling()):
            self._renewal = asyncio.get_running_loop().create_task(
                self._renew(), name=f"renew {self.version}"
            )

    def _misaligned(self) -> bool:
        ready = self._pool is not None and self.state is State.READY
        return ready and self.pool.crew.spec != self._spec(self.pool.crew.spec.directory)

    def _spec(self, directory: str) -> LoadSpec:
        return load_spec(self.version, directory, self._settings())

    def _first_spec(self, directory: str) -> LoadSpec:
        required = self._settings().warm_up and not self._has_served()
        return replace(self._spec(directory), warm_up_required=required)

    async def _renew(self) -> None:
        failures = 0
        while self._misaligned():  # once more, when the settings changed while a worker was loading
            self._attempted = spec = self._spec(self.pool.crew.spec.directory)
            self._settings_changed.clear()
            try:
                self.info = await self.pool.renew(spec)
                self.error = ""
            except Exception as error:  # noqa: BLE001 - the old workers serve on, and the next try may do
                self.error = f"settings: {error}"
                self.retry_seconds = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                failures += 1
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._settings_changed.wait(), self.retry_seconds)
                    failures = 0
        self.error = ""
        self._on_change()

    def _gone(self) -> None:
        self.state = State.GONE
        self._workshop.recorder.record(VersionGone(self.version))
        self._on_change()

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(work, name=f"{self.state} {self.version}")
        return self._task

    def _cancel(self) -> None:
        for task in (self._task, self._renewal):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
