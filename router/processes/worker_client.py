"""The gateway's side of a worker: start it, send it requests, receive its answers, stop it."""

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace
from packaging.utils import canonicalize_name

from router.core.cache_events import OwnCopyNeeded
from router.core.events import Recorder
from router.core.ids import VersionId
from router.core.memory import Resident, Room
from router.core.processor_time import ProcessorTime
from router.errors import (
    ChildLost,
    ChildTimeout,
    LoadFailed,
    RequestRefused,
    WarmUpLost,
    WorkerOutOfMemory,
)
from router.processes.child import Child, Launcher
from router.processes.disk import in_disk_thread
from router.processes.memory import MEMORY, Rank, resident
from router.processes.own_copies import OwnCopies
from router.processes.process import Exit
from router.processes.shared_memory import SharedMemory
from router.processes.working_directories import WorkerDirectory, WorkingDirectories
from router.protocol import messages
from router.protocol.cpu_threads import (
    CPU_THREADS,
    CpuThreads,
    at_first,
    cpu_threads_of,
    learns_cpu_threads,
    most_threads_header,
)
from router.protocol.frames import Frame
from router.protocol.messages import Answer, Batching, LoadSpec, Query, VersionInfo, WireRefused
from router.protocol.shadow_frames import COMPARED, Compared, ShadowQuery, compared_of, shadow_frame

_PRELOADED = {
    # 0.9 s and 40 MB, and its versions load ten times faster.
    "scikit-learn": (
        "mlflow.sklearn",
        "sklearn.ensemble",
        "sklearn.linear_model",
        "sklearn.pipeline",
        "sklearn.compose",
    ),
}
"""By requirement, what the fork server imports once before it forks the first worker that needs it: then all
workers share its memory and none waits for it. Only what survives a fork and starts no thread is listed."""
_MOST_BYTES = 1 << 16
_REQUIREMENT = re.compile(rb"^[ \t]*([A-Za-z0-9._-]+)", re.MULTILINE)

OnAnswers = Callable[[Sequence[int], Sequence[Answer]], None]
"""Takes the places in the frame, and the answers, of what came out of one predict."""
_ROLE = "worker"
_DEATH_SECONDS = 2.0


class Worker:
    """One process that holds one READY version."""

    at_address = score_reader = None
    apart = False

    def __init__(self, child: Child, info: VersionInfo, spec: LoadSpec) -> None:
        self.info = info
        self.exited: asyncio.Future[Exit] = child.exited
        """Done when it has ended, after the last `on_answers`. Shield it where it is awaited."""
        self.batching: Batching = info.batching
        """Whether its requests share predicts, as it said last."""
        self.to_repeat = 0
        """Requests of a shared predict that it has yet to repeat."""
        self.on_failed: Callable[[int, int, RequestRefused], None] = lambda number, place, error: None
        """Never called: what runs here fails with its worker."""
        self.pid = child.pid
        self.cpu_threads: CpuThreads = at_first(spec)
        """Threads for linear algebra of its predicts, as it said last."""
        self.most_cpu_threads = self.cpu_threads.threads
        """How many it may use."""
        self.predict_seconds = 0.0
        """In which predicts ran, since it was READY, as it says."""
        self.processor_time = ProcessorTime(**info.processor_seconds)
        """Which it took so far, as it says."""
        self._learns_cpu_threads = learns_cpu_threads(spec)
        self._threads = spec.threads
        self._child = child
        self.ready = self.resident()
        self._rank = Rank.FIRST
        self._sequence = 0
        self._frames: dict[int, _Outstanding] = {}
        """Frames that are not fully answered, by their sequence."""
        self._on_repeated: Callable[[], None] | None = None
        self._shadow: tuple[int, Callable[[Compared], None]] | None = None
        """The one that is under way: its number, and who waits for what comes of it."""
        child.requests_started()
        child.connection.on_frame = self._take
        child.connection.on_lost = child.kill  # one that lives on without its socket is of no use
        if child.connection.lost.done():  # it sent more after it was READY, before this ran
            child.kill()

    @classmethod
    async def start(
        cls,
        launcher: Launcher,
        spec: LoadSpec,
        *,
        deadline_seconds: float,
        directories: WorkingDirectories | None = None,
        shared_memory: SharedMemory | None = None,
        own_copies: OwnCopies | None = None,
    ) -> "Worker":
        """A worker whose version is READY. Raises LoadFailed, of it WarmUpLost, ChildLost or ChildTimeout.

        With `directories` it stands in one of its own and has another for temporary files, which are removed
        at its end; else it uses ours. With `shared_memory`, what it leaves of that is removed, too. With
        `own_copies` a `writable` version has one, which is removed as well; else it shares its files.
        Leaves no process behind when it raises, also when it is cancelled.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_seconds
        try:
            async with asyncio.timeout_at(ends_at):
                modules = await in_disk_thread(modules_for, Path(spec.directory))
                directory = await _working_directory(directories)
                child = await _launch(launcher, modules, spec, directories, directory)
                if shared_memory is not None:
                    child.track(shared_memory)
        except TimeoutError:
            raise ChildTimeout(f"no worker was started within {deadline_seconds:g} s") from None
        own_copy = own_copies.name(spec.directory) if own_copies is not None and spec.writable else None
        if own_copies is not None and own_copy is not None:
            child.exited.add_done_callback(lambda _exited: own_copies.remove(own_copy))
        try:
            info = await _load(
                child, spec, directory, own_copy, timeout_seconds=max(ends_at - loop.time(), 0.0)
            )
            return cls(child, info, spec)
        except BaseException:
            child.kill()
            await child.stop(0.0)
            raise

    @property
    def parallel(self) -> int:
        """How many frames it works on at once."""
        return 1 if self.batching.merges else min(self.batching.threads or self._threads, self._threads)

    def submit(self, queries: Sequence[Query], on_answers: OnAnswers) -> int:
        """Hand over one frame of requests, and return its number; `parallel` may be under way at once.

        `on_answers` gets what came out of one predict, as soon as it is there, until each request had its
        answer. When the worker ends, no more come and `exited` is done. An answer to what was not asked, or
        is answered, ends the worker: it may be meant for another caller.
        """
        self._sequence += 1
        frame = messages.predict_frame(self._sequence, queries)
        self._child.connection.send(*frame)
        self._frames[self._sequence] = _Outstanding(set(range(len(queries))), on_answers)
        return self._sequence

    def repeat(self, on_repeated: Callable[[], None]) -> None:
        """Have it repeat one of the `to_repeat` requests, while nothing else is under way there.

        `on_repeated` is called when it has; until then nothing is to be handed over.
        """
        self._on_repeated = on_repeated
        self._child.connection.send(messages.repeat_header())

    def shadow(self, asked: ShadowQuery, on_compared: Callable[[Compared], None]) -> None:
        """Have it answer a copy of a request for nobody, while nothing else is under way there.

        `on_compared` gets what came of it; until then nothing is to be handed over.
        """
        self._sequence += 1
        self._shadow = self._sequence, on_compared
        self._child.connection.send(*shadow_frame(self._sequence, asked))

    def stop_sharing(self, batching: Batching) -> None:
        """Its requests share predicts no more, for what `batching` of another worker says."""
        # How many threads that one could start says nothing of this one.
        batching = replace(batching, threads=self.batching.threads)
        self.batching, self.to_repeat = batching, 0
        self._child.connection.send(messages.batching_header(batching))

    def limit_cpu_threads(self, most: int) -> None:
        """It may use `most` threads for linear algebra; without effect where their number is settled."""
        if self._learns_cpu_threads and most != self.most_cpu_threads:
            self.most_cpu_threads = most
            self._child.connection.send(most_threads_header(most))

    def hung_up(self, number: int, place: int) -> None:
        """The caller of the request at `place` of that frame hung up. Nothing is tried with it any more."""
        if number in self._frames and not self.batching.merges:
            self._child.connection.send(messages.hung_up_header(number, place))

    def give_up(self, number: int) -> None:
        """Nothing: a predict that runs here ends with its worker."""

    def resident(self) -> Resident:
        """Its memory now; nothing when it has ended, and on systems without /proc."""
        return resident(self.pid) if not self._child.exited.done() else Resident()

    def rank(self, *, last: bool) -> None:
        """Whether the kernel, out of memory, ends it last of all workers, or first, as while it loaded."""
        rank = Rank.PRODUCTION if last else Rank.FIRST
        if rank is not self._rank:
            self._rank = rank
            self._child.set_rank(rank)

    def kill(self) -> None:
        """End it now."""
        self._child.kill()

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Let it end, which an idle one does at once; end it when it outlives the grace."""
        self._child.connection.on_lost = lambda: None
        await self._child.stop(grace_seconds)

    def _take(self, frame: Frame) -> None:
        op = frame.header.get("op")
        if op == messages.BATCHING:
            self.batching = messages.batching_of(frame.header)
        elif op == CPU_THREADS and self._learns_cpu_threads:
            self.cpu_threads = cpu_threads_of(frame.header)
        elif op == COMPARED:
            self._take_compared(compared_of(frame))
        elif op == messages.REPEATS:
            self.to_repeat = messages.repeats_of(frame.header)
            if (on_repeated := self._on_repeated) is not None:
                self._on_repeated = None
                on_repeated()
        else:
            self._take_answers(frame)

    def _take_compared(self, compared: Compared) -> None:
        number, on_compared = self._shadow or (0, None)
        if on_compared is None or compared.seq != number:
            raise WireRefused("a comparison that nobody asked for")
        self._shadow = None
        self.processor_time.shadowed(compared.processor_seconds, compared.worker_seconds)
        on_compared(compared)

    def _take_answers(self, frame: Frame) -> None:
        if not self._frames:
            _refuse(frame)
        batch = messages.batch_of(frame, self.info.scores)
        outstanding = self._frames.get(batch.sequence)
        if outstanding is None or not outstanding.places.issuperset(batch.places):
            raise WireRefused("an answer out of turn")
        outstanding.places.difference_update(batch.places)
        first = batch.answers[0]
        self.predict_seconds += first.predict_seconds
        self.processor_time.answered(first.processor_seconds, batch.worker_seconds)
        if not outstanding.places:
            del self._frames[batch.sequence]
        outstanding.on_answers(batch.places, batch.answers)


@dataclass(frozen=True, slots=True)
class _Outstanding:
    places: set[int]
    """Of the requests that are not answered."""
    on_answers: OnAnswers


async def _working_directory(directories: WorkingDirectories | None) -> WorkerDirectory | None:
    if directories is None:
        return None
    making = asyncio.ensure_future(in_disk_thread(directories.make))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:  # its thread goes on, and nobody would remove what it makes
        making.add_done_callback(lambda made: None if made.exception() else directories.remove(made.result()))
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise LoadFailed(f"no working directory can be made in the cache: {reason}", phase="load") from error


async def _launch(
    launcher: Launcher,
    modules: Sequence[str],
    spec: LoadSpec,
    directories: WorkingDirectories | None,
    directory: WorkerDirectory | None,
) -> Child:
    """A child that owns `directory`, which is removed when it has ended, or could not be started."""
    try:
        child = await launcher.launch(_ROLE, modules, spec.version)
    except BaseException:
        if directories is not None and directory is not None:
            directories.remove(directory)
        raise
    if directories is not None and directory is not None:
        child.exited.add_done_callback(lambda _exited: directories.remove(directory))
    return child


async def _load(
    child: Child,
    spec: LoadSpec,
    directory: WorkerDirectory | None,
    own_copy: Path | None,
    *,
    timeout_seconds: float,
) -> VersionInfo:
    child.connection.limit(messages.WORKER_LIMITS)
    warm_up = _WarmUp(child, spec.warm_up_seconds)
    child.connection.on_frame = warm_up.take
    own = (str(directory.working), str(directory.temporary)) if directory else ()
    try:
        copy = str(own_copy) if own_copy else None
        header = messages.load_header(spec, *own, environment=os.environ, own_copy=copy)
        frame = await child.connection.call(header, timeout_seconds=timeout_seconds)
        if frame.header.get("op") == messages.READY:
            return messages.version_info(frame.header, spec.scores)
        raise messages.failure(frame.header)
    except WireRefused as refused:
        raise LoadFailed(f"its worker sent {refused}", phase="load") from refused
    except ChildTimeout:
        if warm_up.began:
            raise WarmUpLost("its input example was not predicted in time") from None
        raise ChildTimeout(f"{spec.version} was not READY in time") from None
    except ChildLost:
        if warm_up.is_late:
            limit = f"{warm_up.limit_seconds:.3g} s"
            raise WarmUpLost(f"its input example was not predicted within {limit}") from None
        if child.connection.refused:
            raise LoadFailed(f"its worker sent {child.connection.refused}", phase="load") from None
        await asyncio.wait({child.exited}, timeout=_DEATH_SECONDS)
        end = child.exited.result() if child.exited.done() else None
        how = str(end) if end is not None else "its socket was closed"
        out_of_memory = end is not None and end.out_of_memory
        if warm_up.began and not out_of_memory:
            raise WarmUpLost(f"its worker ended while it predicted its input example: {how}") from None
        kind = WorkerOutOfMemory if out_of_memory else ChildLost
        raise kind(f"the worker ended while it loaded {spec.version}: {how}") from None
    finally:
        warm_up.over()


class _WarmUp:
    """Of a worker that loads: whether it has come to its warm-up, and the end of one that takes too long."""

    def __init__(self, child: Child, limit_seconds: float | None) -> None:
        self.limit_seconds = limit_seconds
        self.began = self.is_late = False
        self._child = child
        self._timer: asyncio.TimerHandle | None = None

    def take(self, frame: Frame) -> None:
        """The one frame that a worker sends before it is READY. Raises WireRefused for any other."""
        if frame.header.get("op") != messages.LOADED or self.began:
            _refuse(frame)
        self.began = True
        if self.limit_seconds:
            self._timer = asyncio.get_running_loop().call_later(self.limit_seconds, self._end)

    def over(self) -> None:
        """The load has ended, well or not."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self.is_late = True
        self._child.kill()


def _refuse(_frame: Frame) -> None:
    raise WireRefused("a frame that nobody asked for")


class WorkerLoader:
    """Brings versions to READY, each in a worker of its own."""

    def __init__(
        self,
        launcher: Launcher,
        directories: WorkingDirectories | None = None,
        shared_memory: SharedMemory | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """The first three as `Worker.start` takes them."""
        self._launcher = launcher
        self._directories = directories
        self._shared_memory = shared_memory
        self._recorder = recorder
        self._own_copies = OwnCopies()
        self._writers: set[VersionId] = set()
        """Versions that did not load until they could write to their files."""

    def room(self) -> Room:
        """Memory that more workers may use."""
        return MEMORY.room()

    @property
    def start_bytes(self) -> int:
        """Memory that the next load takes beside that of its worker: a template's, where it has to start."""
        return self._launcher.start_bytes

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> Worker:
        """A worker that holds `spec`'s version. Raises as `Worker.start` does.

        A version that fails because it may not write to its files is loaded again, with a copy of its own.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_seconds
        if not spec.writable and spec.version not in self._writers:
            try:
                return await self._start(spec, deadline_seconds)
            except LoadFailed as failure:
                if not failure.write_refused:
                    raise
                refused = str(failure)
            worker = await self._start(replace(spec, writable=True), max(ends_at - loop.time(), 0.0))
            self._writers.add(spec.version)
            if self._recorder is not None:
                self._recorder.record(OwnCopyNeeded(spec.version, refused))
            return worker
        return await self._start(replace(spec, writable=True), deadline_seconds)

    async def close(self) -> None:
        """Remove the copies that workers had for themselves. All workers have ended."""
        await self._own_copies.close()

    async def _start(self, spec: LoadSpec, deadline_seconds: float) -> Worker:
        return await Worker.start(
            self._launcher,
            spec,
            deadline_seconds=deadline_seconds,
            directories=self._directories,
            shared_memory=self._shared_memory,
            own_copies=self._own_copies,
        )


def modules_for(directory: Path) -> tuple[str, ...]:
    """Modules to import for the version whose files are in `directory`, by the requirements logged with it.

    Reads the disk. Empty where no requirements can be read: then its worker imports what it needs.
    """
    try:
        with (directory / "requirements.txt").open("rb") as file:
            names = {
                canonicalize_name(name.decode("ascii"))
                for name in _REQUIREMENT.findall(file.read(_MOST_BYTES))
            }
    except OSError:
        return ()
    return tuple(module for library, modules in _PRELOADED.items() if library in names for module in modules)
