"""How a gateway stops: not ready at once, every request answered, and done in time."""

import asyncio

from router.core.events import ReadinessChanged, ShutdownCutShort
from router.web.context import WebState
from router.web.listeners import Listener

LONGEST_QUIET_SECONDS = 2.0
"""Without a request for so long, those who send have noticed that this gateway is not ready any more."""
LONGEST_CLOSING_SECONDS = 2.0
"""Of the time to drain, what is kept to answer what still runs at its end, and to end the workers."""
_LOOK_SECONDS = 0.02


class GracefulShutdown:
    """The end of a gateway. `abort()` cuts it short."""

    def __init__(self, gateway: WebState, listener: Listener) -> None:
        """`listener` is that of the traffic. `server.drain_seconds`, as it is at the start, bounds it all."""
        self._gateway = gateway
        self._listener = listener
        self._aborted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._began_at = 0.0
        self._waits_for_balancers = False

    def start(self, *, waits_for_balancers: bool = False) -> None:
        """Not ready from now on, and every answer closes its connection; idempotent.

        `waits_for_balancers`: the port stays open for `server.min_drain_seconds` at least. That nobody sends
        says nothing: a load balancer that sends once in a while has not noticed before its next probe.
        """
        if not self._gateway.traffic.stopping:
            self._gateway.traffic.stopping = True
            self._began_at = self._loop.time()
            self._waits_for_balancers = waits_for_balancers
            self._gateway.recorder.record(ReadinessChanged(ready=False))

    def abort(self) -> None:
        """Wait for nothing any more."""
        self._aborted.set()

    async def drain(self) -> None:
        """Answer what comes and what runs; at the end of the time, or hurried, refuse what is left."""
        self.start()
        server, began_at = self._gateway.settings.current.server, self._began_at
        seconds = server.drain_seconds
        closing = min(LONGEST_CLOSING_SECONDS, seconds / 4)
        quiet = min(LONGEST_QUIET_SECONDS, seconds / 5)
        open_until = began_at + (server.min_drain_seconds if self._waits_for_balancers else 0.0)
        traffic, connections = self._gateway.requests, self._listener.connections
        # The socket stays open: load balancers go on sending until they have noticed. Under constant traffic
        # it is closed a little before the end, so that what was accepted can still be answered.
        closed_by = began_at + seconds - 1.5 * closing
        while traffic.under_way or self._loop.time() <= max(
            open_until, began_at + quiet, traffic.last_at + quiet
        ):
            if not await self._look_again(closed_by):
                break
        self._listener.refuse_more()
        while connections.pending() and await self._look_again(began_at + seconds - closing):
            pass
        self._report_what_is_left(began_at)
        # What still waits for its body or its answer gets 503, in MLflow's shape: cut off, a caller would
        # not know whether to try again.
        traffic.stop_reading()
        await self._gateway.fleet.close(0.0)
        answers_by = self._loop.time() + closing / 2
        self._aborted.clear()
        while connections.pending() and await self._look_again(answers_by):
            pass

    def _report_what_is_left(self, began_at: float) -> None:
        connections = self._listener.connections
        if connections.pending():
            seconds = self._loop.time() - began_at
            left = ShutdownCutShort(connections.busy, connections.unread, seconds)
            self._gateway.recorder.record(left)

    async def _look_again(self, ends_at: float) -> bool:
        """A short wait; False, without one, when the time is over or the shutdown was aborted."""
        # Looked at, not waited for: neither connections nor write buffers report a change.
        if self._aborted.is_set() or self._loop.time() >= ends_at:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
        return True
