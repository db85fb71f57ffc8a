"""What a scraper reads: both formats, negotiation, the filter, and what promtool thinks of it."""

import shutil
import subprocess
import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from router.adapters.prometheus.recorder import PrometheusRecorder
from router.core.ids import CANARY, PRODUCTION
from tests.support.sample_events import (
    Clock,
    answered,
    bound,
    count_scores_of,
    goodbye,
    live_of,
    one_of_each,
    predicted,
    recorder_at,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"


@pytest.fixture
def idle() -> PrometheusRecorder:
    return recorder_at(Clock())


@pytest.fixture
def busy() -> PrometheusRecorder:
    recorder = recorder_at(Clock())
    for event in one_of_each():
        recorder.record(event)
    recorder.watch(lambda: live_of(7, 8, draining=8))
    return recorder


def test_a_scrape_reads_as_expected() -> None:
    """Golden: three families of a version that answered twice, written by hand."""
    recorder = recorder_at(Clock())
    recorder.record(bound(PRODUCTION, 7))
    recorder.record(answered(PRODUCTION, 7, seconds=0.25))
    recorder.record(answered(PRODUCTION, 7, outcome="client_error", code=400))
    recorder.record(predicted(PRODUCTION, 7, count_scores_of(0.125, 0.5, 3.0)))
    names = ["canary_router_requests_total", "canary_router_score", "canary_router_model_info"]

    body, content_type = recorder.render("", names)

    assert content_type == TEXT
    assert (
        body.decode()
        == """\
# HELP canary_router_requests_total Prediction requests by how they ended, under what the key was given.
# TYPE canary_router_requests_total counter
canary_router_requests_total{model="m",alias="production",version="7",outcome="ok",code="200"} 1
canary_router_requests_total{model="m",alias="production",version="7",outcome="client_error",code="400"} 1
canary_router_requests_total{model="m",alias="production",version="7",outcome="model_error",code="500"} 0
canary_router_requests_total{model="m",alias="production",version="7",outcome="model_error",code="503"} 0
canary_router_requests_total{model="m",alias="production",version="7",outcome="timeout",code="504"} 0
canary_router_requests_total{model="m",alias="production",version="7",outcome="overloaded",code="503"} 0
canary_router_requests_total{model="m",alias="production",version="7",outcome="abandoned",code="499"} 0
# HELP canary_router_score Finite scores by upper bin edge; those outside the range are in the end bins.
# TYPE canary_router_score histogram
canary_router_score_bucket{model="m",alias="production",version="7",output="0",le="0.25"} 1
canary_router_score_bucket{model="m",alias="production",version="7",output="0",le="0.5"} 2
canary_router_score_bucket{model="m",alias="production",version="7",output="0",le="0.75"} 2
canary_router_score_bucket{model="m",alias="production",version="7",output="0",le="1.0"} 3
canary_router_score_bucket{model="m",alias="production",version="7",output="0",le="+Inf"} 3
canary_router_score_sum{model="m",alias="production",version="7",output="0"} 3.625
canary_router_score_count{model="m",alias="production",version="7",output="0"} 3
# HELP canary_router_model_info What serves now; registry_alias is the registry's name for the alias.
# TYPE canary_router_model_info gauge
canary_router_model_info{model="m",alias="production",version="7",run_id="run7",flavor="sklearn",\
registry_alias="production"} 1
"""
    )


ACCEPTED = {
    "nothing": ("", TEXT),
    "anything": ("*/*", TEXT),
    "Prometheus 2.42": (
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ),
        OPENMETRICS,
    ),
    "Prometheus 3": (
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "application/openmetrics-text;version=0.0.1;q=0.4,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        ),
        OPENMETRICS,
    ),
    "plain preferred": ("text/plain, application/openmetrics-text;q=0.5", TEXT),
    "openmetrics refused": ("application/openmetrics-text;q=0", TEXT),
    "an openmetrics nobody knows": ("application/openmetrics-text; version=9.9", TEXT),
    "no version asked": ("Application/OpenMetrics-Text", OPENMETRICS),
    "a version that is no number": ("text/plain;version=abc;q=x, ;;=,application/openmetrics-text;q=y", TEXT),
    "a browser": ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
}


@pytest.mark.parametrize(("accept", "expected"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_the_format_is_what_the_scraper_prefers(busy: PrometheusRecorder, accept: str, expected: str) -> None:
    body, content_type = busy.render(accept)

    assert content_type == expected
    assert body.endswith(b"# EOF\n") == (expected == OPENMETRICS)


def test_both_formats_say_the_same(busy: PrometheusRecorder) -> None:
    """Parsed by prometheus_client, which is strict about OpenMetrics."""
    text = parse_text(busy.render()[0].decode())
    openmetrics = parse_openmetrics(busy.render("application/openmetrics-text")[0].decode())

    def ours(families: object) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families  # type: ignore[attr-defined] # the parsers are untyped
            for sample in family.samples
            if sample.name.startswith("canary_router_")
        }

    found = ours(text)
    assert len(found) > 250
    assert ours(openmetrics) == found


def test_no_series_reports_when_it_was_created(busy: PrometheusRecorder) -> None:
    assert b"_created" not in busy.render()[0]
    assert b"_created" not in busy.render("application/openmetrics-text")[0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["canary_router_ready"], {"canary_router_ready"}),
        (["canary_router_requests_total", "no_such"], {"canary_router_requests_total"}),
        (["canary_router_batch_rows_count"], {"canary_router_batch_rows_count"}),
        (
            ["canary_router_batch_rows"],
            {f"canary_router_batch_rows_{part}" for part in ("bucket", "sum", "count")},
        ),
        (["process_cpu_seconds_total"], {"process_cpu_seconds_total"}),
        (["no_such"], set()),
    ],
)
def test_names_select_families_or_samples(
    busy: PrometheusRecorder, names: list[str], expected: set[str]
) -> None:
    families = parse_text(busy.render("", names)[0].decode())

    assert {sample.name for family in families for sample in family.samples} == expected


@pytest.mark.parametrize("state", ["idle", "busy", "emptied"])
def test_promtool_has_no_remark(state: str, idle: PrometheusRecorder, busy: PrometheusRecorder) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing; the Debian package `prometheus` has it")
    recorder = idle if state == "idle" else busy
    if state == "emptied":
        for event in goodbye():
            recorder.record(event)

    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=recorder.render()[0],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_a_scrape_keeps_the_event_loop_for_a_few_milliseconds_only(slack: float) -> None:
    """Ten models, 3 000 series and more: rendering is on the loop that answers requests."""
    recorder = recorder_at(Clock())
    for i in range(10):
        for event in one_of_each(f"model-{i}"):
            recorder.record(event)
        recorder.record(bound(CANARY, 9, model=f"model-{i}"))
    durations = []
    for _ in range(5):
        started = time.perf_counter()
        recorder.render()
        durations.append(time.perf_counter() - started)

    assert min(durations) < 0.02 * slack
