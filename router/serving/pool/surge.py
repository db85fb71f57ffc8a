"""Looks, while requests wait, for predicts that hold others up, and has them relieved."""

import asyncio
from collections.abc import Callable, Sequence

from router.core.admission import Admission
from router.core.relief import Relief, is_stuck
from router.serving.pool.request_queue import RequestQueue
from router.serving.pool.worker_slot import WorkerSlot

LOOK_SECONDS = 0.25
"""Between two looks."""


class SurgeScaler:
    """Adds workers to a version of production while all it has are stuck, and gives their batches back."""

    def __init__(
        self,
        queue: RequestQueue,
        admission: Admission,
        seats: Callable[[], Sequence[WorkerSlot]],
        configured: Callable[[], int],
        on_look: Callable[[bool], None],
    ) -> None:
        """`on_look(changed)` is called after each look; True: another number of workers is wanted."""
        self._queue = queue
        self._admission = admission
        self._seats = seats
        self._configured = configured
        self._on_look = on_look
        self._relief = Relief()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return self._configured() + self._relief.extra

    def watch(self) -> None:
        """Look, from now on, until there is nothing to see; idempotent."""
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        seats, typical, alone = self._seats(), self._admission.predict_seconds, self._queue.head_is_alone
        stuck = [seat for seat in seats if is_stuck(seat.running_seconds(alone=alone), typical)]
        for seat in stuck:
            self._queue.put_back(seat.give_back())
        before, waiting = self._relief.extra, len(self._queue)
        self._relief.look(
            self._loop.time(), stuck=len(stuck), workers=len(seats), wanted=self.wanted, waiting=waiting
        )
        if waiting or self._relief.extra or any(seat.load for seat in seats):
            self.watch()
        self._on_look(self._relief.extra != before)
