"""Which fact of a shadow request moves which series."""

from collections.abc import Collection

from router.adapters.prometheus.catalog import SHADOW_RESULTS, Catalog
from router.core.shadow_events import ShadowCompared, ShadowDropped


class ShadowSeries:
    """Counts by result. All series of a model are there with its first fact: most of these agree, so that the
    first one that does not is an increase."""

    def __init__(self, catalog: Catalog) -> None:
        self._comparisons = catalog.shadow_comparisons

    def record(self, event: ShadowCompared | ShadowDropped, models: Collection[str]) -> None:
        """Count one of a model in `models`."""
        model = event.version.model
        if model in models:
            for result in SHADOW_RESULTS:
                self._comparisons.series(model, result)
            self._comparisons.series(model, _result(event)).value += 1


def _result(event: ShadowCompared | ShadowDropped) -> str:
    if isinstance(event, ShadowDropped):
        return "dropped"
    if event.production_fault != event.canary_fault:
        return "canary_error" if event.canary_fault else "production_error"
    return "agree" if event.agrees else "disagree"
