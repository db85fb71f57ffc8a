"""Events in, log lines out."""

import logging
from typing import Any, NamedTuple

import structlog

from router.core import events, state_events
from router.core.cache_events import (
    CacheEvicted,
    CacheOverBound,
    CopyMended,
    LastGoodNotWritten,
    LastGoodRefused,
    OwnCopyNeeded,
    ServingFromCache,
)
from router.core.environment_events import (
    EnvironmentBuilt,
    EnvironmentRebuilt,
    EnvironmentsOverBound,
    EnvironmentsRemoved,
)
from router.core.gate_events import GateNotPassed, GatePassed
from router.core.ids import PRODUCTION, VersionId
from router.core.journal import log_fields
from router.core.lever_events import BreakGlassOff, BreakGlassOn, CapLifted, CapSet, MoveExplained
from router.core.outbound_events import NotificationResult, NotificationTried, PeerFound, PeerLost
from router.core.preflight import PreflightVerdict
from router.core.preflight_events import PreflightEnded

_JOURNAL = "router.journal"
logging.getLogger(_JOURNAL).setLevel(logging.INFO)  # its own level: that of the configuration is the root's


class Line(NamedTuple):
    """One log line before it is formatted."""

    level: int
    message: str
    values: dict[str, Any]


class LogRecorder:
    """Implements `Recorder`: a line per event. It leaves no repetition out: put it behind a `FanOut`."""

    def __init__(self) -> None:
        self._logger = structlog.stdlib.get_logger("router")

    def record(self, event: events.Event) -> None:
        """Write a line, if there is something to say."""
        if (line := line_of(event)) is not None:
            self._logger.log(line.level, line.message, **line.values)


def log_sample(request: events.RequestSample) -> None:
    """The line of one request. It holds neither its key nor anything of its body."""
    structlog.stdlib.get_logger("router").info(
        "request",
        request_id=request.request_id,
        model=request.model,
        given=request.given,
        answered=request.answered,
        version=_number(request.version),
        reason=request.reason,
        outcome=request.outcome,
        code=request.code,
        milliseconds=None if request.seconds is None else round(request.seconds * 1e3, 2),
        rows=request.rows,
    )


def log_journal(line: bytes) -> None:
    """A line of the journal, with its digest, whatever `log.level` is: the log is its long memory."""
    structlog.stdlib.get_logger(_JOURNAL).info("journal", **log_fields(line))


def line_of(event: events.Event) -> Line | None:
    """What the log says about `event`; None for events that have no line."""
    match event:
        case events.AliasBound(model, alias, old, new):
            values = {"version": new.number, "before": _number(old), "registry_name": event.registry_name}
            values |= {"run_id": event.run_id, "flavor": event.flavor}
            return Line(logging.INFO, "alias bound", {"model": model, "alias": alias, **values})
        case events.AliasUnbound(model, alias, old):
            return Line(logging.INFO, "alias unbound", {"model": model, "alias": alias, "before": old.number})
        case events.AliasAspired(model, alias, old, new):
            values = {"model": model, "alias": alias, "version": _number(new), "before": _number(old)}
            if new is None and alias == PRODUCTION:
                return Line(logging.WARNING, "the registry names no production version", values)
            return Line(logging.INFO, "the registry names another version", values)
        case events.SplitInForce(model, in_force, configured):
            return Line(
                logging.INFO,
                "split in force",
                {"model": model, "in_force": in_force, "configured": configured},
            )
        case events.BreakerOpened(model, alias, version, why):
            values = {"model": model, "alias": alias, "version": version.number, "why": why}
            return Line(logging.WARNING, "breaker open, production has the canary's share", values)
        case events.BreakerClosed(model, alias, version, why):
            values = {"model": model, "alias": alias, "version": version.number, "why": why}
            return Line(logging.INFO, "breaker reset", values)
        case events.PinsChanged(model, count):
            return Line(logging.INFO, "pins changed", {"model": model, "keys": count})
        case events.VerdictChanged(model, alias, version, production, before, verdict, why):
            values = {"model": model, "alias": alias, "version": version.number}
            values |= {"against": production.number, "verdict": verdict, "before": before, "why": why}
            return Line(logging.WARNING if verdict == "fail" else logging.INFO, "verdict changed", values)
        case events.CanaryFaulted(model, alias, version, kind):
            values = {"model": model, "alias": alias, "version": version.number, "kind": kind}
            return Line(
                logging.WARNING,
                "canary at fault, production answered; said once per version and kind",
                values,
            )
    return (
        _line_of_cap(event)
        or _line_of_gate(event)
        or _line_of_preflight(event)
        or _line_of_version(event)
        or _line_of_environment(event)
        or _line_of_gateway(event)
        or _line_of_listener(event)
        or _line_of_cache(event)
        or _line_of_state(event)
        or _line_of_outbound(event)
    )


def _line_of_cap(event: events.Event) -> Line | None:
    match event:
        case CapSet(model, alias, capped, share, by, why):
            values = {"model": model, "alias": alias, "version": _number(capped), "by": by, "why": why}
            return Line(logging.WARNING, "share capped", {**values, "share": share})
        case CapLifted(model, alias, capped, by, why):
            values = {"model": model, "alias": alias, "version": _number(capped), "by": by, "why": why}
            return Line(logging.INFO, "cap lifted", values)
        case MoveExplained(model, by, why):
            values = {"model": model, "by": by, "why": why}
            return Line(logging.INFO, "aliases moved in the registry, by who says so", values)
        case BreakGlassOn(why):
            return Line(logging.WARNING, "break-glass, every canary is off", {"why": why})
        case BreakGlassOff(why):
            return Line(logging.WARNING, "break-glass is over", {"why": why})
    return None


def _line_of_gate(event: events.Event) -> Line | None:
    match event:
        case GatePassed(model, alias, version, by_what, override):
            values = {"model": model, "alias": alias, "version": version.number, "why": by_what}
            if override:
                return Line(logging.WARNING, "let through without having passed the gate", values)
            return Line(logging.INFO, "passed the gate", values)
        case GateNotPassed(model, alias, version, objections, why, held):
            values = {"model": model, "alias": alias, "version": version.number}
            values |= {"objections": objections, "why": why}
            if held:
                return Line(logging.WARNING, "not passed the gate, so held at 0", values)
            return Line(logging.WARNING, "not passed the gate, and served all the same", values)
    return None


def _line_of_preflight(event: events.Event) -> Line | None:
    match event:
        case PreflightEnded(model, aliases, version, report, held):
            values = {"model": model, "aliases": aliases, "version": version.number, **report.to_json()}
            if report.verdict is not PreflightVerdict.FAIL:
                return Line(logging.INFO, "pre-flight ended", values)
            if held:
                return Line(logging.WARNING, "pre-flight failed, so held at 0", values)
            return Line(logging.WARNING, "pre-flight failed, and served all the same", values)
    return None


def _line_of_version(event: events.Event) -> Line | None:
    match event:
        case events.VersionLoaded(version, aliases, seconds, note, own):
            rounded = {phase: round(value, 3) for phase, value in seconds.items()}
            values = {**_names(version), "aliases": aliases, "seconds": rounded}
            values |= {"environment": own.short, "python": own.python, "pins": own.pins} if own else {}
            return Line(logging.INFO, "version ready", {**values, "note": note} if note else values)
        case events.LoadRefused(version, aliases, phase, error, retry_seconds):
            values = {**_names(version), "aliases": aliases, "phase": phase, "error": error}
            return Line(logging.WARNING, "version not loaded", {**values, "retry_seconds": retry_seconds})
        case events.VersionDraining(version, requests):
            return Line(logging.INFO, "version draining", {**_names(version), "requests": requests})
        case events.AliasWithoutVersion(model, alias, version, successor):
            values = {"model": model, "alias": alias, "version": version.number}
            values |= {"successor": successor.number}
            return Line(
                logging.WARNING, "replaced in turn; nothing answers for this alias until then", values
            )
        case events.DrainCutShort(version, requests, workers, seconds):
            values = {**_names(version), "requests": requests, "workers": workers, "seconds": seconds}
            return Line(logging.WARNING, "drain cut short", values)
        case events.VersionGone(version):
            return Line(logging.INFO, "version gone", _names(version))
        case events.RollbackReadyLost(_, version, why):
            return Line(
                logging.WARNING, "a rollback takes longer than it did", {**_names(version), "why": why}
            )
        case events.WorkerEnded(version, reason, detail):
            return Line(
                logging.WARNING, "worker ended", {**_names(version), "reason": reason, "detail": detail}
            )
        case events.WorkerLoadFailed(version, error, retry_seconds):
            values = {**_names(version), "error": error, "retry_seconds": retry_seconds}
            return Line(logging.WARNING, "worker not loaded", values)
        case events.WorkerReplaced(version, seconds):
            values = {**_names(version), "seconds": round(seconds, 3)}
            return Line(logging.INFO, "workers complete again", values)
    return None


def _line_of_environment(event: events.Event) -> Line | None:
    values: dict[str, Any]
    match event:
        case events.EnvironmentDiffers(version, mismatches, own=True):
            values = {**_names(version), "mismatches": mismatches}
            return Line(logging.WARNING, "the environment of a version is not what it asks for", values)
        case events.EnvironmentDiffers(version, mismatches):
            values = {**_names(version), "mismatches": mismatches}
            values["remedy"] = "`environment: own` of the model, where that matters"
            return Line(logging.WARNING, "version logged in another environment", values)
        case EnvironmentBuilt(version, about, resolved_seconds):
            seconds = {"resolve": resolved_seconds, "build": about.build_seconds - resolved_seconds}
            values = {**_names(version), "environment": about.short, "python": about.python}
            values |= {"pins": about.pins, "size_mib": about.size_bytes >> 20, "differs": about.differences}
            values["seconds"] = {name: round(took, 3) for name, took in seconds.items()}
            return Line(logging.INFO, "environment built", values)
        case EnvironmentRebuilt(version, why):
            values = {**_names(version), "why": why}
            return Line(logging.WARNING, "an environment had changed, and was put right", values)
        case EnvironmentsRemoved(names, size, left_bytes):
            values = {"names": names, "mib": size >> 20, "left_mib": left_bytes >> 20}
            return Line(logging.INFO, "environments that nobody uses were removed", values)
        case EnvironmentsOverBound(left_bytes, bound_bytes):
            values = {"mib": left_bytes >> 20, "bound_mib": bound_bytes >> 20}
            return Line(logging.WARNING, "environments are over their bound, and all are in use", values)
    return None


def _line_of_gateway(event: events.Event) -> Line | None:
    match event:
        case events.Polled(model, _, ""):
            return Line(logging.INFO, "the registry answers again", {"model": model})
        case events.Polled(model, _, error, refused):
            known: dict[str, Any] = {"model": model, "error": error}
            known |= {"refused": True} if refused else {}
            return Line(logging.WARNING, "registry poll failed; what it last named stays", known)
        case events.RegistrySchemaNewer(found, newest, mlflow):
            schema = {"schema": found, "newest_known": newest, "mlflow": mlflow}
            return Line(logging.WARNING, "a newer MLflow migrated the registry; it is read on", schema)
        case events.ConfigApplied(digest, changes):
            return Line(logging.INFO, "configuration in force", {"digest": digest, "changes": changes})
        case events.ConfigRejected(digest, problems):
            values = {"digest_in_force": digest, "problems": problems}
            return Line(logging.ERROR, "configuration refused; the one in force stays", values)
        case events.ModelRemoved(model):
            return Line(logging.INFO, "model removed", {"model": model})
        case events.ChildRestarted(child, reason):
            return Line(logging.WARNING, "child restarted", {"child": child, "reason": reason})
        case events.ReadinessChanged(ready=True):
            return Line(logging.INFO, "ready", {})
        case events.ReadinessChanged():
            return Line(logging.WARNING, "not ready", {})
        case events.TickFailed(loop, error):
            return Line(logging.ERROR, "a loop failed and goes on", {"loop": loop, "error": error})
        case events.LoopRecovered(loop):
            return Line(logging.INFO, "a loop works again", {"loop": loop})
    return None


def _line_of_listener(event: events.Event) -> Line | None:
    values: dict[str, Any]
    match event:
        case events.AnswersCut(why, answers):
            values = {"reason": str(why), "answers": answers}
            return Line(logging.WARNING, "answers cut off that clients did not take", values)
        case events.HeadersRefused(requests, limit_kib):
            values = {"requests": requests, "limit_kib": limit_kib}
            return Line(logging.WARNING, "requests refused for the size of their headers", values)
        case events.ShutdownCutShort(requests, unread, waited):
            values = {"requests": requests, "unread": unread, "seconds": round(waited, 3)}
            return Line(logging.WARNING, "shutdown cut short", values)
    return None


def _line_of_cache(event: events.Event) -> Line | None:
    match event:
        case ServingFromCache(model, versions):
            numbers = {alias: version.number for alias, version in versions.items()}
            return Line(
                logging.WARNING,
                "the registry is out of reach; starting from what served last",
                {"model": model, "versions": numbers},
            )
        case LastGoodRefused(model, error):
            values = {"model": model, "error": error}
            return Line(logging.WARNING, "the record of what served last can not be used", values)
        case LastGoodNotWritten(model, error):
            values = {"model": model, "error": error}
            return Line(logging.WARNING, "what serves could not be recorded", values)
        case CopyMended(version, files):
            mended: dict[str, Any] = {"model": version.model, "version": version.number, "files": files}
            mended["remedy"] = "`writable: true` of the model, where it is the version that writes them"
            return Line(
                logging.WARNING, "files of a copy in the cache had changed, and were fetched anew", mended
            )
        case OwnCopyNeeded(version, error):
            return Line(
                logging.WARNING,
                "a version writes among its files; its workers have copies of their own (writable)",
                {"model": version.model, "version": version.number, "error": error},
            )
        case CacheEvicted(versions, cache_bytes):
            left = {"versions": versions, "cache_mib": cache_bytes >> 20}
            return Line(logging.INFO, "versions that nobody uses left the cache", left)
        case CacheOverBound(cache_bytes, bound_bytes):
            sizes = {"cache_mib": cache_bytes >> 20, "bound_mib": bound_bytes >> 20}
            return Line(
                logging.WARNING, "the cache is over its bound, and all that is in it is in use", sizes
            )
    return None


def _line_of_state(event: events.Event) -> Line | None:
    match event:
        case state_events.StateNotDurable(reason):
            return Line(logging.WARNING, "caps and journal are not durable", {"reason": reason})
        case state_events.StateDurable():
            return Line(logging.INFO, "caps and journal are durable", {})
        case state_events.StateSetAside(name, why):
            values = {"name": name, "why": why}
            return Line(logging.WARNING, "a file of the state directory can not be read", values)
        case state_events.JournalCut(size):
            return Line(logging.WARNING, "the journal ended in the middle of a line", {"bytes": size})
    return None


def _line_of_outbound(event: events.Event) -> Line | None:
    match event:
        case PeerLost(peer, error):
            return Line(logging.WARNING, "a peer does not answer", {"peer": peer, "error": error})
        case PeerFound(peer):
            return Line(logging.INFO, "a peer answers again", {"peer": peer})
        case NotificationTried(receiver, NotificationResult.DELIVERED):
            return Line(logging.INFO, "notifications are taken again", {"receiver": receiver})
        case NotificationTried(receiver, result, why, notifications):
            values = {"receiver": receiver, "result": str(result), "why": why, "notifications": notifications}
            return Line(logging.WARNING, "a notification was not taken", values)
    return None


def _names(version: VersionId) -> dict[str, Any]:
    return {"model": version.model, "version": version.number}


def _number(version: VersionId | None) -> int | None:
    return version.number if version else None
