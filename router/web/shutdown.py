"""How a gateway stops: not ready at once, every request answered, and done in time."""

import asyncio

from router.core.events import ReadinessChanged
from router.web.context import WebState
from router.web.listeners import Listener

LONGEST_QUIET_SECONDS = 2.0
"""Without a request for so long, those who send have noticed that this gateway is not ready any more."""
LONGEST_CLOSING_SECONDS = 2.0
"""Of the time to drain, what is kept to answer what still runs at its end, and to end the workers."""
LONGEST_GRACE_SECONDS = 1.0
"""For a version to end by itself."""
_LOOK_SECONDS = 0.02


class GracefulShutdown:
    """The end of a gateway. `abort()` cuts it short."""

    def __init__(self, gateway: WebState, listener: Listener) -> None:
        """`listener` is that of the traffic. `server.drain_seconds`, as it is at the start, bounds it all."""
        self._gateway = gateway
        self._listener = listener
        self._aborted = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Not ready from now on, and every answer closes its connection; idempotent."""
        if not self._gateway.traffic.stopping:
            self._gateway.traffic.stopping = True
            self._gateway.recorder.record(ReadinessChanged(ready=False))

    def abort(self) -> None:
        """Wait for nothing any more."""
        self._aborted.set()

    async def drain(self) -> None:
        """Answer what comes and what runs; at the end of the time, or hurried, refuse what is left."""
        self.start()
        seconds, began_at = self._gateway.settings.current.server.drain_seconds, self._loop.time()
        closing = min(LONGEST_CLOSING_SECONDS, seconds / 4)
        quiet = min(LONGEST_QUIET_SECONDS, seconds / 5)
        traffic, connections = self._gateway.requests, self._listener.connections
        # The socket stays open: load balancers go on sending until they have noticed. Under constant traffic
        # it is closed a little before the end, so that what was accepted can still be answered.
        quiet_by = began_at + seconds - 1.5 * closing
        while traffic.under_way or self._loop.time() - max(traffic.last_at, began_at) <= quiet:
            if not await self._look_again(quiet_by):
                break
        self._listener.refuse_more()
        while connections.pending() and await self._look_again(began_at + seconds - closing):
            pass
        # What still waits for its body or its answer gets 503, in MLflow's shape: cut off, a caller would
        # not know whether to try again.
        traffic.stop_reading()
        # Callers have that at once; versions have the time that they get when an alias moves, and what they
        # registered for the end of their process runs in it.
        grace = 0.0 if self._aborted.is_set() else min(LONGEST_GRACE_SECONDS, closing / 2)
        await self._gateway.fleet.close(grace)
        answers_by = self._loop.time() + closing / 2
        self._aborted.clear()
        while connections.pending() and await self._look_again(answers_by):
            pass

    async def _look_again(self, ends_at: float) -> bool:
        """A short wait; False, without one, when the time is over or the shutdown was aborted."""
        # Looked at, not waited for: neither connections nor write buffers report a change.
        if self._aborted.is_set() or self._loop.time() >= ends_at:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
        return True
