"""One version of an alias against production's: the evidence on it, and its last 15 minutes."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Literal

from router.control.windows import Tally, Window
from router.core.evidence import Evidence, Limits, Observation, Report
from router.core.evidence.shift import ks_distance, psi, total_variation
from router.core.evidence.slow import edge_at
from router.core.ids import CANARY, Alias, VersionId
from router.core.scores import ClassSpec, OutputSpec, ScoreSpec, shown_name

KNOWN_ANSWERS = 200
"""Answers of production, in the hour before a rollout, from which its p95 is taken."""
SLOW_QUANTILE = 0.95
LEAST_SCORES = 500
"""Of either side, below which a window's distances are not told."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is compared. Another one is another rollout, with evidence of its own."""

    production: VersionId
    version: VersionId
    salt: str
    outputs: tuple[OutputSpec, ...]
    """What is counted of both; empty where they are counted differently."""
    on_shift: Literal["report", "fail"]


@dataclass(frozen=True, slots=True)
class WindowShift:
    """How far the scores of one output moved in the sliding window; all requests, so for show only."""

    output: str
    psi: float
    """NaN while either side has fewer than 500 scores; so is `ks`."""
    ks: float


@dataclass(frozen=True, slots=True)
class Shares:
    """Of all buckets, 0 to 1, by the split as configured."""

    production: float
    canary: float


class Rollout:
    """Takes the requests of both arms, one by one, and judges when it is asked to."""

    def __init__(
        self,
        pair: Pair,
        alias: Alias,
        shares: Shares,
        tallies: tuple[Tally, Tally],
        *,
        now: float,
        timestamp: float,
    ) -> None:
        """`tallies` of production and of `alias`; `now` is monotonic, `timestamp` in seconds since 1970."""
        self.pair = pair
        self.since_timestamp = timestamp
        self.shares = shares
        first = pair.outputs[0] if pair.outputs else None
        self._evidence = Evidence(
            canary_share=shares.canary,
            production_share=shares.production,
            from_top=alias != CANARY,
            started_at=now,
            limits=Limits(on_shift=pair.on_shift),
            marks=first.marks if first else None,
            classes=isinstance(first, ClassSpec),
            mark_edges=(first.low, *first.edges()) if isinstance(first, ScoreSpec) else None,
            slow_edge_seconds=_slow_edge(tallies[0]),
        )
        self.window = Window(*tallies, now)
        self.report: Report = self._evidence.report(now)
        self.told: str = self.report.verdict
        """The verdict that was last told."""
        self.observe: Callable[[Observation], None] = self._evidence.observe
        """Takes each request of either arm that the split routed by its key."""

    def look(self, now: float) -> None:
        """Judge what was counted since the last look."""
        self._evidence.look(now)
        self.window.slide(now)
        self.report = self._evidence.report(now)

    def shifts(self) -> list[WindowShift]:
        """One for each output that both versions count alike."""
        production, canary = self.window.counts()
        return [
            _window_shift(output, before, after)
            for output, before, after in zip(self.pair.outputs, production.marks, canary.marks, strict=False)
        ]

    def change_shares(self, shares: Shares, now: float) -> None:
        """Another step, if they are others."""
        if shares != self.shares:
            self.shares = shares
            self._evidence.change_share(shares.canary, now, production_share=shares.production)
            self.report = self._evidence.report(now)


def _slow_edge(production: Tally) -> float | None:
    counts = production.hour()
    return edge_at(counts, SLOW_QUANTILE) if sum(counts) >= KNOWN_ANSWERS else None


def _window_shift(output: OutputSpec, production: tuple[int, ...], canary: tuple[int, ...]) -> WindowShift:
    name = shown_name(output)
    if min(sum(production), sum(canary)) < LEAST_SCORES:
        return WindowShift(name, nan, nan)
    distance = total_variation if isinstance(output, ClassSpec) else ks_distance
    return WindowShift(name, psi(production, canary), distance(production, canary))
