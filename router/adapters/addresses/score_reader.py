"""Has the scores of a version's answers read by a child, after they went out: no request waits for it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from router.core.backoff import Backoff
from router.core.events import Recorder
from router.core.ids import Alias
from router.core.routing import Assignment, Reason
from router.core.score_events import ReadResult, ReadScore, ScoresRead
from router.core.version_address import Engine
from router.errors import ChildLost, ChildTimeout
from router.processes.child import Child, Launcher
from router.protocol import score_frames
from router.protocol.messages import LoadSpec, WireRefused
from router.protocol.score_frames import Chosen, CountedAnswers

ROLE = "scores"
LONGEST_ANSWER = 1 << 20
"""Bytes of an answer that is read."""
MOST_BYTES = 2 << 20
"""Of the answers that wait, and of those that are being read, but for the last one."""
MOST_ANSWERS = 256
LINGER_SECONDS = 0.025
"""For which answers are gathered: one message each would cost the gateway more than the answers do."""
ANSWER_SECONDS = 10.0
"""In which a child has to have read what it was given; it can be kept waiting by all that is more urgent."""
_REPORT_SECONDS = 1.0
"""Between two reports of answers that were left out."""
_DELAYS = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_SOUND_SECONDS = 60.0
"""A child that served for as long ended for something else than the one before it."""
_GRACE_SECONDS = 0.5
_LOST = (ChildLost, ChildTimeout, WireRefused)

_log = logging.getLogger(__name__)
_HASH = Reason.HASH


class ChildScoreReader:
    """Reads the scores of one version's answers; implements `ScoreReader`.

    `start` once, then `offer` at any time, which never waits; what the child has no room for is left out, and
    counted. A child that ends, hangs or does not start is replaced, with back-off. `close` at last.
    """

    def __init__(self, launcher: Launcher, spec: LoadSpec, engine: Engine, recorder: Recorder) -> None:
        """`spec`: as the version is loaded; its answers are in the protocol of `engine`."""
        of_production = spec.production_scores or ()
        self.chosen = Chosen(scores=of_production if spec.scores is None else spec.scores)
        """What is counted, once it has started. Until `has_chosen` what production counts, and nothing where
        that is not known."""
        self.has_chosen = spec.scores is not None
        self.on_chosen: Callable[[], None] = lambda: None
        self._launcher = launcher
        self._spec = spec
        self._engine = engine
        self._recorder = recorder
        self._loop = asyncio.get_running_loop()
        self._example: bytes | None = None
        """By which the next child chooses what is counted."""
        self._child: Child | None = None
        self._serving: asyncio.Task[None] | None = None
        self._waiting: dict[Alias, list[tuple[Assignment, bytes]]] = {}
        self._answers = self._bytes = 0
        """Of those that wait."""
        self._is_full = False
        self._some = asyncio.Event()
        self._left_out: Counter[tuple[Alias, ReadResult]] = Counter()
        """What is not reported yet."""
        self._reporting: asyncio.TimerHandle | None = None
        self._results: Counter[ReadResult] = Counter()
        self._logged_loss = False
        self._failure = "what reads them starts"

    @property
    def results(self) -> Mapping[ReadResult, int]:
        """What became of the scores of its answers so far."""
        return self._results

    @property
    def error(self) -> str:
        """Why nothing is read now; empty while it is."""
        return "" if self._child is not None else self._failure

    async def start(self, example: bytes | None, *, seconds: float) -> None:
        """Start a child, and give it so many `seconds` to choose what is counted, by the version's answer to
        its input `example` where that is left open. With 0.0 a settled choice is not waited for.

        A child that is not there in time is tried again beside the requests, whose scores are lost until
        then. Where there is nothing to count it reads nothing, and `chosen` says so. Raises nothing of its
        own; a call that is cancelled leaves no process behind.
        """
        if seconds:
            self._example = None if example is None or len(example) > LONGEST_ANSWER else example
            try:
                async with asyncio.timeout(seconds):
                    self._child = await self._begin()
            except (*_LOST, TimeoutError) as error:
                why = str(error) or f"it took more than {seconds:.0f} s"
                note = f"Its scores are not read yet: what reads them could not be started ({why})."
                self.chosen = replace(self.chosen, note=note)
        if self.chosen.scores or not self.has_chosen:
            self._serving = self._loop.create_task(self._serve(), name=f"scores of {self._spec.version}")

    @property
    def reads(self) -> bool:
        """Whether answers are to be offered."""
        return self._serving is not None

    def offer(self, asked: Assignment, answer: bytes) -> None:
        """The version gave this good `answer` to a request that was assigned so."""
        size = len(answer)
        if size > LONGEST_ANSWER:
            self._leave_out(asked.alias, ReadResult.TOO_LONG)
        elif self._child is None:
            self._leave_out(asked.alias, ReadResult.LOST)
        elif self._is_full:
            # All of them from here on: else the short ones would be read, and the long ones left out.
            self._leave_out(asked.alias, ReadResult.BUSY)
        else:
            self._waiting.setdefault(asked.alias, []).append((asked, answer))
            self._answers += 1
            self._bytes += size
            # With the one that exceeds it: which one that is depends on its length.
            self._is_full = self._answers >= MOST_ANSWERS or self._bytes >= MOST_BYTES
            self._some.set()

    async def close(self) -> None:
        """End the child. What it has not read is lost."""
        if self._serving is not None:
            self._serving.cancel()
            with suppress(asyncio.CancelledError):
                await self._serving
        if self._child is not None:
            child, self._child = self._child, None
            await self._stop(child)
        self._lose(self._take())
        self._report()

    async def _serve(self) -> None:
        failures = Backoff(_DELAYS)
        while True:
            began = self._loop.time()
            try:
                if (child := self._child) is None:
                    former = self.chosen
                    child = self._child = await self._begin()
                    if child is None:
                        self._serving = None
                    if self.chosen is not former:
                        self.on_chosen()
                    if child is None:
                        return
                await self._feed(child)
            except Exception as error:  # noqa: BLE001 - whatever it is: else nobody would read them any more
                child, self._child = self._child, None
                self._lose(self._take())
                self._failure, now = str(error), self._loop.time()
                if not self._logged_loss:
                    _log.warning("the scores of %s are not read for a while: %s", self._spec.version, error)
                    self._logged_loss = True
                if now - began >= _SOUND_SECONDS:
                    failures = failures.reset()
                failures = failures.failed(now)
                if child is not None:
                    await self._stop(child)
                await asyncio.sleep(max(failures.not_before - self._loop.time(), 0.0))

    async def _begin(self) -> Child | None:
        """A child; None where there is nothing to count. Raises one of `_LOST`."""
        if self.has_chosen and self._example is None:
            # What is counted stays: it is what metrics and comparisons know.
            child, _ = await self._launch(replace(self._spec, scores=self.chosen.scores), None)
            return child
        child, self.chosen = await self._launch(self._spec, self._example)
        self.has_chosen, self._example = True, None
        if self.chosen.scores:
            return child
        await self._stop(child)
        return None

    async def _feed(self, child: Child) -> None:
        """Hand over what waits, again and again. Raises one of `_LOST` once the child is of no use."""
        while True:
            if await self._ended_first(child):
                raise ChildLost("it ended")
            await asyncio.sleep(LINGER_SECONDS)
            taken = self._take()
            groups = [len(group) for group in taken.values()]
            try:
                frame = await child.connection.call(
                    score_frames.answers_header(groups),
                    [body for group in taken.values() for _, body in group],
                    timeout_seconds=ANSWER_SECONDS,
                )
                counted = score_frames.counts_of_answers(frame.header, self.chosen.scores, groups)
            except BaseException:
                self._lose(taken)
                raise
            self._record(taken, counted)
            if self._logged_loss:
                self._logged_loss = False
                _log.info("the scores of %s are read again", self._spec.version)

    async def _ended_first(self, child: Child) -> bool:
        """Wait for an answer; whether the child ended meanwhile."""
        if self._some.is_set() or child.connection.lost.done():
            return child.connection.lost.done()
        some = self._loop.create_task(self._some.wait(), name="answers to be read")
        try:
            ends: tuple[asyncio.Future[Any], ...] = some, child.connection.lost
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            some.cancel()
        return child.connection.lost.done()

    def _take(self) -> dict[Alias, list[tuple[Assignment, bytes]]]:
        taken, self._waiting = self._waiting, {}
        self._answers = self._bytes = 0
        self._is_full = False
        self._some.clear()
        return taken

    def _record(self, taken: Mapping[Alias, list[tuple[Assignment, bytes]]], counted: CountedAnswers) -> None:
        version, bins = self._spec.version, iter(counted.bin_indexes)
        for (alias, group), scores in zip(taken.items(), counted.counts, strict=True):
            self._results[ReadResult.READ] += len(group)
            of_split = tuple(
                [
                    ReadScore(asked.bucket, asked.split, index)
                    for (asked, _), index in zip(group, bins, strict=False)
                    if asked.reason is _HASH and asked.bucket is not None and asked.split is not None
                ]
            )
            self._recorder.record(
                ScoresRead(version.model, alias, version, ReadResult.READ, len(group), scores, of_split)
            )

    def _lose(self, taken: Mapping[Alias, list[tuple[Assignment, bytes]]]) -> None:
        for alias, group in taken.items():
            self._leave_out(alias, ReadResult.LOST, len(group))

    def _leave_out(self, alias: Alias, result: ReadResult, answers: int = 1) -> None:
        self._results[result] += answers
        self._left_out[alias, result] += answers
        if self._reporting is None:
            self._reporting = self._loop.call_later(_REPORT_SECONDS, self._report)

    def _report(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        left_out, self._left_out = self._left_out, Counter()
        version = self._spec.version
        for (alias, result), answers in left_out.items():
            self._recorder.record(ScoresRead(version.model, alias, version, result, answers))

    async def _launch(self, spec: LoadSpec, example: bytes | None) -> tuple[Child, Chosen]:
        child = await self._launcher.launch(ROLE, version=spec.version)
        child.connection.limit(score_frames.LIMITS)
        try:
            frame = await child.connection.call(
                *score_frames.start_frame(spec, self._engine, example), timeout_seconds=ANSWER_SECONDS
            )
            return child, score_frames.chosen_of(frame.header, spec.scores)
        except BaseException:
            # Shielded: whoever gives up meanwhile leaves no process.
            await asyncio.shield(asyncio.ensure_future(self._stop(child)))
            raise

    async def _stop(self, child: Child) -> None:
        child.kill()
        await child.stop(_GRACE_SECONDS)
