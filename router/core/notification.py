"""What is worth a notification: of which fact, in which words, under which id. Pure: time is an argument.

Replicas report one and the same change one by one. So the id of a notification is made of what happened, not
of who says so: it is equal on all replicas that report the same change within the same ten minutes of the
clock, and of a cap, which says when it was set, always. The same change at another time has another id, or a
receiver that leaves out repeated ids would leave out the second rollback of a night.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, get_args

from router.core import events
from router.core.gate_events import GateNotPassed, GatePassed
from router.core.ids import Alias, VersionId
from router.core.lever_events import BreakGlassOff, BreakGlassOn, CapLifted, CapSet
from router.core.preflight import PreflightVerdict
from router.core.preflight_events import PreflightEnded
from router.core.redaction import redact

NotificationKind = Literal[
    "alias_bound",
    "load_failed",
    "verdict_changed",
    "breaker_opened",
    "cap_set",
    "cap_lifted",
    "share_changed",
    "rollback_ready_lost",
    "gate_not_passed",
    "gate_passed",
    "preflight_failed",
]
KINDS: tuple[NotificationKind, ...] = get_args(NotificationKind)
_BREAK_GLASS = "break-glass"
SAME_CHANGE_SECONDS = 600
"""Replicas that report a change within one such stretch of the clock give it one id."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One change, for whoever wants to know."""

    kind: NotificationKind
    id: str
    """32 hexadecimal digits; see the module."""
    at: float
    """Seconds since 1970."""
    model: str | None
    """None: all of this gateway's."""
    text: str
    """What a person needs: model, alias, versions, who and why, in a sentence or two."""
    data: Mapping[str, Any]
    """JSON-able: `model`, `alias`, `version` (null where it is of none), and more by kind."""


@dataclass(frozen=True, slots=True)
class _Change:
    kind: NotificationKind
    text: str
    data: dict[str, Any]
    cause: tuple[Any, ...]
    """JSON-able: what makes it another change than another one of this kind, model, alias and version."""
    at: float | None = None
    """When it happened, where all replicas know that; None: when each of them noticed."""


class NotificationBuilder:
    """Makes notifications of events. It remembers what it needs to say what was before, and to say once what
    events repeat."""

    def __init__(self) -> None:
        self._shares: dict[str, dict[Alias, float]] = {}
        """As configured, by model."""
        self._changed: dict[str, tuple[dict[Alias, float], events.SplitInForce]] = {}
        """Shares before and now of models whose configured shares changed; by which configuration is said
        after it."""
        self._errors: dict[VersionId, str] = {}
        """Why versions did not load, as it was reported."""
        self._makers: dict[type, Callable[[Any], _Change | None]] = {
            events.AliasBound: _alias_bound,
            events.LoadRefused: self._load_failed,
            events.VerdictChanged: _verdict_changed,
            events.BreakerOpened: _breaker_opened,
            CapSet: _cap_set,
            CapLifted: _cap_lifted,
            BreakGlassOn: _break_glass_on,
            BreakGlassOff: _break_glass_off,
            events.RollbackReadyLost: _rollback_ready_lost,
            GateNotPassed: _gate_not_passed,
            GatePassed: _gate_passed,
            PreflightEnded: _preflight_failed,
        }

    def notifications(self, event: events.Event, at: float) -> list[Notification]:
        """What is to be sent because of `event`, which was recorded `at`, in seconds since 1970."""
        match event:
            case events.SplitInForce():
                self._note_shares(event)
            case events.ConfigApplied(digest):
                changed, self._changed = self._changed, {}
                return [
                    _notification(_share_changed(before, now, digest), at) for before, now in changed.values()
                ]
            case events.VersionLoaded(version) | events.VersionGone(version):
                self._errors.pop(version, None)
            case events.ModelRemoved(model):
                self._forget(model)
        maker = self._makers.get(type(event))
        change = maker(event) if maker is not None else None
        return [_notification(change, at)] if change is not None else []

    def _note_shares(self, event: events.SplitInForce) -> None:
        configured = dict(event.configured)
        before = self._shares.get(event.model)
        self._shares[event.model] = configured
        if before is not None and before != configured:
            first = self._changed[event.model][0] if event.model in self._changed else before
            self._changed[event.model] = first, event

    def _load_failed(self, event: events.LoadRefused) -> _Change | None:
        """None for another try that failed as the one before did."""
        error = redact(event.error)
        if self._errors.get(event.version) == error:
            return None
        self._errors[event.version] = error
        aliases = list(event.aliases)
        again = (
            "it is not tried again by itself"
            if event.retry_seconds is None
            else f"the next try is in {event.retry_seconds:.0f} s"
        )
        named = f"{', '.join(aliases)} " if aliases else ""
        return _Change(
            "load_failed",
            f"{event.version.model} {named}v{event.version.number} did not load ({event.phase}): {error};"
            f" {again}",
            {
                **_subject(event.version.model, aliases[0] if aliases else None, event.version),
                "aliases": aliases,
                "phase": event.phase,
                "error": error,
                "retry_seconds": event.retry_seconds,
                "refused": event.by_rule,
            },
            (event.phase, error),
        )

    def _forget(self, model: str) -> None:
        self._shares.pop(model, None)
        self._changed.pop(model, None)
        self._errors = {version: why for version, why in self._errors.items() if version.model != model}


def _notification(change: _Change, at: float) -> Notification:
    subject = [change.data[name] for name in ("model", "alias", "version")]
    when = int(at // SAME_CHANGE_SECONDS) if change.at is None else change.at
    what = json.dumps([change.kind, *subject, *change.cause, when], sort_keys=True)
    identity = sha256(what.encode()).hexdigest()[:32]
    happened = at if change.at is None else change.at
    return Notification(change.kind, identity, happened, change.data["model"], change.text, change.data)


def _subject(model: str | None, alias: Alias | None, version: VersionId | None) -> dict[str, Any]:
    number = version.number if version else None
    return {"model": model, "alias": alias, "version": number}


def _alias_bound(event: events.AliasBound) -> _Change | None:
    if event.old == event.new:  # the same version is reported anew when more is known of it
        return None
    before = event.old.number if event.old else None
    name = "" if event.registry_name in ("", event.alias) else f" ({event.registry_name} in the registry)"
    return _Change(
        "alias_bound",
        f"{event.model} {event.alias}{name} now serves v{event.new.number},"
        f" before {'nothing' if before is None else f'v{before}'}",
        {
            **_subject(event.model, event.alias, event.new),
            "before": before,
            "registry_name": event.registry_name,
            "run_id": event.run_id,
        },
        (before,),
    )


def _verdict_changed(event: events.VerdictChanged) -> _Change | None:
    if not event.notifies:
        return None
    said, before = (verdict.replace("_", " ").upper() for verdict in (event.verdict, event.before))
    return _Change(
        "verdict_changed",
        f"{event.model} {event.alias} v{event.version.number} against production v{event.production.number}:"
        f" {said}, before {before}. {event.why}",
        {
            **_subject(event.model, event.alias, event.version),
            "production": event.production.number,
            "verdict": event.verdict,
            "before": event.before,
            "why": event.why,
        },
        # Not what was before: a gateway that has just started knows less of that than the others.
        (event.production.number, event.run, event.verdict),
        event.at,
    )


def _breaker_opened(event: events.BreakerOpened) -> _Change:
    return _Change(
        "breaker_opened",
        f"{event.model} {event.alias} v{event.version.number}: its breaker opened, production has its share;"
        f" {event.why}",
        {
            **_subject(event.model, event.alias, event.version),
            "why": event.why,
            "requests": event.requests,
            "faults": event.faults,
            "crashes": event.crashes,
        },
        (),
    )


def _cap_set(event: CapSet) -> _Change:
    return _Change(
        "cap_set",
        f"{event.model} {event.alias} {_capped(event.version)}: capped at {_percent(event.share)}"
        f" by {event.by}: {event.why}",
        {
            **_subject(event.model, event.alias, event.version),
            "to_percent": round(event.share * 100, 3),
            "by": event.by,
            "reason": event.why,
        },
        (event.share, event.by, event.why),
        event.at or None,
    )


def _cap_lifted(event: CapLifted) -> _Change:
    return _Change(
        "cap_lifted",
        f"{event.model} {event.alias} {_capped(event.version)}: its cap was lifted by {event.by}:"
        f" {event.why}",
        {**_subject(event.model, event.alias, event.version), "by": event.by, "reason": event.why},
        (event.by, event.why),
        event.at or None,
    )


def _break_glass_on(event: BreakGlassOn) -> _Change:
    why = redact(event.why)
    everything = {"to_percent": 0.0, "by": _BREAK_GLASS, "reason": why}
    return _Change(
        "cap_set", f"every canary is off: {why}", {**_subject(None, None, None), **everything}, (why,)
    )


def _break_glass_off(event: BreakGlassOff) -> _Change:
    why = redact(event.why)
    data = {**_subject(None, None, None), "by": _BREAK_GLASS, "reason": why}
    return _Change("cap_lifted", f"canaries are no longer off: {why}", data, (why,))


def _rollback_ready_lost(event: events.RollbackReadyLost) -> _Change:
    why = redact(event.why)
    return _Change(
        "rollback_ready_lost",
        f"{event.model}: a rollback to v{event.version.number} takes longer than it did: {why}",
        {**_subject(event.model, None, event.version), "why": why},
        (why,),
    )


def _gate_not_passed(event: GateNotPassed) -> _Change:
    why = redact(event.why)
    done = "is held at 0" if event.held else "is served all the same"
    return _Change(
        "gate_not_passed",
        f"{event.model} {event.alias} v{event.version.number} has not passed the gate and {done}: {why}",
        {
            **_subject(event.model, event.alias, event.version),
            "objections": list(event.objections),
            "held": event.held,
            "why": why,
        },
        event.objections,
    )


def _gate_passed(event: GatePassed) -> _Change | None:
    """None where that is what was to be expected."""
    if not event.override and not event.after_all:
        return None
    why = redact(event.by_what)
    what = "is let through without having passed the gate" if event.override else "has passed the gate"
    return _Change(
        "gate_passed",
        f"{event.model} {event.alias} v{event.version.number} {what}: {why}",
        {
            **_subject(event.model, event.alias, event.version),
            "override": event.override,
            "why": why,
        },
        (event.override,),
    )


def _preflight_failed(event: PreflightEnded) -> _Change | None:
    """None for any other end."""
    report = event.report
    if report.verdict is not PreflightVerdict.FAIL:
        return None
    done = "is held at 0 until it is resumed" if event.held else "is served all the same"
    named = " and ".join(event.aliases)
    return _Change(
        "preflight_failed",
        f"{event.model} {named} v{event.version.number} failed its pre-flight and {done}: {report.why}",
        {
            **_subject(event.model, event.aliases[0] if event.aliases else None, event.version),
            "aliases": list(event.aliases),
            "production": report.production,
            "held": event.held,
            "why": report.why,
        },
        (report.production,),
    )


def _share_changed(before: Mapping[Alias, float], now: events.SplitInForce, digest: str) -> _Change:
    configured, in_force = dict(now.configured), dict(now.in_force)
    differs = f", in force {_shares(in_force)}" if in_force != configured else ""
    return _Change(
        "share_changed",
        f"{now.model}: the configured shares are {_shares(configured)}{differs}, before {_shares(before)};"
        f" by configuration {digest[:12]}",
        {
            **_subject(now.model, None, None),
            "configured": configured,
            "in_force": in_force,
            "before": dict(before),
            "config_digest": digest,
        },
        (configured, dict(before), digest),
    )


def _capped(version: VersionId | None) -> str:
    return "of any version" if version is None else f"v{version.number}"


def _percent(share: float) -> str:
    return f"{round(share * 100, 3):g} %"


def _shares(shares: Mapping[Alias, float]) -> str:
    return ", ".join(f"{alias} {_percent(share)}" for alias, share in shares.items())
