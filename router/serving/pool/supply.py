"""Where a version's workers come from: loads, a back-off for those that fail, and a warm spare."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from router.core.backoff import Backoff
from router.core.events import Recorder, WorkerLoadFailed, WorkerReplaced
from router.core.loads import Priority
from router.core.memory import MIB
from router.core.scores import OutputSpec
from router.errors import NoRoom, WarmUpLost
from router.protocol.messages import LoadSpec, VersionInfo
from router.serving.load_gate import LoadGate
from router.serving.ports import Loader, PoolSettings, WorkerHandle

REPLACEMENT_DELAYS = (0.25, 0.5, 1.0, 2.0)
"""Wait after the n-th worker in a row that ended before its first answer; after others there is none."""
RELOAD_DELAYS = (1.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Wait after the n-th failed load in a row. The first is short, unlike that of a version which has never
loaded: this one has, so its next load is likely to succeed."""
SPARE_FROM_SECONDS = 1.0
"""A version that loads faster is replaced soon enough without a spare in memory."""
LEAST_WARM_UP_SECONDS = 5.0
TIMES_WARM_UP = 3.0
"""A warm-up that takes so many times as long as the last one, and this least time, hangs."""


class SuppliedPool(Protocol):
    """The pool that workers are loaded for; all of it is read when it is needed, and may change meanwhile."""

    @property
    def shortfall(self) -> int:
        """How many workers are missing; below 0 when there are too many."""

    @property
    def allow_spare(self) -> bool:
        """Whether there may be one worker beyond."""

    @property
    def load_priority(self) -> Priority:
        """What the next load is for."""

    @property
    def load_deadline_seconds(self) -> float:
        """How long a load may take."""

    @property
    def settings(self) -> PoolSettings:
        """In force now."""

    def add(self, worker: WorkerHandle) -> None:
        """A READY worker joins."""

    def no_load_before(self, until: float) -> None:
        """No load will begin before that loop time."""

    def load_failed(self) -> None:
        """A worker that is missing did not load."""

    def scores_chosen(self, info: VersionInfo) -> None:
        """What is counted was open when the first worker was READY, and is what `info` says."""


def has_room(available: int, worker: int, *, kept: bool) -> bool:
    """Whether a spare may come, or be `kept`, where a worker takes so much. All sizes in bytes. Pure.

    Two workers must fit for it to come, for the next version has to be loaded beside this one; half of one is
    left at least while it is kept. The gap keeps it from coming and going.
    """
    return available >= (worker / 2 if kept else 2 * worker)


class WorkerSupply:
    """Loads workers while some are missing, and then one to spare.

    While workers are missing, a load is under way or `next_load_at` says when the next one begins, whatever
    the order in which workers end, loads fail and settings change: after each wait all is looked at anew.
    `load_first` comes first and once; all else in any order, also while a load is under way; `close` last.
    """

    def __init__(
        self, spec: LoadSpec, loader: Loader, recorder: Recorder, pool: SuppliedPool, gate: LoadGate
    ) -> None:
        """Every load goes through `gate`."""
        self.spec = spec
        self.spare: WorkerHandle | None = None
        """A READY worker that serves nobody until one is missing."""
        self.last_error = ""
        """Why the last load failed; empty when no worker is missing."""
        self.spare_skipped_because = ""
        """Why there is no spare where there would be one."""
        self.retry_seconds: float | None = None
        """Wait after the last failed load; None after a good one."""
        self.next_load_at: float | None = None
        """Loop time at which the next load begins; None while one is under way, or none is needed."""
        self._scores: tuple[OutputSpec, ...] | None = None
        """What the first worker of `spec` counts, and so do all that follow: another one's example may get no
        answer, or another one. None while nothing was chosen."""
        self._loader = loader
        self._recorder = recorder
        self._pool = pool
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._load_seconds = 0.0
        self._worker_bytes = 0
        self._warm_up_seconds: float | None = None
        """Limit of the next warm-up. 0.0 once one hung or ended its worker: it is left out from then on."""
        self._early_ends = Backoff(REPLACEMENT_DELAYS)
        self._last_event_at = float("-inf")
        """When a worker, a spare or a load ended last: from then on the wait after early ends counts."""
        self._load_failures = self._spare_failures = Backoff(RELOAD_DELAYS)
        self._spare_had_no_room = False
        self._lacked_bytes = 0
        """What the last load of a missing worker was expected to take, where it had no room; else 0."""
        self._short_since: float | None = None
        self._changed = asyncio.Event()
        """Set by whatever may have changed what is needed; ends a pause."""
        self._filling: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[object]] = set()
        self._closed = False

    def seconds_until_worker(self, now: float) -> float:
        """With no worker alive, how long until the next one, at loop time `now`: until its load begins, and
        as long as the last one took."""
        return max(0.0, (self.next_load_at or now) - now) + self._load_seconds

    async def load_first(self, *, warm_up_required: bool = False, proven: bool = False) -> VersionInfo:
        """Load a worker and let it join. Raises LoadFailed, ChildLost or ChildTimeout.

        `warm_up_required` holds for this load only: what has been READY needs no warm-up to be replaced.
        `proven`: the version served before, so its warm-up has the time of a predict, and not of a load.
        """
        self._warm_up_seconds = self._pool.settings.predict_timeout_seconds if proven else None
        worker = await self._load(replace(self.spec, warm_up_required=warm_up_required))
        self._settle_scores(worker)
        self._pool.add(worker)
        return worker.info

    async def load_anew(self, spec: LoadSpec) -> WorkerHandle:
        """A worker loaded from `spec`, which holds from then on; not joined yet. Raises as `load_first`."""
        worker = await self._load(spec)
        self.spec = spec
        self._settle_scores(worker)
        self.retry_now()
        self._let_spare_go()
        return worker

    async def acquire(self) -> WorkerHandle:
        """One more worker, not joined yet: the spare, or a new one. Raises as `load_first`."""
        if self.spare is not None:
            return self._take_spare(self.spare)
        while True:
            spec = self.spec
            worker = await self._load(self._settled(spec))
            if spec is self.spec:
                self._join_scores(worker)
                return worker
            await worker.close()  # the spec changed meanwhile: this one counts other scores

    def fill(self) -> None:
        """Bring as many workers as are missing, and a spare; idempotent."""
        # The spare first, and not in the task: that one may wait, for a load or for a back-off.
        while self.spare is not None and self._pool.shortfall > 0:
            self._pool.add(self._take_spare(self.spare))
        self._changed.set()
        self._gate.look()  # what waits there may be for more, or for less, than it was
        if not self._closed and (self._filling is None or self._filling.done()):
            self._filling = self._loop.create_task(self._fill(), name=f"fill {self.spec.version}")

    async def stop_loading(self) -> None:
        """End the load that is under way, if there is one; `fill` begins anew."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)

    def cancel_load(self) -> None:
        """As `stop_loading`, without waiting for it; what is needed then is loaded after that."""
        if self._filling is not None and not self._filling.done():
            self._filling.cancel()
            self._filling.add_done_callback(lambda _: self.fill())

    def retry_now(self) -> None:
        """What loads depend on is no longer what it was: those that failed say nothing about the next one."""
        self._forget_failures()
        self._changed.set()

    def lost(self, *, answered: bool) -> None:
        """A worker ended by itself; `answered` says whether it had answered anything before."""
        if not answered:
            self._early_ends = self._early_ends.failed(self._loop.time())
        self._last_event_at = self._loop.time()
        # It may have held what others waited for, and without it there may be no worker at all.
        self._load_failures = self._load_failures.reset()
        if self._short_since is None:
            self._short_since = self._loop.time()

    def answered(self) -> None:
        """A worker answered: the version works."""
        if self._early_ends.failures:
            self._early_ends = self._early_ends.reset()

    async def close(self, grace_seconds: float) -> None:
        """Bring no more, and end the spare."""
        self._closed = True
        await self.stop_loading()
        self._let_spare_go(grace_seconds)
        await asyncio.gather(*self._closing)

    def look_for_room(self) -> None:
        """Memory may have come free: look again for that of a worker, or of a spare, which had none."""
        if self._lacked_bytes and self._gate.has_room(self._lacked_bytes):
            self._lacked_bytes = 0
            self.retry_now()
        if self._spare_had_no_room:
            self.fill()

    def free_spare(self) -> asyncio.Future[object] | None:
        """Another version needs the spare's memory: end it. Done when it has ended; None without a spare."""
        self.spare_skipped_because = "its memory was needed for another version"
        return self._let_spare_go(0.0)

    async def _fill(self) -> None:
        while (due_at := self._due_at()) is not None:
            self._changed.clear()
            if due_at > self._loop.time():
                await self._pause(due_at)
            else:
                await self._load_one()
        if self.retry_seconds is not None:  # what did not load is no longer needed
            self.retry_now()
            self.last_error, self.retry_seconds = "", None
        if not self._pool.allow_spare or (self.spare is not None and not self._spare_fits()):
            self._let_spare_go()

    def _due_at(self) -> float | None:
        """When the load that is needed now may begin; None when none is needed."""
        after_early_ends = self._last_event_at + self._early_ends.seconds
        if self._pool.shortfall > 0:
            return max(after_early_ends, self._load_failures.not_before)
        self._report_complete()
        if self._wants_spare():
            return max(after_early_ends, self._spare_failures.not_before)
        return None

    async def _pause(self, until: float) -> None:
        self.next_load_at = until
        self._pool.no_load_before(until)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
        finally:
            self.next_load_at = None

    async def _load_one(self) -> None:
        spec, for_spare = self.spec, self._pool.shortfall <= 0
        try:
            worker = await self._load(self._settled(spec))
        except Exception as error:  # noqa: BLE001 - were this task to end, nobody would bring a worker
            if isinstance(error, NoRoom) and self._pool.shortfall <= 0:
                self._failed(for_spare=for_spare)
                self.spare_skipped_because = str(error)
                return
            # Of what was begun as a spare, the failure does not hold up a worker that is missing since.
            seconds = self._failed(for_spare=for_spare) if spec is self.spec else 0.0
            self.last_error, self.retry_seconds, self._last_event_at = str(error), seconds, self._loop.time()
            self._lacked_bytes = error.size if isinstance(error, NoRoom) else 0
            self._pool.load_failed()
            self._recorder.record(WorkerLoadFailed(spec.version, str(error), seconds))
            return
        self.last_error, self.retry_seconds, self._last_event_at = "", None, self._loop.time()
        self._forget_failures()
        if spec is not self.spec:  # it changed meanwhile: this worker counts other scores
            await worker.close()
            return
        self._join_scores(worker)
        if self._pool.shortfall > 0:
            self._pool.add(worker)
        else:
            self._keep(worker)

    def _settled(self, spec: LoadSpec) -> LoadSpec:
        """`spec`, with what is counted."""
        return spec if self._scores is None or spec.scores is not None else replace(spec, scores=self._scores)

    def _settle_scores(self, worker: WorkerHandle) -> None:
        """`worker` is the first one of `spec`."""
        reader = worker.score_reader
        self._scores = worker.info.scores if reader is None or reader.has_chosen else None
        if reader is not None:
            reader.on_chosen = partial(self._chosen_late, self.spec, worker)

    def _join_scores(self, worker: WorkerHandle) -> None:
        """`worker` is another one of `spec`."""
        if self._scores is None:
            self._settle_scores(worker)
            if self._scores is not None:
                self._pool.scores_chosen(worker.info)

    def _chosen_late(self, spec: LoadSpec, worker: WorkerHandle) -> None:
        if spec is self.spec:  # else this worker is on its way out
            self._scores = worker.info.scores
            self._pool.scores_chosen(worker.info)

    def _failed(self, *, for_spare: bool) -> float:
        """Count one more failed load; returns the seconds until the next one of its kind."""
        now = self._loop.time()
        if for_spare:
            self._spare_failures = self._spare_failures.failed(now)
            return self._spare_failures.seconds
        self._load_failures = self._load_failures.failed(now)
        return self._load_failures.seconds

    def _forget_failures(self) -> None:
        self._load_failures = self._load_failures.reset()
        self._spare_failures = self._spare_failures.reset()

    async def _load(self, spec: LoadSpec) -> WorkerHandle:
        """A READY worker, without a warm-up where that hangs or ends the worker and is not required.

        The example is predicted in the worker that is to serve, so it must not keep a version from serving
        that predicts everything else.
        """
        try:
            return await self._load_once(replace(spec, warm_up_seconds=self._warm_up_seconds))
        except WarmUpLost as error:
            if spec.warm_up_required:
                raise
            self._warm_up_seconds = 0.0
            self._recorder.record(WorkerLoadFailed(spec.version, str(error), 0.0))
            return await self._load_once(replace(spec, warm_up_seconds=0.0))

    async def _load_once(self, spec: LoadSpec) -> WorkerHandle:
        settings, deadline_seconds = self._pool.settings, self._pool.load_deadline_seconds
        if settings.elsewhere:  # it takes nothing of this machine, and may take long: no load waits for it
            worker = await self._loader.load(spec, deadline_seconds=deadline_seconds)
        else:
            expected_mib = settings.load_memory_mib
            async with self._gate.admitted(spec, self._pool, expected_mib, self._loader) as loaded:
                worker = await self._loader.load(spec, deadline_seconds=deadline_seconds)
                loaded(worker.ready.own)
        self._load_seconds = sum(worker.info.phase_seconds.values())
        if self._warm_up_seconds != 0.0:
            took = worker.info.phase_seconds.get("warmup")
            self._warm_up_seconds = (
                self._pool.settings.predict_timeout_seconds
                if took is None
                else max(LEAST_WARM_UP_SECONDS, TIMES_WARM_UP * took)
            )
        self._worker_bytes = worker.ready.own
        return worker

    def _wants_spare(self) -> bool:
        wanted = self.spare is None and self._load_seconds > SPARE_FROM_SECONDS and self._pool.allow_spare
        if not (wanted and self._spare_failures.failures):
            self.spare_skipped_because = ""
        return wanted and self._spare_fits()

    def _spare_fits(self) -> bool:
        # What is kept for a rollback goes for a spare, as for any other load.
        available = self._loader.room().available + self._gate.kept_bytes
        fits = has_room(available, self._worker_bytes, kept=self.spare is not None)
        self._spare_had_no_room = not fits
        if not fits:
            sizes = f"{available // MIB} MiB are available, a worker takes {self._worker_bytes // MIB}"
            self.spare_skipped_because = f"no memory for a spare worker: {sizes}"
        return fits

    def _keep(self, spare: WorkerHandle) -> None:
        self.spare = spare
        self._gate.keep_spare(self, spare.ready.own)
        spare.exited.add_done_callback(lambda _: self._spare_ended(spare))

    def _spare_ended(self, spare: WorkerHandle) -> None:
        if self.spare is spare:
            self._take_spare(spare)
            self._early_ends = self._early_ends.failed(self._loop.time())
            self._last_event_at = self._loop.time()
            self.fill()

    def _let_spare_go(self, grace_seconds: float = 1.0) -> asyncio.Future[object] | None:
        if self.spare is None:
            return None
        spare = self._take_spare(self.spare)
        task = self._loop.create_task(spare.close(grace_seconds), name="retire spare")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def _take_spare(self, spare: WorkerHandle) -> WorkerHandle:
        self.spare = None
        self._gate.drop_spare(self)
        return spare

    def _report_complete(self) -> None:
        if self._short_since is not None and self._pool.shortfall <= 0:
            seconds = self._loop.time() - self._short_since
            self._short_since = None
            self._recorder.record(WorkerReplaced(self.spec.version, seconds))
