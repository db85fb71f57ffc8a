"""One event, faults or slow answers, judged: both FAIL processes, PASS, and when FAIL was said."""

from math import isfinite

from router.analysis.criteria import Limits
from router.analysis.report import Proof
from router.analysis.statistics.bucket_flags import Buckets
from router.analysis.statistics.counts import Counts, Recent, Tally
from router.analysis.statistics.fault_test import (
    EPOCH_REQUESTS,
    FirstHits,
    Fuse,
    cumulative_level,
    epoch_level,
)
from router.analysis.statistics.latency import Bet, Blocks, block_seconds
from router.analysis.statistics.non_inferiority import NoWorse

_ROUNDING = 1e-12


class Rate:
    """The state of one check. `counts` and everything about PASS and size are of this step only."""

    def __init__(
        self,
        buckets: Buckets,
        events: tuple[int, int],
        now: float,
        limits: Limits,
        *,
        alpha: float,
        limit: float,
        margin: float,
        epoch_seconds: float,
        in_blocks: bool,
    ) -> None:
        """`events`: bits of the process from the start, and of the epochs. `alpha`: budget of this check.

        `in_blocks`: FAIL needs the proof by blocks of time, too.
        """
        self.limits, self.alpha, self.limit = limits, alpha, limit
        self.cumulative, self.epoch = (
            FirstHits(buckets, event, workers=limits.canary_workers) for event in events
        )
        self.bet: Bet | None = Bet() if in_blocks else None
        self.epoch_bet: Bet | None = Bet() if in_blocks else None
        self.epoch_number = 1
        self._epoch_seconds = epoch_seconds
        self._epoch_since = now
        self._epoch_carried = 0
        self._begin_step(now, margin)

    def _begin_step(self, now: float, margin: float) -> None:
        self.counts = Counts()
        self.total = Tally()
        self.recent = Recent(now)
        self.no_worse = NoWorse(margin)
        self.failed_at: float | None = None
        self.failed_by = ""
        self._blocks = Blocks(now)
        self._epoch_base = Tally()
        self.fuse = Fuse()
        self._weigh()

    def change_share(self, now: float, margin: float) -> None:
        """Another step. What proves a FAIL goes on with the buckets' new owners; the rest begins anew."""
        self._epoch_carried += self.total.since(self._epoch_base).canary_requests
        self.cumulative.recount()
        self.epoch.recount()
        self._begin_step(now, margin)

    def look(self, now: float) -> None:
        """Close a block, take in new hits, and say FAIL if both proof and size are there."""
        self.total = self.counts.tally()
        self.recent.mark(now, self.total)
        self.no_worse.look(self.total)
        if self.bet is not None and self.epoch_bet is not None:
            difference = self._blocks.close(now, self.total)
            if difference is not None:
                self.bet.add(difference)
                self.epoch_bet.add(difference)
        self.cumulative.look()
        self.epoch.look()
        self._weigh()
        if not self.failed_by:
            self.failed_by = self._who_fails()
            self.failed_at = now if self.failed_by else None
        carried = self._epoch_carried + self.total.since(self._epoch_base).canary_requests
        if now - self._epoch_since >= self._epoch_seconds and carried >= EPOCH_REQUESTS:
            self._begin_epoch(now)

    def _who_fails(self) -> str:
        if self.fuse.blown:
            return "outage"
        proofs = (("cumulative", self.cumulative_proof), ("epoch", self.epoch_proof))
        return next((name for name, proof in proofs if proof.proven and proof.large), "")

    def _weigh(self) -> None:
        self.cumulative_proof = self._proof(
            self.cumulative, self.bet, cumulative_level(self.alpha), self.total
        )
        since = self.total.since(self._epoch_base)
        self.epoch_proof = self._proof(
            self.epoch, self.epoch_bet, epoch_level(self.alpha, self.epoch_number), since
        )

    def _proof(self, hits: FirstHits, bet: Bet | None, level: float, counts: Tally) -> Proof:
        in_blocks = None if bet is None else bet.ln_e
        proven = hits.ln_e >= level and (in_blocks is None or in_blocks >= level)
        large = hits.canary_hits >= self.limits.min_hit_keys and (
            self._is_large(counts) or self._is_large(self.recent.tally(self.total))
        )
        return Proof(hits.ln_e, level, in_blocks, proven, large)

    def seconds_in_blocks(self, now: float, canary_per_second: float) -> float | None:
        """Until the proof by blocks of time is there, if the difference of this step stays.

        0 where none is needed; None when it would take too long, or the canary has no requests.
        """
        if self.bet is None:
            return 0.0
        difference = self.total.difference
        if difference is None:
            return None
        blocks = self.bet.blocks_until(cumulative_level(self.alpha), difference)
        if not blocks:
            return blocks
        first = self._blocks.seconds_left(now, self.total, canary_per_second)
        seconds = first + (blocks - 1) * block_seconds(canary_per_second)
        return seconds if isfinite(seconds) else None

    def _is_large(self, counts: Tally) -> bool:
        difference = counts.difference
        enough = counts.canary_requests >= self.limits.min_requests
        return enough and difference is not None and difference >= self.limit - _ROUNDING

    def _begin_epoch(self, now: float) -> None:
        # E is not multiplied over epochs: they see the same users again. Each has its own part of alpha
        # instead.
        self.epoch_number += 1
        self._epoch_since = now
        self._epoch_carried = 0
        self._epoch_base = self.total
        self.epoch.restart()
        if self.epoch_bet is not None:
            self.epoch_bet = Bet()
