"""Who is compared with whom: an alias beside production, and what stands in the way."""

from dataclasses import dataclass, field

from router.control import words
from router.control.rollout import Rollout
from router.control.windows import Tally
from router.core.evidence import Verdict
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.routing import ModelRoutes
from router.core.scores import OutputSpec
from router.serving.manager import ModelManager


@dataclass(slots=True)
class Lane:
    """One alias of one model, with the version that it served last."""

    version: VersionId
    outputs: tuple[OutputSpec, ...]
    tally: Tally
    canary: bool
    rollouts: tuple[Rollout, ...] = field(default=())
    """Those that its requests are evidence in, at this moment."""
    left: tuple[Rollout, ...] = field(default=())
    """Those that rest since `left_at`: what was under way then is evidence still, as that which opened a
    breaker."""
    left_at: float = 0.0
    """On a monotonic clock."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How one further alias stands against production, as of the last look."""

    alias: Alias
    production: VersionId | None
    """What it serves now, and so on."""
    version: VersionId | None
    share: float
    """In force, 0 to 1."""
    obstacle: str
    """Why nothing is compared at this moment; empty when it is."""
    rollout: Rollout | None
    """What is known of these two versions; None when there is nothing."""
    broken: bool
    """Whether the obstacle is an open breaker."""

    @property
    def verdict(self) -> str:
        """pass, fail or not_enough_data. Nothing passes while its breaker is open."""
        verdict = self.rollout.report.verdict if self.rollout is not None else Verdict.NOT_ENOUGH_DATA
        return Verdict.NOT_ENOUGH_DATA if self.broken and verdict is Verdict.PASS else verdict

    @property
    def why(self) -> str:
        """The verdict in one sentence, or two."""
        report = self.rollout.report if self.rollout is not None else None
        return words.whole(report, self.obstacle, self.alias, broken=self.broken)


def obstacle_to(manager: ModelManager, routes: ModelRoutes, alias: Alias) -> str:
    """Why production and `alias` can not be compared now; empty when they can."""
    production, version = routes.bound.get(PRODUCTION), routes.bound.get(alias)
    aspired, shares = manager.aspired.get(alias), routes.split.shares()
    if production is None:
        return "production serves no version yet"
    if version is None:
        return f"v{aspired.number} is not READY yet" if aspired else f"the registry names no {alias}"
    if version == production:
        return f"both serve v{version.number}"
    if alias in routes.broken:
        breaker = manager.breakers.of(alias, version)
        told = f" ({breaker.view().why})" if breaker is not None and breaker.is_open else ""
        return f"its breaker is open{told}, and production has its share"
    if not shares.get(alias):
        return "its share is 0 %"
    return "" if shares[PRODUCTION] else "production's share is 0 %"
