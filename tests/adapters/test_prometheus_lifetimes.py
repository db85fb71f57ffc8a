"""When series come and go, and how many there can be."""

import dataclasses
import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.adapters.prometheus.catalog import CUTS, ENDINGS, FALLBACKS, FAULTS, REJECTIONS, reasons_of
from router.adapters.prometheus.live import Live, LiveVersion
from router.adapters.prometheus.recorder import PrometheusRecorder
from router.core.environment_events import EnvironmentBuilt
from router.core.events import (
    AliasUnbound,
    Answered,
    CanaryFaulted,
    Event,
    FellBack,
    LoadRefused,
    Polled,
    Predicted,
    Rejected,
    RoutesChanged,
    SplitInForce,
    VersionGone,
    WorkerEnded,
)
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.outcomes import NOT_HTTP
from router.core.routing import Reason
from router.core.scores import ClassCounts, ClassSpec, ScoreCounts, ScoreSpec
from tests.support.sample_events import (
    SPEC,
    Clock,
    answered,
    bound,
    capped,
    count_scores_of,
    environment_of,
    loaded,
    predicted,
    recorder_at,
    samples,
    series_of,
    split,
)

BOUND_AT_MOST = 452
WITH_RETIRED_AT_MOST = 900
ALIASES = (PRODUCTION, CANARY)


def versions_shown(recorder: PrometheusRecorder, name: str = "requests_total") -> dict[str, set[str]]:
    """Version numbers by alias, of one family."""
    shown: dict[str, set[str]] = {alias: set() for alias in ALIASES}
    for key in samples(recorder):
        if key.startswith(name + "{"):
            labels = dict(pair.split("=") for pair in key.partition("{")[2].rstrip("}").split(","))
            shown[labels["alias"]].add(labels["version"])
    return shown


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(clock: Clock) -> PrometheusRecorder:
    recorder = recorder_at(clock)
    recorder.record(split())
    return recorder


def test_what_alerts_ask_for_exists_at_zero_once_a_version_is_bound(recorder: PrometheusRecorder) -> None:
    """`increase()` does not see the first event of a series that was not there before."""
    recorder.record(bound(PRODUCTION, 7))
    recorder.record(bound(CANARY, 8))
    now = samples(recorder)

    zeros = [
        "requests_total{alias=production,code=200,model=m,outcome=ok,version=7}",
        "requests_total{alias=canary,code=200,model=m,outcome=ok,version=8}",
        "requests_total{alias=canary,code=200,model=m,outcome=fallback,version=8}",
        "request_duration_seconds_count{alias=canary,model=m,outcome=ok,version=8}",
        "requests_total{alias=production,code=500,model=m,outcome=model_error,version=7}",
        "requests_total{alias=production,code=504,model=m,outcome=timeout,version=7}",
        "requests_total{alias=production,code=503,model=m,outcome=overloaded,version=7}",
        "requests_total{alias=canary,code=499,model=m,outcome=abandoned,version=8}",
        "routing_decisions_total{alias=canary,model=m,reason=hash}",
        "routing_decisions_total{alias=production,model=m,reason=breaker_open}",
        "routing_decisions_total{alias=production,model=m,reason=capped}",
        "requests_rejected_total{model=__other__,reason=unknown_model}",
        "worker_restarts_total{model=m,reason=signal,version=8}",
        "model_swaps_total{alias=canary,model=m,result=failure}",
        "model_swaps_total{alias=canary,model=m,result=refused}",
        "registry_polls_total{model=m,result=failure}",
        "registry_last_success_timestamp_seconds{model=m}",
    ]
    zeros += [
        f"requests_rejected_total{{model={'__other__' if reason in NOT_HTTP else 'm'},reason={reason}}}"
        for reason in REJECTIONS
    ]
    zeros += [f"answers_cut_total{{reason={reason}}}" for reason in CUTS]
    zeros += [
        f"fallbacks_total{{from_alias=canary,model=m,reason={reason},to_alias=production}}"
        for reason in FALLBACKS
    ]
    zeros += [
        f"canary_faults_total{{alias=canary,kind={kind},model=m,version=8}}"
        for kind in ("error", "timeout", "crash", "invalid_output")
    ]
    zeros += [
        f"score_bin_total{{alias={alias},bin={edge},model=m,output=0,version={number}}}"
        for alias, number in (("production", 7), ("canary", 8))
        for edge in ("0.25", "0.5", "0.75", "1.0")
    ]
    assert {key: now.get(key) for key in zeros} == dict.fromkeys(zeros, 0.0)


def test_every_class_on_the_list_exists_at_zero_with_one_for_the_rest(recorder: PrometheusRecorder) -> None:
    recorder.record(bound(CANARY, 8, scores=(SPEC, ClassSpec("label", ("ham", "spam")))))

    classes = {key: value for key, value in samples(recorder).items() if key.startswith("predicted_classes")}
    assert classes == {
        f"predicted_classes_total{{alias=canary,class={name},model=m,version=8}}": 0.0
        for name in ("ham", "spam", "__other__")
    }


def test_reasons_that_an_alias_can_not_have_are_not_shown(recorder: PrometheusRecorder) -> None:
    """A canary is never given what is nobody's else, and production never shares a version with itself."""
    shown = {key for key in samples(recorder) if key.startswith("routing_decisions_total")}

    assert not any("alias=canary" in key and "absent" in key for key in shown)
    assert not any("alias=canary" in key and "capped" in key for key in shown)
    assert not any("alias=production" in key and "same_version" in key for key in shown)
    assert not any("reason=fallback" in key for key in shown)


def test_production_has_no_fallback_and_no_canary_faults(recorder: PrometheusRecorder) -> None:
    recorder.record(bound(PRODUCTION, 7))

    assert not any("fallback," in key or "canary_faults" in key for key in samples(recorder))


def test_a_retired_version_leaves_the_info_at_once_and_the_counters_after_fifteen_minutes(
    recorder: PrometheusRecorder, clock: Clock
) -> None:
    recorder.record(bound(CANARY, 8))
    recorder.record(answered(CANARY, 8))
    recorder.record(bound(CANARY, 9, old=8))
    recorder.record(answered(CANARY, 8))  # it was running when the alias moved

    assert versions_shown(recorder, "model_info")["canary"] == {"9"}
    assert versions_shown(recorder, "model_loaded_timestamp_seconds")["canary"] == {"9"}
    assert samples(recorder)["requests_total{alias=canary,code=200,model=m,outcome=ok,version=8}"] == 2
    clock.now += 899
    assert versions_shown(recorder)["canary"] == {"8", "9"}
    clock.now += 1
    assert versions_shown(recorder)["canary"] == {"9"}
    assert not any("version=8" in key for key in samples(recorder))


def test_a_late_answer_brings_no_series_back(recorder: PrometheusRecorder, clock: Clock) -> None:
    recorder.record(bound(CANARY, 8))
    recorder.record(bound(CANARY, 9, old=8))
    clock.now += 900
    samples(recorder)
    for event in (
        answered(CANARY, 8),
        answered(CANARY, 8, outcome="timeout", code=504),
        predicted(CANARY, 8, count_scores_of(0.5)),
        CanaryFaulted("m", CANARY, VersionId("m", 8), "timeout"),
        WorkerEnded(VersionId("m", 8), "exit", ""),
    ):
        recorder.record(event)

    assert not any("version=8" in key for key in samples(recorder))


def test_a_third_retired_version_of_an_alias_sends_the_oldest_away(recorder: PrometheusRecorder) -> None:
    recorder.record(bound(PRODUCTION, 1))
    for number in range(2, 6):
        recorder.record(bound(CANARY, number, old=number - 1))

    assert versions_shown(recorder) == {"production": {"1"}, "canary": {"3", "4", "5"}}
    assert not any("version=2" in key for key in samples(recorder))


def test_a_version_that_comes_back_goes_on_counting_where_it_stopped(recorder: PrometheusRecorder) -> None:
    """1 → 2 → 3 → 1: a rollback must not look like a restart."""
    ok = "requests_total{alias=production,code=200,model=m,outcome=ok,version=1}"
    bins = "score_bin_total{alias=production,bin=0.25,model=m,output=0,version=1}"
    recorder.record(bound(PRODUCTION, 1))
    recorder.record(answered(PRODUCTION, 1))
    recorder.record(predicted(PRODUCTION, 1, count_scores_of(0.1)))
    for old, new in ((1, 2), (2, 3), (3, 1)):
        recorder.record(bound(PRODUCTION, new, old=old))
    recorder.record(answered(PRODUCTION, 1))

    assert samples(recorder)[ok] == 2
    assert samples(recorder)[bins] == 1
    assert versions_shown(recorder, "model_info")["production"] == {"1"}


def test_a_version_that_comes_back_shows_its_failures_again(recorder: PrometheusRecorder) -> None:
    failed = "request_duration_seconds_count{alias=canary,model=m,outcome=failed,version=1}"
    recorder.record(bound(CANARY, 1))
    recorder.record(answered(CANARY, 1, outcome="timeout", code=504))
    assert samples(recorder)[failed] == 1
    recorder.record(bound(CANARY, 2, old=1))
    recorder.record(answered(CANARY, 1, outcome="timeout", code=504))
    assert failed not in samples(recorder)
    recorder.record(bound(CANARY, 1, old=2))
    recorder.record(answered(CANARY, 1, outcome="timeout", code=504))

    assert samples(recorder)[failed] == 1
    assert samples(recorder)["requests_total{alias=canary,code=504,model=m,outcome=timeout,version=1}"] == 3


def test_the_same_version_bound_again_lowers_nothing(recorder: PrometheusRecorder) -> None:
    recorder.record(bound(CANARY, 8))
    for outcome, code in (("ok", 200), ("client_error", 400), ("timeout", 504)):
        recorder.record(answered(CANARY, 8, outcome=outcome, code=code))
    before = {key: value for key, value in samples(recorder).items() if key.startswith("request")}
    recorder.record(bound(CANARY, 8, old=8))

    assert {key: value for key, value in samples(recorder).items() if key.startswith("request")} == before
    assert samples(recorder)["model_swaps_total{alias=canary,model=m,result=success}"] == 1


def test_a_promoted_version_is_counted_apart_under_each_alias(
    recorder: PrometheusRecorder, clock: Clock
) -> None:
    recorder.record(bound(CANARY, 8))
    recorder.record(WorkerEnded(VersionId("m", 8), "exit", ""))
    recorder.record(bound(PRODUCTION, 8, old=7))
    recorder.record(AliasUnbound("m", CANARY, VersionId("m", 8)))
    clock.now += 900

    assert versions_shown(recorder) == {"production": {"8"}, "canary": set()}
    assert samples(recorder)["worker_restarts_total{model=m,reason=exit,version=8}"] == 1


def test_an_alias_that_left_the_split_has_no_share(recorder: PrometheusRecorder) -> None:
    shadow = Alias("shadow")
    recorder.record(split())
    recorder.record(SplitInForce("m", {PRODUCTION: 0.9, shadow: 0.1}, {PRODUCTION: 0.9, shadow: 0.1}))
    recorder.record(split())

    assert not any(key.startswith("split") and "shadow" in key for key in samples(recorder))


def test_pins_bring_one_series_per_alias_and_only_once_a_pinned_key_came(
    recorder: PrometheusRecorder,
) -> None:
    before = len(series_of(recorder))
    for _ in range(3):
        for alias, number in ((PRODUCTION, 7), (CANARY, 8)):
            recorder.record(dataclasses.replace(answered(alias, number), reason=Reason.PINNED))

    shown = [key for key in samples(recorder) if "reason=pinned" in key]
    assert sorted(shown) == [
        f"routing_decisions_total{{alias={alias},model=m,reason=pinned}}" for alias in (CANARY, PRODUCTION)
    ]
    # Both have answered, so the histograms of rows are there, too.
    others = [key for key in series_of(recorder) if "request_rows" in key]
    assert len(series_of(recorder)) - before in (2, 2 + len(others))


def test_a_cap_is_shown_while_it_is_there(recorder: PrometheusRecorder) -> None:
    def shown() -> dict[str, float]:
        return {key: value for key, value in samples(recorder).items() if key.startswith("split_cap")}

    assert shown() == {}
    recorder.record(RoutesChanged(capped(canary=1_000)))
    assert shown() == {"split_cap_ratio{alias=canary,model=m}": 0.01}
    recorder.record(RoutesChanged(capped(canary=0, shadow=500)))
    assert shown() == {
        "split_cap_ratio{alias=canary,model=m}": 0.0,
        "split_cap_ratio{alias=shadow,model=m}": 0.005,
    }
    recorder.record(RoutesChanged(dataclasses.replace(capped(), capped={})))
    assert shown() == {}


def all_that_can_happen(alias: Alias, number: int) -> list[Event]:
    """Every outcome, code, reason and kind that a gateway reports of this alias."""
    version = VersionId("m", number)
    outcomes = ("ok", "client_error", "model_error", "timeout", "overloaded", "abandoned")
    if alias == CANARY:
        outcomes = (*outcomes, "fallback")
    # Ours, not a model's.
    codes = {
        "ok": (200,),
        "fallback": (200,),
        "timeout": (504,),
        "overloaded": (503,),
        "abandoned": (499,),
    }
    return [
        loaded(number, alias),
        bound(alias, number, scores=(ScoreSpec(), ClassSpec("label", ("ham", "spam")))),
        *(
            answered(alias, number, outcome=outcome, code=code)
            for outcome in outcomes
            for code in codes.get(outcome, (400, 404, 413, 415, 429, 500, 501, 503, 504))
        ),
        *(
            dataclasses.replace(answered(alias, number), reason=Reason(reason))
            for reason in reasons_of(alias)
        ),
        RoutesChanged(capped(canary=1_000)),
        *(CanaryFaulted("m", CANARY, version, kind) for kind in FAULTS),
        *(FellBack("m", CANARY, PRODUCTION, reason) for reason in FALLBACKS),
        *(Rejected("m", reason) for reason in REJECTIONS),
        *(WorkerEnded(version, reason, "") for reason in (*ENDINGS, "out_of_memory", "invalid")),
        LoadRefused(version, (alias,), "load", "", 1.0),
        LoadRefused(version, (alias,), "fetch", "", 1.0, by_rule=True),
        predicted(alias, number, ScoreCounts((1,) * 20, 3.0), ClassCounts((1, 2, 3), 1)),
        Polled("m", 0.1, ""),
        Polled("m", 0.1, "error"),
    ]


def show_live(recorder: PrometheusRecorder, *numbers: int) -> None:
    versions = [LiveVersion(VersionId("m", number), 1, False, 1) for number in numbers]
    recorder.watch(lambda: Live({}, versions))


def test_series_are_bounded_whatever_happens_to_two_bound_versions(recorder: PrometheusRecorder) -> None:
    for alias, number in ((PRODUCTION, 1), (CANARY, 2)):
        for event in all_that_can_happen(alias, number):
            recorder.record(event)
    show_live(recorder, 1, 2)

    assert len(series_of(recorder)) <= BOUND_AT_MOST


def test_a_thousand_swaps_leave_no_more_series_than_three(recorder: PrometheusRecorder, clock: Clock) -> None:
    numbers = itertools.count(1)
    for swap in range(1000):
        for alias in ALIASES:
            number = next(numbers)
            for event in all_that_can_happen(alias, number):
                recorder.record(event)
            recorder.record(VersionGone(VersionId("m", max(1, number - 2))))
        clock.now += 0.1
        if swap % 100 == 3:
            show_live(recorder, number - 3, number - 2, number - 1, number)
            assert len(series_of(recorder)) <= WITH_RETIRED_AT_MOST
    clock.now += 900
    show_live(recorder, number - 1, number)

    assert len(series_of(recorder)) <= BOUND_AT_MOST


def test_a_hundred_thousand_requests_and_fifty_swaps_leave_no_more_series_than_are_allowed(
    recorder: PrometheusRecorder, clock: Clock
) -> None:
    """Both aliases, with faults, traces and retired versions; 452 again when those have gone."""
    bound_now = {PRODUCTION: 1, CANARY: 2}
    most = 0
    for swap in range(50):
        alias = ALIASES[swap % 2]
        bound_now[alias] = swap + 3
        for event in all_that_can_happen(alias, swap + 3):
            recorder.record(event)
        for n in range(1000):
            for to, number in bound_now.items():
                for event in (
                    predicted(to, number, ScoreCounts((1,) + (0,) * 19, 0.01), ClassCounts((1, 0, 0))),
                    answered(to, number, seconds=n / 500, trace_id=f"{swap * 1000 + n + 1:032x}"),
                ):
                    recorder.record(event)
        show_live(recorder, *bound_now.values(), swap + 1)
        most = max(most, len(series_of(recorder)))
        clock.now += 5
    assert most <= WITH_RETIRED_AT_MOST
    assert len(recorder.render("application/openmetrics-text")[0].decode().split("trace_id")) <= 18 * 8 * 6
    clock.now += 900
    show_live(recorder, *bound_now.values())

    assert len(series_of(recorder)) <= BOUND_AT_MOST
    assert samples(recorder)["metrics_errors_total"] == 0


events_of_two_aliases = st.one_of(
    st.builds(
        bound,
        st.sampled_from(ALIASES),
        st.integers(1, 12),
        scores=st.sampled_from([(ScoreSpec(), ClassSpec(1, ("ham", "spam"))), ScoreSpec(), None]),
    ),
    st.builds(
        lambda alias, number, outcome, code: Answered(
            "m",
            alias,
            VersionId("m", number),
            outcome if alias == CANARY or outcome != "fallback" else "ok",
            code,
            0.01,
            1,
        ),
        st.sampled_from(ALIASES),
        st.integers(1, 12),
        st.sampled_from(
            ["ok", "fallback", "client_error", "model_error", "timeout", "overloaded", "abandoned"]
        ),
        st.sampled_from([200, 400, 413, 415, 499, 500, 503, 504]),
    ),
    st.builds(
        lambda alias, number: AliasUnbound("m", alias, VersionId("m", number)),
        st.sampled_from(ALIASES),
        st.integers(1, 12),
    ),
    st.builds(
        lambda alias, number, labels: Predicted(
            "m", alias, VersionId("m", number), 0.1, 0.1, 1, 1, (ScoreCounts((1,) * 20, 1.0), *labels)
        ),
        st.sampled_from(ALIASES),
        st.integers(1, 12),
        st.sampled_from([(), (ClassCounts((1, 0, 2)),), (ClassCounts((1,)),)]),
    ),
    st.builds(lambda text: Rejected(text, text), st.text(max_size=8)),
    st.builds(lambda text: FellBack("m", CANARY, PRODUCTION, text), st.text(max_size=8)),
    st.builds(
        lambda text, n: WorkerEnded(VersionId("m", n), text, ""), st.text(max_size=8), st.integers(1, 12)
    ),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 400), events_of_two_aliases), max_size=80))
def test_whatever_comes_counters_never_fall_while_they_are_shown(history: list[tuple[float, Event]]) -> None:
    """And the bound holds, no series is exported twice, a score's count equals the sum of its bins."""
    clock = Clock()
    recorder = recorder_at(clock)
    recorder.record(split())
    before: dict[str, float] = {}
    for pause, event in history:
        clock.now += pause
        recorder.record(event)
        heads, values = zip(*(line.rsplit(" ", 1) for line in series_of(recorder)), strict=True)
        assert len(set(heads)) == len(heads)
        # Other bins under the same version are another histogram; gauges may fall.
        now = {
            head: float(value)
            for head, value in zip(heads, values, strict=True)
            if re.match(r"\w+_(total|bucket|count){", head) and not head.startswith("canary_router_score")
        }
        assert {head for head in now.keys() & before.keys() if now[head] < before[head]} == set()
        before = now
    assert len(series_of(recorder)) <= WITH_RETIRED_AT_MOST
    assert samples(recorder)["metrics_errors_total"] == 0
    check_scores(samples(recorder))


def check_scores(now: dict[str, float]) -> None:
    for key, count in now.items():
        if key.startswith("score_count"):
            labels = set(key.partition("{")[2].rstrip("}").split(","))
            bins = [
                value
                for name, value in now.items()
                if name.startswith("score_bin_total")
                and labels < set(name.partition("{")[2].rstrip("}").split(","))
            ]
            assert sum(bins) == count, key


def test_keys_paths_and_names_of_clients_make_no_series(recorder: PrometheusRecorder) -> None:
    """Row 25 of the reliability table, as far as it can reach the metrics."""
    recorder.record(bound(PRODUCTION, 7))
    recorder.record(Rejected("first", "unknown_model"))
    before = len(list(samples(recorder)))
    for i in range(10_000):
        recorder.record(Rejected(f"/models/user-{i}/invocations", "unknown_model"))

    assert len(samples(recorder)) == before
    assert "user-" not in recorder.render()[0].decode()


def test_an_environment_of_its_own_is_shown_while_its_version_serves_and_of_no_other(
    recorder: PrometheusRecorder,
) -> None:
    own, labels = environment_of(8), "alias=canary,model=m,pins={pins},python=3.11.7,version={version}"
    for number, environment in ((7, None), (8, own), (9, replace(own, pins="aa" * 32))):
        recorder.record(loaded(number, CANARY, environment=environment))
        recorder.record(bound(CANARY, number))
    shown = {key: value for key, value in samples(recorder).items() if key.startswith("environment_info")}
    assert shown == {f"environment_info{{{labels.format(pins='aa' * 32, version=9)}}}": 1}

    phase = "model_load_duration_seconds_count{{alias={},model=m,phase=environment}}"
    assert samples(recorder)[phase.format("canary")] == 2
    assert phase.format("production") not in samples(recorder)
    recorder.record(bound(CANARY, 7, old=9))
    assert not any(key.startswith("environment_info") for key in samples(recorder))


def test_builds_of_environments_are_timed(recorder: PrometheusRecorder) -> None:
    assert samples(recorder)["environment_build_duration_seconds_count"] == 0
    recorder.record(EnvironmentBuilt(VersionId("m", 8), environment_of(build_seconds=75.0), 3.0))
    now = samples(recorder)
    assert now["environment_build_duration_seconds_sum"] == 75
    assert now["environment_build_duration_seconds_bucket{le=60.0}"] == 0
    assert now["environment_build_duration_seconds_bucket{le=300.0}"] == 1
