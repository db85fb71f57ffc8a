"""Whether requests that share predicts are answered no later than each by a predict of its own."""

from collections import deque
from collections.abc import Sequence
from statistics import median

from router.protocol.messages import Answer, Batching, PredictStatus, Query

SLOWER = 1.5
"""How much longer shared predicts may take than lone ones would, before requests share them no more."""
SAMPLES = 20
"""Frames that are compared before there is a decision; later the last so many."""
FIRST_FRAMES, LATER_FRAMES = 4, 64
"""Every so many of the frames that can show it are compared: until `SAMPLES` were, and later."""
WAITS_BELOW = 0.2
"""Share of a predict's time with the processor at work, below which it waits for something else."""
LEAST = 3
"""Requests of a frame that can show it: one is predicted alone, and the others together."""
LIKE = 2
"""Largest request of such a frame in bytes, as a multiple of the smallest: else one says little of others."""


class SharingCost:
    """Compares, in a few frames, one request that is predicted alone with the others that share a predict."""

    def __init__(self, threads: int) -> None:
        """`threads`: predicts that would run side by side."""
        self._threads = threads
        self._frames = 0
        self._ratios: deque[float] = deque(maxlen=SAMPLES)

    def compares(self, queries: Sequence[Query]) -> bool:
        """Whether the first request of this frame is to be predicted alone, for comparison."""
        if len(queries) < LEAST:
            return False
        sizes = [len(query.body) for query in queries]
        if max(sizes) > LIKE * min(sizes):
            return False
        self._frames += 1
        every = FIRST_FRAMES if len(self._ratios) < SAMPLES else LATER_FRAMES
        return self._frames % every == 0

    def add(self, lone: Sequence[Answer], shared: Sequence[Answer], busy: float) -> Batching | None:
        """The decision to share no more, after a frame's lone answer and those that shared one predict.

        `busy`: the processor seconds of this process meanwhile, over the seconds. Other frames say nothing.
        """
        answers = (*lone, *shared)
        if len(lone) != 1 or not shared or any(one.predict_status is not PredictStatus.OK for one in answers):
            return None
        rounds = -(-len(shared) // self._threads) if busy < WAITS_BELOW else len(shared)
        self._ratios.append(shared[0].predict_seconds / max(lone[0].predict_seconds * rounds, 1e-9))
        if len(self._ratios) < SAMPLES or median(self._ratios) <= SLOWER:
            return None
        return Batching(merges=False, why="requests that shared predicts took longer than each by its own")
