"""What the aliases of a test's registry named at each moment, and which answers that makes wrong."""

import time

from tests.support.load import Seen
from tests.support.registry import Registry


class Moves:
    """What each alias named, and when."""

    def __init__(self) -> None:
        self.named = {"production": [(0.0, 1)], "canary": [(0.0, 2)]}

    def move(self, registry: Registry, alias: str, version: int) -> None:
        # Written down before it is done: from then on both are right until the promise is due.
        self.named[alias].append((time.monotonic(), version))
        registry.move(alias, version)

    def wrong(self, seen: list[Seen], promise_seconds: float) -> list[Seen]:
        """Answers by a version that its alias did not name within the promise."""
        return [one for one in seen if one.version not in self._allowed(one, promise_seconds)]

    def _allowed(self, one: Seen, promise_seconds: float) -> set[int]:
        history = self.named[one.alias]
        ended_at = one.sent_at + one.seconds
        allowed = {version for at, version in history if one.sent_at - promise_seconds <= at <= ended_at}
        before = [version for at, version in history if at <= one.sent_at - promise_seconds]
        return allowed | set(before[-1:])
