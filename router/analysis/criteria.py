"""The criteria of a registered model's comparisons, as its operator set them."""

from router.analysis.checks import Criteria
from router.settings import ModelSettings


def criteria_of(settings: ModelSettings) -> Criteria:
    """`checks`, and `on_shift` of `scores`; the rest is not for operators to set."""
    checks = settings.checks
    return Criteria(
        alpha=checks.alpha,
        max_increase=checks.faults.max_increase,
        max_slow_increase=checks.latency.max_increase,
        min_ratio=checks.latency.min_ratio,
        min_seconds=checks.latency.min_seconds,
        on_shift=settings.scores.on_shift,
    )
