"""What production served before: the version that a rollback goes back to, kept loaded for a while."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.policy import State
from router.core.rollback import LoadedWorkers, Productions, kept_version, rollback_version
from router.processes.process import Exit
from router.serving.harness import Harness
from router.serving.load_gate import LoadGate
from router.settings import ModelSettings

_LATER_SECONDS = 0.01
"""A timer may fire a little before its time."""


class KeepingModel(Protocol):
    """The model whose production it was; all of it is read at each use."""

    @property
    def settings(self) -> ModelSettings:
        """In force now."""

    @property
    def harnesses(self) -> Mapping[VersionId, Harness]:
        """Of every version that is here."""

    @property
    def aspired(self) -> Mapping[Alias, VersionId]:
        """What shall serve."""

    @property
    def bound(self) -> Mapping[Alias, VersionId]:
        """What serves now."""

    def reconcile(self) -> None:
        """Unload what is kept no more."""


class PreviousProduction:
    """Knows what a rollback of one model goes back to, and says which version stays loaded for that.

    `production_moved` whenever production serves another version, `settle` after anything changed; `close` at
    the end. A version is kept while it is READY with a worker alive, for `keep_previous_seconds` after
    production moved, until the gate needs its memory. It is let go in steps, all workers but one first.
    """

    def __init__(
        self,
        model: KeepingModel,
        gate: LoadGate,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`wall` gives seconds since 1970."""
        self.named: VersionId | None = None
        """What `@previous` names, by the last good poll."""
        self._model = model
        self._gate = gate
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._productions = Productions()
        self._moved_at = float("-inf")
        """Loop time at which production moved last."""
        self._given_up: VersionId | None = None
        """What was let go for its memory since then."""
        self._lost: tuple[VersionId, str] | None = None
        """Which version is kept no more since then, or with one worker, though its time is not over; why."""
        self._settled: VersionId | None = None
        """What was kept at the last `settle`."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def version(self) -> VersionId | None:
        """What a rollback goes back to; None: to nothing."""
        return rollback_version(self._model.bound.get(PRODUCTION), self.named, self._productions.former)

    @property
    def kept(self) -> VersionId | None:
        """The version that stays loaded though no alias asks for it."""
        if self.is_over:
            return None
        model = self._model
        loaded = [version for version, harness in model.harnesses.items() if _can_serve(harness)]
        version = kept_version(
            model.bound.get(PRODUCTION),
            self.named,
            self._productions.former,
            loaded=loaded,
            wanted=[version for version in loaded if self._wants(version)],
        )
        return None if version == self._given_up else version

    @property
    def is_over(self) -> bool:
        """Whether the time is over for which a version is kept, or none is, by the settings."""
        return self._model.settings.in_turn or self._loop.time() >= self._ends_at

    @property
    def until(self) -> float | None:
        """Until when the kept version stays at most, in seconds since 1970; None where none is kept."""
        return self._wall() + self._ends_at - self._loop.time() if self.kept is not None else None

    def workers_of(self, version: VersionId) -> LoadedWorkers | None:
        """The workers of `version`, as a rollback would find them; None where it would have to be loaded."""
        harness = self._model.harnesses.get(version)
        if harness is None or not _can_serve(harness):
            return None
        # One that serves under another alias is loaded anew by itself.
        outdated = harness.is_outdated and not self._wants(version)
        settings = self._model.settings
        wanted = 1 if settings.elsewhere else settings.workers
        return LoadedWorkers(len(harness.pool.workers), wanted, outdated)

    def lost_because(self, version: VersionId) -> str:
        """Why workers of `version` are gone that were kept, though its time is not over; else empty."""
        return self._lost[1] if self._lost is not None and self._lost[0] == version else ""

    def production_moved(self, version: VersionId) -> None:
        """Production serves `version` from now on, which is another one than before."""
        self._productions = self._productions.moved(version)
        self._moved_at = self._loop.time()
        self._given_up = self._lost = None

    def settle(self) -> None:
        """Follow what has changed: what is kept from now on is loaded no further; idempotent."""
        kept, before = self.kept, self._settled
        self._settled = kept
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if kept is None:
            self._gate.keep_no_more(self)
            if before is not None and not (self.is_over or before == self._given_up or self._wants(before)):
                self._lost = before, "its last worker ended"
            return
        self._timer = self._loop.call_at(self._ends_at + _LATER_SECONDS, self._model.reconcile)
        if kept != before:
            self._gate.keep(self)
            self._model.harnesses[kept].stop_loading()

    def close(self) -> None:
        """Keep none any more."""
        self._gate.keep_no_more(self)
        if self._timer is not None:
            self._timer.cancel()

    # From here on: for the gate.

    @property
    def kept_workers(self) -> int:
        """Workers of what is kept."""
        kept = self.kept
        return len(self._model.harnesses[kept].pool.workers) if kept is not None else 0

    @property
    def kept_bytes(self) -> int:
        """What they hold."""
        kept = self.kept
        if kept is None:
            return 0
        return sum(worker.resident().own for worker in self._model.harnesses[kept].pool.workers)

    def give_room(self) -> Sequence[asyncio.Future[Exit]]:
        """Let all workers go but one, or the version. The exits of those that go."""
        kept = self.kept
        if kept is None:
            return ()
        pool = self._model.harnesses[kept].pool
        self._lost = kept, "memory was needed"
        if len(pool.workers) > 1:
            return pool.keep_one_worker()
        self._given_up = kept
        exits = [worker.exited for worker in pool.workers]
        self._model.reconcile()
        return exits

    def _wants(self, version: VersionId) -> bool:
        """Whether an alias serves `version`, or shall."""
        return version in self._model.aspired.values() or version in self._model.bound.values()

    @property
    def _ends_at(self) -> float:
        return self._moved_at + self._model.settings.keep_previous_seconds


def _can_serve(harness: Harness) -> bool:
    """Whether an alias could be bound to it at once, and be answered."""
    return harness.state is State.READY and harness.loaded and harness.pool.can_answer
