"""Is the canary good? Real traffic, real versions, and what `/v1/compare`, `compare` and `status` say."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.conftest import Figure
from tests.support import faulty_registry
from tests.support.comparison import check, command
from tests.support.faulty_registry import body_of
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.waiting import wait_until

built_registry = faulty_registry.built_registry

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"
PLACES = re.compile(r"https?://|mlflow\.db|/tmp|/home|/root|/v\d+/|user-\d|127\.0\.0\.1|Traceback")


def asked(gateway: GatewayProcess) -> dict[str, Any]:
    text = gateway.get("/v1/compare").text
    reported = json.loads(text, parse_constant=lambda name: 1 / 0)  # NaN and Infinity are no JSON
    assert not PLACES.search(text), text
    entry: dict[str, Any] = reported["models"]["sentiment"]["canary"]
    return entry


def test_a_canary_that_raises_on_a_fifth_of_its_requests_fails_and_everyone_says_so(
    start: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    with (
        Load(gateway.url, clients=16, rate=160, keys=2000) as good,
        Load(gateway.url, clients=8, rate=40, keys=2000, body=body_of("raise")) as bad,
    ):
        took = wait_until(lambda: asked(gateway)["verdict"] == "fail", 20 * slack, gateway.story)
        wait_until(lambda: gateway.lines("verdict changed"), 10 * slack, gateway.story)
        entry = asked(gateway)
    faults = check(entry, "faults")
    figure(f"{took:.1f} s and {faults['canary']['requests']} canary requests until FAIL at 20 % faults")
    assert good.failed == bad.failed == [], "production answers what a canary fails"
    assert (faults["verdict"], faults["production"]["events"]) == ("fail", 0)
    assert 0.1 < faults["canary"]["rate"] < 0.3
    # How many there are by then depends on when it is proven; of what kind they are does not.
    by_kind = entry["rates"]["canary"]["faults_by_kind"]
    assert by_kind["error"] == sum(by_kind.values()) >= faults["canary"]["events"] > 0
    assert entry["why"].startswith("The canary fails ")

    [line] = gateway.lines("verdict changed")
    assert (line["verdict"], line["version"], line["against"]) == ("fail", 2, 1)
    assert [e["verdict"] for e in gateway.state()["events"] if e["event"] == "VerdictChanged"] == ["fail"]
    assert gateway.model()["verdicts"]["canary"]["verdict"] == "fail"
    at = {"model": "sentiment", "alias": "canary"}
    assert gateway.metric("canary_router_verdict", verdict="fail", **at) == 1
    changed = gateway.metric("canary_router_verdict_changed_timestamp_seconds", **at)
    assert entry["since_timestamp"] <= changed == asked(gateway)["verdict_changed_timestamp"]
    assert changed <= gateway.metric("canary_router_evidence_horizon_timestamp_seconds", **at) <= time.time()
    assert gateway.metric("canary_router_fleet_members", state="counted") == 1
    code, table = command(gateway, "compare", "sentiment")
    assert (code, "✘ FAIL" in table, "\njudged up to " in table) == (1, True, True), table
    code, reported = command(gateway, "compare", "-o", "json")
    assert (code, json.loads(reported)["models"]["sentiment"]["canary"]["verdict"]) == (1, "fail")
    assert "sentiment canary ✘ FAIL: The canary fails " in command(gateway, "status")[1]


def test_a_canary_without_traffic_waits_and_one_that_behaves_alike_does_not_fail(
    start: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    for _ in range(30):
        gateway.ask(faulty_registry.PRODUCTION_KEY)
    entry = asked(gateway)
    assert check(entry, "faults")["canary"]["requests"] == 0
    code, table = command(gateway, "compare")
    assert (code, "…: Not enough data: no requests of the canary that carry a key yet." in table) == (0, True)

    with Load(gateway.url, rate=500, keys=5000) as load:
        wait_until(
            lambda: check(asked(gateway), "faults")["canary"]["requests"] > 520, 20 * slack, gateway.story
        )
    entry = asked(gateway)
    assert load.failed == []
    assert entry["verdict"] != "fail", entry
    assert check(entry, "faults")["difference"] == 0.0
    scores = check(entry, "scores")
    assert (scores["judges"], scores["outputs"][0]["size"], scores["outputs"][0]["proven"]) == (
        False,
        "large",
        True,
    ), "it answers 0.2 where production answers 0.1, which is reported and fails nobody"
    assert gateway.metric("canary_router_score_psi", alias="canary", output="0") > 0.25
    assert gateway.metric("canary_router_score_ks", alias="canary", output="0") == 1.0
    cost, known = check(entry, "cost"), gateway.model()["versions"]["2"]["cost"]
    assert not cost["judges"]
    assert known["predicts"] > 0 < known["row_seconds"]
    spent = [
        gateway.metric("canary_router_worker_cpu_seconds_total", model="sentiment", version="2", phase=phase)
        for phase in ("load", "predict", "other")
    ]
    assert all(seconds > 0 for seconds in spent), spent
    figure(f"{entry['why']} {scores['why']} {cost['why']}")
    code, table = command(gateway, "compare")
    assert (code, "A 1-point error difference shows in about" in table) == (0, True), table


def test_nobody_there_is_reported_by_the_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "router", "compare", "--url", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("no gateway answers at http://127.0.0.1:9")
