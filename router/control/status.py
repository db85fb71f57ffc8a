"""The document of `/v1/state`: what is aspired, bound, split and wrong. No paths, hosts or credentials."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.control.alias_watch import AliasWatch
from router.control.redaction import without_places
from router.core import outputs
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.routing import RoutingTable
from router.serving.dispatch import Dispatcher
from router.serving.harness import Harness
from router.serving.manager import ModelManager, split_in_force
from router.serving.models import ModelSet
from router.serving.pool.pool import Pool
from router.serving.ports import WorkerHandle

KEYLESS_IS_NEWS_FROM = 100
"""Requests before the share of keyless ones is worth a warning."""


@dataclass(frozen=True, slots=True)
class Status:
    """Gathers the state of one gateway; every part is read when the document is asked for."""

    version: str
    fleet: ModelSet
    dispatcher: Dispatcher
    alias_watch: AliasWatch
    config: Callable[[], Mapping[str, Any]]
    """Digest in force and why a later one was refused."""
    events: Callable[[], Sequence[Mapping[str, Any]]]
    worker_ends: Callable[[VersionId], Mapping[str, Any]]
    """How the workers of one version ended."""
    stopping: Callable[[], bool]
    traffic: Callable[[str], tuple[int, int]]
    """Requests received and those without a key, for one model."""
    bound_since: Callable[[str, Alias], float | None]
    """When an alias of a model began to serve its version, in seconds since 1970."""
    unwritten: Callable[[], Mapping[str, str]] = dict
    """Why what serves is not recorded for a start without the registry, by model."""
    verdicts: Callable[[str], Mapping[str, Any]] = lambda _: {}
    """What is said of each alias beside production, for one model."""

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        table = self.fleet.table
        watch = self.alias_watch
        errors = sorted(set(watch.errors.values()))
        return {
            "version": self.version,
            "ready": self.fleet.ready and not self.stopping(),
            "serving_from_cache": any(m.from_cache and m.bound for m in self.fleet.managers.values()),
            "config": dict(self.config()),
            "registry": {
                "reachable": bool(watch.last_success) and not watch.errors,
                "last_success_timestamp": min(watch.last_success.values(), default=None),
                "error": without_places("; ".join(errors)),
            },
            "models": {n: self._model(m, table) for n, m in self.fleet.managers.items()},
            "events": list(self.events()),
        }

    def _model(self, manager: ModelManager, table: RoutingTable) -> dict[str, Any]:
        shares = split_in_force(table.models[manager.model])
        received, keyless = self.traffic(manager.model)
        share = keyless / received if received else 0.0
        told: dict[str, Any] = {
            "ready": manager.can_answer,
            "serving_from_cache": manager.from_cache and bool(manager.bound),
            "split": _percent(shares.in_force),
            "split_configured": _percent(shares.configured),
            "salt": manager.settings.salt,
            "aliases": {
                alias: self._alias(alias, name, manager) for alias, name in manager.settings.aliases.items()
            },
            "versions": {
                str(v.number): self._version(h, manager) for v, h in sorted(manager.harnesses.items())
            },
            "canary_timeout_seconds": round(self.dispatcher.canary_timeout(manager.model), 3),
            "requests": received,
            "keyless_share": round(share, 4),
            "registry_error": without_places(self.alias_watch.errors.get(manager.model, "")),
            "verdicts": dict(self.verdicts(manager.model)),
            "warnings": [],
        }
        if manager.polled and PRODUCTION not in manager.aspired:
            name = manager.settings.aliases[PRODUCTION]
            told["warnings"].append(
                f"the registry names no version as {name}, which is this model's production"
            )
        if manager.from_cache:
            told["warnings"].append("the registry has not answered since the start: what served last serves")
        if record := self.alias_watch.refused_records.get(manager.model):
            told["warnings"].append(
                f"what served last can not be taken from the cache: {without_places(record)}"
            )
        if unwritten := self.unwritten().get(manager.model):
            told["warnings"].append(f"what serves could not be recorded: {without_places(unwritten)}")
        if received >= KEYLESS_IS_NEWS_FROM and share > 0.5:
            told["warnings"].append("over half of the requests carry no key: their users are not sticky")
        return told

    def _alias(self, alias: Alias, name: str, manager: ModelManager) -> dict[str, Any]:
        aspired, bound = manager.aspired.get(alias), manager.bound.get(alias)
        unnamed = aspired is None or manager.model in self.alias_watch.unknown
        return {
            "name": name,
            "aspired": aspired.number if aspired else None,
            "bound": bound.number if bound else None,
            "bound_timestamp": self.bound_since(manager.model, alias),
            "pending": aspired != bound,
            # Only production outlives the registry's word for it; a canary is unbound instead.
            "stale": alias == PRODUCTION and bound is not None and manager.polled and unnamed,
        }

    def _version(self, harness: Harness, manager: ModelManager) -> dict[str, Any]:
        pool = harness.pool if harness.loaded else None
        info = harness.info
        return {
            "state": harness.state,
            "aliases": sorted(a for a, version in manager.bound.items() if version == harness.version),
            "in_flight": pool.leases if pool else 0,
            "queued": pool.queued if pool else 0,
            "workers": [worker.pid for worker in pool.workers] if pool else [],
            "spare": pool.supply.spare.pid if pool and pool.supply.spare else None,
            "no_spare": pool.supply.spare_skipped_because if pool else "",
            "error": without_places(harness.error or (pool.supply.last_error if pool else "")),
            "retry_seconds": harness.retry_seconds if harness.error else _reload_seconds(pool),
            "flavor": info.flavor if info else None,
            "run_id": info.run_id if info else None,
            "note": info.note if info else "",
            "scores": [outputs.told(spec) for spec in info.scores] if info else [],
            "batching": _batching(pool.workers) if pool else None,
            "mismatches": [without_places(line) for line in info.mismatches] if info else [],
            "worker_ends": self.worker_ends(harness.version),
            "breaker": _breaker(manager, harness),
        }


def _reload_seconds(pool: Pool | None) -> float | None:
    """Wait after the last load of one more worker, when that failed; None when all workers are there."""
    return pool.supply.retry_seconds if pool and pool.supply.last_error else None


def _batching(workers: Sequence[WorkerHandle]) -> dict[str, Any] | None:
    """As the workers say now; of several, as the one that shares no predicts: it may learn later."""
    told = min((worker.batching for worker in workers), key=lambda one: one.merges, default=None)
    return {"on": told.merges, "why": told.why} if told else None


def _breaker(manager: ModelManager, harness: Harness) -> dict[str, Any] | None:
    """None for a version that nobody could stand in for. Of several aliases, the one that is worst off."""
    told = [
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
    return max(told, key=lambda breaker: breaker["state"] == "open", default=None)


def _percent(ratios: Mapping[Alias, float]) -> dict[str, float]:
    return {alias: round(ratio * 100, 3) for alias, ratio in ratios.items()}
