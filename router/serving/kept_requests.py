"""Some of the last requests that production answered, in this process's memory and nowhere else."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from router.core.reservoir import Reservoir, ReservoirLimits
from router.protocol.messages import Answer, PredictStatus, Query

LONGEST_PREDICT_SECONDS = 1.0
"""Of production, for a request that is kept: a caller may have to wait while it is asked again."""
_LATER_SECONDS = 0.01
"""A timer may fire a little before its time."""
_OK = PredictStatus.OK


class KeptRequests:
    """A sample of them, each for so long at most, also where no more come. Nothing shows what is in it.

    Only what production answered well is kept: what ended a worker, or took long, is not asked again.
    """

    def __init__(self, limits: ReservoirLimits) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._reservoir: Reservoir[Query] = Reservoir(limits)
        self._timer: asyncio.TimerHandle | None = None
        self._readers = 0

    def __len__(self) -> int:
        return len(self._reservoir)

    @property
    def size(self) -> int:
        """Bytes of them."""
        return self._reservoir.size

    def get(self, number: int) -> Query | None:
        """The request of that number; None when it is kept no more."""
        return self._reservoir.get(number)

    def offer(self, query: Query, answer: Answer) -> None:
        """Production answered `query`, which may be kept."""
        if self._reservoir.passes_over() or self._readers:
            return
        if answer.predict_status is _OK and answer.predict_seconds <= LONGEST_PREDICT_SECONDS:
            size = len(query.body) + len(query.content_type or "")
            self._reservoir.add(replace(query, request_id=""), size, self._loop.time())
            self._watch()

    @contextmanager
    def read(self) -> Iterator[list[int]]:
        """The numbers of those that are kept now, newest first: until the end of the block no other one takes
        the place of any. They still go at their age."""
        self._readers += 1
        try:
            yield list(reversed(list(self._reservoir)))
        finally:
            self._readers -= 1

    def limit(self, limits: ReservoirLimits) -> None:
        """Other limits hold from now on."""
        self._limits = limits
        self._reservoir.limit(limits, self._loop.time())
        self._stop_watching()  # what is kept may have to go sooner
        self._watch()

    def clear(self) -> None:
        """Drop all."""
        self._reservoir.clear()
        self._watch()

    def _watch(self) -> None:
        oldest_at = self._reservoir.oldest_at
        if oldest_at is None:
            self._stop_watching()
        elif self._timer is None:
            due = oldest_at + self._limits.age_seconds + _LATER_SECONDS
            self._timer = self._loop.call_at(due, self._expire)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        self._reservoir.expire(self._loop.time())
        self._watch()
