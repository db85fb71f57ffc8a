"""Exemplars: which traced request was the last one in a bucket of `request_duration_seconds`."""

import re

import pytest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Exemplar

from router.adapters.prometheus.recorder import PrometheusRecorder
from router.core.ids import CANARY, PRODUCTION
from tests.support.sample_events import Clock, answered, bound, recorder_at, split

OPENMETRICS = "application/openmetrics-text"
ONE, OTHER = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
NOW = 1_763_650_000.25


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def recorder(clock: Clock) -> PrometheusRecorder:
    recorder = recorder_at(clock)
    for event in (split(), bound(PRODUCTION, 7), bound(CANARY, 8)):
        recorder.record(event)
    return recorder


def exemplars(recorder: PrometheusRecorder) -> dict[tuple[str, str, str], Exemplar]:
    """By alias, outcome and upper edge; of every family, as a strict parser reads them."""
    found = {}
    for family in parse_openmetrics(recorder.render(OPENMETRICS)[0].decode()):
        for sample in family.samples:
            if sample.exemplar is not None:
                assert sample.name == "canary_router_request_duration_seconds_bucket"
                labels = sample.labels
                exemplar = sample.exemplar._replace(timestamp=float(sample.exemplar.timestamp))
                found[labels["alias"], labels["outcome"], labels["le"]] = exemplar
    return found


def test_a_traced_request_is_named_at_its_bucket_with_its_time(recorder: PrometheusRecorder) -> None:
    recorder.record(answered(PRODUCTION, 7, seconds=0.0031, trace_id=ONE))

    assert exemplars(recorder) == {("production", "ok", "0.005"): Exemplar({"trace_id": ONE}, 0.0031, NOW)}
    line = next(line for line in reported(recorder, OPENMETRICS) if "trace_id" in line)
    assert line.endswith(f' 1 # {{trace_id="{ONE}"}} 0.0031 1763650000.250')


def reported(recorder: PrometheusRecorder, accept: str) -> list[str]:
    return recorder.render(accept)[0].decode().splitlines()


def test_plain_text_has_none_and_is_the_same_as_without_traces(recorder: PrometheusRecorder) -> None:
    """The format has no place for them: a parser of it would refuse the line."""
    recorder.record(answered(PRODUCTION, 7, trace_id=ONE))

    assert not [line for line in reported(recorder, "text/plain") if ONE in line or " # " in line]
    assert list(parse_text(recorder.render()[0].decode()))


def test_the_last_one_of_each_bucket_stays(recorder: PrometheusRecorder, clock: Clock) -> None:
    recorder.record(answered(PRODUCTION, 7, seconds=0.003, trace_id=ONE))
    clock.now += 10
    recorder.record(answered(PRODUCTION, 7, seconds=0.004, trace_id=OTHER))
    recorder.record(answered(PRODUCTION, 7, seconds=0.0045))
    recorder.record(answered(PRODUCTION, 7, seconds=100.0, trace_id=ONE))

    assert exemplars(recorder) == {
        ("production", "ok", "0.005"): Exemplar({"trace_id": OTHER}, 0.004, NOW + 10),
        ("production", "ok", "+Inf"): Exemplar({"trace_id": ONE}, 100.0, NOW + 10),
    }


def test_failures_and_fallbacks_have_theirs(recorder: PrometheusRecorder) -> None:
    recorder.record(answered(CANARY, 8, outcome="fallback", trace_id=ONE))
    recorder.record(answered(PRODUCTION, 7, outcome="timeout", code=504, seconds=60.0, trace_id=OTHER))

    assert {key: exemplar.labels["trace_id"] for key, exemplar in exemplars(recorder).items()} == {
        ("canary", "fallback", "0.005"): ONE,
        ("production", "failed", "60.0"): OTHER,
    }


def test_a_hundred_thousand_traces_leave_one_per_bucket(recorder: PrometheusRecorder) -> None:
    for n in range(1, 100_001):
        recorder.record(answered(PRODUCTION, 7, seconds=n / 1000, trace_id=f"{n:032x}"))

    assert len(exemplars(recorder)) <= 18
    assert len(re.findall("trace_id", recorder.render(OPENMETRICS)[0].decode())) <= 18


def test_traces_go_with_the_version(recorder: PrometheusRecorder, clock: Clock) -> None:
    recorder.record(answered(CANARY, 8, trace_id=ONE))
    recorder.record(bound(CANARY, 9, old=8))
    assert exemplars(recorder)
    clock.now += 900

    assert exemplars(recorder) == {}
    recorder.record(answered(CANARY, 8, trace_id=ONE))
    assert exemplars(recorder) == {}


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_what_no_bucket_counts_is_no_exemplar(recorder: PrometheusRecorder, seconds: float) -> None:
    recorder.record(answered(PRODUCTION, 7, seconds=seconds, trace_id=ONE))

    assert exemplars(recorder) == {}


def test_a_filter_by_name_keeps_them(recorder: PrometheusRecorder) -> None:
    recorder.record(answered(PRODUCTION, 7, trace_id=ONE))
    body, content_type = recorder.render(
        CONTENT_TYPE_LATEST, ["canary_router_request_duration_seconds_bucket"]
    )

    assert content_type.startswith(OPENMETRICS)
    assert ONE in body.decode()
