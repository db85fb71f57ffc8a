"""The evidence on one canary version against one production version: requests in, verdicts out."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from router.core.evidence import telling
from router.core.evidence.bitmap import FAULT, FAULT_EPOCH, OWNER, SCORED, SEEN, SLOW, SLOW_EPOCH, Buckets
from router.core.evidence.counts import GROUPS
from router.core.evidence.limits import FAULTS_BUDGET, LATENCY_BUDGET, Limits
from router.core.evidence.rate import Rate
from router.core.evidence.report import Report, SplitCheck, Verdict, worst
from router.core.evidence.scores import Scores
from router.core.evidence.skew import Skew
from router.core.evidence.slow import Edge
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.split import BUCKETS

FAULT_EPOCH_SECONDS = 900.0
SLOW_EPOCH_SECONDS = 3600.0
CALLS_KNOWN = 256
"""Failed calls remembered, so that each is one event however many requests it held."""


class Observation(NamedTuple):
    """One request that the split routed by its key while both versions were bound.

    A tuple, because one is made per request: a frozen dataclass takes twice as long to make.
    """

    bucket: int
    """0 to 99 999."""
    canary: bool
    """Whether its key was given the canary, whoever answered."""
    fault: bool
    seconds: float | None
    """Last byte read until answer ready, of what was no fault; None when not known."""
    mark: int | None
    """Bin or class of the score; None when it has none."""
    call: int | None
    """Number of the predict whose failure several requests shared; None for a fault of its own."""
    excused: bool
    """The canary failed and production failed on the same bytes."""
    abandoned: bool = False
    """Its caller hung up after `seconds`: it would have taken longer than that."""


class Evidence:
    """Counts per request, judges per look. One rollout: a new version on either alias needs a new one.

    Memory is about 300 KB, whatever the traffic. Not safe for threads.
    """

    def __init__(
        self,
        *,
        canary_share: float,
        started_at: float,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        marks: int | None,
        classes: bool = False,
        slow_edge_seconds: float | None = None,
        mark_edges: Sequence[float] | None = None,
        production_share: float | None = None,
        from_top: bool = False,
    ) -> None:
        """`canary_share` and `production_share` are 0 to 1; production has the rest unless another alias has
        some.

        `marks`: bins or classes of a score, None for none; `mark_edges`: their `marks` + 1 edges, for means.
        `from_top`: the canary owns the highest buckets, as a further alias of a split does.
        """
        self._limits = limits
        self._from_top = from_top
        self._started_at = self._step_at = started_at
        self._buckets = Buckets(*self._ranges(canary_share, production_share))
        self._flags = self._buckets.flags
        self._edge = Edge(slow_edge_seconds)
        self._faults = Rate(
            self._buckets,
            (FAULT, FAULT_EPOCH),
            started_at,
            limits,
            alpha=limits.alpha * FAULTS_BUDGET,
            limit=limits.max_increase,
            margin=limits.margin(limits.next_share),
            epoch_seconds=FAULT_EPOCH_SECONDS,
            in_blocks=False,
        )
        self._latency = Rate(
            self._buckets,
            (SLOW, SLOW_EPOCH),
            started_at,
            limits,
            alpha=limits.alpha * LATENCY_BUDGET,
            limit=limits.max_slow_increase,
            margin=limits.max_slow_increase,
            epoch_seconds=SLOW_EPOCH_SECONDS,
            in_blocks=True,
        )
        self._seen = Skew(self._buckets)
        self._scores = None if marks is None else Scores(marks, limits, classes=classes, edges=mark_edges)
        self._calls: deque[tuple[bool, int]] = deque(maxlen=CALLS_KNOWN)
        self._left_out = 0
        self._begin_step()

    def _ranges(self, canary_share: float, production_share: float | None) -> tuple[range, range]:
        canary = round(canary_share * BUCKETS)
        production = BUCKETS - canary if production_share is None else round(production_share * BUCKETS)
        if canary < 0 or production < 0 or canary + production > BUCKETS:
            raise ValueError("shares are at least 0 and at most 1 in all")
        if self._from_top:
            below = BUCKETS - canary
            return range(below, BUCKETS), range(below - production, below)
        return range(canary), range(canary, canary + production)

    def _begin_step(self) -> None:
        self._excused = 0
        self._durations = ([0] * (len(REQUEST_SECONDS) + 1), [0] * (len(REQUEST_SECONDS) + 1))
        self._fuse = self._faults.fuse
        self._fault_requests = self._faults.counts.requests
        self._slow_requests = self._latency.counts.requests

    def observe(self, seen: Observation) -> None:
        """Count one request: about 1 µs, and nothing that grows with traffic."""
        bucket, canary, fault, seconds, mark, _, _, abandoned = seen
        flags = self._flags[bucket]
        if flags >> OWNER != canary:
            self._left_out += 1
            return
        group = bucket % GROUPS
        if not flags & SEEN:
            self._flags[bucket] |= SEEN
            self._seen.hit(canary=canary)
        if abandoned:
            self._abandoned(seen, group)
            return
        self._fault_requests[canary][group] += 1
        if fault:
            self._fault(seen, group)
            return
        if canary:
            self._fuse.add(fault=False)
        if seconds is not None:
            self._durations[canary][bisect_left(REQUEST_SECONDS, seconds)] += 1
            edge = self._edge.seconds
            if edge is not None:
                self._slow_requests[canary][group] += 1
                if seconds > edge:
                    self._slow(bucket, group, canary=canary)
            elif not canary:
                self._edge.learn(seconds)
        scores = self._scores
        if scores is not None:
            scored = scores.add(mark, group, first=not flags & SCORED, canary=canary)
            if scored:
                self._flags[bucket] |= SCORED

    def _abandoned(self, seen: Observation, group: int) -> None:
        # It is slow already, or it is not known whether it would have been. Of both versions alike: callers
        # who hang up must not make two equal ones look different.
        edge = self._edge.seconds
        if edge is not None and seen.seconds is not None and seen.seconds > edge:
            self._slow_requests[seen.canary][group] += 1
            self._slow(seen.bucket, group, canary=seen.canary)

    def _fault(self, seen: Observation, group: int) -> None:
        bucket, canary = seen.bucket, seen.canary
        self._faults.counts.events[canary][group] += 1
        if canary:
            self._excused += seen.excused
            self._fuse.add(fault=not seen.excused)
        if seen.call is not None:
            if (canary, seen.call) in self._calls:
                return
            self._calls.append((canary, seen.call))
        for hits in (self._faults.cumulative, self._faults.epoch):
            if not self._flags[bucket] & hits.event:
                self._flags[bucket] |= hits.event
                hits.hit(canary=canary, whole_call=seen.call is not None)

    def _slow(self, bucket: int, group: int, *, canary: bool) -> None:
        self._latency.counts.events[canary][group] += 1
        for hits in (self._latency.cumulative, self._latency.epoch):
            if not self._flags[bucket] & hits.event:
                self._flags[bucket] |= hits.event
                hits.hit(canary=canary)

    def look(self, now: float) -> None:
        """Close a block: judge what was observed. `now` never goes back; call it every few seconds."""
        self._seen.look()
        self._faults.look(now)
        self._latency.look(now)
        if self._scores is not None:
            self._scores.look()

    def change_share(
        self,
        canary_share: float,
        now: float,
        *,
        production_share: float | None = None,
        next_share: float | None = None,
    ) -> None:
        """Another step: the last block is closed, PASS and sizes begin anew, what proves a FAIL goes on.

        `next_share`: share at the step after this one; None for the narrowest margin.
        """
        self.look(now)
        self._buckets.assign(*self._ranges(canary_share, production_share))
        self._faults.change_share(now, self._limits.margin(next_share))
        self._latency.change_share(now, self._limits.max_slow_increase)
        self._seen.restart()
        if self._scores is not None:
            self._buckets.clear(SCORED)
            self._scores.restart()
        self._step_at = now
        self._begin_step()

    def report(self, now: float) -> Report:
        """What was known at the last look, told at `now`."""
        faults = telling.faults(self._faults, now, self._seen, self._excused)
        latency = telling.latency(self._latency, now, self._seen, self._edge.seconds, self._durations)
        scores = None if self._scores is None else self._scores.report()
        judging = [
            check.verdict for check in (faults, latency, *((scores,) if scores else ())) if check.judges
        ]
        verdict = worst(judging)
        if verdict is Verdict.PASS and scores is not None and scores.outputs[0].uncounted:
            verdict = Verdict.NOT_ENOUGH_DATA
        expected = self._seen.share_of_buckets
        split = Verdict.PASS if self._seen.enough(expected) else Verdict.NOT_ENOUGH_DATA
        return Report(
            verdict=verdict,
            share=len(self._buckets.canary) / BUCKETS,
            seconds=max(0.0, now - self._started_at),
            step_seconds=max(0.0, now - self._step_at),
            faults=faults,
            latency=latency,
            scores=scores,
            split=SplitCheck(
                check="split",
                verdict=Verdict.FAIL if self._seen.alarmed else split,
                judges=False,
                expected_share=expected,
                observed_share=self._seen.observed,
                pair_share=(len(self._buckets.canary) + len(self._buckets.production)) / BUCKETS,
                ln_e=self._seen.ln_e,
            ),
            left_out=self._left_out,
        )
