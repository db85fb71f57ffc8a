"""Which fact moves which series, and the answer of `/metrics`."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from router.adapters.prometheus import exposition
from router.adapters.prometheus.catalog import OTHER, Catalog, bounded
from router.adapters.prometheus.live import Live
from router.adapters.prometheus.model_series import REJECTIONS, Clocks, ModelSeries
from router.adapters.prometheus.series import Scope
from router.core import events, request_events

_log = logging.getLogger(__name__)

_OF_MODEL: Mapping[type, Callable[[ModelSeries, Any], None]] = {
    request_events.Routed: ModelSeries.routed,
    request_events.Answered: ModelSeries.answered,
    request_events.Predicted: ModelSeries.predicted,
    request_events.CanaryFaulted: ModelSeries.canary_faulted,
    request_events.FellBack: ModelSeries.fell_back,
    events.AliasUnbound: ModelSeries.unbind,
    events.AliasAspired: ModelSeries.aspire,
    events.Polled: ModelSeries.polled,
}
"""Facts that name a model in `model`."""

_OF_VERSION: Mapping[type, Callable[[ModelSeries, Any], None]] = {
    events.VersionLoaded: ModelSeries.loaded,
    events.LoadRefused: ModelSeries.refused,
    events.DrainCutShort: ModelSeries.drain_cut_short,
    events.VersionGone: ModelSeries.gone,
    events.WorkerEnded: ModelSeries.worker_ended,
    events.WorkerLoadFailed: ModelSeries.worker_load_failed,
}
"""Facts that name a model in `version.model`."""


class PrometheusRecorder:
    """Implements `Recorder`. Facts it does not know are ignored; it never raises.

    A model has series from its first SplitInForce or AliasBound until its ModelRemoved. Whatever names
    another model is ignored, and Rejected counts under `__other__`: no path and no late answer makes series.
    """

    def __init__(
        self,
        *,
        version: str,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`version` of the gateway; `monotonic` decides when series go, `wall` is seconds since 1970."""
        self._clocks = Clocks(monotonic, wall)
        self._live: Callable[[], Live] = Live
        self._models: dict[str, ModelSeries] = {}
        self._misunderstood: set[str] = set()
        self._process = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)
        self._catalog = catalog = Catalog()
        catalog.build_info.series(version).value = 1
        catalog.rejected.series(OTHER, "unknown_model")
        self._config_info = Scope()
        self._config_ok = catalog.config_ok.series()
        self._config_ok_at = catalog.config_ok_at.series()
        self._loop_lag = catalog.loop_lag.series()
        self._ready = catalog.ready.series()
        self._reported_ready = False
        self._from_cache = catalog.from_cache.series()
        self._own_errors = catalog.own_errors.series()
        self._of_gateway: dict[type, Callable[[Any], None]] = {
            request_events.Rejected: self._rejected,
            events.SplitInForce: lambda event: self._model(event.model).split(event),
            events.AliasBound: lambda event: self._model(event.model).bind(event),
            events.ModelRemoved: self._model_removed,
            events.ConfigApplied: self._config_applied,
            events.ConfigRejected: self._config_rejected,
            events.ReadinessChanged: self._readiness_changed,
        }

    def watch(self, live: Callable[[], Live]) -> None:
        """Ask `live` for the gauges of the instant at every scrape. Until then they are 0 or absent."""
        self._live = live

    def record(self, event: events.Event) -> None:
        """Count one fact."""
        kind = type(event)
        fact: Any = event
        try:
            if kind in _OF_MODEL:
                if (model := self._models.get(fact.model)) is not None:
                    _OF_MODEL[kind](model, event)
            elif kind in _OF_VERSION:
                if (model := self._models.get(fact.version.model)) is not None:
                    _OF_VERSION[kind](model, event)
            elif kind in self._of_gateway:
                self._of_gateway[kind](event)
        except Exception:  # noqa: BLE001 - a bug in a metric must not break a request
            self._not_understood(kind.__name__)

    def render(self, accept: str = "", names: Sequence[str] = ()) -> tuple[bytes, str]:
        """The exposition and its content type.

        `accept` is the request's Accept header. `names` are the values of its `name[]` parameters: families
        or samples; empty means all.
        """
        try:
            self._show(self._live())
        except Exception:  # noqa: BLE001 - a gauge that can not be read must not hide the counters
            self._not_understood("Live")
        openmetrics = exposition.wants_openmetrics(accept)
        shown = chain(
            exposition.blocks(self._catalog.families, openmetrics=openmetrics),
            exposition.foreign_blocks(self._process.collect()),
        )
        body = exposition.render(shown, openmetrics=openmetrics, names=frozenset(names))
        return body, exposition.OPENMETRICS if openmetrics else exposition.TEXT

    def _show(self, live: Live) -> None:
        catalog = self._catalog
        asked_for = (catalog.in_flight, catalog.draining, catalog.workers, catalog.worker_memory)
        for family in (*asked_for, catalog.model_ready, catalog.score_psi, catalog.score_ks):
            family.clear()
        for name, model in self._models.items():
            model.forget()
            catalog.model_ready.series(name).value = int(live.models_ready.get(name, False))
            for alias in model.aliases:
                catalog.in_flight.series(name, alias).value = live.in_flight.get((name, alias), 0)
        for shown in live.versions:
            labels = (shown.version.model, str(shown.version.number))
            if shown.version.model in self._models:
                catalog.draining.series(*labels).value = int(shown.draining)
                catalog.workers.series(*labels).value = shown.workers
                catalog.worker_memory.series(*labels).value = shown.memory_bytes
        for shift in live.shifts:
            if shift.model in self._models:
                catalog.score_psi.series(shift.model, shift.output, shift.alias).value = shift.psi
                catalog.score_ks.series(shift.model, shift.output, shift.alias).value = shift.ks
        self._ready.value = int(self._reported_ready and live.ready)
        self._loop_lag.value = live.loop_lag_seconds
        self._from_cache.value = int(live.from_cache)

    def _model(self, name: str) -> ModelSeries:
        if name not in self._models:
            self._models[name] = ModelSeries(self._catalog, name, self._clocks)
        return self._models[name]

    def _rejected(self, event: request_events.Rejected) -> None:
        if event.model in self._models:
            self._models[event.model].rejected(event.reason)
        else:
            self._catalog.rejected.series(OTHER, bounded(event.reason, REJECTIONS)).value += 1

    def _model_removed(self, event: events.ModelRemoved) -> None:
        if (model := self._models.pop(event.model, None)) is not None:
            model.close()

    def _config_applied(self, event: events.ConfigApplied) -> None:
        self._config_ok.value = 1
        self._config_ok_at.value = self._clocks.wall()
        self._config_info.close()
        self._config_info.series(self._catalog.config_info, event.digest).value = 1

    def _config_rejected(self, event: events.ConfigRejected) -> None:
        self._config_ok.value = 0

    def _readiness_changed(self, event: events.ReadinessChanged) -> None:
        self._reported_ready = event.ready
        self._ready.value = int(event.ready)

    def _not_understood(self, what: str) -> None:
        self._own_errors.value += 1
        if what not in self._misunderstood:
            self._misunderstood.add(what)
            _log.exception("the metrics can not take %s; said once", what)
