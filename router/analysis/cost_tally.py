"""What predicts cost at this gateway: facts in, a check of each comparison out, every few seconds."""

from collections.abc import Collection
from typing import Any

from router.analysis.cost_check import CostArm, CostCheck, build_cost_check, cost_arm
from router.analysis.run import ComparedVersions
from router.analysis.statistics.cost_ratio import CostOfVersion
from router.analysis.statistics.durations import quantile
from router.analysis.statistics.predict_costs import PredictCosts
from router.analysis.version_costs import VersionCosts
from router.core.events import Predicted
from router.core.ids import VersionId
from router.serving.models import ModelSet
from router.serving.worker_memory import WorkerMemory

LOOK_SECONDS = 10.0
"""Between two looks at the same comparison: each takes some milliseconds."""
SHOWN_SECONDS = 5.0
"""How long what `/v1/state` said of a version's predicts holds: to learn it takes milliseconds, too."""


class CostTally:
    """Of all registered models."""

    def __init__(self, models: ModelSet) -> None:
        self.memory = WorkerMemory(models)
        """Peaks of the workers' memory."""
        self._models: dict[str, VersionCosts] = {}
        self._looked_at: dict[tuple[VersionId, VersionId], float] = {}
        """When each comparison was last looked at."""
        self._shown: dict[VersionId, tuple[float, dict[str, Any]]] = {}
        """What was last said of each version's predicts, and when it was learned."""

    def follow(self, model: str, bound: Collection[VersionId], now: float) -> None:
        """These versions of a model serve from now on."""
        costs = self._models.get(model)
        if costs is None:
            costs = self._models[model] = VersionCosts(now)
        costs.follow({version.number for version in bound}, now)
        for pair in [pair for pair in self._looked_at if pair[0].model == model and not {*pair} <= {*bound}]:
            del self._looked_at[pair]
        for version in [version for version in self._shown if version.model == model]:
            del self._shown[version]

    def forget(self, model: str) -> None:
        """It left the configuration."""
        self.follow(model, (), 0.0)
        del self._models[model]

    def take(self, event: Predicted, now: float) -> None:
        """A version's predict returned. Of a model that is not followed nothing is taken."""
        if (costs := self._models.get(event.model)) is not None:
            seconds, worked = event.predict_seconds, event.processor_seconds
            costs.take(event.version.number, event.rows, seconds, worked, now)

    def check(self, versions: ComparedVersions, now: float) -> CostCheck | None:
        """What is known of two versions; None where that was asked a moment ago, or one serves no more."""
        production, canary = versions.production, versions.version
        costs, pair = self._models.get(production.model), (production, canary)
        if costs is None or not costs.follows(production.number, canary.number):
            return None
        if now - self._looked_at.get(pair, -LOOK_SECONDS) < LOOK_SECONDS:
            return None
        self._looked_at[pair] = now
        comparison, rate = costs.compare(production.number, canary.number), costs.rows_per_second(now)
        per_second = rate / comparison.rows if rate is not None and comparison.rows else None

        def arm(version: VersionId, cost: CostOfVersion) -> CostArm:
            durations = costs.durations(version.number)
            return cost_arm(cost, durations, per_second, self.memory.peak(version))

        return build_cost_check(
            comparison,
            arm(production, comparison.production),
            arm(canary, comparison.canary),
            versions.criteria.cost_limit,
        )

    def of_version(self, version: VersionId, now: float) -> dict[str, Any]:
        """What its predicts cost, for `/v1/state`, as of the last seconds. What is not known is null."""
        learned_at, shown = self._shown.get(version, (-SHOWN_SECONDS, {}))
        if now - learned_at >= SHOWN_SECONDS:
            shown = self._predicts_of(version)
            if version.model in self._models:
                self._shown[version] = (now, shown)
        return {**shown, "peak_memory_bytes": self.memory.peak(version)}

    def _predicts_of(self, version: VersionId) -> dict[str, Any]:
        costs = self._models.get(version.model)
        predicts = costs.of(version.number) if costs is not None else PredictCosts()
        durations = costs.durations(version.number) if costs is not None else []
        line = predicts.line() if predicts.predicts else None
        return {
            "predicts": predicts.predicts,
            "fixed_seconds": line.fixed_seconds if line else None,
            "row_seconds": line.row_seconds if line else None,
            "predict_seconds": {"p50": quantile(durations, 0.5), "p95": quantile(durations, 0.95)},
        }
