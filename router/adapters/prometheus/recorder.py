"""Which event moves which series, when series come and go, and the answer of `/metrics`."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from router.adapters.prometheus import store
from router.adapters.prometheus.catalog import (
    BOUNDS,
    CUTS,
    DECISIONS,
    ENDINGS,
    FALLBACKS,
    LOOPS,
    MEMBERS,
    NOTIFICATIONS,
    OTHER,
    PEERS,
    PHASES,
    PHASES_OF_ALL,
    POLLS,
    REJECTIONS,
    SWAPS,
    VERDICTS,
    Catalog,
    bounded,
    reasons_of,
)
from router.adapters.prometheus.live import Live, LiveReader
from router.adapters.prometheus.shadow import ShadowSeries
from router.adapters.prometheus.store import Histogram, Value
from router.adapters.prometheus.version import VersionSeries
from router.core import events
from router.core.cache_events import Downloaded
from router.core.environment_events import EnvironmentBuilt
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.outbound_events import NotificationTried
from router.core.outcomes import NOT_HTTP, RefusalReason
from router.core.score_events import ScoresRead
from router.core.shadow_events import ShadowCompared, ShadowDropped
from router.core.split import BUCKETS
from router.core.state_events import StateWriteFailed
from router.core.version_environment import VersionEnvironment

KEPT_SECONDS = 900.0
"""How long a retired version's series stay: the last increments must be scraped, and late answers counted."""
KEPT_RETIRED = 2
"""Retired versions per alias that stay at most, so that many swaps in a short time cost nothing."""
_BY_SIGNAL = ("out_of_memory", "invalid")
"""Kinds of SIGKILL that have names of their own in the log and `/v1/state`; here they are `signal`."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _AliasState:
    """One alias of one model: series that every request moves, and which versions, by number, it has."""

    request_rows: Histogram
    queue_seconds: Histogram
    batch_rows: Histogram
    batch_requests: Histogram
    decisions: dict[str, Value]
    """By reason."""
    bound: int | None = None
    aspired: int | None = None
    reported: bool = False
    """True once the registry's answer about this alias is known, also when it names nothing."""
    retired: dict[int, float] = field(default_factory=dict)
    """When each retired version was, oldest first; seconds of the monotonic clock."""


class PrometheusRecorder:
    """Implements `Recorder`. Events it does not know are ignored; it never raises.

    A model has series from its first SplitInForce or AliasBound until its ModelRemoved, a version from its
    AliasBound until 15 minutes after it was retired. Whatever names another model or version is ignored, and
    Rejected counts under `__other__`: no path and no late answer makes series.
    """

    def __init__(
        self,
        *,
        version: str,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`version` of the gateway; `monotonic` decides when series go, `wall` is seconds since 1970."""
        self._monotonic, self._wall = monotonic, wall
        self._live: LiveReader = Live
        self._models: set[str] = set()
        self._aliases: dict[tuple[str, Alias], _AliasState] = {}
        self._versions: dict[tuple[str, Alias, int], VersionSeries] = {}
        self._loaded: dict[VersionId, tuple[float, VersionEnvironment | None]] = {}
        """Wall time at which each version now in memory became ready, and its own environment."""
        self._ready = False
        """As last reported; the gauge also asks whether a model can answer."""
        self._failed_events: set[str] = set()
        self._process = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)
        self._catalog = catalog = Catalog()
        self._shadows = ShadowSeries(catalog)
        catalog.build_info.series(version).value = 1
        for refusal in (RefusalReason.UNKNOWN_MODEL, RefusalReason.OVERLOADED, *NOT_HTTP):
            catalog.rejected.series(OTHER, refusal.value)
        for cut in CUTS:
            catalog.answers_cut.series(cut)
        of_gateway = (catalog.config_ok, catalog.config_ok_at, catalog.loop_lag, catalog.ready)
        counters = (catalog.downloaded_bytes, catalog.log_lines_dropped, catalog.own_errors)
        of_state = (catalog.state_durable, catalog.state_write_errors)
        for family in (*of_gateway, catalog.from_cache, *of_state, *counters):
            family.series()
        catalog.build_seconds.series()
        for loop in LOOPS:
            catalog.loop_failures.series(loop)
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.Answered: lambda one: self._answered(events.AnsweredTogether.of(one)),
            events.AnsweredTogether: self._answered,
            events.Predicted: self._predicted,
            ScoresRead: self._scores_read,
            events.CanaryFaulted: self._canary_faulted,
            events.FellBack: self._fell_back,
            events.Rejected: self._rejected,
            events.SplitInForce: self._split_in_force,
            events.RoutesChanged: self._routes_changed,
            events.AliasBound: self._alias_bound,
            events.AliasUnbound: self._alias_unbound,
            events.AliasAspired: self._alias_aspired,
            events.VersionLoaded: self._version_loaded,
            events.LoadRefused: self._load_refused,
            events.DrainCutShort: self._drain_cut_short,
            events.VersionGone: self._version_gone,
            events.WorkerEnded: self._worker_ended,
            events.WorkerLoadFailed: self._worker_load_failed,
            Downloaded: self._downloaded,
            events.Polled: self._polled,
            events.ModelRemoved: self._model_removed,
            events.ConfigApplied: self._config_applied,
            events.ConfigRejected: self._config_rejected,
            events.ReadinessChanged: self._readiness_changed,
            events.TickFailed: self._tick_failed,
            events.AnswersCut: self._answers_cut,
            ShadowCompared: self._shadow,
            ShadowDropped: self._shadow,
            EnvironmentBuilt: self._environment_built,
            StateWriteFailed: self._state_write_failed,
            NotificationTried: self._notification_tried,
        }

    def watch(self, live: LiveReader) -> None:
        """Ask `live` for the gauges of the instant at every scrape. Until then they are 0 or absent."""
        self._live = live

    def record(self, event: events.Event) -> None:
        """Count one event."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            try:
                handler(event)
            except Exception:  # noqa: BLE001 - a bug in a metric must not break a request
                self._failed(type(event).__name__)

    def render(self, accept: str = "", names: Sequence[str] = ()) -> tuple[bytes, str]:
        """The exposition and its content type.

        `accept` is the request's Accept header. `names` are the values of its `name[]` parameters: families
        or samples; empty means all.
        """
        try:
            self._show(self._live())
        except Exception:  # noqa: BLE001 - a gauge that can not be read must not hide the counters
            self._failed("Live")
        openmetrics = store.wants_openmetrics(accept)
        body = store.render(
            self._catalog.families, self._process.collect(), openmetrics=openmetrics, names=frozenset(names)
        )
        return body, store.OPENMETRICS if openmetrics else store.TEXT

    def _show(self, live: Live) -> None:
        catalog = self._catalog
        for family in (
            catalog.in_flight,
            catalog.draining,
            catalog.workers,
            catalog.worker_memory,
            catalog.worker_peak_memory,
            catalog.worker_cpu,
            catalog.model_ready,
            catalog.rollback_ready,
            catalog.gate_passed,
            catalog.preflight_passed,
            *(catalog.score_psi, catalog.score_ks),
            *(catalog.verdict, catalog.verdict_changed_at, catalog.evidence_horizon_at),
            *(catalog.cost_ratio, catalog.cost_ratio_bound),
        ):
            family.drop()
        self._forget_retired()
        for model in self._models:
            catalog.model_ready.series(model).value = int(live.models_ready.get(model, False))
        for model, alias in self._aliases:
            catalog.in_flight.series(model, alias).value = live.in_flight.get((model, alias), 0)
        self._show_versions(live)
        self._show_comparison(live)
        catalog.ready.series().value = int(self._ready and live.ready)
        catalog.loop_lag.series().value = live.loop_lag_seconds
        catalog.from_cache.series().value = int(live.from_cache)
        catalog.state_durable.series().value = int(live.state_durable)
        catalog.log_lines_dropped.series().value = live.log_lines_dropped
        for state in PEERS:
            catalog.fleet_peers.series(state).value = live.peers.get(state, 0)
        for state in MEMBERS:
            catalog.fleet_members.series(state).value = live.members.get(state, 0)
        for receiver in live.receivers:
            for result in NOTIFICATIONS:
                catalog.notifications.series(receiver, result)

    def _show_versions(self, live: Live) -> None:
        catalog = self._catalog
        for shown in live.versions:
            labels = (shown.version.model, str(shown.version.number))
            if shown.version.model in self._models:
                catalog.draining.series(*labels).value = int(shown.draining)
                catalog.workers.series(*labels).value = shown.workers
                catalog.worker_memory.series(*labels).value = shown.memory_bytes
                if shown.peak_memory_bytes is not None:
                    catalog.worker_peak_memory.series(*labels).value = shown.peak_memory_bytes
                for phase, seconds in shown.processor_seconds.items():
                    catalog.worker_cpu.series(*labels, phase).value = seconds
        for version, ready in live.rollbacks.items():
            if version.model in self._models:
                catalog.rollback_ready.series(version.model, str(version.number)).value = ready
        for (model, alias), passed in live.gates.items():
            if model in self._models:
                catalog.gate_passed.series(model, alias).value = int(passed)
        for (model, alias), passed in live.preflights.items():
            if model in self._models:
                catalog.preflight_passed.series(model, alias).value = int(passed)

    def _show_comparison(self, live: Live) -> None:
        catalog = self._catalog
        for shift in live.shifts:
            if shift.model in self._models:
                catalog.score_psi.series(shift.model, shift.output, shift.alias).value = shift.psi
                catalog.score_ks.series(shift.model, shift.output, shift.alias).value = shift.ks
        for (model, alias), shown in live.verdicts.items():
            if model not in self._models:
                continue
            for verdict in VERDICTS:
                catalog.verdict.series(model, alias, verdict).value = int(verdict == shown.verdict)
            if shown.changed_at is not None:
                catalog.verdict_changed_at.series(model, alias).value = shown.changed_at
            if shown.judged_until is not None:
                catalog.evidence_horizon_at.series(model, alias).value = shown.judged_until
            if shown.cost_ratio is not None:
                catalog.cost_ratio.series(model, alias).value = shown.cost_ratio
            for bound, value in zip(BOUNDS, shown.cost_bounds or (), strict=False):
                catalog.cost_ratio_bound.series(model, alias, bound).value = value

    # Requests

    def _answered(self, event: events.AnsweredTogether) -> None:
        alias = self._aliases.get((event.model, event.alias))
        if alias is not None:
            by_reason, request_rows = alias.decisions, alias.request_rows
            for one in event.each:
                decisions = by_reason.get(one.reason)
                if decisions is None:
                    reason = bounded(one.reason, DECISIONS)
                    decisions = self._catalog.decisions.series(event.model, event.alias, reason)
                decisions.value += 1
                if one.rows:
                    request_rows.observe(one.rows)
        version = self._versions.get((event.model, event.alias, event.version.number))
        if version is not None:
            version.answered(event.each, self._wall)

    def _predicted(self, event: events.Predicted) -> None:
        alias = self._aliases.get((event.model, event.alias))
        if alias is not None:
            alias.queue_seconds.observe(event.queue_seconds)
            alias.batch_rows.observe(event.rows)
            alias.batch_requests.observe(event.requests)
        version = self._versions.get((event.model, event.alias, event.version.number))
        if version is not None:
            version.predicted(event)

    def _scores_read(self, event: ScoresRead) -> None:
        version = self._versions.get((event.model, event.alias, event.version.number))
        if version is not None:
            version.scores_read(event)

    def _canary_faulted(self, event: events.CanaryFaulted) -> None:
        version = self._versions.get((event.model, event.alias, event.version.number))
        if version is not None:
            version.fault(event.kind)

    def _fell_back(self, event: events.FellBack) -> None:
        aliases = (event.from_alias, event.to_alias)
        known = (event.model, event.to_alias) in self._aliases or event.to_alias == PRODUCTION
        if known and (event.model, event.from_alias) in self._aliases:
            reason = bounded(event.reason, FALLBACKS)
            self._catalog.fallbacks.series(event.model, *aliases, reason).value += 1

    def _shadow(self, event: ShadowCompared | ShadowDropped) -> None:
        self._shadows.record(event, self._models)

    def _rejected(self, event: events.Rejected) -> None:
        known = event.model in self._models and event.reason not in NOT_HTTP
        model = event.model if known else OTHER
        self._catalog.rejected.series(model, bounded(event.reason, REJECTIONS)).value += 1

    # Models and aliases

    def _model(self, model: str) -> None:
        """Make the series of a model that is new."""
        if model not in self._models:
            self._models.add(model)
            for reason in REJECTIONS:
                if reason not in NOT_HTTP:
                    self._catalog.rejected.series(model, reason)
            self._catalog.worker_load_failures.series(model)
            for result in POLLS:
                self._catalog.polls.series(model, result)
            self._catalog.poll_seconds.series(model)
            self._catalog.poll_success_at.series(model)

    def _alias(self, model: str, alias: Alias) -> _AliasState:
        """The state of one alias; its series are made when it is new."""
        state = self._aliases.get((model, alias))
        if state is None:
            self._model(model)
            catalog = self._catalog
            state = self._aliases[model, alias] = _AliasState(
                catalog.request_rows.series(model, alias),
                catalog.queue_seconds.series(model, alias),
                catalog.batch_rows.series(model, alias),
                catalog.batch_requests.series(model, alias),
                {reason: catalog.decisions.series(model, alias, reason) for reason in reasons_of(alias)},
            )
            for result in SWAPS:
                catalog.swaps.series(model, alias, result)
            for phase in PHASES_OF_ALL:
                catalog.load_seconds.series(model, alias, phase)
            catalog.pending.series(model, alias)
            if alias != PRODUCTION:
                for reason in FALLBACKS:
                    catalog.fallbacks.series(model, alias, PRODUCTION, reason)
        return state

    def _split_in_force(self, event: events.SplitInForce) -> None:
        self._model(event.model)
        for alias in {**event.configured, **event.in_force}:
            self._alias(event.model, alias)
        for family, shares in (
            (self._catalog.split, event.in_force),
            (self._catalog.split_configured, event.configured),
        ):
            family.drop(model=event.model)
            for alias, share in shares.items():
                family.series(event.model, alias).value = share

    def _routes_changed(self, event: events.RoutesChanged) -> None:
        model = event.routes.model
        if model not in self._models:
            return  # it serves nothing yet that could be capped
        self._catalog.split_cap.drop(model=model)
        for alias, buckets in event.routes.capped.items():
            self._catalog.split_cap.series(model, alias).value = buckets / BUCKETS

    def _model_removed(self, event: events.ModelRemoved) -> None:
        self._models.discard(event.model)
        self._catalog.drop(model=event.model)
        self._aliases = {key: state for key, state in self._aliases.items() if key[0] != event.model}
        self._versions = {key: one for key, one in self._versions.items() if key[0] != event.model}
        self._loaded = {key: how for key, how in self._loaded.items() if key.model != event.model}

    def _alias_aspired(self, event: events.AliasAspired) -> None:
        if event.model in self._models:
            state = self._alias(event.model, event.alias)
            state.aspired, state.reported = event.new.number if event.new else None, True
            self._compare(event.model, event.alias, state)

    def _alias_bound(self, event: events.AliasBound) -> None:
        model, alias, number = event.model, event.alias, event.new.number
        state = self._alias(model, alias)
        # Before the old one is retired: a version that comes back must not be the one that has to go.
        state.retired.pop(number, None)
        if number != state.bound:
            self._retire(model, alias, state)
            self._catalog.swaps.series(model, alias, "success").value += 1
        version = self._versions.get((model, alias, number))
        if version is None:
            version = VersionSeries(self._catalog, model, alias, str(number))
            self._versions[model, alias, number] = version
        version.serve(event, *self._loaded.get(event.new, (self._wall(), None)))
        for reason in ENDINGS:
            self._catalog.restarts.series(model, str(number), reason)
        state.bound = number
        self._compare(model, alias, state)
        self._forget_retired()

    def _alias_unbound(self, event: events.AliasUnbound) -> None:
        state = self._aliases.get((event.model, event.alias))
        if state is not None:
            self._retire(event.model, event.alias, state)
            self._forget_retired()
            self._compare(event.model, event.alias, state)

    def _retire(self, model: str, alias: Alias, state: _AliasState) -> None:
        if state.bound is not None:
            self._versions[model, alias, state.bound].retire()
            state.retired[state.bound] = self._monotonic()
            state.bound = None

    def _compare(self, model: str, alias: Alias, state: _AliasState) -> None:
        # An alias the registry names no more waits for nothing: production stays bound, and stale.
        pending = state.reported and state.aspired != state.bound
        self._catalog.pending.series(model, alias).value = int(pending)

    def _forget_retired(self) -> None:
        """Drop the retired versions whose time is over, and all but the newest two of each alias."""
        now = self._monotonic()
        for (model, alias), state in self._aliases.items():
            for number, since in list(state.retired.items()):
                if len(state.retired) > KEPT_RETIRED or now - since >= KEPT_SECONDS:
                    del state.retired[number], self._versions[model, alias, number]
                    self._catalog.drop(model=model, alias=alias, version=str(number))
                    if all(key[0] != model or key[2] != number for key in self._versions):
                        self._catalog.drop(model=model, version=str(number))  # what all its aliases shared

    # Versions

    def _version_loaded(self, event: events.VersionLoaded) -> None:
        if event.version.model in self._models:
            self._loaded[event.version] = self._wall(), event.environment
            for alias in event.aliases:
                self._alias(event.version.model, alias)
                for phase, seconds in event.phase_seconds.items():
                    if phase in PHASES:
                        self._catalog.load_seconds.series(event.version.model, alias, phase).observe(seconds)

    def _load_refused(self, event: events.LoadRefused) -> None:
        if event.version.model in self._models:
            for alias in event.aliases:
                self._alias(event.version.model, alias)
                result = "refused" if event.by_rule else "failure"
                self._catalog.swaps.series(event.version.model, alias, result).value += 1

    def _version_gone(self, event: events.VersionGone) -> None:
        self._loaded.pop(event.version, None)

    def _worker_ended(self, event: events.WorkerEnded) -> None:
        self._count_ends(event.version, "signal" if event.reason in _BY_SIGNAL else event.reason, 1)

    def _drain_cut_short(self, event: events.DrainCutShort) -> None:
        # A series of its own would be more than it says: a predict outlasted the time that it had.
        self._count_ends(event.version, "predict_timeout", event.workers)

    def _count_ends(self, version: VersionId, reason: str, workers: int) -> None:
        of_version = (version.model, str(version.number))
        # Versions that no alias serves, or served lately, are not counted.
        if self._catalog.restarts.find(*of_version, ENDINGS[0]) is not None:
            self._catalog.restarts.series(*of_version, bounded(reason, ENDINGS)).value += workers

    def _worker_load_failed(self, event: events.WorkerLoadFailed) -> None:
        if event.version.model in self._models:
            self._catalog.worker_load_failures.series(event.version.model).value += 1

    def _environment_built(self, event: EnvironmentBuilt) -> None:
        self._catalog.build_seconds.series().observe(event.about.build_seconds)

    def _downloaded(self, event: Downloaded) -> None:
        self._catalog.downloaded_bytes.series().value += event.size

    # Gateway

    def _polled(self, event: events.Polled) -> None:
        if event.model in self._models:
            self._catalog.polls.series(event.model, "failure" if event.error else "success").value += 1
            self._catalog.poll_seconds.series(event.model).observe(event.seconds)
            if not event.error:
                self._catalog.poll_success_at.series(event.model).value = self._wall()

    def _config_applied(self, event: events.ConfigApplied) -> None:
        self._catalog.config_ok.series().value = 1
        self._catalog.config_ok_at.series().value = self._wall()
        self._catalog.config_info.drop()
        self._catalog.config_info.series(event.digest).value = 1

    def _config_rejected(self, event: events.ConfigRejected) -> None:
        self._catalog.config_ok.series().value = 0

    def _readiness_changed(self, event: events.ReadinessChanged) -> None:
        self._ready = event.ready
        self._catalog.ready.series().value = int(event.ready)

    def _answers_cut(self, event: events.AnswersCut) -> None:
        self._catalog.answers_cut.series(event.reason.value).value += event.answers

    def _state_write_failed(self, _: StateWriteFailed) -> None:
        self._catalog.state_write_errors.series().value += 1

    def _tick_failed(self, event: events.TickFailed) -> None:
        self._catalog.loop_failures.series(bounded(event.loop, LOOPS)).value += 1

    def _notification_tried(self, event: NotificationTried) -> None:
        self._catalog.notifications.series(event.receiver, str(event.result)).value += event.notifications

    def _failed(self, what: str) -> None:
        self._catalog.own_errors.series().value += 1
        if what not in self._failed_events:
            self._failed_events.add(what)
            _log.exception("the metrics can not take %s; logged once", what)
