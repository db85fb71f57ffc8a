"""Series of one alias, and when those of the versions it served come and go."""

from collections.abc import Iterable

from router.adapters.prometheus.catalog import Catalog, bounded
from router.adapters.prometheus.series import Scope, Value
from router.adapters.prometheus.version_series import VersionSeries
from router.core.events import AliasBound, Answered, CanaryFaulted, Predicted, VersionLoaded
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.routing import Reason

KEPT_SECONDS = 900.0
"""How long a retired version's series stay: the last increments must be scraped, and late answers counted."""
KEPT_RETIRED = 2
"""Retired versions per alias that stay at most, so that many swaps in a short time cost nothing."""
PHASES = ("fetch", "load", "warmup")
DECISIONS = tuple(str(reason) for reason in Reason if reason is not Reason.FALLBACK)
"""Reasons of `routing_decisions_total`. A fallback is decided later, and counted in `fallbacks_total`."""
SWAPS = ("success", "failure", "refused")
_OF_PRODUCTION = (Reason.CANARY_ABSENT, Reason.CANARY_NOT_READY, Reason.BREAKER_OPEN)
"""Why production gets what is another alias's share."""


def reasons_of(alias: Alias) -> tuple[str, ...]:
    """Those of `DECISIONS` for which a request is given to `alias`."""
    never = (Reason.SAME_VERSION,) if alias == PRODUCTION else _OF_PRODUCTION
    return tuple(reason for reason in DECISIONS if reason not in never)


class AliasSeries:
    """One alias of one registered model: its own series, and those of the versions it serves and served."""

    def __init__(self, catalog: Catalog, scope: Scope, model: str, alias: Alias) -> None:
        self._catalog = catalog
        self._scope = scope
        self._labels = (model, alias)
        self._bound: int | None = None
        self._aspired: int | None = None
        self._heard = False
        """True once the registry was heard about this alias, also when it names nothing."""
        self._retired: dict[int, float] = {}
        """When each retired version was, oldest first; seconds of the monotonic clock."""
        self._versions: dict[int, VersionSeries] = {}
        self._decisions: dict[str, Value] = {}
        for reason in reasons_of(alias):
            self.decided(reason, 0)
        self._pending = scope.series(catalog.pending, *self._labels)
        self._swaps = {result: scope.series(catalog.swaps, *self._labels, result) for result in SWAPS}
        self._load_seconds = {
            phase: scope.series(catalog.load_seconds, *self._labels, phase) for phase in PHASES
        }
        self._request_rows = scope.series(catalog.request_rows, *self._labels)
        self._queue_seconds = scope.series(catalog.queue_seconds, *self._labels)
        self._batch_rows = scope.series(catalog.batch_rows, *self._labels)
        self._batch_requests = scope.series(catalog.batch_requests, *self._labels)

    def decided(self, reason: str, count: int = 1) -> None:
        """A request was given to this alias."""
        found = self._decisions.get(reason)
        if found is None:
            text = bounded(reason, DECISIONS)
            found = self._decisions[text] = self._scope.series(self._catalog.decisions, *self._labels, text)
        found.value += count

    def answered(self, event: Answered, at: float) -> None:
        """One request was answered, by this alias or by production in its place; `at` as in `exemplify`."""
        if event.rows:
            self._request_rows.observe(event.rows)
        if (version := self._versions.get(event.version.number)) is not None:
            version.answered(event, at)

    def faulted(self, event: CanaryFaulted) -> None:
        """One request found this alias at fault."""
        if (version := self._versions.get(event.version.number)) is not None:
            version.fault(event.kind)

    def predicted(self, event: Predicted) -> None:
        """One batch was predicted for this alias."""
        self._queue_seconds.observe(event.queue_seconds)
        self._batch_rows.observe(event.rows)
        self._batch_requests.observe(event.requests)
        if (version := self._versions.get(event.version.number)) is not None:
            version.predicted(event)

    def loaded(self, event: VersionLoaded) -> None:
        """A version for this alias became ready."""
        for phase, seconds in event.phase_seconds.items():
            if phase in self._load_seconds:
                self._load_seconds[phase].observe(seconds)

    def numbers(self) -> Iterable[int]:
        """Versions that have series here."""
        return self._versions.keys()

    def refused(self, result: str) -> None:
        """A version for this alias did not become ready; `result` is failure or refused."""
        self._swaps[result].value += 1

    def bind(self, event: AliasBound, loaded_at: float, now: float) -> None:
        """The alias serves `event.new` from now on. `loaded_at` is wall time, `now` monotonic."""
        number = event.new.number
        # Before the old one is retired: a version that comes back must not be the one that has to go.
        self._retired.pop(number, None)
        if number != self._bound:
            self.unbind(now)
            self._swaps["success"].value += 1
        if number not in self._versions:
            self._versions[number] = VersionSeries(self._catalog, *self._labels, number)
        self._versions[number].serve(event, loaded_at)
        self._bound = number
        self._compare()

    def unbind(self, now: float) -> None:
        """The alias serves nothing, or another version in a moment."""
        if self._bound is not None:
            self._versions[self._bound].retire()
            self._retired[self._bound] = now
            self._bound = None
        self.forget(now)
        self._compare()

    def aspire(self, version: VersionId | None) -> None:
        """What the registry names under this alias."""
        self._aspired = version.number if version else None
        self._heard = True
        self._compare()

    def forget(self, now: float) -> None:
        """Drop the retired versions whose time is over, and all but the newest two."""
        for number, since in list(self._retired.items()):
            if len(self._retired) > KEPT_RETIRED or now - since >= KEPT_SECONDS:
                del self._retired[number]
                self._versions.pop(number).close()

    def close(self) -> None:
        """Drop what belongs to versions; the rest goes with the model's scope."""
        for version in self._versions.values():
            version.close()
        self._versions.clear()

    def _compare(self) -> None:
        # An alias the registry names no more waits for nothing: production stays bound, and stale.
        self._pending.value = int(self._heard and self._aspired != self._bound)
