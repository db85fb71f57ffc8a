"""The document of `/v1/state`: what is aspired, bound, split and wrong.

No paths or credentials, and no hosts but those that the configuration names as peers, receivers and
addresses of versions, that of another gateway that has the state directory, and those of the gateways that
judge together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from router.analysis.document import gateways, verdicts
from router.analysis.recorder import AnalysisRecorder
from router.control.alias_watch import AliasWatch
from router.control.caps import CapControl
from router.control.history import BoundTimes, RecentEvents, WorkerExitCounts
from router.control.journal import Journal
from router.control.last_known_good import LastKnownGood
from router.control.last_minute import LastMinute, ModelMinute
from router.control.periodic import PeriodicTask
from router.control.rollback import RollbackWatch
from router.core import scores
from router.core.ids import PRODUCTION, Alias
from router.core.redaction import redact, redact_uri
from router.core.routing import RoutingTable
from router.core.score_events import ReadResult
from router.core.version_address import NOT_KNOWN
from router.serving.dispatch import Dispatcher
from router.serving.harness import Harness
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.pool.pool import Pool
from router.serving.ports import ScoreReader, WorkerHandle

KEYLESS_IS_NEWS_FROM = 100
"""Requests before the share of keyless ones is worth a warning."""


@dataclass(slots=True)
class TrafficCounts:
    """What HTTP knows of this gateway's requests, for the state; by registered model."""

    stopping: bool = False
    """True from the first signal to stop."""
    received: dict[str, int] = field(default_factory=dict)
    keyless: dict[str, int] = field(default_factory=dict)
    """Of those received, requests that carried no key."""

    def count(self, model: str, *, keyed: bool) -> None:
        """One request was received."""
        self.received[model] = self.received.get(model, 0) + 1
        if not keyed:
            self.keyless[model] = self.keyless.get(model, 0) + 1


class ConfigStatus(Protocol):
    """Which configuration is in force."""

    @property
    def digest(self) -> str:
        """SHA-256 of it, in hexadecimal."""

    @property
    def error(self) -> str | None:
        """Why the file's present content is not in force; None when it is."""


class StateDirectoryStatus(Protocol):
    """Whether what must outlive the gateway is on disk."""

    def describe(self) -> dict[str, Any]:
        """JSON-ready, without a path."""


class OutboundStatus(Protocol):
    """What the gateway asks of others, and sends to them, by itself."""

    def fleet(self) -> dict[str, Any]:
        """JSON-ready: other gateways."""

    def notify(self) -> list[dict[str, Any]]:
        """JSON-ready: receivers of notifications."""

    def warnings(self) -> list[str]:
        """A sentence for each of them that is not reached."""


@dataclass(frozen=True, slots=True)
class Status:
    """Gathers the state of one gateway; every part is read when the document is asked for."""

    version: str
    models: ModelSet
    dispatcher: Dispatcher
    alias_watch: AliasWatch
    config: ConfigStatus
    traffic: TrafficCounts
    recent_events: RecentEvents
    worker_exits: WorkerExitCounts
    bound_times: BoundTimes
    last_minute: LastMinute
    last_known_good: LastKnownGood
    rollback: RollbackWatch
    analysis: AnalysisRecorder
    outbound: OutboundStatus
    caps: CapControl
    state_directory: StateDirectoryStatus
    journal: Journal
    loops: Sequence[PeriodicTask]

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        table = self.models.table
        watch = self.alias_watch
        errors = sorted(set(watch.errors.values()))
        managers = self.models.managers
        minutes = {n: self.last_minute.of(n, m.settings.aliases) for n, m in managers.items()}
        minute = self.last_minute.of_gateway(minutes.values())
        return {
            "version": self.version,
            "ready": self.models.ready and not self.traffic.stopping,
            "serving_from_cache": any(m.from_cache and m.bound for m in managers.values()),
            "config": {"digest": self.config.digest, "error": self.config.error},
            "registry": {
                "reachable": bool(watch.last_success) and not watch.errors,
                "last_success_timestamp": min(watch.last_success.values(), default=None),
                "error": redact("; ".join(errors)),
            },
            "last_minute": minute.to_json(),
            "break_glass": self.caps.break_glass_to_json(),
            "warnings": [*minute.warnings(), *self.outbound.warnings()],
            "state_dir": {**self.state_directory.describe(), "journal": self.journal.describe()},
            "models": {n: self._model(m, table, minutes[n]) for n, m in managers.items()},
            "fleet": {**self.outbound.fleet(), "gateways": gateways(self.analysis)},
            "notify": self.outbound.notify(),
            "loops": {loop.name: loop.describe() for loop in self.loops},
            "events": self.recent_events.events(),
        }

    def _model(self, manager: ModelManager, table: RoutingTable, minute: ModelMinute) -> dict[str, Any]:
        routes = table.models[manager.model]
        received = self.traffic.received.get(manager.model, 0)
        keyless = self.traffic.keyless.get(manager.model, 0)
        share = keyless / received if received else 0.0
        document: dict[str, Any] = {
            "ready": manager.can_answer,
            "serving_from_cache": manager.from_cache and bool(manager.bound),
            "split": routes.split_in_force.percentages(),
            "split_configured": routes.configured_split.percentages(),
            "salt": manager.settings.salt,
            "pins": dict(routes.pins.counts),
            "aliases": {
                alias: self._alias(alias, name, manager) for alias, name in manager.settings.aliases.items()
            },
            "versions": {
                str(v.number): self._version(h, manager) for v, h in sorted(manager.harnesses.items())
            },
            "canary_timeout_seconds": round(self.dispatcher.canary_timeout(manager), 3),
            "requests": received,
            "keyless_share": round(share, 4),
            "last_minute": minute.to_json(),
            "registry_error": redact(self.alias_watch.errors.get(manager.model, "")),
            "registry_refused": manager.model in self.alias_watch.refused,
            "rollback": {
                "name": manager.settings.previous_name,
                **self.rollback.of(manager).to_json(),
            },
            "verdicts": verdicts(self.analysis, manager.model),
            "caps": self.caps.of_model(manager.model),
            "preflight": manager.preflight.kept_to_json(),
            "shadow": manager.shadows.to_json() if manager.shadows is not None else None,
            "warnings": minute.warnings(),
        }
        if manager.polled and PRODUCTION not in manager.aspired:
            name = manager.settings.aliases[PRODUCTION]
            document["warnings"].append(
                f"the registry names no version as {name}, which is this model's production"
            )
        document["warnings"] += [*manager.gate_holds.warnings(), *manager.preflight.warnings()]
        for alias in sorted(manager.out_of_service):
            document["warnings"].append(
                f"{alias} is being replaced in turn: nothing answers for it until a version is loaded"
            )
        if manager.from_cache:
            why = "refuses to be read" if manager.model in self.alias_watch.refused else "has not answered"
            document["warnings"].append(f"the registry {why} since the start: what served last serves")
        if record := self.alias_watch.refused_records.get(manager.model):
            document["warnings"].append(f"what served last can not be taken from the cache: {redact(record)}")
        if unwritten := self.last_known_good.errors.get(manager.model):
            document["warnings"].append(f"what serves could not be recorded: {redact(unwritten)}")
        if received >= KEYLESS_IS_NEWS_FROM and share > 0.5:
            document["warnings"].append("over half of the requests carry no key: their users are not sticky")
        return document

    def _alias(self, alias: Alias, name: str, manager: ModelManager) -> dict[str, Any]:
        aspired, bound = manager.aspired.get(alias), manager.bound.get(alias)
        unnamed = aspired is None or manager.model in self.alias_watch.unknown
        return {
            "name": name,
            "aspired": aspired.number if aspired else None,
            "bound": bound.number if bound else None,
            "bound_timestamp": self.bound_times.of(manager.model, alias),
            "pending": aspired != bound,
            "gate": manager.gate_holds.to_json(alias),
            # Only production outlives the registry's word for it; a canary is unbound instead.
            "stale": alias == PRODUCTION and bound is not None and manager.polled and unnamed,
        }

    def _version(self, harness: Harness, manager: ModelManager) -> dict[str, Any]:
        pool = harness.pool if harness.loaded else None
        info = harness.info
        return {
            "state": harness.state,
            "phase": harness.phase,
            "aliases": sorted(a for a, version in manager.bound.items() if version == harness.version),
            "kept_until": manager.previous.until if manager.is_kept(harness.version) else None,
            "in_flight": pool.leases if pool else 0,
            "queued": pool.queued if pool else 0,
            "where": _where(manager, pool),
            "workers": [worker.pid for worker in pool.workers if worker.pid is not None] if pool else [],
            "spare": pool.supply.spare.pid if pool and pool.supply.spare else None,
            "no_spare": pool.supply.spare_skipped_because if pool else "",
            "error": redact(harness.error or (pool.supply.last_error if pool else "")),
            "retry_seconds": harness.retry_seconds if harness.error else _reload_seconds(pool),
            "flavor": info.flavor if info else None,
            "run_id": info.run_id if info else None,
            "note": info.note if info else "",
            "scores": [scores.to_json(spec) for spec in info.scores] if info else [],
            "batching": _batching(pool.workers) if pool else None,
            "cpu_threads": _cpu_threads(pool.workers) if pool else None,
            "mismatches": [redact(line) for line in info.mismatches] if info else [],
            "environment": own.about.to_json(own.note) if (own := harness.environment) else None,
            "cost": self._cost(harness, pool),
            "worker_ends": self.worker_exits.of(harness.version),
            "breaker": _breaker(manager, harness),
            "preflight": manager.preflight.to_json(harness.version),
        }

    def _cost(self, harness: Harness, pool: Pool | None) -> dict[str, Any] | None:
        """What predicts of the version cost; None while it has no workers."""
        if pool is None:
            return None
        seconds = {phase: round(each, 3) for phase, each in pool.processor_time.by_phase().items()}
        return {**self.analysis.cost_of(harness.version), "processor_seconds": seconds}


def _where(manager: ModelManager, pool: Pool | None) -> dict[str, Any] | None:
    """Of a version that runs elsewhere and serves; None of one that runs here, or has no worker."""
    at = next((worker.at_address for worker in pool.workers), None) if pool else None
    if pool is None or at is None:
        return None
    reader = pool.score_reader
    return {
        "address": redact_uri(at.url),
        "protocol": at.engine,
        "verified": at.verified,
        "scores": None if reader is None else _scores_read(reader),
        "without_effect": list(manager.settings.without_effect),
        "not_known": list(NOT_KNOWN),
    }


def _scores_read(reader: ScoreReader) -> dict[str, Any]:
    """Of how many good answers the scores were read since the version was last loaded, and of which share;
    and whether they are read now."""
    results, error = reader.results, reader.error
    answers = sum(results.values())
    share = results[ReadResult.READ] / answers if answers else None
    counts = {result.value: results[result] for result in ReadResult}
    return {"reading": not error, "error": error or None, "share": share, **counts}


def _reload_seconds(pool: Pool | None) -> float | None:
    """Wait after the last load of one more worker, when that failed; None when all workers are there."""
    return pool.supply.retry_seconds if pool and pool.supply.last_error else None


def _batching(workers: Sequence[WorkerHandle]) -> dict[str, Any] | None:
    """As the workers say now; of several, as the one that shares no predicts: it may learn later."""
    batching = min((worker.batching for worker in workers), key=lambda one: one.merges, default=None)
    return {"on": batching.merges, "why": batching.why} if batching else None


def _cpu_threads(workers: Sequence[WorkerHandle]) -> dict[str, Any] | None:
    """As the workers say now; of several, as the one with the fewest: it may learn later."""
    worker = min(workers, key=lambda one: one.cpu_threads.threads, default=None)
    if worker is None:
        return None
    now = worker.cpu_threads
    return {"threads": now.threads, "most": worker.most_cpu_threads, "why": now.why}


def _breaker(manager: ModelManager, harness: Harness) -> dict[str, Any] | None:
    """None for a version that nobody could stand in for. Of several aliases, the one that is worst off."""
    breakers = [
        {
            "alias": alias,
            "state": "open" if view.open else "closed",
            "since": since,
            "why": view.why,
            "requests": view.requests,
            "faults_of_last_50": view.faults,
            "crashes": view.crashes,
        }
        for alias, view, since in manager.breakers.views(harness.version)
    ]
    return max(breakers, key=lambda breaker: breaker["state"] == "open", default=None)
