"""Whoever waits for an answer, and what is dropped when they hang up."""

from router.serving.pool.request_queue import PendingRequest


class Caller:
    """One client, which waits for one answer at a time. A connection has one, for all of its requests."""

    __slots__ = ("_waits_for", "gone")

    def __init__(self) -> None:
        self.gone = False
        """True once it hung up, which is for good."""
        self._waits_for: PendingRequest | None = None

    def wait_for(self, request: PendingRequest) -> None:
        """From now on `hang_up` abandons this request."""
        self._waits_for = request

    def wait_no_longer(self) -> None:
        """The request has its answer, or an error."""
        self._waits_for = None

    def hang_up(self) -> None:
        """It reads no more answers: what it waits for leaves the queue; idempotent."""
        self.gone = True
        if self._waits_for is not None:
            self._waits_for.hang_up()
