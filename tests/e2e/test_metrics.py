"""What a scraper reads from a gateway that serves, after damage and moves: formats, exemplars, time."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from benchmarks.figures import Round, percentile
from benchmarks.load import Loader
from benchmarks.workloads import write_requests
from tests.conftest import Figure
from tests.deploy.conftest import running_prometheus
from tests.e2e.conftest import POLL_SECONDS
from tests.support import slowness
from tests.support.gateway import GatewayProcess, gateways
from tests.support.load import Load
from tests.support.registry import Registry, copied
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"
OPENMETRICS = {"Accept": "application/openmetrics-text"}
CANARY_KEY, PRODUCTION_KEY = "user-2", "user-1"
RAISES_AT_BAD, DOES_NOT_LOAD, ANSWERS_NAN, ELSEWHERE = 7, 3, 13, 4
SCRAPE_SECONDS = 0.1
"""Of the slowest of a hundred scrapes, under load."""
LOAD_SECONDS, CONNECTIONS = 4, 64
STORE_EXEMPLARS = "--enable-feature=exemplar-storage"


@pytest.fixture(scope="module")
def gateway(built_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Under traffic from before the damage to the last test."""
    directory = tmp_path_factory.mktemp("busy")
    registry = copied(built_registry, directory)
    with gateways(directory, registry.uri, POLL_SECONDS) as start:
        gateway = start(MODELS)
        gateway.wait_bound(2, "canary")
        with Load(gateway.url, clients=8, rate=50):
            damage(gateway, registry)
            yield gateway


def damage(gateway: GatewayProcess, registry: Registry) -> None:
    """Faults of two kinds, a worker killed, and moves that succeed, fail or are refused."""
    put_elsewhere(registry, ELSEWHERE)
    for version, text in ((RAISES_AT_BAD, "bad"), (ANSWERS_NAN, "good")):
        registry.move("canary", version)
        gateway.wait_bound(version, "canary")
        assert gateway.ask(CANARY_KEY, text).headers["X-Route-Reason"] == "fallback"
    for version, result in ((DOES_NOT_LOAD, "failure"), (ELSEWHERE, "refused")):
        registry.move("canary", version)
        swaps = {"alias": "canary", "result": result}
        wait_until(
            lambda reported=swaps: gateway.metric("canary_router_model_swaps_total", **reported),
            30 * slowness.slack(),
            gateway.story,
        )
    registry.move("canary", 2)
    registry.move("production", 5)
    gateway.wait_bound(2, "canary")
    gateway.wait_bound(5)
    os.kill(gateway.worker_pids(2)[0], signal.SIGKILL)
    restarts = {"version": "2", "reason": "signal"}
    wait_until(
        lambda: gateway.metric("canary_router_worker_restarts_total", **restarts),
        30 * slowness.slack(),
        gateway.story,
    )
    wait_until(lambda: gateway.lines("workers complete again"), 30 * slowness.slack(), gateway.story)
    assert (
        requests.post(f"{gateway.url}/invocations", data=b"{", timeout=10 * slowness.slack()).status_code
        == 400
    )


def put_elsewhere(registry: Registry, version: int) -> None:
    """Written past every check: the version's files are where none may come from."""
    with closing(sqlite3.connect(registry.database)) as database, database:
        database.execute(
            "UPDATE model_versions SET source = ?, storage_location = ? WHERE version = ?",
            (source := "ftp://169.254.169.254/m", source, version),
        )


def scrape(gateway: GatewayProcess, headers: dict[str, str] | None = None) -> str:
    answer = requests.get(f"{gateway.url}/metrics", headers=headers, timeout=10 * slowness.slack())
    assert answer.status_code == 200
    return answer.text


def ask_traced(gateway: GatewayProcess, trace_id: str, key: str = PRODUCTION_KEY, flags: str = "01") -> str:
    """The outcome that is to be counted."""
    answer = requests.post(
        f"{gateway.url}/invocations",
        json={"dataframe_split": {"columns": ["text"], "data": [["good"]]}},
        headers={"X-Request-Key": key, "traceparent": f"00-{trace_id}-00f067aa0ba902b7-{flags}"},
        timeout=10 * slowness.slack(),
    )
    assert answer.status_code == 200
    return "fallback" if answer.headers["X-Route-Reason"] == "fallback" else "ok"  # by a slow machine


def test_promtool_has_no_remark_after_faults_and_moves(gateway: GatewayProcess, slack: float) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing; the Debian package `prometheus` has it")
    exported = scrape(gateway)
    for happened in (
        'canary_faults_total{model="sentiment",alias="canary",version="7",kind="error"}',
        'canary_faults_total{model="sentiment",alias="canary",version="13",kind="invalid_output"}',
        'model_swaps_total{model="sentiment",alias="canary",result="refused"} 1',
        'model_swaps_total{model="sentiment",alias="canary",result="failure"} 1',
        'version="7",outcome="fallback"',
    ):
        assert happened in exported
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=exported, text=True, capture_output=True, timeout=60 * slack
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_both_formats_are_read_by_their_own_parsers_and_only_one_has_exemplars(
    gateway: GatewayProcess,
) -> None:
    kept, dropped = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
    ask_traced(gateway, kept)
    ask_traced(gateway, dropped, flags="00")
    plain, openmetrics = scrape(gateway), scrape(gateway, OPENMETRICS)

    families = list(parse_openmetrics(openmetrics))
    assert {family.name for family in parse_text(plain)} == {family.name for family in families}
    named = {
        sample.exemplar.labels["trace_id"]: sample
        for family in families
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert named.keys() == {kept}
    labels, exemplar = named[kept].labels, named[kept].exemplar
    assert (labels["alias"], labels["version"], labels["outcome"]) == ("production", "5", "ok")
    assert exemplar.value <= float(labels["le"])
    assert abs(float(exemplar.timestamp) - time.time()) < 60
    assert kept not in plain


def test_prometheus_finds_the_trace_of_a_request(
    gateway: GatewayProcess, tmp_path: Path, slack: float
) -> None:
    """A real one, which stores exemplars; asked as Grafana asks it."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is missing; install the Debian package `prometheus`")
    trace_id = "7b57e8e4f0c94dd0a5be1f3a0f0f1f2e"
    config = tmp_path / "prometheus.yml"
    target = gateway.url.removeprefix("http://")
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f'scrape_configs: [{{job_name: gateway, static_configs: [{{targets: ["{target}"]}}]}}]\n'
    )
    outcome = ask_traced(gateway, trace_id, CANARY_KEY)
    with running_prometheus(config, tmp_path / "data", slack, STORE_EXEMPLARS) as prometheus:
        wait_until(lambda: exemplars_in(prometheus._base, trace_id), 30 * slack)
        [(labels, exemplar)] = exemplars_in(prometheus._base, trace_id)

    assert (labels["alias"], labels["version"], labels["outcome"]) == ("canary", "2", outcome)
    assert 0 < float(exemplar["value"]) <= float(labels["le"])


def exemplars_in(base: str, trace_id: str) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Labels of the series and exemplar, of the last five minutes, wherever this trace is named."""
    asked = {"query": "canary_router_request_duration_seconds_bucket", "start": time.time() - 300}
    query = urllib.parse.urlencode({**asked, "end": time.time() + 60})
    with urllib.request.urlopen(
        f"{base}/api/v1/query_exemplars?{query}", timeout=10 * slowness.slack()
    ) as answer:
        reported: list[dict[str, Any]] = json.load(answer)["data"]
    return [
        (series["seriesLabels"], exemplar)
        for series in reported
        for exemplar in series["exemplars"]
        if exemplar["labels"] == {"trace_id": trace_id}
    ]


def test_a_scrape_takes_under_a_tenth_of_a_second_while_the_gateway_is_under_load(
    gateway: GatewayProcess, tmp_path: Path, slack: float, figure: Figure
) -> None:
    """Every connection sends its next request when the last is answered: as much as it can take."""
    asked = tmp_path / "requests"
    write_requests(asked, "text", 1)
    loader = Loader("wrk" if shutil.which("wrk") else "python", None)
    port, rounds, seconds = int(gateway.url.rpartition(":")[2]), list[Round](), list[float]()

    def load() -> None:
        rounds.append(loader.closed_loop(port, asked, CONNECTIONS, LOAD_SECONDS))

    thread = threading.Thread(target=load)
    thread.start()
    with requests.Session() as session:
        session.get(f"{gateway.url}/metrics", timeout=10 * slack)  # which connects
        while thread.is_alive():
            started = time.perf_counter()
            session.get(f"{gateway.url}/metrics", headers=OPENMETRICS, timeout=10 * slack)
            seconds.append(time.perf_counter() - started)
            time.sleep(0.02)
    thread.join()
    [reported] = rounds
    p50, p99 = (percentile(seconds, percent) * 1e3 for percent in (50, 99))
    size = len(scrape(gateway, OPENMETRICS)) >> 10
    figure(
        f"{len(seconds)} scrapes of {size} KiB at {reported.per_second:.0f} requests/s by {loader.client}, "
        f"{CONNECTIONS} connections: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {max(seconds) * 1e3:.1f} ms"
    )
    assert reported.failed == 0
    assert len(seconds) >= 20
    assert p99 < SCRAPE_SECONDS * 1e3 * slack
