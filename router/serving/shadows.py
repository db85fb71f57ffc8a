"""Copies of what production was asked go to other versions, in idle time; nobody gets their answers.

What production answered is on its way to its caller by then. A copy is in memory until it was compared, and
nowhere else.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Protocol

from router.core.backoff import Backoff
from router.core.events import Recorder
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.routing import Assignment, ModelRoutes, Reason
from router.core.scores import middle_of
from router.core.shadow import ShadowRange, Took, faults, shadow_ranges
from router.core.shadow_events import ShadowCompared, ShadowDropped, ShadowDropReason
from router.core.split import Split
from router.errors import CallerGone, RequestRefused, VersionUnloaded, WorkerDied
from router.protocol.messages import Answer, PredictStatus, Query
from router.protocol.shadow_frames import Compared, ShadowQuery
from router.serving.effects import left_out
from router.serving.harness import Harness
from router.serving.idle_processors import IdleProcessors
from router.serving.pool.request_queue import PendingRequest
from router.settings import ModelSettings
from router.settings.shadow import ShadowSettings

MOST_WAITING = 64
"""Copies that wait for one version."""
MOST_BYTES = 16 << 20
"""Of these, with the answers that they are compared with."""
LONGEST_ANSWER = 1 << 20
"""Bytes of an answer of production that is compared; of a longer one only whether both could answer is."""
WAIT_SECONDS = 5.0
"""For which a copy waits for an idle worker; then it is dropped."""
LOOK_SECONDS = 0.005
"""Between two looks for an idle worker, while copies wait."""
RESTS = (2.0, 10.0, 20.0)
"""Seconds without a shadow after the first, second, … in a row that ended a worker, or was not over in time:
its users have no worker meanwhile."""
FORGIVEN_SECONDS = 60.0
"""Without such a one, after which the next is the first again."""
PAUSE, PAUSE_WITH_USERS = 1.0, 19.0
"""How many times as long as its last shadow took a version gets no other one: shadows have half of its time,
or a twentieth while it has users, who may wait for one, and whose latencies are compared."""

_HASH = Reason.HASH
_BUSY, _FULL, _UNKNOWN = ShadowDropReason.BUSY, ShadowDropReason.QUEUE_FULL, ShadowDropReason.UNKNOWN


class ShadowModel(Protocol):
    """The model whose requests are copied; all of it is read at each use."""

    @property
    def settings(self) -> ModelSettings:
        """In force now."""

    @property
    def harnesses(self) -> Mapping[VersionId, Harness]:
        """Of every version that is here."""


@dataclass(frozen=True, slots=True)
class _Shadow:
    """A copy of one request, and how production took it."""

    query: Query
    answer: bytes | None
    """Production's, where it is good and not too long."""
    production: "_Taken"
    bucket: int
    split: Split
    any_length: bool
    """Whether answers of another number of rows than the request has are usual."""
    retried: bool
    """Whether production's predict was one whose failed requests are asked once more; so is the next."""
    retried_after_end: bool
    """The same where the worker ended."""
    expires_at: float
    is_second: bool = False
    """Whether the version has failed it once. Then it waits for an idle worker for as long as it takes."""

    @property
    def size(self) -> int:
        return len(self.query.body) + len(self.answer or b"")

    @property
    def stays(self) -> bool:
        """Whether it is sent however busy all is meanwhile. A fault is known already, which may be why: to
        drop it would drop faults of that version alone, and equal ones would look different."""
        return self.is_second or self.production.ended_worker


@dataclass(frozen=True, slots=True)
class _Taken:
    """How a version took a request; length apart, of which only both together can say whether it is wrong."""

    took: Took
    odd_length: bool = False
    answer_rows: int | None = None
    seconds: float = 0.0
    ended_worker: bool = False


_ENDED_WORKER = _Taken(Took.FAILED, ended_worker=True)


@dataclass(slots=True)
class _Pace:
    """How soon a version gets its next shadow, under whichever alias."""

    rests: Backoff = field(default_factory=lambda: Backoff(RESTS))
    failed_at: float = -inf
    """When the last rest began."""
    over_at: float = -inf
    """When its last shadow was over…"""
    took: float = 0.0
    """…and for how many seconds it had run."""

    def not_before(self, *, with_users: bool) -> float:
        pause = self.took * (PAUSE_WITH_USERS if with_users else PAUSE)
        return max(self.over_at + pause, self.rests.not_before)

    def compared(self, now: float) -> None:
        if now - self.failed_at > FORGIVEN_SECONDS:
            self.rests = self.rests.reset()

    def failed(self, now: float) -> None:
        self.rests, self.failed_at = self.rests.failed(now), now


@dataclass(slots=True, eq=False)
class _Lane:
    """What goes to one version under one alias."""

    range: ShadowRange
    waiting: deque[_Shadow] = field(default_factory=deque)
    size: int = 0
    """Bytes of these."""
    handle: asyncio.Handle | None = None
    """The next look."""
    counts: Counter[str] = field(default_factory=Counter)
    """Of what was compared, and of what was dropped, by reason."""

    def put_first(self, shadow: _Shadow) -> None:
        self.waiting.appendleft(shadow)
        self.size += shadow.size

    def put(self, shadow: _Shadow) -> None:
        self.waiting.append(shadow)
        self.size += shadow.size

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        counts = self.counts
        return {
            "buckets": [self.range.first, self.range.end],
            "version": self.range.version.number,
            "waiting": len(self.waiting),
            "bytes": self.size,
            "compared": counts["compared"],
            "canary_faults": counts["canary_faults"],
            "production_faults": counts["production_faults"],
            "dropped": {str(reason): counts[reason] for reason in ShadowDropReason},
        }

    def take(self) -> _Shadow:
        shadow = self.waiting.popleft()
        self.size -= shadow.size
        return shadow

    def let_go(self, now: float, *, busy: bool) -> int:
        """Of copies whose time is over, and while it is `busy` of all but those that stay; how many went."""
        before = len(self.waiting)
        self.waiting = deque(one for one in self.waiting if one.expires_at > now and (one.stays or not busy))
        self.size = sum(one.size for one in self.waiting)
        return before - len(self.waiting)


class Shadows:
    """Sends copies of one model's requests, one at a time to each version, and records what came of them.

    `follow` whenever routes, versions or settings may have changed: what is not to be shadowed any more is
    dropped when it returns. `offer` what production was asked, after it answered. `close` ends it.
    """

    def __init__(self, model: ShadowModel, recorder: Recorder, idle: IdleProcessors) -> None:
        self._model = model
        self._recorder = recorder
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[Alias, _Lane] = {}
        self._left_out: dict[Alias, str] = {}
        """Why aliases get no copies though the settings say so."""
        self._paces: dict[VersionId, _Pace] = {}
        """Of every version that gets copies."""
        self._with_users: frozenset[VersionId] = frozenset()
        """Versions that have a share in force."""
        self._running: dict[VersionId, asyncio.Task[None]] = {}
        idle.watch(self)

    def offer(
        self,
        assigned: Assignment,
        query: Query,
        result: Answer | RequestRefused,
        pending: PendingRequest | None,
        *,
        any_length: bool,
    ) -> None:
        """Production was given `query`, and took it like that; nothing happens before the loop's next turn.

        `any_length`: as of `Dispatcher`, before it answered. Only what the split gave to production by its
        caller's key is copied.
        """
        bucket, split = assigned.bucket, assigned.split
        if assigned.reason is not _HASH or assigned.alias != PRODUCTION or bucket is None or split is None:
            return
        for lane in self._lanes.values():
            if lane.range.first <= bucket < lane.range.end and lane.range.production == assigned.version:
                if isinstance(result, CallerGone):
                    return
                if (taken := _taken_by_production(result)) is None:
                    self._drop(lane, _UNKNOWN)
                elif not (self._is_idle if taken.ended_worker else self._may_run(lane)):
                    self._drop(lane, _BUSY)
                else:
                    body = result.body if isinstance(result, Answer) else b""
                    comparable = taken.took is Took.ANSWERED and len(body) <= LONGEST_ANSWER
                    batch = pending.batch if pending is not None else None
                    self._put(
                        lane,
                        _Shadow(
                            query,
                            body if comparable else None,
                            taken,
                            bucket,
                            split,
                            any_length,
                            batch is not None and batch.is_retried(ended_worker=False),
                            batch is not None and batch.is_retried(ended_worker=True),
                            self._loop.time() + WAIT_SECONDS,
                        ),
                    )

    def follow(self, routes: ModelRoutes, settings: ShadowSettings) -> None:
        """Shadow whom the settings name, as far as these routes allow it."""
        ranges = shadow_ranges(routes, settings.shares)
        self._left_out = {one.alias: why for one in ranges if (why := self._effects(one, settings))}
        lanes = {}
        for one in ranges:
            if one.alias in self._left_out:
                continue
            former = self._lanes.pop(one.alias, None)
            if former is not None and (former.range.version, former.range.production) == (
                one.version,
                one.production,
            ):
                former.range = one
                lanes[one.alias] = former
            else:
                if former is not None:
                    self._end(former)
                lanes[one.alias] = _Lane(one)
        ended, self._lanes = self._lanes, lanes
        for lane in ended.values():
            self._end(lane)
        versions = {lane.range.version for lane in lanes.values()}
        self._paces = {version: self._paces.get(version, _Pace()) for version in versions}
        shares = routes.split_in_force.shares()
        self._with_users = frozenset(version for alias, version in routes.bound.items() if shares.get(alias))

    def close(self) -> None:
        """Drop what waits, and forget what runs."""
        self._idle.unwatch(self)
        ended, self._lanes = self._lanes, {}
        for lane in ended.values():
            self._end(lane)
        for task in self._running.values():
            task.cancel()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, by alias: which buckets are copied, what waits, and what came of it so far; only why,
        of one that is left out. Empty while there is none."""
        going: dict[str, Any] = {alias: lane.to_json() for alias, lane in self._lanes.items()}
        return {**going, **{alias: {"left_out": why} for alias, why in self._left_out.items()}}

    def _effects(self, one: ShadowRange, settings: ShadowSettings) -> str:
        harnesses = (self._model.harnesses.get(version) for version in (one.version, one.production))
        infos = [harness.info for harness in harnesses if harness is not None and harness.info is not None]
        return left_out(settings.effects, *infos)

    @property
    def _is_idle(self) -> bool:
        """Whether processors are idle."""
        settings, idle = self._model.settings.shadow, self._idle.share
        return settings is not None and idle is not None and idle >= settings.min_idle

    def _may_run(self, lane: _Lane) -> bool:
        """Whether processors are idle, and production has nobody waiting."""
        production = self._model.harnesses.get(lane.range.production)
        waits = production is None or not production.loaded or production.pool.keeps_waiting
        return self._is_idle and not waits

    def _put(self, lane: _Lane, shadow: _Shadow) -> None:
        if len(lane.waiting) >= MOST_WAITING or lane.size + shadow.size > MOST_BYTES:
            self._drop(lane, _FULL)
            return
        lane.put(shadow)
        if lane.handle is None:
            lane.handle = self._loop.call_soon(self._look, lane)

    def _look(self, lane: _Lane) -> None:
        """Hand the next copy over, or look again a little later."""
        lane.handle, now, version = None, self._loop.time(), lane.range.version
        for _ in range(lane.let_go(now, busy=not self._may_run(lane))):
            self._drop(lane, _BUSY)
        if not lane.waiting or version in self._running:
            return  # the end of the one that runs calls it
        not_before = self._paces[version].not_before(with_users=version in self._with_users)
        if not_before > now or not self._hand_over(lane):
            lane.handle = self._loop.call_later(LOOK_SECONDS, self._look, lane)

    def _hand_over(self, lane: _Lane) -> bool:
        """Have an idle worker of the version answer the next copy; False where there is none."""
        harness, version = self._model.harnesses.get(lane.range.version), lane.range.version
        if harness is None or not harness.loaded:
            return False
        asked = harness.pool.shadow_idle(self._question(lane))
        if asked is None:
            return False
        comparison = self._compare(lane, lane.take(), asked.comparison, self._paces[version])
        task = self._running[version] = self._loop.create_task(comparison, name=f"shadow {version}")
        task.add_done_callback(lambda _: self._ended(version))
        return True

    def _question(self, lane: _Lane) -> ShadowQuery:
        shadow, settings = lane.waiting[0], self._model.settings.shadow
        cut_off = settings.cut_off if settings is not None else None
        if cut_off is None:
            production = self._model.harnesses.get(lane.range.production)
            info = production.info if production is not None else None
            cut_off = middle_of(next(iter(info.scores), None) if info is not None else None)
        return ShadowQuery(shadow.query, shadow.answer, cut_off)

    async def _compare(
        self, lane: _Lane, shadow: _Shadow, comparison: asyncio.Future[Compared], pace: _Pace
    ) -> None:
        began_at = self._loop.time()
        compared: Compared | None = None
        canary: _Taken | None = None
        try:
            # As long as production had: what both have the same chance to miss says nothing.
            async with asyncio.timeout(self._model.settings.timeout_seconds):
                compared = await comparison
            canary = _taken(
                compared.status,
                compared.odd_length,
                compared.answer_rows,
                compared.predict_seconds,
                all_nan=compared.all_nan,
            )
            pace.compared(self._loop.time())
        except VersionUnloaded:
            pass
        except (TimeoutError, RequestRefused) as ended:
            canary = _taken_by_end(ended)
            pace.failed(self._loop.time())
        pace.over_at = self._loop.time()
        pace.took = pace.over_at - began_at
        if canary is None or self._lanes.get(lane.range.alias) is not lane:
            self._drop(lane, _UNKNOWN)
        elif self._asks_again(shadow, canary):
            lane.put_first(replace(shadow, is_second=True, expires_at=inf))
        else:
            self._record(lane, shadow, canary, compared)

    def _asks_again(self, shadow: _Shadow, canary: _Taken) -> bool:
        """Whether the version gets a second chance, as production's request had, or would have had.

        Where several share a predict that fails, each is asked once more. A version whose shadows never share
        one would be at fault more often than an equal one.
        """
        at_fault = _at_fault(shadow, canary) == (False, True)
        retried = shadow.retried or (canary.ended_worker and shadow.retried_after_end)
        return at_fault and retried and not shadow.is_second

    def _record(self, lane: _Lane, shadow: _Shadow, canary: _Taken, compared: Compared | None) -> None:
        production_fault, canary_fault = _at_fault(shadow, canary)
        production = shadow.production
        lane.counts.update(
            compared=1,
            production_faults=production_fault and not canary_fault,
            canary_faults=canary_fault and not production_fault,
        )
        found = compared if production.took is canary.took is Took.ANSWERED else None
        self._recorder.record(
            ShadowCompared(
                lane.range.alias,
                lane.range.version,
                lane.range.production,
                shadow.split,
                shadow.bucket,
                production_fault,
                canary_fault,
                same_type=found is None or found.same_type,
                same_length=found is None or production.answer_rows == canary.answer_rows,
                flips=0 if found is None else found.flips,
                rows=0 if found is None else found.compared_rows,
                difference=None if found is None else found.difference,
                production_seconds=production.seconds,
                canary_seconds=canary.seconds,
            )
        )

    def _ended(self, version: VersionId) -> None:
        self._running.pop(version, None)
        for lane in self._lanes.values():
            if lane.range.version == version and lane.waiting and lane.handle is None:
                lane.handle = self._loop.call_soon(self._look, lane)

    def _end(self, lane: _Lane) -> None:
        if lane.handle is not None:
            lane.handle.cancel()
            lane.handle = None
        while lane.waiting:
            lane.take()
            self._drop(lane, _UNKNOWN)

    def _drop(self, lane: _Lane, reason: ShadowDropReason) -> None:
        lane.counts[reason] += 1
        self._recorder.record(ShadowDropped(lane.range.alias, lane.range.version, reason))


def _taken_by_production(result: Answer | RequestRefused) -> _Taken | None:
    """None where it is not known what would have come of it."""
    if isinstance(result, Answer):
        return _taken(
            result.predict_status,
            result.odd_length,
            result.answer_rows,
            result.predict_seconds,
            all_nan=result.all_nan,
        )
    return _taken_by_end(result)


def _taken_by_end(why: Exception) -> _Taken | None:
    """None unless the version's own predict ended its worker. Whoever takes too much memory, the kernel
    chooses whom it ends for that, and those are canaries first."""
    own = isinstance(why, WorkerDied) and not isinstance(why, VersionUnloaded) and not why.out_of_memory
    return _ENDED_WORKER if own else None


def _taken(
    status: PredictStatus, odd_length: bool, answer_rows: int | None, seconds: float, *, all_nan: bool
) -> _Taken:
    if status is PredictStatus.CLIENT_ERROR:
        return _Taken(Took.REFUSED, seconds=seconds)
    if status is not PredictStatus.OK or all_nan:
        return _Taken(Took.FAILED, seconds=seconds)
    return _Taken(Took.ANSWERED, odd_length, answer_rows, seconds)


def _at_fault(shadow: _Shadow, canary: _Taken) -> tuple[bool, bool]:
    """Production's fault, and the canary's."""
    production = shadow.production
    ours, theirs = production.took, canary.took
    # A wrong length is a fault only where the other version answered one item per row.
    if ours is theirs is Took.ANSWERED and not shadow.any_length:
        if production.odd_length and not canary.odd_length:
            return True, False
        if canary.odd_length and not production.odd_length:
            return False, True
    return faults(ours, theirs)
