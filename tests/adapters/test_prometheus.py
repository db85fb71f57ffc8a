"""Which fact moves which series."""

import dataclasses
import logging
import math
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from router.adapters.prometheus.catalog import MEMBERS, SHADOW_RESULTS, VERDICTS, reasons_of
from router.adapters.prometheus.live import Live, LiveShift, LiveVerdict
from router.adapters.prometheus.recorder import PrometheusRecorder
from router.core.cache_events import Downloaded
from router.core.events import (
    AliasAspired,
    AliasUnbound,
    Answered,
    CanaryFaulted,
    ConfigApplied,
    ConfigRejected,
    DrainCutShort,
    Event,
    FellBack,
    LoadRefused,
    ModelRemoved,
    Polled,
    Predicted,
    ReadinessChanged,
    Rejected,
    SplitInForce,
    TickFailed,
    VersionGone,
    WorkerEnded,
    WorkerLoadFailed,
)
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.score_events import ReadResult, ScoresRead
from router.core.scores import ClassCounts, ClassSpec, OutputCounts, ScoreCounts, ScoreSpec, with_edges
from router.core.shadow_events import ShadowCompared, ShadowDropped, ShadowDropReason
from router.core.split import Split
from tests.support.sample_events import (
    SPEC,
    Clock,
    answered,
    bound,
    count_scores_of,
    live_of,
    loaded,
    one_of_each,
    predicted,
    recorder_at,
    samples,
    series_of,
    split,
)

V8 = VersionId("m", 8)
EIGHT = "alias=canary,model=m"
SEVEN = "alias=production,model=m"
EDGES = ("0.25", "0.5", "0.75", "1.0")
EIGHT_V = "alias=canary,model=m,version=8"


def compared(**said: Any) -> ShadowCompared:
    """A copy that both versions answered alike, but for what is `said`."""
    facts: dict[str, Any] = {"production_fault": False, "canary_fault": False, **said}
    return ShadowCompared(CANARY, V8, VersionId("m", 7), Split(5_000), 60_000, **facts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(clock: Clock) -> PrometheusRecorder:
    """Production at version 7, canary at version 8."""
    recorder = recorder_at(clock)
    for event in (split(), bound(PRODUCTION, 7), bound(CANARY, 8)):
        recorder.record(event)
    return recorder


def moved_by(recorder: PrometheusRecorder, *events: Event) -> dict[str, float]:
    """Samples that changed or appeared, with how much they rose; the process's own left out."""
    before = samples(recorder)
    for event in events:
        recorder.record(event)
    after = samples(recorder)
    ours = (key for key in after if not key.startswith(("process_", "python_")))
    return {key: after[key] - before.get(key, 0) for key in ours if after[key] != before.get(key)}


MOVES: dict[str, tuple[Event, dict[str, float]]] = {
    "rejected": (
        Rejected("m", "too_large"),
        {"requests_rejected_total{model=m,reason=too_large}": 1},
    ),
    "rejected under a name nobody configured": (
        Rejected("../../etc/passwd", "unknown_model"),
        {"requests_rejected_total{model=__other__,reason=unknown_model}": 1},
    ),
    "rejected for a reason nobody listed": (
        Rejected("m", "a reason with user-42 in it"),
        {"requests_rejected_total{model=m,reason=__other__}": 1},
    ),
    "fell back": (
        FellBack("m", CANARY, PRODUCTION, "timeout"),
        {"fallbacks_total{from_alias=canary,model=m,reason=timeout,to_alias=production}": 1},
    ),
    "canary faulted": (
        CanaryFaulted("m", CANARY, V8, "crash"),
        {"canary_faults_total{alias=canary,kind=crash,model=m,version=8}": 1},
    ),
    "worker ended": (
        WorkerEnded(V8, "signal", "signal 9 (SIGKILL)"),
        {"worker_restarts_total{model=m,reason=signal,version=8}": 1},
    ),
    "worker not loaded": (
        WorkerLoadFailed(V8, "ValueError", 20.0),
        {"worker_load_failures_total{model=m}": 1},
    ),
    "downloaded": (
        Downloaded(VersionId("m", 9), 105_000_000),
        {"downloaded_bytes_total": 105_000_000},
    ),
    "load refused": (
        LoadRefused(VersionId("m", 9), (CANARY,), "load", "ValueError", 10.0),
        {f"model_swaps_total{{{EIGHT},result=failure}}": 1},
    ),
    "load refused by a rule": (
        LoadRefused(VersionId("m", 9), (CANARY,), "fetch", "its source is outside", 10.0, by_rule=True),
        {f"model_swaps_total{{{EIGHT},result=refused}}": 1},
    ),
    "the registry names another version": (
        AliasAspired("m", CANARY, V8, VersionId("m", 9)),
        {f"alias_pending{{{EIGHT}}}": 1},
    ),
    "the registry names what is served": (AliasAspired("m", CANARY, None, V8), {}),
    "the registry names nothing": (
        AliasAspired("m", PRODUCTION, VersionId("m", 7), None),
        {f"alias_pending{{{SEVEN}}}": 1},
    ),
    "config applied": (
        ConfigApplied("3f9c", ()),
        {
            "config_last_reload_successful": 1,
            "config_last_reload_success_timestamp_seconds": 1_000_000,
            "config_info{sha256=3f9c}": 1,
        },
    ),
    "ready": (ReadinessChanged(ready=True), {"ready": 1}),
    "a loop failed": (TickFailed("aliases", "KeyError: 'x'"), {"loop_failures_total{loop=aliases}": 1}),
    "a loop that nobody listed failed": (TickFailed("x", ""), {"loop_failures_total{loop=__other__}": 1}),
    "split changed": (
        SplitInForce("m", {PRODUCTION: 1.0, CANARY: 0.0}, {PRODUCTION: 0.75, CANARY: 0.25}),
        {
            "split_ratio{alias=canary,model=m}": -0.05,
            "split_ratio{alias=production,model=m}": pytest.approx(0.05),
            "split_configured_ratio{alias=canary,model=m}": pytest.approx(0.2),
            "split_configured_ratio{alias=production,model=m}": pytest.approx(-0.2),
        },
    ),
}


@pytest.mark.parametrize(("event", "expected"), MOVES.values(), ids=MOVES.keys())
def test_a_fact_moves_its_series_and_no_other(
    recorder: PrometheusRecorder, event: Event, expected: dict[str, float]
) -> None:
    assert moved_by(recorder, event) == expected


COMPARED: dict[str, tuple[ShadowCompared | ShadowDropped, str]] = {
    "answered alike": (compared(), "agree"),
    "failed alike": (compared(production_fault=True, canary_fault=True), "agree"),
    "decided otherwise": (compared(flips=1), "disagree"),
    "failed by the canary alone": (compared(canary_fault=True), "canary_error"),
    "failed by production alone": (compared(production_fault=True), "production_error"),
    "not compared": (ShadowDropped(CANARY, V8, ShadowDropReason.BUSY), "dropped"),
}


@pytest.mark.parametrize(("event", "result"), COMPARED.values(), ids=COMPARED.keys())
def test_a_copy_counts_under_its_result_and_all_results_are_there_with_the_first(
    recorder: PrometheusRecorder, event: ShadowCompared | ShadowDropped, result: str
) -> None:
    """A first copy that is no good has increased something."""
    name = "shadow_comparisons_total{{model=m,result={}}}".format
    assert not any("shadow" in key for key in samples(recorder))
    recorder.record(compared())
    assert {key: value for key, value in samples(recorder).items() if "shadow" in key} == {
        name(one): int(one == "agree") for one in SHADOW_RESULTS
    }

    assert moved_by(recorder, event) == {name(result): 1}


def test_an_answer_counts_under_what_its_key_was_given(recorder: PrometheusRecorder) -> None:
    """A fallback is production's answer, and adds nothing to production's rows."""
    moved = moved_by(recorder, answered(CANARY, 8, outcome="fallback", seconds=0.003))

    assert moved.pop("requests_total{alias=canary,code=200,model=m,outcome=fallback,version=8}") == 1
    histogram = "request_duration_seconds_{}{{alias=canary,{}model=m,outcome=fallback,version=8}}"
    assert moved.pop(histogram.format("sum", "")) == 0.003
    assert moved.pop(histogram.format("count", "")) == 1
    edges = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5"]
    edges += ["1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf"]
    for edge in edges:
        assert moved.pop(histogram.format("bucket", f"le={edge},")) == 1
    assert moved.pop(f"routing_decisions_total{{{EIGHT},reason=hash}}") == 1
    assert {key for key in moved if not key.startswith("request_rows")} == set()
    assert not any("production" in key for key in moved)


@pytest.mark.parametrize("reason", [*reasons_of(CANARY), "pinned", "a new one"])
def test_a_request_counts_as_a_decision_by_its_reason_whoever_answers(
    recorder: PrometheusRecorder, reason: str
) -> None:
    event = dataclasses.replace(answered(CANARY, 8, outcome="fallback"), reason=reason)

    shown = "__other__" if reason == "a new one" else reason
    assert moved_by(recorder, event)[f"routing_decisions_total{{{EIGHT},reason={shown}}}"] == 1


def test_request_durations_have_exactly_the_documented_edges(recorder: PrometheusRecorder) -> None:
    prefix = "request_duration_seconds_bucket{alias=canary,le="
    edges = [
        float(key.removeprefix(prefix).partition(",")[0]) * 1000
        for key in samples(recorder)
        if key.startswith(prefix) and "outcome=ok" in key
    ]
    seconds = [1000, 2500, 5000, 10_000, 30_000, 60_000, math.inf]
    assert edges == [0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, *seconds]


def test_a_duration_on_an_edge_counts_as_within_it(recorder: PrometheusRecorder) -> None:
    """`le` means less or equal."""
    moved = moved_by(recorder, answered(CANARY, 8, seconds=0.005))

    bucket = "request_duration_seconds_bucket{{alias=canary,le={},model=m,outcome=ok,version=8}}"
    assert moved[bucket.format("0.005")] == 1
    assert bucket.format("0.0025") not in moved


@pytest.mark.parametrize(
    ("outcome", "code", "labels"),
    [
        ("client_error", 415, "code=415,model=m,outcome=client_error"),
        ("client_error", 413, "code=413,model=m,outcome=client_error"),
        ("model_error", 418, "code=__other__,model=m,outcome=model_error"),
        ("a new outcome", 200, "code=__other__,model=m,outcome=__other__"),
    ],
)
def test_codes_and_outcomes_are_bounded(
    recorder: PrometheusRecorder, outcome: str, code: int, labels: str
) -> None:
    moved = moved_by(recorder, answered(CANARY, 8, outcome=outcome, code=code))

    assert moved[f"requests_total{{alias=canary,{labels},version=8}}"] == 1


def test_failures_share_one_duration_histogram(recorder: PrometheusRecorder) -> None:
    failures = [("model_error", 500), ("timeout", 504), ("overloaded", 503), ("abandoned", 499)]
    moved = moved_by(recorder, *(answered(CANARY, 8, outcome=o, code=c) for o, c in failures))

    assert moved["request_duration_seconds_count{alias=canary,model=m,outcome=failed,version=8}"] == 4


def test_a_prediction_is_timed_and_sized(recorder: PrometheusRecorder) -> None:
    moved = moved_by(recorder, predicted(CANARY, 8, rows=40))

    assert moved[f"predict_duration_seconds_sum{{{EIGHT_V}}}"] == 0.002
    assert moved[f"queue_duration_seconds_sum{{{EIGHT}}}"] == 0.0005
    assert moved[f"batch_rows_sum{{{EIGHT}}}"] == 40
    assert moved[f"batch_requests_sum{{{EIGHT}}}"] == 1


def test_scores_that_are_read_later_count_as_others_and_what_was_not_read_is_counted(
    recorder: PrometheusRecorder,
) -> None:
    recorder.record(dataclasses.replace(bound(CANARY, 8), elsewhere=True))
    at_zero = {key: value for key, value in samples(recorder).items() if key.startswith("score_reads")}
    events = [
        ScoresRead("m", CANARY, V8, ReadResult.READ, 2, (count_scores_of(0.1, 0.9),)),
        ScoresRead("m", CANARY, V8, ReadResult.BUSY, 5),
        ScoresRead("m", CANARY, VersionId("m", 99), ReadResult.BUSY, 5),
        ScoresRead("else", CANARY, V8, ReadResult.BUSY, 5),
    ]
    moved = moved_by(recorder, *events)
    labels = "alias=canary,model=m"

    assert at_zero == {
        f"score_reads_total{{{labels},result={result},version=8}}": 0
        for result in ("read", "busy", "too_long", "lost")
    }
    assert moved[f"score_bin_total{{{labels.replace(',', ',bin=0.25,')},output=0,version=8}}"] == 1
    assert {key: value for key, value in moved.items() if key.startswith("score_reads")} == {
        f"score_reads_total{{{labels},result=read,version=8}}": 2,
        f"score_reads_total{{{labels},result=busy,version=8}}": 5,
    }


def test_scores_are_counted_per_bin_and_cumulatively(recorder: PrometheusRecorder) -> None:
    """By hand: edges 0.25, 0.5, 0.75, 1; a score on an edge belongs to the bin of that edge."""
    moved = moved_by(recorder, predicted(CANARY, 8, count_scores_of(0.1, 0.25, 0.3, 0.9, 1.5)))

    bins = {
        edge: moved.get(f"score_bin_total{{alias=canary,bin={edge},model=m,output=0,version=8}}")
        for edge in EDGES
    }
    assert bins == {"0.25": 2, "0.5": 1, "0.75": None, "1.0": 2}
    cumulative = [
        moved[f"score_bucket{{alias=canary,le={e},model=m,output=0,version=8}}"] for e in (*EDGES, "+Inf")
    ]
    assert cumulative == [2, 3, 3, 5, 5]
    assert moved["score_count{alias=canary,model=m,output=0,version=8}"] == 5
    assert moved["score_sum{alias=canary,model=m,output=0,version=8}"] == pytest.approx(3.05)
    assert moved["score_invalid_total{alias=canary,kind=out_of_range,model=m,output=0,version=8}"] == 1


def test_nan_and_infinity_poison_no_sum(recorder: PrometheusRecorder) -> None:
    """A sum that was NaN once is NaN for the life of the process."""
    nan, inf = math.nan, math.inf
    poisoned = ScoreCounts((1, 0, 0, 0), positive_sum=inf, negative_sum=nan, nan=3, inf=2, non_numeric=1)
    for event in (
        predicted(CANARY, 8, count_scores_of(nan, inf, -inf, 0.5)),
        predicted(CANARY, 8, poisoned),
        answered(CANARY, 8, seconds=nan),
        Predicted("m", CANARY, V8, nan, inf, rows=1, requests=1, scores=()),
    ):
        recorder.record(event)

    now = samples(recorder)
    assert all(math.isfinite(value) for value in now.values())
    invalid = {k: v for k, v in now.items() if k.startswith("score_invalid_total") and "canary" in k}
    assert list(invalid.values()) == [4, 4, 1, 0]
    assert now["score_sum{alias=canary,model=m,output=0,version=8}"] == 0.5
    assert now["requests_total{alias=canary,code=200,model=m,outcome=ok,version=8}"] == 1


def test_a_range_with_negatives_exports_no_sum_but_its_magnitudes(clock: Clock) -> None:
    """A sum that can fall is no counter: mean = (positive − negative) / count, which is the last bucket.

    OpenMetrics has a sum and a count, or neither.
    """
    recorder = recorder_at(clock)
    spec = ScoreSpec(output="margin", low=-2.0, high=2.0, bins=4)
    recorder.record(bound(PRODUCTION, 7, scores=spec))
    recorder.record(predicted(PRODUCTION, 7, count_scores_of(-1.5, -0.5, 1.0, spec=spec)))

    now = {key: value for key, value in samples(recorder).items() if key.startswith("score")}
    assert not any(key.startswith(("score_sum", "score_count")) for key in now)
    assert now["score_bucket{alias=production,le=+Inf,model=m,output=margin,version=7}"] == 3
    assert list(parse_openmetrics(recorder.render("application/openmetrics-text")[0].decode()))
    sign = "score_magnitude_total{{alias=production,model=m,output=margin,sign={},version=7}}"
    assert now[sign.format("positive")] == 1.0
    assert now[sign.format("negative")] == 2.0


def test_a_negative_score_below_a_positive_range_never_lowers_the_sum(recorder: PrometheusRecorder) -> None:
    recorder.record(predicted(CANARY, 8, count_scores_of(0.5)))
    moved = moved_by(recorder, predicted(CANARY, 8, count_scores_of(-100.0)))

    assert not any(key.startswith("score_sum") for key in moved)
    assert moved["score_magnitude_total{alias=canary,model=m,output=0,sign=negative,version=8}"] == 100


def test_bin_labels_read_as_people_write_them(clock: Clock) -> None:
    """Twenty bins on [0, 1] end at 0.15, not at 0.15000000000000002; `bin` and `le` are spelled alike."""
    recorder = recorder_at(clock)
    recorder.record(bound(PRODUCTION, 7, scores=ScoreSpec()))

    bins = [key.partition("bin=")[2].partition(",")[0] for key in samples(recorder) if "score_bin" in key]
    edges = [key.partition("le=")[2].partition(",")[0] for key in samples(recorder) if "score_bucket" in key]
    assert bins == [str(round(i * 0.05, 2)) for i in range(1, 21)]
    assert edges == [*bins, "+Inf"]


def test_counts_of_another_number_of_bins_are_left_out(recorder: PrometheusRecorder) -> None:
    """They were on their way when the configuration changed."""
    moved = moved_by(recorder, predicted(CANARY, 8, ScoreCounts((1,) * 20, 3.0)))

    assert not any(key.startswith("score") for key in moved)
    assert samples(recorder)["metrics_errors_total"] == 0


def test_other_bins_start_over(recorder: PrometheusRecorder) -> None:
    recorder.record(predicted(CANARY, 8, count_scores_of(0.1)))
    recorder.record(bound(CANARY, 8, old=8, scores=ScoreSpec(bins=2)))

    bins = {k: v for k, v in samples(recorder).items() if k.startswith("score_bin_total{alias=canary")}
    assert list(bins.values()) == [0, 0]
    assert moved_by(recorder, predicted(CANARY, 8, ScoreCounts((1, 0), 0.1)))


def test_each_output_has_its_own_scores_and_labels_are_counted_by_class(clock: Clock) -> None:
    recorder = recorder_at(clock)
    price = with_edges("price", 0.0, (10.0, 50.0))
    recorder.record(bound(CANARY, 8, scores=(SPEC, price, ClassSpec("label", ("ham", "spam")))))
    moved = moved_by(
        recorder,
        predicted(
            CANARY, 8, count_scores_of(0.1), count_scores_of(7.0, 60.0, spec=price), ClassCounts((2, 0, 1))
        ),
    )

    labels = "alias=canary,{}model=m,{}version=8"
    assert moved[f"score_bin_total{{{labels.format('bin=0.25,', 'output=0,')}}}"] == 1
    assert moved[f"score_bin_total{{{labels.format('bin=10.0,', 'output=price,')}}}"] == 1
    assert moved[f"score_bin_total{{{labels.format('bin=50.0,', 'output=price,')}}}"] == 1
    assert moved[f"score_sum{{{labels.format('', 'output=price,')}}}"] == 67
    assert moved[f"score_invalid_total{{{labels.format('kind=out_of_range,', 'output=price,')}}}"] == 1
    classes = {key: value for key, value in moved.items() if key.startswith("predicted_classes")}
    assert classes == {
        f"predicted_classes_total{{{labels.format('class=ham,', '')}}}": 2,
        f"predicted_classes_total{{{labels.format('class=__other__,', '')}}}": 1,
    }


@pytest.mark.parametrize(
    "counts",
    [
        (),
        (ClassCounts((1, 1, 1)),),
        (ClassCounts((1, 1, 1)), ScoreCounts((1,) * 4)),
        (ScoreCounts((1,) * 4), ClassCounts((1, 1))),
    ],
)
def test_counts_of_other_outputs_are_left_out(clock: Clock, counts: tuple[OutputCounts, ...]) -> None:
    """They were on their way when the configuration changed; what fits still counts."""
    recorder = recorder_at(clock)
    recorder.record(bound(CANARY, 8, scores=(SPEC, ClassSpec("label", ("ham", "spam")))))
    moved = moved_by(recorder, predicted(CANARY, 8, *counts))

    assert not any(key.startswith("predicted_classes") for key in moved)
    assert samples(recorder)["metrics_errors_total"] == 0


def test_without_score_bins_nothing_is_exported_about_scores(clock: Clock) -> None:
    recorder = recorder_at(clock)
    recorder.record(bound(PRODUCTION, 7, scores=None))
    recorder.record(predicted(PRODUCTION, 7, count_scores_of(0.1)))

    assert not any(key.startswith("score") for key in samples(recorder))


def test_a_bound_version_is_named_with_its_run_and_when_it_was_loaded(clock: Clock) -> None:
    recorder = recorder_at(clock)
    recorder.record(split())
    recorder.record(loaded(8, CANARY))
    clock.now += 60
    moved = moved_by(recorder, bound(CANARY, 8))

    info = "model_info{alias=canary,flavor=sklearn,model=m,registry_alias=canary,run_id=run8,version=8}"
    assert moved[info] == 1
    assert moved[f"model_loaded_timestamp_seconds{{{EIGHT_V}}}"] == 1_000_000
    assert moved[f"model_swaps_total{{{EIGHT},result=success}}"] == 1


def test_loading_is_timed_by_phase(recorder: PrometheusRecorder) -> None:
    moved = moved_by(recorder, loaded(9, CANARY))

    sums = {k: v for k, v in moved.items() if k.startswith("model_load_duration_seconds_sum")}
    name = "model_load_duration_seconds_sum{{alias=canary,model=m,phase={}}}"
    assert sums == {name.format("fetch"): 0.5, name.format("load"): 2.0, name.format("warmup"): 20.0}


def test_a_poll_counts_by_result_and_only_a_good_one_is_a_success(
    recorder: PrometheusRecorder, clock: Clock
) -> None:
    good = moved_by(recorder, Polled("m", 0.02, ""))
    clock.now += 100
    bad = moved_by(recorder, Polled("m", 5.0, "connection refused"))

    assert good["registry_polls_total{model=m,result=success}"] == 1
    assert good["registry_last_success_timestamp_seconds{model=m}"] == 1_000_000
    assert bad["registry_polls_total{model=m,result=failure}"] == 1
    assert bad["registry_poll_duration_seconds_sum{model=m}"] == 5.0
    assert "registry_last_success_timestamp_seconds{model=m}" not in bad


def test_a_refused_config_leaves_the_digest_of_the_one_in_force(recorder: PrometheusRecorder) -> None:
    recorder.record(ConfigApplied("old", ()))
    moved = moved_by(recorder, ConfigRejected("old", ("a problem",)))
    assert moved == {"config_last_reload_successful": -1}

    recorder.record(ConfigApplied("new", ()))
    assert [key for key in samples(recorder) if key.startswith("config_info")] == ["config_info{sha256=new}"]


def test_an_alias_is_pending_until_the_named_version_is_served(recorder: PrometheusRecorder) -> None:
    pending = f"alias_pending{{{EIGHT}}}"
    recorder.record(AliasAspired("m", CANARY, V8, VersionId("m", 9)))
    assert samples(recorder)[pending] == 1
    recorder.record(bound(CANARY, 9, old=8))
    assert samples(recorder)[pending] == 0
    recorder.record(AliasAspired("m", CANARY, VersionId("m", 9), None))
    recorder.record(AliasUnbound("m", CANARY, VersionId("m", 9)))
    assert samples(recorder)[pending] == 0


def test_gauges_of_the_instant_are_asked_for_at_every_scrape(recorder: PrometheusRecorder) -> None:
    recorder.watch(lambda: live_of(7, 8, draining=8))

    now = samples(recorder)
    assert now["requests_in_flight{alias=production,model=m}"] == 3
    assert now["requests_in_flight{alias=canary,model=m}"] == 0
    assert now["workers{model=m,version=7}"] == 1
    assert now["worker_memory_bytes{model=m,version=8}"] == 50_000_000
    assert now["worker_peak_memory_bytes{model=m,version=8}"] == 40_000_000
    assert now["worker_cpu_seconds_total{model=m,phase=predict,version=8}"] == 1.5
    assert now["cost_ratio{alias=canary,model=m}"] == 1.02
    assert now["cost_ratio_bound{alias=canary,bound=low,model=m}"] == 0.97
    assert now["cost_ratio_bound{alias=canary,bound=high,model=m}"] == 1.07
    assert now["versions_draining{model=m,version=7}"] == 0
    assert now["versions_draining{model=m,version=8}"] == 1
    assert now["event_loop_lag_seconds"] == 0.001

    recorder.watch(lambda: live_of(7))
    assert "workers{model=m,version=8}" not in samples(recorder)


def test_a_verdict_has_its_moment_and_its_horizon_while_two_versions_are_compared(
    recorder: PrometheusRecorder,
) -> None:
    compared = {
        ("m", CANARY): LiveVerdict(
            "fail", changed_at=5.0, judged_until=65.0, cost_ratio=2.0, cost_bounds=(1.5, 2.5)
        )
    }
    recorder.watch(lambda: Live(verdicts=compared, members={"counted": 3, "waiting": 1}))
    now = samples(recorder)
    said = {name: now[f"verdict{{alias=canary,model=m,verdict={name}}}"] for name in VERDICTS}
    assert said == {"pass": 0, "fail": 1, "not_enough_data": 0}
    assert now["verdict_changed_timestamp_seconds{alias=canary,model=m}"] == 5.0
    assert now["evidence_horizon_timestamp_seconds{alias=canary,model=m}"] == 65.0
    assert [now[f"fleet_members{{state={state}}}"] for state in MEMBERS] == [3, 1, 0]

    compared["m", CANARY] = LiveVerdict("not_enough_data")
    now = samples(recorder)
    assert not [name for name in now if name.startswith(("verdict_changed", "evidence_horizon", "cost_"))]
    assert now["verdict{alias=canary,model=m,verdict=not_enough_data}"] == 1


def test_how_far_scores_moved_is_asked_for_too_and_goes_with_the_comparison(
    recorder: PrometheusRecorder,
) -> None:
    shifts = [LiveShift("m", "0", CANARY, 0.25, 0.5), LiveShift("m", "p", CANARY, math.nan, math.nan)]
    recorder.watch(lambda: Live(shifts=shifts))
    now = samples(recorder)
    assert now["score_psi{alias=canary,model=m,output=0}"] == 0.25
    assert now["score_ks{alias=canary,model=m,output=0}"] == 0.5
    assert math.isnan(now["score_psi{alias=canary,model=m,output=p}"]), "fewer than 500 scores say nothing"

    recorder.watch(Live)
    assert not [name for name in samples(recorder) if name.startswith("score_psi")]


def test_the_process_is_measured_too(recorder: PrometheusRecorder) -> None:
    now = samples(recorder)

    assert now["process_resident_memory_bytes"] > 0
    assert now["build_info{version=0.1.0}"] == 1
    assert any(key.startswith("python_info") for key in now)
    assert any(key.startswith("python_gc_collections_total") for key in now)


def test_counters_survive_the_restart_of_a_worker(recorder: PrometheusRecorder) -> None:
    for event in (predicted(CANARY, 8, count_scores_of(0.1)), answered(CANARY, 8)):
        recorder.record(event)
    before = samples(recorder)
    recorder.record(WorkerEnded(V8, "exit", "exit code 1"))
    recorder.record(VersionGone(V8))

    after = samples(recorder)
    counters = [key for key in before if "_total" in key or "_bucket" in key or "_count" in key]
    assert all(after[key] >= before[key] for key in counters if not key.startswith(("process", "python")))


def test_workers_that_a_drains_deadline_ends_are_counted(recorder: PrometheusRecorder) -> None:
    moved = moved_by(recorder, DrainCutShort(V8, requests=3, workers=2, seconds=60.0))
    assert moved == {"worker_restarts_total{model=m,reason=predict_timeout,version=8}": 2}


@dataclass(frozen=True, slots=True)
class SomethingNew:
    """A fact this recorder never got before."""


def test_unknown_facts_are_ignored(recorder: PrometheusRecorder) -> None:
    assert moved_by(recorder, SomethingNew()) == {}  # type: ignore[arg-type] # that is the point


def test_facts_of_models_and_versions_nobody_configured_make_no_series(recorder: PrometheusRecorder) -> None:
    stranger = one_of_each("stranger")
    foreign = [e for e in stranger if not isinstance(e, SplitInForce) and type(e).__name__ != "AliasBound"]
    foreign += [
        answered(CANARY, 99),
        predicted(CANARY, 99, count_scores_of(0.5)),
        CanaryFaulted("m", CANARY, VersionId("m", 99), "error"),
    ]
    for event in foreign:
        recorder.record(event)

    assert series_of(recorder, "stranger") == []
    assert not any("version=99" in key for key in samples(recorder))


def test_a_removed_model_leaves_nothing_and_late_answers_bring_nothing_back(
    recorder: PrometheusRecorder,
) -> None:
    for event in one_of_each():
        recorder.record(event)
    recorder.watch(lambda: live_of(7, 8))
    recorder.record(ModelRemoved("m"))
    for event in (answered(CANARY, 8), Polled("m", 1.0, "")):
        recorder.record(event)

    assert series_of(recorder) == []


def test_a_bug_in_a_metric_breaks_no_request_and_is_said_once(
    recorder: PrometheusRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    nonsense = Answered("m", CANARY, V8, "ok", 200, None, 1)  # type: ignore[arg-type] # a bug elsewhere
    for _ in range(3):
        recorder.record(nonsense)

    assert samples(recorder)["metrics_errors_total"] == 3
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "Answered" in caplog.text


def test_gauges_that_can_not_be_read_do_not_hide_the_counters(
    recorder: PrometheusRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("no models")

    recorder.watch(broken)  # type: ignore[arg-type] # that is the point

    assert "requests_total{alias=canary,code=200,model=m,outcome=ok,version=8}" in samples(recorder)
    assert "Live" in caplog.text


def test_names_are_escaped(clock: Clock) -> None:
    recorder = recorder_at(clock)
    name = 'a "b" \\ c\nd\ud800'
    for event in one_of_each(name):
        recorder.record(event)

    assert any('model=a "b" \\ c\nd?' in key for key in samples(recorder))


def test_the_specs_of_a_story_fit(recorder: PrometheusRecorder) -> None:
    """Every fact there is can be recorded without an error of our own."""
    for event in one_of_each():
        recorder.record(event)

    assert samples(recorder)["metrics_errors_total"] == 0
    assert SPEC.edges() == tuple(float(edge) for edge in EDGES)
