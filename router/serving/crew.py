"""Where a version's workers come from: loads, a back-off for those that die young, and a warm spare."""

import asyncio
from collections.abc import Callable

from router.core.events import Recorder, WorkerReplaced
from router.core.loads import Priority
from router.core.memory import MIB, has_room
from router.core.work import LoadSpec, VersionInfo
from router.errors import NoRoom
from router.serving.load_gate import LoadGate
from router.serving.ports import Loader, Servable

REPLACEMENT_BACKOFF_SECONDS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Wait before the n-th replacement in a row of workers that ended before their first answer."""
SPARE_FROM_SECONDS = 1.0
"""A version that loads faster is replaced soon enough without a spare in memory."""


class Crew:
    """Loads workers while some are missing, and then one to spare."""

    def __init__(
        self,
        spec: LoadSpec,
        loader: Loader,
        recorder: Recorder,
        *,
        missing: Callable[[], int],
        join: Callable[[Servable], None],
        may_spare: Callable[[], bool],
        load_deadline_seconds: Callable[[], float],
        gate: LoadGate,
        priority: Callable[[], Priority],
    ) -> None:
        """`join` gets each new worker while `missing()` is above 0; `may_spare` allows one beyond.

        Every load goes through `gate`; `priority` says what the next one is for.
        """
        self.spec = spec
        self.spare: Servable | None = None
        """A READY worker that serves nobody until one is missing."""
        self.last_error = ""
        """Why the last load failed; empty when the crew is whole."""
        self.no_spare = ""
        """Why there is no spare where there would be one."""
        self._loader = loader
        self._recorder = recorder
        self._missing = missing
        self._join = join
        self._may_spare = may_spare
        self._load_deadline_seconds = load_deadline_seconds
        self._gate = gate
        self._priority = priority
        self._loop = asyncio.get_running_loop()
        self._load_seconds = 0.0
        self._worker_bytes = 0
        self._barren_deaths = 0
        self._short_since: float | None = None
        self._filling: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[object]] = set()
        self._closed = False

    async def first(self) -> VersionInfo:
        """Load a worker and let it join. Raises LoadFailed, ChildLost or ChildTimeout."""
        worker = await self._load(self.spec)
        self._join(worker)
        return worker.info

    async def renew(self, spec: LoadSpec) -> Servable:
        """A worker loaded from `spec`, which holds from then on; not joined yet. Raises as `first` does."""
        worker = await self._load(spec)
        self.spec = spec
        self._let_spare_go()
        return worker

    async def another(self) -> Servable:
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
        self._gate.look()  # what waits there may be for more, or for less, than it was
        if not self._closed and (self._filling is None or self._filling.done()):
            self._filling = self._loop.create_task(self._fill(), name=f"fill {self.spec.version}")

    def lost(self, *, answered: bool) -> None:
        """A worker ended by itself; `answered` says whether it had answered anything before."""
        if not answered:
            self._barren_deaths += 1
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
        while (missing := self._missing() > 0) or self._wants_spare():
            if not missing:
                self._tell_whole()
            step = min(self._barren_deaths, len(REPLACEMENT_BACKOFF_SECONDS) - 1)
            await asyncio.sleep(REPLACEMENT_BACKOFF_SECONDS[step])
            spec = self.spec
            try:
                worker = await self._load(spec)
            except NoRoom as error:
                if not missing and self._missing() <= 0:
                    self.no_spare = str(error)
                    break
                self._barren_deaths += 1
                self.last_error = str(error)
                continue
            except Exception as error:  # noqa: BLE001 - were this task to end, nobody would bring a worker
                self._barren_deaths += 1
                self.last_error = str(error)
                if not missing:
                    break  # nobody misses a spare: the next change tries again
                continue
            self.last_error = ""
            if spec is not self.spec:  # renewed meanwhile: this one counts other scores
                await worker.close()
                continue
            if self._missing() > 0:
                self._join(worker)
            else:
                self._keep(worker)
        if not self._may_spare() or (self.spare is not None and not self._spare_fits()):
            self._let_spare_go()
        self._tell_whole()

    async def _load(self, spec: LoadSpec) -> Servable:
        async with self._gate.admitted(spec, self._priority) as loaded:
            worker = await self._loader.load(spec, deadline_seconds=self._load_deadline_seconds())
            loaded(worker.ready.own)
        self._load_seconds = sum(worker.info.phase_seconds.values())
        self._worker_bytes = worker.ready.own
        return worker

    def _wants_spare(self) -> bool:
        self.no_spare = ""
        slow = self._load_seconds > SPARE_FROM_SECONDS
        return self.spare is None and slow and self._may_spare() and self._spare_fits()

    def _spare_fits(self) -> bool:
        available = self._loader.room().available
        fits = has_room(available, self._worker_bytes, kept=self.spare is not None)
        if not fits:
            sizes = f"{available // MIB} MiB are available, a worker takes {self._worker_bytes // MIB}"
            self.no_spare = f"no memory for a spare worker: {sizes}"
        return fits

    def _keep(self, spare: Servable) -> None:
        self.spare = spare
        self._gate.keep_spare(self, spare.ready.own, self._free_spare)
        spare.exited.add_done_callback(lambda _: self._spare_ended(spare))

    def _spare_ended(self, spare: Servable) -> None:
        if self.spare is spare:
            self._take_spare(spare)
            self._barren_deaths += 1
            self.fill()

    def _let_spare_go(self, grace_seconds: float = 1.0) -> asyncio.Future[object] | None:
        if self.spare is None:
            return None
        spare = self._take_spare(self.spare)
        task = self._loop.create_task(_close(spare, grace_seconds), name="retire spare")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def _take_spare(self, spare: Servable) -> Servable:
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


async def _close(worker: Servable, grace_seconds: float) -> object:
    return await worker.close(grace_seconds)
