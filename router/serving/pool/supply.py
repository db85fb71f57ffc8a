"""Where a version's workers come from: loads, a back-off for those that die young, and a warm spare."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace

from router.core.events import Recorder, WorkerLoadFailed, WorkerReplaced
from router.core.loads import Priority
from router.core.memory import MIB, has_room
from router.errors import NoRoom
from router.protocol.messages import LoadSpec, VersionInfo
from router.serving.load_gate import LoadGate
from router.serving.ports import Loader, WorkerHandle

REPLACEMENT_BACKOFF_SECONDS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Wait before the n-th replacement in a row of workers that ended before their first answer."""
RELOAD_SECONDS = (1.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Wait after the n-th failed load in a row; the last one repeats. The first is short, unlike that of a
version which has never loaded: this one has, so its next load is likely to succeed."""
SPARE_FROM_SECONDS = 1.0
"""A version that loads faster is replaced soon enough without a spare in memory."""


class _Failures:
    """Loads of one kind that failed in a row."""

    def __init__(self) -> None:
        self.count = 0
        self.not_before = float("-inf")
        """Loop time before which the next load does not begin."""

    def add(self, now: float) -> float:
        """Count one more; returns the seconds until the next load."""
        seconds = RELOAD_SECONDS[min(self.count, len(RELOAD_SECONDS) - 1)]
        self.count += 1
        self.not_before = now + seconds
        return seconds

    def reset(self) -> None:
        """The next load may begin at once."""
        self.count = 0
        self.not_before = float("-inf")


class WorkerSupply:
    """Loads workers while some are missing, and then one to spare.

    While workers are missing, a load is under way or `next_load_at` says when the next one begins, whatever
    the order in which workers end, loads fail and settings change: after each wait all is looked at anew.
    """

    def __init__(
        self,
        spec: LoadSpec,
        loader: Loader,
        recorder: Recorder,
        *,
        missing: Callable[[], int],
        join: Callable[[WorkerHandle], None],
        may_spare: Callable[[], bool],
        load_deadline_seconds: Callable[[], float],
        gate: LoadGate,
        priority: Callable[[], Priority],
        on_pause: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`join` gets each new worker while `missing()` is above 0; `may_spare` allows one beyond.

        Every load goes through `gate`; `priority` says what the next one is for. `on_pause(until)` is called
        when no load will begin before that loop time.
        """
        self.spec = spec
        self.spare: WorkerHandle | None = None
        """A READY worker that serves nobody until one is missing."""
        self.last_error = ""
        """Why the last load failed; empty when the crew is whole."""
        self.no_spare = ""
        """Why there is no spare where there would be one."""
        self.retry_seconds: float | None = None
        """Wait after the last failed load; None after a good one."""
        self.next_load_at: float | None = None
        """Loop time at which the next load begins; None while one is under way, or none is needed."""
        self._loader = loader
        self._recorder = recorder
        self._missing = missing
        self._join = join
        self._may_spare = may_spare
        self._load_deadline_seconds = load_deadline_seconds
        self._on_pause = on_pause
        self._gate = gate
        self._priority = priority
        self._loop = asyncio.get_running_loop()
        self._load_seconds = 0.0
        self._worker_bytes = 0
        self._barren_deaths = 0
        self._last_event_at = float("-inf")
        """When a worker, a spare or a load ended last: from then on the wait after barren deaths counts."""
        self._failures, self._spare_failures = _Failures(), _Failures()
        self._short_since: float | None = None
        self._changed = asyncio.Event()
        """Set by whatever may have changed what is needed; ends a pause."""
        self._filling: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[object]] = set()
        self._closed = False

    async def first(self, *, warm_up_required: bool = False) -> VersionInfo:
        """Load a worker and let it join. Raises LoadFailed, ChildLost or ChildTimeout.

        `warm_up_required` holds for this load only: what has been READY needs no warm-up to be replaced.
        """
        worker = await self._load(replace(self.spec, warm_up_required=warm_up_required))
        self._join(worker)
        return worker.info

    async def renew(self, spec: LoadSpec) -> WorkerHandle:
        """A worker loaded from `spec`, which holds from then on; not joined yet. Raises as `first` does."""
        worker = await self._load(spec)
        self.spec = spec
        self.retry_now()
        self._let_spare_go()
        return worker

    async def another(self) -> WorkerHandle:
        """One more worker, not joined yet: the spare, or a new one. Raises as `first` does."""
        if self.spare is not None:
            return self._take_spare(self.spare)
        while True:
            spec = self.spec
            worker = await self._load(spec)
            if spec is self.spec:
                return worker
            await worker.close()  # renewed meanwhile: it counts other scores

    def fill(self) -> None:
        """Bring as many workers as are missing, and a spare; idempotent."""
        # The spare first, and not in the task: that one may wait, for a load or for a back-off.
        while self.spare is not None and self._missing() > 0:
            self._join(self._take_spare(self.spare))
        self._changed.set()
        self._gate.look()  # what waits there may be for more, or for less, than it was
        if not self._closed and (self._filling is None or self._filling.done()):
            self._filling = self._loop.create_task(self._fill(), name=f"fill {self.spec.version}")

    def retry_now(self) -> None:
        """What loads depend on is no longer what it was: those that failed say nothing about the next one."""
        self._failures.reset()
        self._spare_failures.reset()
        self._changed.set()

    def lost(self, *, answered: bool) -> None:
        """A worker ended by itself; `answered` says whether it had answered anything before."""
        if not answered:
            self._barren_deaths += 1
        self._last_event_at = self._loop.time()
        # It may have held what others waited for, and without it there may be no worker at all.
        self._failures.reset()
        if self._short_since is None:
            self._short_since = self._loop.time()

    def answered(self) -> None:
        """A worker answered: the version works."""
        self._barren_deaths = 0

    async def close(self, grace_seconds: float) -> None:
        """Bring no more, and end the spare."""
        self._closed = True
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        self._let_spare_go(grace_seconds)
        await asyncio.gather(*self._closing)

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
        if not self._may_spare() or (self.spare is not None and not self._spare_fits()):
            self._let_spare_go()

    def _due_at(self) -> float | None:
        """When the load that is needed now may begin; None when none is needed."""
        step = min(self._barren_deaths, len(REPLACEMENT_BACKOFF_SECONDS) - 1)
        after_deaths = self._last_event_at + REPLACEMENT_BACKOFF_SECONDS[step]
        if self._missing() > 0:
            return max(after_deaths, self._failures.not_before)
        self._tell_whole()
        if self._wants_spare():
            return max(after_deaths, self._spare_failures.not_before)
        return None

    async def _pause(self, until: float) -> None:
        self.next_load_at = until
        self._on_pause(until)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
        finally:
            self.next_load_at = None

    async def _load_one(self) -> None:
        spec, failures = self.spec, self._failures if self._missing() > 0 else self._spare_failures
        try:
            worker = await self._load(spec)
        except Exception as error:  # noqa: BLE001 - were this task to end, nobody would bring a worker
            if isinstance(error, NoRoom) and self._missing() <= 0:
                failures.add(self._loop.time())
                self.no_spare = str(error)
                return
            # Of what was begun as a spare, the failure does not hold up a worker that is missing since.
            seconds = failures.add(self._loop.time()) if spec is self.spec else 0.0
            self.last_error, self.retry_seconds, self._last_event_at = str(error), seconds, self._loop.time()
            self._recorder.record(WorkerLoadFailed(spec.version, str(error), seconds))
            return
        self.last_error, self.retry_seconds, self._last_event_at = "", None, self._loop.time()
        self._failures.reset()
        self._spare_failures.reset()
        if spec is not self.spec:  # renewed meanwhile: this one counts other scores
            await worker.close()
        elif self._missing() > 0:
            self._join(worker)
        else:
            self._keep(worker)

    async def _load(self, spec: LoadSpec) -> WorkerHandle:
        async with self._gate.admitted(spec, self._priority) as loaded:
            worker = await self._loader.load(spec, deadline_seconds=self._load_deadline_seconds())
            loaded(worker.ready.own)
        self._load_seconds = sum(worker.info.phase_seconds.values())
        self._worker_bytes = worker.ready.own
        return worker

    def _wants_spare(self) -> bool:
        wanted = self.spare is None and self._load_seconds > SPARE_FROM_SECONDS and self._may_spare()
        if not (wanted and self._spare_failures.count):
            self.no_spare = ""
        return wanted and self._spare_fits()

    def _spare_fits(self) -> bool:
        available = self._loader.room().available
        fits = has_room(available, self._worker_bytes, kept=self.spare is not None)
        if not fits:
            sizes = f"{available // MIB} MiB are available, a worker takes {self._worker_bytes // MIB}"
            self.no_spare = f"no memory for a spare worker: {sizes}"
        return fits

    def _keep(self, spare: WorkerHandle) -> None:
        self.spare = spare
        self._gate.keep_spare(self, spare.ready.own, self._free_spare)
        spare.exited.add_done_callback(lambda _: self._spare_ended(spare))

    def _spare_ended(self, spare: WorkerHandle) -> None:
        if self.spare is spare:
            self._take_spare(spare)
            self._barren_deaths += 1
            self._last_event_at = self._loop.time()
            self.fill()

    def _let_spare_go(self, grace_seconds: float = 1.0) -> asyncio.Future[object] | None:
        if self.spare is None:
            return None
        spare = self._take_spare(self.spare)
        task = self._loop.create_task(_close(spare, grace_seconds), name="retire spare")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def _take_spare(self, spare: WorkerHandle) -> WorkerHandle:
        self.spare = None
        self._gate.drop_spare(self)
        return spare

    def _free_spare(self) -> asyncio.Future[object] | None:
        self.no_spare = "its memory was needed for another version"
        return self._let_spare_go(0.0)

    def _tell_whole(self) -> None:
        if self._short_since is not None and self._missing() <= 0:
            seconds = self._loop.time() - self._short_since
            self._short_since = None
            self._recorder.record(WorkerReplaced(self.spec.version, seconds))


async def _close(worker: WorkerHandle, grace_seconds: float) -> object:
    return await worker.close(grace_seconds)
