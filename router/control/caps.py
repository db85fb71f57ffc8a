"""Sets and lifts caps, takes over those of other gateways, and turns every canary off by break-glass.

A cap is in force in the same turn of the event loop in which it is asked for, and is written afterwards; one
is lifted when that is written. What can not be written is reported, and nothing waits for it for long.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from router.core.caps import (
    KEPT_SECONDS,
    LONGEST_REASON,
    PREFLIGHT,
    BreakGlass,
    CapRecord,
    Caps,
    CapTarget,
    most_worth,
    records_to_json,
)
from router.core.events import BreakerClosed, BreakerOpened, Recorder
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.lever_events import BreakGlassOff, BreakGlassOn, CapLifted, CapSet
from router.core.redaction import redact
from router.core.split import BUCKETS, BUCKETS_PER_PERCENT
from router.errors import CapUnknown, NothingServed
from router.serving.caps import CapsInForce, passage_of
from router.serving.manager import OPERATOR_RESET, ModelManager
from router.serving.models import ModelSet

LONGEST_WRITE_SECONDS = 2.0
"""For which a verb waits until its change is durable."""
MOST_FOREIGN = 500
"""Records of models that are not configured here, as far as others send them: what leads to another fleet by
mistake must not take the room of caps that are needed."""
MOST_SHOWN = 50
"""Caps of one model in `/v1/state`."""
BREAKER = "breaker"
"""Who opened or closed one, in its record."""
GATE = "gate"
"""Who let a version through, in its record."""
NOT_KEPT = "this gateway writes no caps to disk: a restart forgets them, unless another gateway has them"


class OnChange(Protocol):
    """Makes caps durable."""

    async def __call__(self, caps: Caps) -> str:
        """Write all records; returns why that was not possible, empty when it is done.

        May be cancelled, after `LONGEST_WRITE_SECONDS`. Not called again before it has ended.
        """


class CapControl:
    """Changes the caps in force.

    All methods that change something are synchronous: what they lower is lowered when they return. What they
    raise is raised once `on_change` has ended, whether it could write or not; `settled` waits for that.
    """

    def __init__(
        self,
        in_force: CapsInForce,
        models: ModelSet,
        recorder: Recorder,
        wall: Callable[[], float],
        on_change: OnChange | None = None,
    ) -> None:
        """`wall` is seconds since 1970. Without `on_change` nothing is durable."""
        self.not_durable_because = "" if on_change else NOT_KEPT
        """Why the last change was not durable when it was last written; empty where it was."""
        self._in_force = in_force
        self._models = models
        self._recorder = recorder
        self._wall = wall
        self._on_change = on_change
        in_force.breakers = in_force.passages = in_force.holds = self
        self._known = in_force.caps
        """The caps in force, and what is lifted as soon as that is written."""
        self._unwritten = False
        self._writing: asyncio.Task[None] | None = None
        self._configured: frozenset[str] = frozenset()
        self._left_at: dict[str, float] = {}
        """When each model with caps was first missed in the configuration, by this process."""

    # What holds

    @property
    def glass_broken(self) -> bool:
        """Whether every canary is off."""
        return self._in_force.break_glass is not None

    @property
    def known(self) -> Caps:
        """All records, also those that are not in force yet; the same object until one changes."""
        return self._known

    def break_glass_to_json(self) -> dict[str, Any] | None:
        """Since when, in seconds since 1970, and why every canary is off; None when it is not."""
        glass = self._in_force.break_glass
        return {"since": glass.since, "why": redact(glass.why)} if glass else None

    def records(self) -> dict[str, Any]:
        """All records as JSON, lifted ones included: the document of `/v1/caps`."""
        return records_to_json(self._known)

    def records_to_show(self) -> dict[str, Any]:
        """The same for whoever can reach the traffic port: texts without credentials, hosts and addresses."""
        document = records_to_json(self._known)
        for record in document["records"]:
            for key in ("by", "reason"):
                record[key] = redact(record[key])[:LONGEST_REASON]
        return document

    def of_model(self, model: str) -> list[dict[str, Any]]:
        """JSON-ready: the caps in force, those of what serves now first, then the newest first."""
        manager = self._models.managers.get(model)

        def order(cap: tuple[CapTarget, CapRecord]) -> tuple[bool, float]:
            target, record = cap
            return not (manager is None or _concerns(target, manager)), -record.at

        caps = sorted(self._in_force.caps.in_force(model), key=order)[:MOST_SHOWN]
        return [cap_to_json(*cap) for cap in caps]

    def alerts(self) -> set[str]:
        """Those that set a cap which is known, as the last one that did; also where it was lifted since."""
        return {record.alert for record in self._known.records.values() if record.alert}

    # What is meant

    def targets(
        self, model: str, alias: str | None = None, version: int | None = None, *, all_versions: bool = False
    ) -> list[CapTarget]:
        """What is capped where this is asked for; without an alias, all but production.

        Without a version it is the one that serves, or where none does, the one that is to. Raises
        CapRefused.
        """
        manager = self._models.managers.get(model)
        if manager is None:
            raise CapUnknown("model: no such registered model here")
        aliases = [one for one in manager.settings.split.shares() if one != PRODUCTION]
        if alias is not None:
            aliases = [self._known_alias(alias, aliases)]
        if all_versions:
            return [CapTarget(model, one) for one in aliases]
        if version is None:
            served = [(one, manager.bound.get(one) or manager.aspired.get(one)) for one in aliases]
            targets = [CapTarget(model, one, found.number) for one, found in served if found is not None]
            if not targets:
                raise NothingServed(
                    f"alias: nothing serves as {' or '.join(aliases)} now; all_versions caps whatever comes"
                )
            return targets
        if version not in self._versions(manager):
            raise CapUnknown(f"version: v{version} is neither served here nor to be")
        serving = [one for one in aliases if version in _numbers(manager, one)]
        return [CapTarget(model, one, version) for one in serving or aliases]

    def next_versions(self, targets: Iterable[CapTarget]) -> list[CapTarget]:
        """What is to serve after `targets`, as soon as it is loaded, and is not capped by them."""
        found = []
        for target in targets:
            aspired = self._models.managers[target.model].aspired.get(target.alias)
            if target.version is not None and aspired is not None and aspired.number != target.version:
                found.append(CapTarget(target.model, target.alias, aspired.number))
        return found

    def caps_of(self, model: str, alias: str | None = None, version: int | None = None) -> list[CapTarget]:
        """What is capped now, and would be resumed where this is asked for. Raises CapRefused."""
        caps = [target for target, _ in self._known.in_force(model)]
        manager = self._models.managers.get(model)
        if manager is None and not caps:
            raise CapUnknown("model: no such registered model here")
        aliases = {target.alias for target in caps}
        if manager is not None:
            aliases |= manager.settings.split.shares().keys() - {PRODUCTION}
        if alias is not None:
            self._known_alias(alias, aliases)
        known = {target.version for target in caps} | (self._versions(manager) if manager else set())
        if version is not None and version not in known:
            raise CapUnknown(f"version: v{version} is neither capped nor served here")
        return [one for one in caps if alias in (None, one.alias) and version in (None, one.version)]

    # Changes

    def cap(
        self, targets: Iterable[CapTarget], share: int, *, by: str, reason: str, alert: str = ""
    ) -> dict[CapTarget, CapRecord]:
        """Leave at most `share` buckets to each of `targets`; returns what holds of each from now on: that is
        the former cap, where that is as low already."""
        known, wanted = self._known, list(targets)
        for target in wanted:
            known = known.capped(target, share, by=by, reason=reason, at=self._wall(), alert=alert)
        self._change(known)
        return {target: self._known.records[target] for target in wanted}

    def lift(self, targets: Iterable[CapTarget], *, by: str, reason: str) -> list[CapTarget]:
        """Give `targets` their shares back, as far as no other cap or breaker is there; returns those that
        have no cap now, which are all but those whose counter is at its end."""
        wanted = list(targets)
        self._change(self._known.lifted(wanted, by=by, reason=reason, at=self._wall()))
        records = self._known.records
        return [one for one in wanted if one not in records or records[one].share is None]

    def breaker_opened(self, alias: Alias, version: VersionId, why: str) -> None:
        """Implements `BreakerRecords`: it is written, and other gateways open theirs."""
        target = CapTarget(version.model, alias, version.number, breaker=True)
        self._note(target, self._known.capped(target, 0, by=BREAKER, reason=why, at=self._wall()))

    def breaker_closed(self, alias: Alias, version: VersionId, why: str) -> None:
        """Implements `BreakerRecords`: written after it is closed, and not before as a cap is that is lifted.

        Should this process end in between, it is open again: the safe side.
        """
        target = CapTarget(version.model, alias, version.number, breaker=True)
        self._note(target, self._known.lifted([target], by=BREAKER, reason=why, at=self._wall()))

    def hold(self, alias: Alias, version: VersionId, why: str) -> None:
        """Implements `HoldRecords`, by a cap of 0."""
        target = CapTarget(version.model, alias, version.number)
        self.cap([target], 0, by=PREFLIGHT, reason=why[:LONGEST_REASON], alert=PREFLIGHT)

    def passed(self, version: VersionId, why: str, *, override: bool) -> None:
        """Implements `PassageRecords`."""
        target = passage_of(version)
        known = self._known.passed(target, by=GATE, reason=why, at=self._wall(), override=override)
        self._note(target, known)

    def serves_no_more(self, version: VersionId) -> None:
        """Implements `PassageRecords`."""
        target = passage_of(version)
        if self._in_force.passage(version) is not None:
            known = self._known.capped(target, 0, by=GATE, reason="it serves no more", at=self._wall())
            self._note(target, known)

    def break_off(self, alias: Alias, version: VersionId, why: str) -> None:
        """Open the breaker of `version` under `alias`; where that does not serve yet, for when it does."""
        manager = self._models.managers.get(version.model)
        breaker = manager.breakers.of(alias, version) if manager is not None else None
        target = CapTarget(version.model, alias, version.number, breaker=True)
        if breaker is not None:
            breaker.open(why)
        elif target not in self._known.open_breakers(version.model):
            self._recorder.record(BreakerOpened(version.model, alias, version, why, 0, 0, 0))
            self.breaker_opened(alias, version, why)

    def reset_breakers(self, model: str) -> None:
        """An operator says that the canaries of `model` shall have their shares back, also those of versions
        that serve nowhere now. Raises CapUnknown."""
        manager = self._models.managers.get(model)
        if manager is None:
            raise CapUnknown("model: no such registered model here")
        manager.reset_breakers()
        others = list(self._known.open_breakers(model))
        self._change(self._known.lifted(others, by=BREAKER, reason=OPERATOR_RESET, at=self._wall()))
        for target in others:
            assert target.version is not None, "a breaker is that of one version"
            version = VersionId(model, target.version)
            self._recorder.record(BreakerClosed(model, target.alias, version, OPERATOR_RESET))

    def merge(self, records: Mapping[CapTarget, CapRecord], *, only_lower: bool = False) -> bool:
        """Take over what another gateway knows; returns whether any of it was news.

        `only_lower`: of `records` only those that leave an alias less than it has now count.
        """
        forgotten = self._forgotten()
        before = self._known
        if only_lower:
            records = {t: r for t, r in records.items() if _share(r) < _share(before.records.get(t))}
        news = {t: r for t, r in records.items() if t.model not in forgotten}
        foreign = [t for t in news if t not in before.records and not self._is_ours(t.model)]
        room = MOST_FOREIGN - sum(1 for t in before.records if not self._is_ours(t.model))
        left_out = set(foreign) - set(most_worth(news, foreign, room))
        self._change(before.merged({t: r for t, r in news.items() if t not in left_out}))
        return self._known is not before

    def restore(self, records: Mapping[CapTarget, CapRecord]) -> None:
        """Take over what was in force before this process began: it is written already, and is no event."""
        self._known = self._known.merged(records)
        self._note_left()
        self._in_force.caps = self._in_force.caps.merged(records)
        self._models.caps_changed({target.model for target in records})

    def break_glass(self, *, on: bool, why: str) -> None:
        """Have every canary off, or no more; also again, for another reason. Records stay as they are."""
        before = self._in_force.break_glass
        if on:
            self._in_force.break_glass = BreakGlass(before.since if before else self._wall(), why)
            self._recorder.record(BreakGlassOn(why))
        elif before is not None:
            self._in_force.break_glass = None
            self._recorder.record(BreakGlassOff(why))
        self._models.caps_changed(self._models.managers)

    def follow(self, models: Collection[str]) -> None:
        """These are configured from now on: forget what is known of others for over 30 days."""
        self._change(self._known.without(self._forgotten()))
        self._configured = frozenset(models)
        self._note_left()

    async def settled(self) -> str:
        """When what was changed is written, or can not be: why not, empty when it is durable.

        What could not be written before is tried once more: `on_change` may have made up for it since.
        """
        if self.not_durable_because and self._writing is None:
            self._begin_writing()
        if self._writing is not None:
            await asyncio.wait({self._writing})
        return self.not_durable_because

    # How

    def _change(self, known: Caps) -> None:
        """From now on `known` is what others read and what is written; where it lowers, it is in force."""
        if known is self._known:
            return
        self._known = known
        self._note_left()
        if self._on_change is None:
            self._put_in_force(known, known.records)
            return
        self._put_in_force(known, [target for target in known.records if self._lowers(target)])
        self._begin_writing()

    def _note(self, target: CapTarget, known: Caps) -> None:
        """Of a breaker, or of the gate, of which the routes are published by whoever made it so."""
        if known is self._known:
            return
        self._known = known
        in_force = self._in_force.caps.records
        self._in_force.caps = Caps({**in_force, target: known.records[target]})
        if self._on_change is not None:
            self._begin_writing()

    def _begin_writing(self) -> None:
        """Have what is known now written, also where a write is under way."""
        self._unwritten = True
        if self._writing is None and self._on_change is not None:
            writing = self._write(self._on_change)
            self._writing = asyncio.get_running_loop().create_task(writing, name="caps")

    def _lowers(self, target: CapTarget) -> bool:
        return _share(self._known.records.get(target)) <= _share(self._in_force.caps.records.get(target))

    def _put_in_force(self, known: Caps, targets: Iterable[CapTarget]) -> None:
        """Of `known`, what is said of `targets`, and of none that it does not know."""
        before = self._in_force.caps
        kept = {target: record for target, record in before.records.items() if target in known.records}
        after = Caps({**kept, **{target: known.records[target] for target in targets}})
        changed = [
            target
            for target in {**before.records, **after.records}
            if _share(before.records.get(target)) != _share(after.records.get(target))
            or (target.passage and (target in before.records) != (target in after.records))
        ]
        self._in_force.caps = after
        for target in changed:
            record = after.records.get(target)
            if record is not None and target.is_cap:  # breakers and the gate report themselves what they do
                self._recorder.record(_event(target, record))
        self._models.caps_changed({target.model for target in changed})

    async def _write(self, on_change: OnChange) -> None:
        try:
            while self._unwritten:
                self._unwritten, known = False, self._known
                self.not_durable_because = await _written(on_change, known)
                # What was lowered meanwhile is newer than what was written, and stays.
                raised = [t for t in known.records if self._known.records.get(t) is known.records[t]]
                self._put_in_force(self._known, raised)
        finally:
            self._writing = None

    def _is_ours(self, model: str) -> bool:
        return model in self._configured or model in self._models.managers

    def _note_left(self) -> None:
        known = {target.model for target in self._known.records} | self._left_at.keys()
        now = self._wall()
        self._left_at = {model: self._left_at.get(model, now) for model in known - self._configured}

    def _forgotten(self) -> set[str]:
        now = self._wall()
        return {model for model, left_at in self._left_at.items() if now - left_at >= KEPT_SECONDS}

    @staticmethod
    def _known_alias(alias: str, aliases: Collection[Alias]) -> Alias:
        if alias not in aliases:
            raise CapUnknown(f"alias: there is no {alias!r} here; there is {' and '.join(sorted(aliases))}")
        return Alias(alias)

    def _versions(self, manager: ModelManager) -> set[int]:
        here = (*manager.harnesses, *manager.bound.values(), *manager.aspired.values())
        recorded = {
            t.version for t in self._known.records if t.model == manager.model and t.version and t.is_cap
        }
        return {version.number for version in here} | recorded


def _share(record: CapRecord | None) -> int:
    """Buckets that it leaves; more than all where it is lifted, or there is none."""
    return BUCKETS + 1 if record is None or record.share is None else record.share


def cap_to_json(target: CapTarget, record: CapRecord) -> dict[str, Any]:
    """One cap, for `/v1/state` and the answers of verbs."""
    return {
        "alias": target.alias,
        "version": target.version,
        "to_percent": None if record.share is None else record.share / BUCKETS_PER_PERCENT,
        "by": redact(record.by),
        "reason": redact(record.reason),
        "timestamp": record.at,
    }


async def _written(on_change: OnChange, caps: Caps) -> str:
    try:
        async with asyncio.timeout(LONGEST_WRITE_SECONDS):
            return await on_change(caps)
    except TimeoutError:
        return f"it was not written within {LONGEST_WRITE_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001 - whatever it is, a cap that is to be lifted must not wait for it
        return f"{type(error).__name__}: {error}"


def _event(target: CapTarget, record: CapRecord) -> CapSet | CapLifted:
    version = None if target.version is None else VersionId(target.model, target.version)
    if record.share is None:
        return CapLifted(target.model, target.alias, version, record.by, record.reason, record.at)
    share = record.share / BUCKETS
    return CapSet(target.model, target.alias, version, share, record.by, record.reason, record.at)


def _concerns(target: CapTarget, manager: ModelManager) -> bool:
    return target.version is None or target.version in _numbers(manager, target.alias)


def _numbers(manager: ModelManager, alias: Alias) -> Sequence[int]:
    both = (manager.bound.get(alias), manager.aspired.get(alias))
    return [version.number for version in both if version is not None]
