"""One version at its address, as the pool of its requests knows workers: it is asked, watched, and let go."""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

from msgspec.structs import replace

from router.adapters.addresses.answers import JSON, answer_of, refusal
from router.adapters.addresses.connections import Connections
from router.adapters.addresses.readiness import Readiness, ReadinessProbe
from router.adapters.addresses.score_reader import ChildScoreReader
from router.core.memory import Resident
from router.core.processor_time import ProcessorTime
from router.core.version_address import AtAddress, VersionAddress
from router.errors import CallerGone, OutboundFailed, RequestRefused, WorkerDied
from router.processes.process import Exit
from router.protocol.cpu_threads import CpuThreads
from router.protocol.messages import Answer, Batching, PredictStatus, Query, ScoringProtocol, VersionInfo
from router.protocol.score_frames import Chosen
from router.protocol.shadow_frames import Compared, ShadowQuery

PROBE_PAUSE_SECONDS = 5.0
"""Between two looks at a version that serves."""
PROBES = 3
"""So many looks in a row that find it not ready are its end."""
_NOT_HERE = "it runs elsewhere"

OnAnswers = Callable[[Sequence[int], Sequence[Answer]], None]

_log = logging.getLogger(__name__)


class AddressWorker:
    """A READY version at an address; implements `WorkerHandle`.

    `exited` is done when three looks in a row, 5 s apart, found it not ready, or one found another version
    there. A look that got no answer in time does not count where a request got one meanwhile. Requests under
    way have no answer then: none is sent again, here or by whoever asks.
    """

    apart = True
    to_repeat = 0
    pid = None
    ready = Resident()
    most_cpu_threads, predict_seconds = 1, 0.0
    cpu_threads = CpuThreads(1, computes=False, why=_NOT_HERE)

    def __init__(
        self,
        info: VersionInfo,
        address: VersionAddress,
        *,
        verified: bool,
        connections: Connections,
        parallel: int,
        probe: ReadinessProbe,
        probes: Connections,
        scores: ChildScoreReader,
    ) -> None:
        """`info` but for what is counted. `parallel`: how many requests may be under way at once; `scores`
        has started."""
        self._described = info
        self._chosen = scores.chosen
        self._info = _with(info, scores.chosen)
        self.parallel = parallel
        self.batching: Batching = info.batching
        self.processor_time = ProcessorTime()
        self.at_address = AtAddress(address.infer, address.engine, verified=verified)
        self.on_failed: Callable[[int, int, RequestRefused], None] = lambda number, place, error: None
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        self._address = address
        self._protocol = ScoringProtocol(address.engine)
        self._connections = connections
        self._probe = probe
        self._probes = probes
        self._scores = scores
        self._number = 0
        self._has_answered = False
        """Whether it gave an answer of its own since the last look."""
        self._under_way: dict[int, dict[int, asyncio.Task[None]]] = {}
        """Of each batch, what asks for each of its places."""
        self._closing: asyncio.Task[None] | None = None
        self._watching = self._loop.create_task(self._watch(), name=f"watch {address.infer}")

    @property
    def info(self) -> VersionInfo:
        """What is known of the version; another one once it is chosen late what is counted."""
        if self._chosen is not self._scores.chosen:
            self._chosen = self._scores.chosen
            self._info = _with(self._described, self._chosen)
        return self._info

    @property
    def score_reader(self) -> ChildScoreReader | None:
        """Who is to get its good answers; None where no scores are counted."""
        return self._scores if self._scores.reads else None

    def submit(self, queries: Sequence[Query], on_answers: OnAnswers) -> int:
        """Ask for each of them at once, and return the number of the batch."""
        self._number += 1
        number = self._number
        if not self.exited.done():
            self._under_way[number] = {
                place: self._loop.create_task(self._ask(number, place, query, on_answers))
                for place, query in enumerate(queries)
            }
        return number

    def give_up(self, number: int) -> None:
        """Nobody waits for that batch any more: its connections are closed, and nothing is called for it."""
        for task in self._under_way.pop(number, {}).values():
            task.cancel()

    def hung_up(self, number: int, place: int) -> None:
        """Its caller hung up: the connection is closed, which may or may not end the predict there."""
        task = self._pop(number, place)
        if task is not None and task.cancel():
            self._loop.call_soon(self._report, number, place, CallerGone("its caller hung up"))

    def repeat(self, on_repeated: Callable[[], None]) -> None:
        """Nothing: it has nothing to repeat."""
        on_repeated()

    def shadow(self, asked: ShadowQuery, on_compared: Callable[[Compared], None]) -> None:
        """Never: settings refuse shadows of versions that run elsewhere."""
        raise NotImplementedError(_NOT_HERE)

    def stop_sharing(self, batching: Batching) -> None:
        """Nothing: no requests share a predict."""

    def limit_cpu_threads(self, most: int) -> None:
        """Nothing: its threads are not ours."""

    def rank(self, *, last: bool) -> None:
        """Nothing: it takes no memory here."""

    def resident(self) -> Resident:
        """Nothing: it takes no memory here."""
        return self.ready

    def kill(self) -> None:
        """Ask it no more, and drop what is under way."""
        self._end(Exit(signal=signal.SIGKILL))

    async def close(self, grace_seconds: float = 1.0) -> object:
        """Ask it no more. There is nothing to wait for: what ends it is not here."""
        self._end(Exit(code=0))
        if self._closing is not None:
            await asyncio.shield(self._closing)
        return self.exited.result()

    async def _ask(self, number: int, place: int, query: Query, on_answers: OnAnswers) -> None:
        began = perf_counter()
        if query.protocol is not self._protocol:
            answer = refusal(query.protocol, self._address.engine)
        else:
            headers = {"Content-Type": query.content_type or JSON}
            if query.request_id:
                headers["X-Request-Id"] = query.request_id
            try:
                got = await self._connections.ask(
                    "POST", self._address.infer, headers=headers, body=query.body
                )
            except OutboundFailed as failed:
                error = WorkerDied(f"the version was asked, and gave no answer: {failed}")
                self._finish(number, place, partial(self._report, number, place, error))
                return
            except Exception as bug:  # noqa: BLE001 - else a request of ours would wait for ever
                error = WorkerDied(f"the version could not be asked: {type(bug).__name__}")
                self._finish(number, place, partial(self._report, number, place, error))
                return
            later = self.score_reader is not None
            answer = answer_of(self._address.engine, got, perf_counter() - began, scored_later=later)
            self._has_answered |= answer.predict_status is not PredictStatus.MODEL_ERROR
        self._finish(number, place, partial(on_answers, (place,), (answer,)))

    def _finish(self, number: int, place: int, report: Callable[[], None]) -> None:
        if self._pop(number, place) is not None:  # else given up, or this worker has ended
            report()

    def _pop(self, number: int, place: int) -> asyncio.Task[None] | None:
        batch = self._under_way.get(number, {})
        task = batch.pop(place, None)
        if not batch:
            self._under_way.pop(number, None)
        return task

    def _report(self, number: int, place: int, error: RequestRefused) -> None:
        if not self.exited.done():
            self.on_failed(number, place, error)

    async def _watch(self) -> None:
        lost = 0
        while lost < PROBES:
            await asyncio.sleep(PROBE_PAUSE_SECONDS)
            try:
                found = await self._probe.look()
            except Exception as bug:  # noqa: BLE001 - else nobody would watch it any more
                _log.exception("whether a version is ready at its address could not be found out")
                found = Readiness(ready=False, why=f"it could not be asked: {type(bug).__name__}")
            if found.ready:
                lost = 0
            elif not (found.is_late and self._has_answered):
                lost += 1
            self._has_answered = False
            if found.is_another:
                break
        self._end(Exit(lost=found.why))

    def _end(self, how: Exit) -> None:
        if self.exited.done():
            return
        tasks = [task for batch in self._under_way.values() for task in batch.values()]
        self._under_way = {}
        if self._watching is not asyncio.current_task():
            tasks.append(self._watching)
        for task in tasks:
            task.cancel()
        self.exited.set_result(how)
        self._closing = self._loop.create_task(self._close_connections(tasks), name="close connections")

    async def _close_connections(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        # The child first: connections that hang, or fail to close, leave no process.
        closing = self._loop.create_task(self._scores.close(), name="close scores")
        await asyncio.gather(*tasks, return_exceptions=True)
        closed = await asyncio.gather(
            closing, self._connections.close(), self._probes.close(), return_exceptions=True
        )
        for error in filter(None, closed):
            _log.error("what was connected to a version was not closed well", exc_info=error)


def _with(info: VersionInfo, chosen: Chosen) -> VersionInfo:
    return replace(
        info,
        note=" ".join(filter(None, [info.note, chosen.note])),
        scores=chosen.scores,
        suggested_scores=chosen.suggested_scores,
    )
