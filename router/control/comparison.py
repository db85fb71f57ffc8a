"""Compares every further alias with production: facts in, one verdict each, judged anew every few seconds."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any

from router.control.compared import Compared, Lane, obstacle_to
from router.control.rollout import Pair, Rollout, Shares
from router.control.windows import Tally
from router.core import events
from router.core.events import Answered, Predicted
from router.core.evidence import Observation
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.outcomes import Outcome
from router.core.routing import ModelRoutes, Reason
from router.core.split import BUCKETS
from router.serving.manager import OPERATOR_RESET, ModelManager, split_in_force
from router.serving.models import ModelSet

LOOK_SECONDS = 2.0
"""Between two looks; the evidence allows any number of them."""
_CHANGES = (events.AliasAspired, events.AliasBound, events.AliasUnbound, events.SplitInForce)
_HASH = Reason.HASH
_OK, _ABANDONED = Outcome.OK, Outcome.ABANDONED
"""Under a name of its own: an enumeration looks its members up, and this is asked with every request."""


class Comparison:
    """Implements `Recorder`: the evidence of every rollout. What it knows ends with the process."""

    def __init__(
        self,
        fleet: Callable[[], ModelSet],
        tell: Callable[[events.Event], None],
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`tell` gets a `VerdictChanged` for each verdict that changed; `wall` is seconds since 1970."""
        self.models: dict[str, Mapping[Alias, Compared]] = {}
        """By model and further alias."""
        self._fleet = fleet
        self._tell = tell
        self._wall = wall
        self._monotonic = monotonic
        self._lanes: dict[tuple[str, Alias], Lane] = {}
        self._rollouts: dict[tuple[str, Alias], Rollout] = {}
        """The newest of each alias, also while it rests: the same two versions may meet again."""
        self._takes: dict[type, Callable[[Any], None]] = {
            Answered: self._answered,
            Predicted: self._predicted,
            events.BreakerClosed: self._breaker_closed,
            **dict.fromkeys(_CHANGES, self._changed),
        }

    def record(self, event: events.Event) -> None:
        """Take one fact."""
        if (take := self._takes.get(type(event))) is not None:
            take(event)

    async def tick(self) -> None:
        """Judge every rollout, and tell which verdicts changed.

        Others have their turn between two of them: each takes about a millisecond.
        """
        for model in {*self._fleet().managers, *self.models}:
            self._follow(model)
        now = self._monotonic()
        for lane in self._lanes.values():
            lane.tally.tick(now)
        for model, alias, rollout in list(self.rollouts()):
            if self._rollouts.get((model, alias)) is rollout:  # else it ended while others had their turn
                self._judge(model, alias, rollout)
            await asyncio.sleep(0)

    def rollouts(self) -> Iterator[tuple[str, Alias, Rollout]]:
        """Those of the versions that serve now, also while they rest."""
        for model, aliases in self.models.items():
            for alias, compared in aliases.items():
                if compared.rollout is not None:
                    yield model, alias, compared.rollout

    def window_seconds(self, rollout: Rollout) -> float:
        """How much time its sliding window covers."""
        return rollout.window.seconds(self._monotonic())

    def _judge(self, model: str, alias: Alias, rollout: Rollout) -> None:
        rollout.look(self._monotonic())
        compared, before = self.models[model][alias], rollout.told
        if (verdict := compared.verdict) != before:
            rollout.told = verdict
            pair, why = rollout.pair, compared.why
            self._tell(
                events.VerdictChanged(model, alias, pair.version, pair.production, before, verdict, why)
            )

    def _answered(self, event: Answered) -> None:
        lane = self._lanes.get((event.model, event.alias))
        if lane is None or (event.version is not lane.version and event.version != lane.version):
            return
        lane.tally.answered(event)
        fault, bucket = event.fault, event.bucket
        abandoned = event.outcome == _ABANDONED
        # What was never asked says nothing of a version, nor do bytes that their caller got wrong.
        if (
            (lane.rollouts or lane.left)
            and event.reason is _HASH
            and bucket is not None
            and (fault or abandoned or event.outcome == _OK)
        ):
            seconds = None if fault else event.seconds
            seen = Observation(
                bucket, lane.canary, bool(fault), seconds, event.mark, event.call, event.excused, abandoned
            )
            for rollout in lane.rollouts:
                rollout.observe(seen)
            if lane.left and self._monotonic() - event.seconds <= lane.left_at:
                for rollout in lane.left:
                    rollout.observe(seen)

    def _predicted(self, event: Predicted) -> None:
        if not event.scores:
            return
        lane = self._lanes.get((event.model, event.alias))
        if lane is not None and (event.version is lane.version or event.version == lane.version):
            lane.tally.scored(event.scores)

    def _changed(self, event: Any) -> None:
        self._follow(event.model)

    def _breaker_closed(self, event: events.BreakerClosed) -> None:
        if event.why == OPERATOR_RESET:
            # What was at fault is mended, says who must know: from here on it is another rollout.
            self._rollouts.pop((event.model, event.alias), None)
            self._follow(event.model)

    def _follow(self, model: str) -> None:
        """Read the routing table: who is compared with whom from this moment on."""
        manager, routes = self._fleet().managers.get(model), self._fleet().table.models.get(model)
        if manager is None or routes is None:
            for known in (self._lanes, self._rollouts):
                for key in [key for key in known if key[0] == model]:
                    del known[key]
            self.models.pop(model, None)
            return
        for alias, version in routes.bound.items():
            self._serve(manager, alias, version)
        resting = {alias: lane.rollouts for (name, alias), lane in self._lanes.items() if name == model}
        for alias in resting:
            self._lanes[model, alias].rollouts = ()
        self.models[model] = {
            alias: self._compare(manager, routes, alias)
            for alias in manager.settings.aliases
            if alias != PRODUCTION
        }
        for alias, compared in self.models[model].items():
            if compared.obstacle and compared.rollout in resting.get(alias, ()):
                # It rests from now on, and what stopped it may be what it did.
                self._judge(model, alias, compared.rollout)
        current = [compared.rollout for compared in self.models[model].values()]
        for alias, before in resting.items():
            lane = self._lanes[model, alias]
            if any(rollout not in lane.rollouts for rollout in before):
                lane.left_at = self._monotonic()
            lane.left = tuple(
                rollout
                for rollout in dict.fromkeys((*lane.left, *before))
                if rollout in current and rollout not in lane.rollouts
            )

    def _serve(self, manager: ModelManager, alias: Alias, version: VersionId) -> None:
        harness = manager.harnesses.get(version)
        info = harness.info if harness is not None else None
        outputs = info.scores if info is not None else ()
        lane = self._lanes.get((manager.model, alias))
        if lane is None or lane.version != version or lane.outputs != outputs:
            tally = Tally([output.marks for output in outputs])
            self._lanes[manager.model, alias] = Lane(version, outputs, tally, alias != PRODUCTION)

    def _compare(self, manager: ModelManager, routes: ModelRoutes, alias: Alias) -> Compared:
        production, version = routes.bound.get(PRODUCTION), routes.bound.get(alias)
        share = split_in_force(routes).in_force.get(alias, 0.0)
        obstacle = obstacle_to(manager, routes, alias)
        rollout = None
        if production is not None and version is not None and production != version:
            rollout = self._rollout(manager, routes, alias, start=not obstacle)
        broken = bool(obstacle) and alias in routes.broken
        return Compared(alias, production, version, share, obstacle, rollout, broken)

    def _rollout(
        self, manager: ModelManager, routes: ModelRoutes, alias: Alias, *, start: bool
    ) -> Rollout | None:
        """That of the versions now bound; a new one where there is none and it may `start`."""
        model, now = manager.model, self._monotonic()
        lanes = self._lanes[model, PRODUCTION], self._lanes[model, alias]
        production, canary = lanes
        both = zip(production.outputs, canary.outputs, strict=False)
        outputs = tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], both))
        pair = Pair(
            production.version, canary.version, routes.salt, outputs, manager.settings.scores.on_shift
        )
        buckets = routes.split.shares()
        shares = Shares(buckets[PRODUCTION] / BUCKETS, buckets.get(alias, 0) / BUCKETS)
        rollout = self._rollouts.get((model, alias))
        if rollout is not None and rollout.pair != pair:
            rollout = None
        if not start:
            return rollout
        if rollout is None:
            tallies = production.tally, canary.tally
            rollout = Rollout(pair, alias, shares, tallies, now=now, timestamp=self._wall())
            self._rollouts[model, alias] = rollout
        rollout.change_shares(shares, now)
        for lane in lanes:
            lane.rollouts = (*lane.rollouts, rollout)
        return rollout
