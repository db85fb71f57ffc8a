"""Collects what is known of a registered model when somebody plans another share for its canary."""

from dataclasses import dataclass
from decimal import Decimal

from router.analysis.comparison_status import criteria_of
from router.analysis.hourly_traffic import HourlyTraffic
from router.analysis.plan import CostsOfVersions, Known, Plan, make_plan, with_canary
from router.analysis.recorder import AnalysisRecorder
from router.core.ids import CANARY, PRODUCTION, Alias
from router.core.routing import ModelRoutes
from router.core.split import BUCKETS_PER_PERCENT
from router.core.verdict import Verdict
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.pool.pool import Pool


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans by the gateway as it is now."""

    models: ModelSet
    analysis: AnalysisRecorder
    traffic: HourlyTraffic

    def plan(self, model: str, percent: Decimal) -> Plan:
        """What it would do to give the canary of `model` that many percent, a multiple of 0.001.

        Raises KeyError for a model that is not configured, ValueError where another alias has too much.
        """
        manager, routes = self.models.managers[model], self.models.table.models[model]
        planned = with_canary(routes.configured_split, int(percent * BUCKETS_PER_PERCENT))
        return make_plan(self._known(manager, routes), planned, criteria_of(manager.settings, CANARY))

    def _known(self, manager: ModelManager, routes: ModelRoutes) -> Known:
        status = self.analysis.statuses.get(manager.model, {}).get(CANARY)
        run = status.run if status else None
        canary = routes.bound.get(CANARY)
        breaker = manager.breakers.of(CANARY, canary) if canary else None
        return Known(
            routes=routes,
            traffic=self.traffic.of(manager.model),
            workers=manager.settings.workers,
            # How many requests an engine elsewhere takes is not known here.
            costs=None if manager.settings.elsewhere else _costs(manager, routes),
            verdict=status.verdict if status else Verdict.NOT_ENOUGH_DATA,
            why=self.analysis.why(status) if status else "",
            breaker=breaker.view().why if breaker else "",
            slow_rate=run.report.latency.production.rate if run else None,
            spread=run.spread() if run else None,
            scores_judge=run is not None and run.versions.criteria.on_shift == "fail",
        )


def _costs(manager: ModelManager, routes: ModelRoutes) -> CostsOfVersions | None:
    canary, production = (_pool(manager, routes, alias) for alias in (CANARY, PRODUCTION))
    if canary is None or production is None or canary is production:
        return None
    requests, rows = production.admission.batch()
    workers = canary.workers
    return CostsOfVersions(
        canary=canary.admission.cost,
        canary_shares_predicts=any(worker.batching.merges for worker in workers),
        canary_parallel=max(1, min((worker.parallel for worker in workers), default=1)),
        production=production.admission.cost,
        requests_per_predict=requests,
        rows_per_request=rows,
    )


def _pool(manager: ModelManager, routes: ModelRoutes, alias: Alias) -> Pool | None:
    version = routes.bound.get(alias)
    harness = manager.harnesses.get(version) if version else None
    return harness.pool if harness is not None and harness.loaded else None
