"""Puts in force how many threads for linear algebra a predict gets, and measures what it takes."""

import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter, process_time

from threadpoolctl import threadpool_limits

from router.core.cpu_threads import HEAVY_SECONDS, ThreadChoice
from router.protocol.cpu_threads import CpuThreads
from router.worker.decode.request_decoder import DecodedRequest


def use_threads(number: int) -> None:
    """Have BLAS, OpenMP and PyTorch use `number` threads for what the calling thread computes from now on.

    BLAS and PyTorch do so for the whole process; OpenMP has a number per thread that calls it.
    """
    threadpool_limits(number)
    if (torch := sys.modules.get("torch")) is not None:
        with suppress(Exception):  # a version may ship a module of that name
            torch.set_num_threads(number)


class PredictThreads:
    """Of predicts that run one after the other in one thread: `begin` and `end` around each.

    Costs a short predict next to nothing: the processor's clock is read only after one took `HEAVY_SECONDS`.
    Predicts in another thread than the one that made this are ignored: they run beside others.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._one_by_one = True
        self._choice = ThreadChoice()
        self._in_force = 1
        self._long = False
        self._began_at = 0.0
        """Of this process's processor time."""
        self._reported = self.chosen

    @property
    def chosen(self) -> CpuThreads:
        """What holds now."""
        if not self._one_by_one:
            return CpuThreads(1, computes=False, why="its predicts run side by side")
        return CpuThreads(self._choice.chosen, self._choice.computes, self._choice.why)

    def news(self) -> CpuThreads | None:
        """What holds now, where that was not handed out before."""
        if (chosen := self.chosen) == self._reported:
            return None
        self._reported = chosen
        return chosen

    def limit(self, most: int) -> None:
        """Predicts may have `most` threads from now on, at least 1."""
        self._choice.limit(most)

    def run(self, *, one_by_one: bool) -> None:
        """Whether predicts run one after the other. Those side by side have one thread each: together they
        use as many processors."""
        self._one_by_one = one_by_one
        if not one_by_one:
            self._use(1)

    def begin(self) -> None:
        """A predict begins."""
        if threading.get_ident() != self._thread or not self._one_by_one:
            return
        self._use(self._choice.threads)
        if self._long:
            self._began_at = process_time()

    def end(self, seconds: float, requests: Sequence[DecodedRequest]) -> None:
        """It returned after so many `seconds`."""
        if threading.get_ident() != self._thread or not self._one_by_one:
            return
        took = process_time() - self._began_at if self._long else 0.0
        # One that follows a short one is not measured: a version that computes has many in a row.
        self._long = seconds >= HEAVY_SECONDS or self._choice.computes
        rows = sum(request.rows for request in requests) if self._long else 0
        self._choice.add(perf_counter(), rows, seconds, took)

    def _use(self, threads: int) -> None:
        if threads != self._in_force:
            self._in_force = threads
            use_threads(threads)
