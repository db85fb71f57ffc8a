"""How a gateway stops: not ready at once, every request answered, and done in time."""

import asyncio
from collections.abc import Awaitable, Callable

from router.core.events import ReadinessChanged
from router.web.context import WebState
from router.web.listeners import Listener

LONGEST_QUIET_SECONDS = 2.0
"""Without a request for so long, those who send have noticed that this gateway is not ready any more."""
LONGEST_CLOSING_SECONDS = 2.0
"""Of the time to drain, what is kept to answer what still runs at its end, and to end the workers."""
_LOOK_SECONDS = 0.02


class GracefulShutdown:
    """The end of a gateway. `hurry()` cuts it short."""

    def __init__(
        self,
        gateway: WebState,
        listener: Listener,
        give_up: Callable[[], Awaitable[object]],
        seconds: Callable[[], float],
    ) -> None:
        """`give_up` ends every version, so that what waits for one is answered; `seconds` bounds it all."""
        self._gateway = gateway
        self._listener = listener
        self._give_up = give_up
        self._seconds = seconds
        self._hurried = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        """Not ready from now on, and every answer closes its connection; idempotent."""
        if not self._gateway.traffic.stopping:
            self._gateway.traffic.stopping = True
            self._gateway.recorder.record(ReadinessChanged(ready=False))

    def hurry(self) -> None:
        """Wait for nothing any more."""
        self._hurried.set()

    async def drain(self) -> None:
        """Answer what comes and what runs; at the end of the time, or hurried, refuse what is left."""
        self.begin()
        seconds, began_at = self._seconds(), self._loop.time()
        closing = min(LONGEST_CLOSING_SECONDS, seconds / 4)
        quiet = min(LONGEST_QUIET_SECONDS, seconds / 5)
        traffic = self._gateway.requests
        # The socket stays open: load balancers go on sending until they have noticed. Under constant traffic
        # it is closed a little before the end, so that what was accepted can still be answered.
        await self._until(
            lambda: not traffic.under_way and self._loop.time() - max(traffic.last_at, began_at) > quiet,
            began_at + seconds - 1.5 * closing,
        )
        self._listener.refuse_more()
        await self._until(lambda: not self._listener.connections.pending(), began_at + seconds - closing)
        # What still waits for its body or its answer gets 503, in MLflow's shape: cut off, a caller would
        # not know whether to try again.
        traffic.stop_reading()
        await self._give_up()
        answers_by = self._loop.time() + closing / 2
        self._hurried.clear()
        await self._until(lambda: not self._listener.connections.pending(), answers_by)

    async def _until(self, done: Callable[[], bool], ends_at: float) -> None:
        # Looked at, not waited for: neither connections nor write buffers tell when they change.
        while not done() and not self._hurried.is_set() and self._loop.time() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
