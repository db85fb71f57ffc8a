"""Whether requests that share predicts in service are answered as by predicts of their own.

What an example or a trial showed is true of those requests. So a few shared predicts are kept, and each of
their requests is predicted once more, alone: one at a time, when the gateway says that nobody waits.
"""

import pickle
from collections import deque
from collections.abc import Sequence
from typing import Any

from router.protocol.messages import Answer, Batching, Query
from router.worker.batching_trial import LARGEST_BODY, deep_copy
from router.worker.encoder import split
from router.worker.scorer import Scorer
from router.worker.tolerance import equal

FIRST = (10, 100, 1000)
EVERY = 10_000
"""Which shared predicts are repeated: these, and each ten thousandth."""


class SharingCheck:
    """Keeps a shared predict now and then, and compares it with predicts of its requests alone.

    At most one is kept at a time, and only one whose bodies and predictions have a MiB at most each. There is
    no check of a version whose predicts have effects outside, because it predicts requests twice.
    """

    def __init__(self, scorer: Scorer, rtol: float) -> None:
        """`rtol`: `batching_rtol`."""
        self._scorer = scorer
        self._rtol = rtol
        self._predicts = 0
        self._due = False
        self._queries: Sequence[Query] = ()
        """Of the shared predict that is kept; empty when none is."""
        self._shared: list[Any] = []
        """What it predicted for each of them."""
        self._left: deque[int] = deque()

    @property
    def left(self) -> int:
        """Requests that are yet to be repeated."""
        return len(self._left)

    def shared(self, queries: Sequence[Query], rows: Sequence[int], predictions: Any) -> None:
        """Requests of so many rows each shared a predict, and are answered with `predictions`."""
        self._predicts += 1
        self._due = self._due or self._predicts in FIRST or self._predicts % EVERY == 0
        if not self._due or self._left or sum(len(query.body) for query in queries) > LARGEST_BODY:
            return
        try:
            pickled = pickle.dumps(split(predictions, rows), pickle.HIGHEST_PROTOCOL)
            if len(pickled) > LARGEST_BODY:
                return
            self._shared = pickle.loads(pickled)  # noqa: S301 - made in the line above
        except BaseException:  # noqa: BLE001 - a version may answer what can not be copied
            return
        self._due, self._queries, self._left = False, queries, deque(range(len(queries)))

    def repeat(self) -> Batching | None:
        """Predict the next request alone. The decision to share no more, where that gives another answer.

        What fails alone shows nothing: the version may ask something that is away just now.
        """
        place = self._left.popleft()
        why = ""
        try:
            if not self._is_equal_alone(place) and self._still_differs(place):
                why = "in service it answered requests together differently than alone"
        except BaseException:  # noqa: BLE001 - it runs code of what the version answered
            why = "its answers can not be compared"
        if not self._left:
            self.clear()
        return Batching(merges=False, why=why, differs=True) if why else None

    def clear(self) -> None:
        """Requests share predicts no more: what is kept goes."""
        self._queries, self._shared = (), []
        self._left.clear()

    def _is_equal_alone(self, place: int) -> bool:
        decoded = self._scorer.decode(self._queries[place])
        if isinstance(decoded, Answer):
            return True
        predicted = self._scorer.predict([decoded])
        return predicted.failure is not None or equal(predicted.predictions, self._shared[place], self._rtol)

    def _still_differs(self, place: int) -> bool:
        """Whether it does when both are predicted now: an answer may depend on the time, too."""
        again = _Shared()
        for _ in self._scorer.together(self._queries, again):
            pass
        if len(again.pieces) != len(self._queries):
            return False
        self._shared = again.pieces
        return not self._is_equal_alone(place)


class _Shared:
    """What the requests of one shared predict are answered with."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []

    def shared(self, queries: Sequence[Query], rows: Sequence[int], predictions: Any) -> None:
        """As `SharingCheck.shared`."""
        self.pieces = deep_copy(split(predictions, rows))
