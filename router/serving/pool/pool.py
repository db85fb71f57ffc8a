"""The workers of one version, and the requests that wait for them."""

import asyncio
from collections.abc import Sequence
from math import inf
from time import perf_counter
from typing import Protocol

from router.core.events import DrainCutShort, Recorder, WorkerEnded
from router.core.ids import Alias
from router.core.loads import Priority
from router.core.processor_time import ProcessorTime, WorkersTime
from router.errors import (
    ChildLost,
    ChildTimeout,
    LoadFailed,
    NotReady,
    Overloaded,
    RequestRefused,
    VersionUnloaded,
)
from router.processes.process import Exit
from router.protocol.messages import Batching, LoadSpec, Query, VersionInfo
from router.protocol.shadow_frames import ShadowQuery
from router.serving.load_gate import LoadGate
from router.serving.pool.admission import Admission
from router.serving.pool.request_queue import BatchWindow, PendingRequest, RequestQueue
from router.serving.pool.supply import WorkerSupply
from router.serving.pool.upkeep import IdleRepeats, MemoryRecycler, SurgeScaler
from router.serving.pool.worker_slot import CRASHES, BatchResult, LoneRequest, LoneShadow, WorkerSlot
from router.serving.ports import Loader, PoolSettings, ScoreReader, WorkerHandle

GATHER_SECONDS = 30.0
"""How long a version's other workers are waited for, each of them, before they take over from what answers:
most load faster, and where they do not, a move must not hang."""


class PoolOwner(Protocol):
    """The version that a pool holds in memory; all of it is read at each use, for it may change meanwhile."""

    @property
    def settings(self) -> PoolSettings:
        """In force now."""

    @property
    def is_production(self) -> bool:
        """While True there may be a spare, and extra workers beside one that is stuck."""

    @property
    def is_kept(self) -> bool:
        """While True no alias asks for it: nothing is loaded for it, and no worker is replaced."""

    @property
    def load_priority(self) -> Priority:
        """Of a load while no worker is alive."""

    @property
    def load_deadline_seconds(self) -> float:
        """How long a load may take."""

    def worker_crashed(self) -> None:
        """A worker ended by itself, and not because its predict ran too long."""

    def kept_worker_ended(self) -> None:
        """A worker ended by itself while the version was kept."""

    def scores_chosen(self, info: VersionInfo) -> None:
        """What is counted was open until now, and is what `info` says."""


class Pool:
    """Holds a version in `settings.workers` processes and keeps that many alive.

    `start` comes first and once; when it raises, the pool is of no use. Then, in any order: `submit`, `fill`
    and `settings_changed`, which are to be called when the owner's answers changed (what is not announced is
    noticed when the next worker ends), and `replace_workers`, one at a time. `drain` only waits:
    requests may still come. `close` may be called at any time, and ends all: `submit` raises
    NotReady from then on.

    Each request that `submit` took is answered or fails by its `expires_at`. Its lease ends with the work.
    """

    def __init__(
        self,
        spec: LoadSpec,
        loader: Loader,
        recorder: Recorder,
        owner: PoolOwner,
        gate: LoadGate,
    ) -> None:
        """Every load goes through `gate`."""
        self.queue = RequestQueue(self)
        self.slots: list[WorkerSlot] = []
        """Workers that serve."""
        self.admission = Admission()
        self.supply = WorkerSupply(spec, loader, recorder, self, gate)
        self._owner = owner
        self._recorder = recorder
        self._loop = asyncio.get_running_loop()
        self._leaving: set[WorkerSlot] = set()
        """Workers that were let go, and still answer what they have."""
        self._processor_time = WorkersTime()
        self._recycler = MemoryRecycler(self, recorder)
        self._surge = SurgeScaler(self)
        self._repeats = IdleRepeats(self)
        self.gathered = asyncio.Event()
        """Set as soon as no worker is missing, or one of them did not load."""
        self._differs: Batching | None = None
        """Why no worker is to share predicts, once one has seen an answer that sharing changed."""
        self._window = BatchWindow(self.queue, self)
        self._leases = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._held = False
        """While True nothing is loaded but what `replace_workers` loads."""
        self._closed = False

    @property
    def leases(self) -> int:
        """Requests that wait, and requests that run, these also when their caller gave up."""
        return self._leases

    @property
    def queued(self) -> int:
        """Requests that wait for a free worker."""
        return len(self.queue)

    @property
    def keeps_waiting(self) -> bool:
        """Whether requests wait because no worker has room; not those that just arrived."""
        return bool(self.queue) and not any(slot.has_room(isolated=False) for slot in self.slots)

    @property
    def workers(self) -> list[WorkerHandle]:
        """Workers alive now, without the spare."""
        return [slot.worker for slot in self.slots]

    @property
    def score_reader(self) -> ScoreReader | None:
        """Who gets answers whose scores are read later; None where there is no such."""
        return next((slot.worker.score_reader for slot in self.slots), None)

    @property
    def processor_time(self) -> ProcessorTime:
        """Which all workers took that ever joined, those that ended among them. It never goes back."""
        slots = (*self.slots, *self._leaving)
        return self._processor_time.with_alive(slot.worker.processor_time for slot in slots)

    @property
    def can_answer(self) -> bool:
        """True while a worker is alive."""
        return bool(self.slots)

    async def start(self, *, warm_up_required: bool = False, proven: bool = False) -> VersionInfo:
        """Load the first worker, then the others beside it; as `WorkerSupply.load_first`."""
        info = await self.supply.load_first(warm_up_required=warm_up_required, proven=proven)
        self.fill()
        return info

    def submit(
        self, query: Query, alias: Alias, expires_at: float, *, may_wait_for_worker: bool = True
    ) -> PendingRequest:
        """Queue one request until `expires_at` (loop time), and lease the version for it.

        Raises Overloaded; and NotReady when the pool is closed, or no worker is alive and none will be by
        then. `may_wait_for_worker` False: another version can answer, so that NotReady is raised at once, and
        later when the last worker ends.
        """
        if self._closed or not (self.slots or (may_wait_for_worker and self._has_worker_before(expires_at))):
            raise self._no_worker()
        now = self._loop.time()
        waiting, left = len(self.queue), expires_at - now
        workers = self._parallel if waiting else 0  # of no use to the first one
        if not self.admission.admits(
            now, waiting=waiting, rows=self.queue.rows, workers=workers, seconds_left=left
        ):
            raise Overloaded(
                "requests come faster than this version answers", retry_after=self._wait_seconds()
            )
        rows = self.admission.rows_in(len(query.body))
        request = PendingRequest(
            query, alias, self._loop, expires_at, rows=rows, may_wait_for_worker=may_wait_for_worker
        )
        try:
            most_rows = self._owner.settings.queue_rows
            if self._window.is_open and self.queue.is_full(most_rows):
                self.dispatch()  # what arrived in this turn of the loop does not wait for a worker yet
            self.queue.put(request, most_rows)
        except Overloaded as refused:
            request.cancel()
            refused.retry_after = self._wait_seconds()
            raise
        self._leases += 1
        self._idle.clear()
        self._window.schedule(more_expected=self.admission.last_requests > 1)
        return request

    def ask_idle(self, query: Query) -> LoneRequest | None:
        """Ask a worker that has nothing to do, for nobody: neither lease nor count comes of it.

        A request that comes meanwhile waits for this predict at most, and for none where another worker is
        free. None while requests wait, or no worker is idle. Where requests end apart there is one worker,
        and this predict is one of those that run side by side there.
        """
        idle = self._idle_slot()
        return idle.ask(query) if idle is not None else None

    def shadow_idle(self, asked: ShadowQuery) -> LoneShadow | None:
        """As `ask_idle`, for a shadow. That its worker ended by it is no crash that counts.

        None also while a worker works on a shadow, perhaps one for which nobody waits any more: those that
        hang would take one worker after the other.
        """
        if any(slot.shadows for slot in (*self.slots, *self._leaving)):
            return None
        idle = self._idle_slot()
        return idle.shadow(asked) if idle is not None else None

    def growth(self) -> int:
        """Bytes that a worker has grown by since it was READY; of several, the one that grew most."""
        return max((slot.growth() for slot in self.slots), default=0)

    async def drain(self, seconds: float) -> bool:
        """Wait until no request is queued or running, `seconds` at most; False when that was not enough.

        What is left then is reported, for it ends with `close`.
        """
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            running = sum(slot.unanswered > 0 for slot in (*self.slots, *self._leaving))
            self._recorder.record(DrainCutShort(self.supply.spec.version, self._leases, running, seconds))
            return False
        return True

    async def close(self, grace_seconds: float = 1.0) -> None:
        """End every worker; requests still here fail with VersionUnloaded."""
        self._closed = True
        self._surge.close()
        self._repeats.close()
        self._window.cancel()
        await self._recycler.close()
        await self.supply.close(grace_seconds)
        slots, self.slots = [*self.slots, *self._leaving], []
        unloaded = VersionUnloaded("the version was unloaded while this request was in it")
        for request in [*self.queue.clear(), *(one for slot in slots for one in slot.detach(unloaded))]:
            request.fail(VersionUnloaded(str(unloaded)))
            self.release()
        await asyncio.gather(*(slot.worker.close(grace_seconds) for slot in slots))

    def fill(self) -> None:
        """Bring the number of workers to what it should be; idempotent."""
        self._reduce_to(self._surge.wanted)
        self._look_gathered()
        for slot in self.slots:
            slot.worker.rank(last=self._owner.is_production)
        self.supply.fill()
        self._recycler.watch()

    def stop_loading(self) -> None:
        """End what is being loaded: the version is kept from now on, and needs nothing more."""
        self._recycler.stop_replacing()
        self.supply.cancel_load()

    def keep_one_worker(self) -> list[asyncio.Future[Exit]]:
        """Let all workers go but one, of a version that is kept. The exits of those that go."""
        return [slot.worker.exited for slot in self._reduce_to(1)]

    def settings_changed(self) -> None:
        """Follow changed settings in what runs already, and try failed loads again; `fill` does the rest."""
        self.supply.retry_now()
        for slot in (*self.slots, *self._leaving):
            slot.rearm()

    async def replace_workers(self, spec: LoadSpec) -> VersionInfo:
        """Replace every worker by one loaded from `spec`: as many new ones first, then the old ones go.

        A further one that does not load is not waited for. In turn the old ones go first; if the new one does
        not load, they are loaded again. Raises as `start`.
        """
        rtol = self.supply.spec.rtol
        in_turn = self.settings.in_turn
        self._held = in_turn
        try:
            if in_turn:
                await self.supply.stop_loading()
                await self.end_workers(self.slots)
            fresh = await self.supply.load_anew(spec)
            further = [] if in_turn else await self._load_further(fresh)
            if spec.rtol != rtol:
                self._differs = None  # by another measure
            old = [*self.slots]
            for worker in further:
                self.add(worker)
            self.replace(old, fresh)
            return fresh.info
        finally:
            self._held = False
            self.fill()

    async def _load_further(self, fresh: WorkerHandle) -> list[WorkerHandle]:
        """As many more like `fresh`, which has not joined yet, as serve now; fewer if one does not load."""
        further: list[WorkerHandle] = []
        try:
            while len(further) + 1 < min(len(self.slots), self._surge.wanted) and not self._closed:
                async with asyncio.timeout(GATHER_SECONDS):
                    further.append(await self.supply.acquire())
        except (LoadFailed, ChildLost, ChildTimeout, TimeoutError):
            pass  # once the others have joined it is missing, and tried again
        except BaseException:
            await asyncio.gather(*(worker.close() for worker in (fresh, *further)))
            raise
        return further

    async def end_workers(self, slots: Sequence[WorkerSlot]) -> None:
        """Let `slots` answer what they have, and wait until they and all that were let go have ended."""
        leaving = [slot for slot in slots if slot in self.slots]
        self.slots = [slot for slot in self.slots if slot not in leaving]
        for slot in leaving:
            self._retire(slot)
        self._refuse_unserved(until=None)
        if self._leaving:
            await asyncio.wait({slot.worker.exited for slot in self._leaving})

    # From here on: for the queue, the slots, the supply and the upkeep of this pool.

    @property
    def settings(self) -> PoolSettings:
        """In force now."""
        return self._owner.settings

    @property
    def predict_timeout_seconds(self) -> float:
        """How long one predict may run."""
        return self._owner.settings.predict_timeout_seconds

    @property
    def load_deadline_seconds(self) -> float:
        """How long a load may take."""
        return self._owner.load_deadline_seconds

    @property
    def load_priority(self) -> Priority:
        """What the next load is for."""
        if not self.slots:
            return self._owner.load_priority
        extra = self._surge.wanted > max(self.settings.workers, len(self.slots))
        return Priority.PRODUCTION if extra and self._owner.is_production else Priority.FURTHER

    @property
    def shortfall(self) -> int:
        """How many workers are missing; below 0 when there are too many."""
        if self._closed or self._held or (self.settings.in_turn and self._leaving):
            return 0
        missing = self._surge.wanted - len(self.slots)
        return min(missing, 0) if self._owner.is_kept else missing

    @property
    def is_kept(self) -> bool:
        """Whether no alias asks for the version, and nothing is to be loaded for it."""
        return self._owner.is_kept

    @property
    def allow_spare(self) -> bool:
        """Whether there may be one worker beyond."""
        return self._owner.is_production and not (self.settings.in_turn or self.settings.elsewhere)

    def scores_chosen(self, info: VersionInfo) -> None:
        """What is counted was open until now, and is what `info` says."""
        self._owner.scores_chosen(info)

    def add(self, worker: WorkerHandle) -> None:
        """A READY worker joins."""
        slot = WorkerSlot(worker, self._loop, self)
        self.slots.append(slot)
        if self._differs is not None:
            worker.stop_sharing(self._differs)
        worker.rank(last=self._owner.is_production)
        worker.exited.add_done_callback(lambda _: self._worker_ended(slot))
        self._look_gathered()
        self.dispatch()

    def replace(self, old: Sequence[WorkerSlot], fresh: WorkerHandle) -> None:
        """`fresh` joins, then those of the `old` ones go that have not ended meanwhile."""
        leaving = [slot for slot in old if slot in self.slots]
        self.slots = [slot for slot in self.slots if slot not in old]
        self.add(fresh)
        for slot in leaving:
            self._retire(slot)
        self.fill()

    def dispatch(self) -> None:
        """Hand over what waits, as far as there are free workers."""
        self._window.cancel()
        admission, queue = self.admission, self.queue
        admission.note_batching(merges=any(slot.worker.batching.merges for slot in self.slots))
        worthless_before = self._loop.time() + admission.fastest_seconds
        while queue:
            isolated = queue.head_is_isolated
            free = [slot for slot in self.slots if slot.has_room(isolated=isolated)]
            if not free:
                running = (slot.oldest_batch for slot in self.slots)
                queue.blocking_batch = min((batch for batch in running if batch), default=None)
                break
            slot = min(free, key=lambda slot: slot.load)
            # An even share per free worker: one worker must not take what another could start now.
            share = -(-len(queue) // len(free)) if slot.worker.batching.merges else 1
            most_rows = 1  # of one request alone its rows do not matter
            if share > 1:
                most_rows = min(self._owner.settings.max_batch_rows, admission.rows_at_once)
            if requests := queue.take(share, most_rows, worthless_before):
                slot.start(requests)
        if not self._closed and self._owner.is_production:
            self._surge.watch()

    def batch_answered(self, result: BatchResult) -> None:
        """One predict of a worker is over."""
        if result.requests:
            self._record(result)
            for request, answer in zip(result.requests, result.answers, strict=True):
                request.resolve(answer)
                self.release()
        if self.queue:
            self._window.schedule(more_expected=True)

    def request_failed(self, request: PendingRequest | None, error: RequestRefused) -> None:
        """One request of a worker failed by itself, and the worker has room for another."""
        if request is not None:
            request.fail(error)
            self.release()
        if self.queue:
            self._window.schedule(more_expected=False)

    def repeated(self, slot: WorkerSlot) -> None:
        """A worker has predicted for nobody, and is free again."""
        if self._differs is None and slot.worker.batching.differs:
            self._differs = slot.worker.batching
            for other in self.slots:
                if other is not slot:
                    other.worker.stop_sharing(self._differs)
        self.dispatch()
        if not self._leases:
            self._repeats.watch()

    def no_load_before(self, until: float) -> None:
        """No load will begin before that loop time."""
        self._refuse_unserved(until=until)

    def load_failed(self) -> None:
        """A worker that is missing did not load."""
        self.gathered.set()

    def release(self) -> None:
        """One request's work is over."""
        self._leases -= 1
        if self._leases == 0:
            self._idle.set()
            self._repeats.watch()

    def _look_gathered(self) -> None:
        if self.shortfall <= 0:
            self.gathered.set()

    def _idle_slot(self) -> WorkerSlot | None:
        """A worker that has nothing to do, or room where requests end apart; None while requests wait."""
        if self._closed or self.queue:
            return None
        return next((slot for slot in self.slots if slot.has_room(isolated=not slot.worker.apart)), None)

    def _reduce_to(self, most: int) -> list[WorkerSlot]:
        """Let workers go until `most` are left, first those that have least to do: they end sooner."""
        surplus = []
        while len(self.slots) > most:
            slot = min(reversed(self.slots), key=lambda slot: slot.load)
            self.slots.remove(slot)
            self._retire(slot)
            surplus.append(slot)
        return surplus

    def _retire(self, slot: WorkerSlot) -> None:
        self._leaving.add(slot)
        slot.worker.rank(last=False)
        slot.retire()

    def _record(self, result: BatchResult) -> None:
        self.supply.answered()
        rows, sizes = [answer.rows for answer in result.answers], [one.size for one in result.requests]
        self.admission.learn(perf_counter() - result.started_at, rows, sizes)
        self._recorder.record(result.fact(self.supply.spec.version))

    def _worker_ended(self, slot: WorkerSlot) -> None:
        self._leaving.discard(slot)
        self._processor_time.ended(slot.worker.processor_time)
        error, shadowed = slot.exit_error(), slot.shadows
        lost, again = slot.split_unanswered(error)
        for request in lost:
            request.fail(error)
            self.release()
        self.queue.put_back(again)
        if slot in self.slots:  # else it was retired, or the pool is closed: nobody replaces it
            was_kept = self._owner.is_kept  # with its last worker it is kept no more
            self.slots.remove(slot)
            if not was_kept:
                self.supply.lost(answered=slot.answered > 0)
            how = str(slot.worker.exited.result())
            self._recorder.record(WorkerEnded(self.supply.spec.version, slot.end_reason, how))
            if slot.end_reason in CRASHES and not shadowed:
                self._owner.worker_crashed()
            if was_kept:
                self._owner.kept_worker_ended()
            if self._leases or not was_kept:  # requests from before it was kept are answered all the same
                self.fill()
            # Requests that another version can answer do not wait for a new worker.
            self._refuse_unserved(until=None)
        elif self.settings.in_turn and not self._closed:
            self.fill()  # what was to come after it may be loaded now
        self.dispatch()

    @property
    def _parallel(self) -> int:
        """How many batches the workers work on at once."""
        return sum(slot.worker.parallel for slot in self.slots)

    def _wait_seconds(self) -> float:
        """How long they need for what waits now."""
        return self.admission.wait_seconds(len(self.queue), self.queue.rows, self._parallel)

    def _has_worker_before(self, expires_at: float) -> bool:
        """Whether, with no worker alive, the next load begins before a request's time is over."""
        if self.settings.elsewhere:
            return False  # when it is ready again is for others to say
        next_load_at = self.supply.next_load_at
        return next_load_at is None or next_load_at < expires_at

    def _refuse_unserved(self, until: float | None) -> None:
        """With no worker alive, refuse who does not wait for one, and whose time is over by `until`."""
        until = inf if self.settings.elsewhere else until
        for request in self.queue.take_unserved(until) if not self.slots else ():
            request.fail(self._no_worker())
            self.release()

    def _no_worker(self) -> NotReady:
        return NotReady(
            "this version has no worker", retry_after=self.supply.seconds_until_worker(self._loop.time())
        )
