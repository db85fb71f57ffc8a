"""Every metric of the gateway: name, kind, labels, meaning; and the values that its labels can have.

Names are an interface: dashboards depend on them.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from router.adapters.prometheus.store import Family, Histogram, Store, Value
from router.core import outcomes, scores
from router.core.ids import PRODUCTION, Alias
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.outbound_events import NotificationResult
from router.core.outcomes import FallbackReason, FaultKind, Outcome
from router.core.routing import Reason
from router.core.score_events import ReadResult

PREFIX = "canary_router_"
OTHER = scores.OTHER
"""Value of a label for whatever is not on its list: no label grows with requests."""

# Coarser than REQUEST_SECONDS on purpose: with every outcome seen, a model with two aliases has at most 452
# series.
PREDICT_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0)
QUEUE_SECONDS = (0.001, 0.01, 0.1, 1.0, 10.0)
LOAD_SECONDS = (1.0, 10.0)
BUILD_SECONDS = (10.0, 60.0, 300.0)
POLL_SECONDS = (1.0, 10.0)
REQUEST_ROWS = (1, 10, 100, 1000)
BATCH_ROWS = (1, 10, 100, 1000)
BATCH_REQUESTS = (1, 4, 16, 64)

CODES: Mapping[str, Sequence[str]] = {
    Outcome.OK: ("200",),
    Outcome.FALLBACK: ("200",),
    Outcome.CLIENT_ERROR: ("400", "413", "415"),
    Outcome.MODEL_ERROR: ("400", "500", "503"),
    Outcome.TIMEOUT: ("504",),
    Outcome.OVERLOADED: ("503",),
    Outcome.ABANDONED: ("499",),
}
"""Codes that have a series of their own, by outcome: all that the gateway can answer with, and 499 for what
nobody waited for. Exceptions of a model can name any status; those count under `__other__`."""
CODES_AT_ZERO = (
    (Outcome.CLIENT_ERROR, 400),
    (Outcome.MODEL_ERROR, 500),
    (Outcome.MODEL_ERROR, 503),
    (Outcome.TIMEOUT, 504),
    (Outcome.OVERLOADED, 503),
    (Outcome.ABANDONED, 499),
)
"""Counted from 0 on: `increase()` does not see the first event of a series that was not there before."""
FAILED = "failed"
FAILURES = (Outcome.MODEL_ERROR, Outcome.TIMEOUT, Outcome.OVERLOADED, Outcome.ABANDONED, OTHER)
"""Outcomes that share the duration histogram `failed`: each of their own would cost twenty series."""
PASSING = (Outcome.FALLBACK, Outcome.CLIENT_ERROR, FAILED)
"""Outcomes whose durations go when the version is retired; those of good answers are exported still."""
DECISIONS = tuple(str(reason) for reason in Reason if reason is not Reason.FALLBACK)
"""Reasons of `routing_decisions_total`. A fallback is decided later, and counted in `fallbacks_total`."""
_OF_PRODUCTION = (
    Reason.CANARY_ABSENT,
    Reason.CANARY_NOT_READY,
    Reason.BREAKER_OPEN,
    Reason.CAPPED,
    Reason.GATED,
)
"""Why production gets what is another alias's share."""
REJECTIONS = tuple(map(str, outcomes.REJECTIONS))
CUTS = tuple(map(str, outcomes.CutReason))
FALLBACKS = tuple(map(str, FallbackReason))
FAULTS = tuple(map(str, FaultKind))
ENDINGS = ("exit", "signal", "predict_timeout", "memory")
PHASES_OF_ALL = ("fetch", "load", "warmup")
PHASES = ("fetch", "environment", "load", "warmup")
"""Only versions with environments of their own have the second one."""
SWAPS = ("success", "failure", "refused")
POLLS = ("success", "failure")
LOOPS = (
    "aliases",
    "gate",
    "config",
    "last good",
    "rollback",
    "gauges",
    "readiness",
    "comparison",
    "orphans",
    "shared memory",
    "processors",
    "idle processors",
    "worker memory",
    "state",
    "break-glass",
    "exchange",
    "peer look-up",
)
NOTIFICATIONS = tuple(map(str, NotificationResult))
PEERS = ("reachable", "unreachable")
VERDICTS = ("pass", "fail", "not_enough_data")
BOUNDS = ("low", "high")
SCORE_READS = tuple(map(str, ReadResult))
SHADOW_RESULTS = ("agree", "disagree", "canary_error", "production_error", "dropped")
"""`canary_error` and `production_error`: only that version failed."""
MEMBERS = ("counted", "waiting", "left_out")
SIGNS = ("positive", "negative")
INVALID = ("nan", "inf", "non_numeric", "out_of_range")

_ALIAS = ("model", "alias")
_VERSION = ("model", "alias", "version")
_OUTPUT = ("model", "output", "alias")


def bounded(value: str, allowed: Collection[str]) -> str:
    """`value` if it is on the list, else `__other__`."""
    return str(value) if value in allowed else OTHER


def reasons_of(alias: Alias) -> tuple[str, ...]:
    """Those of `DECISIONS` for which a request is given to `alias`, of a model that has no pins."""
    never = (Reason.SAME_VERSION,) if alias == PRODUCTION else _OF_PRODUCTION
    return tuple(reason for reason in DECISIONS if reason not in (*never, Reason.PINNED))


class Catalog(Store):
    """The store's families by name, in the order in which they are exported."""

    def __init__(self) -> None:
        super().__init__()
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.requests = counter(
            "requests_total",
            "Prediction requests by how they ended, under what the key was given.",
            *_VERSION,
            "outcome",
            "code",
        )
        self.request_seconds = histogram(
            "request_duration_seconds",
            "Last byte read until answer ready; failed joins all but ok, fallback and client_error.",
            REQUEST_SECONDS,
            *_VERSION,
            "outcome",
        )
        self.request_rows = histogram("request_rows", "Rows of one answered request.", REQUEST_ROWS, *_ALIAS)
        self.in_flight = gauge(
            "requests_in_flight", "HTTP requests being answered, by assigned alias.", *_ALIAS
        )
        self.rejected = counter(
            "requests_rejected_total",
            "Requests refused before a version was chosen, and bugs of the gateway.",
            "model",
            "reason",
        )
        self.answers_cut = counter(
            "answers_cut_total",
            "Connections closed before the client had taken its answer; counted within a minute.",
            "reason",
        )
        self.decisions = counter("routing_decisions_total", "Routing decisions by reason.", *_ALIAS, "reason")
        self.faults = counter(
            "canary_faults_total",
            "Faults of this version on requests production answered.",
            *_VERSION,
            "kind",
        )
        self.fallbacks = counter(
            "fallbacks_total",
            "Requests handed on to another alias.",
            "model",
            "from_alias",
            "to_alias",
            "reason",
        )
        self.shadow_comparisons = counter(
            "shadow_comparisons_total",
            "Copies of production's requests that went to a canary, by how the two answers compare.",
            "model",
            "result",
        )
        self.split = gauge("split_ratio", "Share of keys in force, 0 to 1.", *_ALIAS)
        self.split_configured = gauge(
            "split_configured_ratio", "Share of keys as configured, 0 to 1.", *_ALIAS
        )
        self.split_cap = gauge(
            "split_cap_ratio", "Share of keys that a cap leaves to what the alias serves, 0 to 1.", *_ALIAS
        )
        self.gate_passed = gauge(
            "gate_passed",
            "1 where what the alias serves has passed the gate, or has an override, 0 where not.",
            *_ALIAS,
        )
        self.preflight_passed = gauge(
            "preflight_passed",
            "1 where what the alias serves passed its pre-flight, 0 where it failed.",
            *_ALIAS,
        )
        self.verdict = gauge(
            "verdict", "1 for what the comparison of an alias with production says now.", *_ALIAS, "verdict"
        )
        self.verdict_changed_at = gauge(
            "verdict_changed_timestamp_seconds",
            "When the present verdict was reached, or the comparison began.",
            *_ALIAS,
        )
        self.cost_ratio = gauge(
            "cost_ratio",
            "Processor time of a predict over production's, at production's sizes; NaN until known.",
            *_ALIAS,
        )
        self.cost_ratio_bound = gauge(
            "cost_ratio_bound",
            "Ends of the 95 % interval of the cost ratio; NaN until known.",
            *_ALIAS,
            "bound",
        )
        self.evidence_horizon_at = gauge(
            "evidence_horizon_timestamp_seconds",
            "Until when the answers of all gateways are judged.",
            *_ALIAS,
        )

        self.predict_seconds = histogram(
            "predict_duration_seconds", "Time inside the model, per batch.", PREDICT_SECONDS, *_VERSION
        )
        self.queue_seconds = histogram(
            "queue_duration_seconds", "Time a batch waited for a predict slot.", QUEUE_SECONDS, *_ALIAS
        )
        self.batch_rows = histogram("batch_rows", "Rows of one predict call.", BATCH_ROWS, *_ALIAS)
        self.batch_requests = histogram(
            "batch_requests", "Requests in one predict call.", BATCH_REQUESTS, *_ALIAS
        )

        # The bins of scores come from the configuration, so each version attaches series of its own.
        self.score = histogram(
            "score",
            "Finite scores by upper bin edge; those outside the range are in the end bins.",
            (),
            *_VERSION,
            "output",
        )
        self.score_bins = counter(
            "score_bin_total", "Finite scores per bin, not cumulative.", *_VERSION, "output", "bin"
        )
        self.score_magnitude = counter(
            "score_magnitude_total",
            "Sum of the scores of one sign, as magnitudes.",
            *_VERSION,
            "output",
            "sign",
        )
        self.score_invalid = counter(
            "score_invalid_total",
            "Scores that are no finite number or lie outside the range.",
            *_VERSION,
            "output",
            "kind",
        )
        self.predicted_classes = counter(
            "predicted_classes_total",
            "Answered labels by class; those that scores.classes does not list are __other__.",
            *_VERSION,
            "class",
        )
        self.score_reads = counter(
            "score_reads_total",
            "Good answers of a version that runs elsewhere, by whether their scores were read.",
            *_VERSION,
            "result",
        )
        self.of_scores: tuple[Family[Any], ...] = (
            self.score,
            self.score_bins,
            self.score_magnitude,
            self.score_invalid,
            self.predicted_classes,
        )
        """What a version attaches, and drops when other outputs of it are counted."""

        self.score_psi = gauge(
            "score_psi",
            "Population stability index of an alias against production, last 15 minutes; "
            "NaN until each has 500 scores.",
            *_OUTPUT,
        )
        self.score_ks = gauge(
            "score_ks",
            "Largest distance of the score distributions of an alias and production, last 15 minutes; "
            "NaN until each has 500 scores.",
            *_OUTPUT,
        )

        self.model_info = gauge(
            "model_info",
            "What serves now; registry_alias is the registry's name for the alias.",
            *_VERSION,
            "run_id",
            "flavor",
            "registry_alias",
        )
        self.loaded_at = gauge(
            "model_loaded_timestamp_seconds", "When the serving version became ready.", *_VERSION
        )
        self.environment_info = gauge(
            "environment_info",
            "What the Python environment of the serving version is made of, where it has its own.",
            *_VERSION,
            "python",
            "pins",
        )
        self.load_seconds = histogram(
            "model_load_duration_seconds",
            "Time to bring a version to ready, by phase.",
            LOAD_SECONDS,
            *_ALIAS,
            "phase",
        )
        self.swaps = counter(
            "model_swaps_total",
            "Versions bound to an alias, loads that failed, and versions that were refused.",
            *_ALIAS,
            "result",
        )
        self.pending = gauge(
            "alias_pending", "1 while the registry names another version than the served one.", *_ALIAS
        )
        self.draining = gauge(
            "versions_draining", "1 while a version finishes its last requests.", "model", "version"
        )
        self.workers = gauge("workers", "Worker processes ready to predict.", "model", "version")
        self.restarts = counter(
            "worker_restarts_total",
            "Workers that ended without being asked to.",
            "model",
            "version",
            "reason",
        )
        self.worker_load_failures = counter(
            "worker_load_failures_total",
            "Loads of one more worker, or a spare, of a version that was ready before, which failed.",
            "model",
        )
        self.worker_memory = gauge(
            "worker_memory_bytes", "Resident memory of all workers.", "model", "version"
        )
        self.worker_peak_memory = gauge(
            "worker_peak_memory_bytes",
            "Most that one worker was seen to hold, as proportional set size.",
            "model",
            "version",
        )
        self.worker_cpu = counter(
            "worker_cpu_seconds_total",
            "Processor time of all workers that served, by what they did; without GPUs and child processes.",
            "model",
            "version",
            "phase",
        )
        self.rollback_ready = gauge(
            "rollback_ready",
            "What a rollback goes back to: 2 loaded as production is, 1 to be loaded or with fewer workers, "
            "0 neither loaded nor in the cache.",
            "model",
            "version",
        )

        self.build_seconds = histogram(
            "environment_build_duration_seconds",
            "Time to resolve and build the Python environment of a version.",
            BUILD_SECONDS,
        )
        self.downloaded_bytes = counter(
            "downloaded_bytes_total",
            "Bytes of versions that came from the artifact store, those of failed downloads included.",
        )

        self.polls = counter("registry_polls_total", "Registry polls by result.", "model", "result")
        self.poll_seconds = histogram(
            "registry_poll_duration_seconds", "Duration of a poll.", POLL_SECONDS, "model"
        )
        self.poll_success_at = gauge(
            "registry_last_success_timestamp_seconds",
            "Last poll the registry answered; 0 before the first.",
            "model",
        )

        self.config_ok = gauge(
            "config_last_reload_successful", "1 when the last configuration read was accepted."
        )
        self.config_ok_at = gauge(
            "config_last_reload_success_timestamp_seconds", "When a configuration was last accepted."
        )
        self.config_info = gauge("config_info", "Digest of the configuration in force.", "sha256")
        self.build_info = gauge("build_info", "Version of the gateway.", "version")
        self.loop_lag = gauge("event_loop_lag_seconds", "How late the event loop last ran a timer.")
        self.loop_failures = counter(
            "loop_failures_total", "Ticks of the gateway's own loops that failed; the loop goes on.", "loop"
        )
        self.ready = gauge("ready", "1 when /readyz answers 200.")
        self.model_ready = gauge("model_ready", "1 while production of the model can answer.", "model")
        self.from_cache = gauge(
            "serving_from_cache", "1 while a model serves its last good versions without the registry."
        )
        self.state_durable = gauge(
            "state_durable", "1 while caps, journal and evidence are on disk, in the state directory."
        )
        self.state_write_errors = counter(
            "state_write_errors_total",
            "Tries to use the state directory that failed; each is repeated within a second.",
        )
        self.fleet_peers = gauge(
            "fleet_peers", "Other gateways, by whether they answered when they were last asked.", "state"
        )
        self.fleet_members = gauge(
            "fleet_members",
            "Gateways, this one included, by what joined evidence makes of them: counted, of these waited "
            "for, and left out.",
            "state",
        )
        self.notifications = counter(
            "notifications_total",
            "Notifications by receiver and what became of them; retried counts tries that failed.",
            "receiver",
            "result",
        )
        self.log_lines_dropped = counter(
            "log_lines_dropped_total", "Lines of the log that standard error did not take in time."
        )
        self.own_errors = counter(
            "metrics_errors_total", "Events these metrics could not take; a bug when not 0."
        )

    def _counter(self, name: str, text: str, *labels: str) -> Family[Value]:
        return self._add(Family(PREFIX + name, "counter", text, labels, Value))

    def _gauge(self, name: str, text: str, *labels: str) -> Family[Value]:
        return self._add(Family(PREFIX + name, "gauge", text, labels, Value))

    def _histogram(self, name: str, text: str, bounds: Sequence[float], *labels: str) -> Family[Histogram]:
        make = partial(Histogram, bounds=bounds)
        return self._add(Family(PREFIX + name, "histogram", text, labels, make, bounds))
