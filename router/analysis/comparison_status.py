"""How an alias stands against production: its verdict, what stands in the way, and what its operator set."""

from dataclasses import dataclass

from msgspec import UNSET

from router.analysis import text
from router.analysis.checks import verdict_in_force
from router.analysis.criteria import Criteria
from router.analysis.run import AnalysisRun
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.routing import ModelRoutes
from router.core.split import BUCKETS, BUCKETS_PER_PERCENT
from router.core.verdict import Verdict
from router.serving.manager import ModelManager
from router.settings import ModelSettings


@dataclass(frozen=True, slots=True)
class ComparisonStatus:
    """How one alias stands against production, as of the last look."""

    alias: Alias
    production: VersionId | None
    """What it serves now, and so on."""
    version: VersionId | None
    share: float
    """In force, 0 to 1."""
    obstacle: str
    """Why nothing is compared at this moment; empty when it is."""
    run: AnalysisRun | None
    """What is known of these two versions; None when there is nothing."""
    broken: bool
    """Whether the obstacle is an open breaker."""

    @property
    def verdict(self) -> str:
        """pass, fail or not_enough_data."""
        report = self.run.report if self.run else None
        return verdict_in_force(report, broken=self.broken or self._is_behind)

    @property
    def why(self) -> str:
        """The verdict in one sentence, or two. Who is missing from it, `AnalysisRecorder.why` says."""
        report = self.run.report if self.run else None
        if self._is_behind and self.verdict == Verdict.NOT_ENOUGH_DATA:
            return f"Not enough data: {self.alias} has {text.percent(self.share)} since a moment ago."
        return text.verdict_sentence(report, self.obstacle, self.alias, broken=self.broken)

    @property
    def _is_behind(self) -> bool:
        return self.run is not None and not self.obstacle and self.run.is_behind


def obstacle_to(manager: ModelManager, routes: ModelRoutes, alias: Alias) -> str:
    """Why production and `alias` can not be compared now; empty when they can."""
    production, version = routes.bound.get(PRODUCTION), routes.bound.get(alias)
    aspired, shares = manager.aspired.get(alias), routes.configured_split.shares()
    if production is None:
        return "production serves no version yet"
    if version is None:
        return f"v{aspired.number} is not READY yet" if aspired else f"the registry names no {alias}"
    if version == production:
        return f"both serve v{version.number}"
    if alias in routes.gated:
        holds = "its pre-flight" if alias in manager.preflight.held else "the gate"
        return f"{holds} holds it, and production has its share"
    if alias in routes.broken:
        breaker = manager.breakers.of(alias, version)
        why = f" ({breaker.view().why})" if breaker is not None and breaker.is_open else ""
        return f"its breaker is open{why}, and production has its share"
    if not shares.get(alias) and not is_shadowed(manager.settings, alias):
        return "its share is 0 %"
    if (cap := routes.capped.get(alias, BUCKETS)) < max(1, shares.get(alias, 0)):
        # Which keys an operator, or an alert, leaves to it is no split that evidence could be counted by.
        return f"it is capped at {cap / BUCKETS_PER_PERCENT:g} %, and production has the rest of its share"
    return "" if shares[PRODUCTION] else "production's share is 0 %"


def is_shadowed(settings: ModelSettings, alias: Alias) -> bool:
    """Whether copies of production's requests go to `alias`, while processors are idle."""
    return settings.shadow is not None and settings.shadow.shares.get(alias, 0) > 0


def criteria_of(settings: ModelSettings, alias: Alias) -> Criteria:
    """What the operator of a registered model set for `alias`: its `checks`, `on_shift` of its `scores`, and
    whether it is shadowed."""
    checks = settings.checks
    return Criteria(
        alpha=checks.alpha,
        max_increase=checks.faults.max_increase,
        max_slow_increase=checks.latency.max_increase,
        min_ratio=checks.latency.min_ratio,
        min_seconds=checks.latency.min_seconds,
        on_shift=settings.scores.on_shift,
        max_cost_increase=UNSET if checks.cost.max_increase is None else checks.cost.max_increase,
        shadow=True if is_shadowed(settings, alias) else UNSET,
    )
