"""The loader without processes: a version in a thread of this process. For tests and `check`, never to serve.

Two versions share `sys.path` and `sys.modules` here, and one that hangs cannot be ended.
"""

import asyncio
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from router.core.memory import Resident, Room
from router.core.processor_time import ProcessorTime
from router.errors import ChildTimeout, LoadFailed, RequestRefused
from router.processes.memory import MEMORY
from router.processes.process import Exit
from router.protocol.cpu_threads import CpuThreads
from router.protocol.messages import Answer, Batching, LoadSpec, Query, VersionInfo
from router.protocol.shadow_frames import Compared, ShadowQuery
from router.worker.load import Loaded, load_version
from router.worker.scorer import Placed, Scorer
from router.worker.shadow import answer_shadow

_OnAnswers = Callable[[Sequence[int], Sequence[Answer]], None]
_Task = Callable[[Scorer], None]


class InProcessWorker:
    """Answers with one READY version, in a thread of its own, one request after the other."""

    parallel = 1
    apart, at_address, score_reader = False, None, None

    def __init__(self, loaded: Loaded) -> None:
        self.info: VersionInfo = loaded.info
        self.batching: Batching = loaded.info.batching
        self.to_repeat = 0
        self.on_failed: Callable[[int, int, RequestRefused], None] = lambda number, place, error: None
        self.cpu_threads = CpuThreads(1, computes=False, why="it learns nothing")
        self.most_cpu_threads, self.predict_seconds = 1, 0.0
        self.processor_time = ProcessorTime()
        self.pid = os.getpid()
        self.ready = Resident()
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        """Done when it was closed or "killed"; its thread ends after the predict that runs."""
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        threading.Thread(target=self._answer_requests, args=(loaded,), name="version", daemon=True).start()

    def submit(self, queries: Sequence[Query], on_answers: _OnAnswers) -> int:
        """As `Worker.submit`."""

        def answer(scorer: Scorer) -> None:
            for places, answers in self._predicted(scorer, queries):
                self._loop.call_soon_threadsafe(self._hand_out, partial(on_answers, places, answers))

        self._tasks.put(answer)
        return 0

    def give_up(self, number: int) -> None:
        """Nothing: its thread goes on."""

    def hung_up(self, number: int, place: int) -> None:
        """Nothing: it tries nothing with a request that is over."""

    def repeat(self, on_repeated: Callable[[], None]) -> None:
        """Nothing: it keeps no request."""
        on_repeated()

    def shadow(self, asked: ShadowQuery, on_compared: Callable[[Compared], None]) -> None:
        """As `Worker.shadow`, between two requests."""

        def answer(scorer: Scorer) -> None:
            compared = answer_shadow(scorer, 0, asked, lambda: 0.0)
            self._loop.call_soon_threadsafe(self._hand_out, partial(on_compared, compared))

        self._tasks.put(answer)

    def stop_sharing(self, batching: Batching) -> None:
        """As `Worker.stop_sharing`."""
        self.batching = batching

    def limit_cpu_threads(self, most: int) -> None:
        """Remember it: it is a thread of a process with threads of its own."""
        self.most_cpu_threads = most

    def resident(self) -> Resident:
        """Nothing: what is this version's share of this process, nobody can know."""
        return self.ready

    def rank(self, *, last: bool) -> None:
        """Nothing: whoever ends this version ends this process."""

    def kill(self) -> None:
        """Say that it has ended, and hand out no answer any more."""
        self._end(Exit(signal=signal.SIGKILL))

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Take no more requests. There is nothing to wait for: `grace_seconds` is a process' affair."""
        self._end(Exit(code=0))

    def _end(self, how: Exit) -> None:
        self._tasks.put(None)
        if not self.exited.done():
            self.exited.set_result(how)

    def _answer_requests(self, loaded: Loaded) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody listens any more
            while (task := self._tasks.get()) is not None:
                task(loaded.scorer)

    def _predicted(self, scorer: Scorer, queries: Sequence[Query]) -> Iterator[Placed]:
        if self.batching.merges:
            return scorer.together(queries)
        return (((place,), (scorer.answer(query),)) for place, query in enumerate(queries))

    def _hand_out(self, take: Callable[[], None]) -> None:
        if not self.exited.done():
            take()


class InProcessLoader:
    """Brings versions to READY in this process."""

    start_bytes = 0

    def room(self) -> Room:
        """Memory that more versions may use."""
        return MEMORY.room()

    async def load(self, spec: LoadSpec, *, deadline_seconds: float) -> InProcessWorker:
        """As `WorkerLoader.load`; a load that outlasts its deadline goes on in its thread, unheard."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Loaded | LoadFailed] = loop.create_future()

        def deliver(result: Loaded | LoadFailed) -> None:
            if not outcome.done():
                outcome.set_result(result)

        def load() -> None:
            result: Loaded | LoadFailed
            try:
                result = load_version(spec)
            except LoadFailed as failure:
                result = failure
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(deliver, result)

        threading.Thread(target=load, name="load", daemon=True).start()
        try:
            async with asyncio.timeout(deadline_seconds):
                result = await outcome
        except TimeoutError:
            raise ChildTimeout(f"{spec.version} was not READY in time") from None
        if isinstance(result, LoadFailed):
            raise result
        return InProcessWorker(result)
