"""What predicts of the versions that are compared cost, in stretches of time that are the same for all.

They begin anew when another version comes, so that what is compared was predicted side by side. No clock.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from router.analysis.statistics.cost_ratio import CostComparison, compare_costs
from router.analysis.statistics.durations import BINS, add_to, bin_of
from router.analysis.statistics.predict_costs import PredictCosts

MOST_BLOCKS = 16
"""Stretches that are kept. When there are so many, each two become one, and the next ones are as long as
those: there are enough of them soon after the begin, and no more after an hour."""
FIRST_SECONDS = 4.0
LONGEST_SECONDS = 900.0
"""Of a stretch. From then on the oldest goes: what is known is of two to four hours."""
ALL_OF_FIRST, LATER_EVERY = 4096, 8
"""Predicts of a version in a stretch that are looked at: these, and every so many of the later ones. It takes
three microseconds, and more of them would say little more."""
PRESENT_SECONDS = 60.0
"""Of which the present traffic is, at least, once there are as many."""


@dataclass(slots=True)
class _Predicts:
    """Of one version in one stretch."""

    seen: int = 0
    rows: int = 0
    """Of all that were seen; `costs` and `durations` are of those that were looked at."""
    costs: PredictCosts = field(default_factory=PredictCosts)
    durations: dict[int, int] = field(default_factory=dict)
    """By bin of `durations`."""

    def add(self, other: "_Predicts") -> None:
        self.seen += other.seen
        self.rows += other.rows
        self.costs.add(other.costs)
        for place, count in other.durations.items():
            self.durations[place] = self.durations.get(place, 0) + count


@dataclass(slots=True)
class _Block:
    began_at: float
    versions: dict[int, _Predicts] = field(default_factory=dict)


class VersionCosts:
    """Of one registered model. Versions are numbers; `now` is monotonic, in seconds."""

    def __init__(self, now: float) -> None:
        self._seconds = FIRST_SECONDS
        self._blocks = [_Block(now)]
        self._followed: frozenset[int] = frozenset()

    def follow(self, versions: Collection[int], now: float) -> None:
        """These are bound from now on; of others nothing is taken."""
        before, self._followed = self._followed, frozenset(versions)
        if not self._followed <= before:
            self._seconds, self._blocks = FIRST_SECONDS, [_Block(now)]
        for gone in before - self._followed:
            for block in self._blocks:
                block.versions.pop(gone, None)

    def take(self, version: int, rows: int, seconds: float, processor_seconds: float, now: float) -> None:
        """A predict of `rows` took `seconds`, and `processor_seconds` of a processor.

        One that raised, or that nobody measured, has 0 of either and does not count.
        """
        if rows < 1 or processor_seconds <= 0.0 or version not in self._followed:
            return
        block = self._blocks[-1]
        if now >= block.began_at + self._seconds:
            block = self._next(now)
        if (predicts := block.versions.get(version)) is None:
            predicts = block.versions[version] = _Predicts()
        predicts.seen += 1
        predicts.rows += rows
        if predicts.seen > ALL_OF_FIRST and predicts.seen % LATER_EVERY:
            return
        predicts.costs.take(rows, processor_seconds)
        place = bin_of(seconds)
        predicts.durations[place] = predicts.durations.get(place, 0) + 1

    def follows(self, *versions: int) -> bool:
        """Whether all of them serve."""
        return self._followed.issuperset(versions)

    def of(self, version: int) -> PredictCosts:
        """All that is known of one version."""
        costs = PredictCosts()
        for block in self._blocks:
            if (predicts := block.versions.get(version)) is not None:
                costs.add(predicts.costs)
        return costs

    def compare(self, production: int, canary: int) -> CostComparison:
        """The two versions, by all that is known."""
        nothing = _Predicts()
        return compare_costs(
            [
                (block.versions.get(production, nothing).costs, block.versions.get(canary, nothing).costs)
                for block in self._blocks
            ]
        )

    def durations(self, version: int) -> list[int]:
        """Of its predicts as they came, by bin of `durations`."""
        counts = [0] * BINS
        for block in self._blocks:
            if (predicts := block.versions.get(version)) is not None:
                add_to(counts, predicts.durations)
        return counts

    def rows_per_second(self, now: float) -> float | None:
        """Of all versions, lately; None before anything is known of ten seconds."""
        rows, began_at = 0, now
        for block in reversed(self._blocks):
            rows += sum(predicts.rows for predicts in block.versions.values())
            began_at = block.began_at
            if now - began_at >= PRESENT_SECONDS:
                break
        return rows / (now - began_at) if now - began_at >= 10.0 else None

    def _next(self, now: float) -> _Block:
        if len(self._blocks) >= MOST_BLOCKS:
            if self._seconds < LONGEST_SECONDS:
                self._seconds = min(2 * self._seconds, LONGEST_SECONDS)
                self._blocks = [
                    _joined(one, other)
                    for one, other in zip(self._blocks[::2], self._blocks[1::2], strict=True)
                ]
            else:
                del self._blocks[0]
        block = _Block(now)
        self._blocks.append(block)
        return block


def _joined(one: _Block, other: _Block) -> _Block:
    for version, predicts in other.versions.items():
        if (known := one.versions.get(version)) is None:
            one.versions[version] = predicts
        else:
            known.add(predicts)
    return one
