"""Rows 7, 8, 9 and 11 of the promises: whatever a canary does, its callers get production's answer."""

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.e2e.conftest import Registry
from tests.support import faulty_registry
from tests.support.faulty_registry import CANARY_KEY, PRODUCTION_KEY, body_of
from tests.support.gateway import CountersFromNow, GatewayProcess
from tests.support.load import Load, Seen
from tests.support.waiting import wait_until

built_registry = faulty_registry.built_registry

MODELS = "  sentiment: {{split: {{production: 50, canary: 50}}, {more}}}\n"


@pytest.fixture
def gateway(start: Callable[..., GatewayProcess]) -> Callable[..., GatewayProcess]:
    def serve(more: str = "direct_access: true") -> GatewayProcess:
        gateway = start(MODELS.format(more=more))
        gateway.wait_bound(2, "canary")
        return gateway

    return serve


@pytest.fixture(scope="module")
def shared(start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    """One whose canary loses its share in no test."""
    gateway = start_shared(MODELS.format(more="direct_access: true, max_rows: 5"))
    gateway.wait_bound(2, "canary")
    return gateway


def breaker(gateway: GatewayProcess) -> dict[str, object]:
    reported: dict[str, object] = gateway.model()["versions"]["2"]["breaker"]
    return reported


def faults(gateway: GatewayProcess | CountersFromNow, kind: str) -> float:
    return gateway.metric("canary_router_canary_faults_total", alias="canary", version="2", kind=kind)


def wrong(load: Load) -> list[Seen]:
    """Answers that are not production's, whoever was asked."""
    return [one for one in load.seen if one.status == 200 and json.loads(one.body) != {"predictions": [0.1]}]


def test_a_canary_that_always_raises_hurts_nobody_and_loses_its_share_at_its_50th_request(
    gateway: Callable[..., GatewayProcess],
    slack: float,
) -> None:
    served = gateway()
    served.wait_compared()
    for number in range(1, 51):
        answer = served.ask(CANARY_KEY, "raise")
        reported = answer.headers
        assert (answer.status_code, answer.json()) == (200, {"predictions": [0.1]})
        assert (reported["X-Route-Alias"], reported["X-Route-Reason"]) == ("canary", "fallback"), (
            f"request {number}"
        )
        assert (reported["X-Model-Alias"], reported["X-Model-Version"]) == ("production", "1")
    after = served.ask(CANARY_KEY, "raise")

    assert (after.status_code, after.headers["X-Route-Reason"]) == (200, "breaker_open")
    assert faults(served, "error") == 50
    assert served.metric("canary_router_requests_total", alias="canary", outcome="fallback") == 50
    assert served.metric("canary_router_split_ratio", alias="canary") == 0
    assert served.metric("canary_router_split_configured_ratio", alias="canary") == 0.5
    assert breaker(served) | {"since": None} == {
        "alias": "canary",
        "state": "open",
        "since": None,
        "why": "50 of its last 50 requests were faults",
        "requests": 50,
        "faults_of_last_50": 50,
        "crashes": 0,
    }
    assert "breaker open" in served.log.read_text()
    wait_until(lambda: served.model()["verdicts"]["canary"]["verdict"] == "fail", 10 * slack, served.story)


def test_an_open_breaker_outlives_a_kill_and_a_reset_does_too(
    gateway: Callable[..., GatewayProcess],
    tmp_path: Path,
    slack: float,
) -> None:
    first = gateway()
    for _ in range(51):
        first.ask(CANARY_KEY, "raise")
    assert breaker(first)["state"] == "open"
    wait_until(
        lambda: any("breaker of" in caps.read_text() for caps in tmp_path.rglob("caps.json")), 10 * slack
    )
    since = breaker(first)["since"]
    first.process.kill()
    first.process.wait()

    second = gateway()
    for _ in range(3):
        answer = second.ask(CANARY_KEY, "raise")
        assert (answer.json(), answer.headers["X-Route-Reason"]) == ({"predictions": [0.1]}, "breaker_open")
    assert faults(second, "error") == 0
    shown = breaker(second)
    assert (shown["state"], shown["since"]) == ("open", since)
    assert shown["why"] == "50 of its last 50 requests were faults"
    assert requests.post(f"{second.admin}/-/models/sentiment/reset-breakers", timeout=30 * slack).ok
    second.process.kill()
    second.process.wait()

    third = gateway()
    assert breaker(third)["state"] == "closed"
    assert third.ask(CANARY_KEY, "good").json() == {"predictions": [0.2]}


@pytest.mark.slow
def test_a_saved_split_gives_a_broken_off_canary_its_share_back(
    gateway: Callable[..., GatewayProcess],
    slack: float,
) -> None:
    served = gateway()
    for _ in range(50):
        served.ask(CANARY_KEY, "raise")
    assert breaker(served)["state"] == "open"
    text = served.config.read_text()
    served.config.write_text(text.replace("production: 50, canary: 50", "production: 60, canary: 40"))
    wait_until(lambda: breaker(served)["state"] == "closed", 10 * slack, served.story)

    answer = served.ask(CANARY_KEY, "good")
    assert (answer.json(), answer.headers["X-Route-Reason"]) == ({"predictions": [0.2]}, "hash")


@pytest.mark.slow
def test_a_canary_that_raises_under_load_costs_no_user_an_error(
    gateway: Callable[..., GatewayProcess],
    slack: float,
) -> None:
    served = gateway()
    with Load(served.url, rate=200, body=body_of("raise")) as load:
        wait_until(lambda: breaker(served)["state"] == "open", 30 * slack, served.story)
        wait_until(lambda: load.seen[-1].reason == "breaker_open", 30 * slack, served.story)
    assert load.failed == []
    assert wrong(load) == []
    assert faults(served, "error") >= 50


@pytest.mark.parametrize("how", ["stuck", pytest.param("hang", marks=pytest.mark.slow)])
def test_a_canary_that_hangs_leaves_production_alone_and_its_callers_wait_no_longer_than_its_time(
    gateway: Callable[..., GatewayProcess], slack: float, how: str
) -> None:
    """`hang` holds the GIL in C, so nothing in the process can end it; its worker is ended from outside."""
    served = gateway("canary_timeout_seconds: 0.5, predict_timeout_seconds: 4")
    [pid] = served.worker_pids(2)
    started = time.monotonic()
    with Load(served.url, clients=40, rate=200, body=body_of(how)) as load:
        wait_until(lambda: breaker(served)["state"] == "open", 30 * slack, served.story)
        wait_until(lambda: served.worker_pids(2) not in ([pid], []), 30 * slack, served.story)
    took = time.monotonic() - started
    assert load.failed == []
    assert wrong(load) == []
    production = sorted(one.seconds for one in load.seen if one.route_alias == "production")
    assert production[int(len(production) * 0.99)] < 0.5 * slack
    canary = [one.seconds for one in load.seen if one.route_alias == "canary"]
    assert max(canary) < (0.5 + 0.5) * slack
    assert faults(served, "timeout") >= 50
    assert served.metric("canary_router_worker_restarts_total", version="2", reason="predict_timeout") >= 1
    assert took < 20 * slack

    begun = time.monotonic()
    assert served.stop() == 0, "a hung canary kept the gateway from stopping"
    assert time.monotonic() - begun < 15 * slack


@pytest.mark.slow
def test_a_gateway_whose_canary_hangs_this_moment_stops_in_time(
    gateway: Callable[..., GatewayProcess], slack: float
) -> None:
    served = gateway("canary_timeout_seconds: 0.2")
    assert served.ask(CANARY_KEY, "hang").json() == {"predictions": [0.1]}
    begun = time.monotonic()
    assert served.stop() == 0
    assert time.monotonic() - begun < 15 * slack


@pytest.mark.slow
def test_sys_exit_in_a_canarys_predict_is_an_error_of_the_model_and_not_its_end(
    gateway: Callable[..., GatewayProcess],
) -> None:
    served = gateway()
    before = served.worker_pids(2)
    for _ in range(3):
        assert served.ask(CANARY_KEY, "sys.exit").json() == {"predictions": [0.1]}

    assert served.worker_pids(2) == before
    assert faults(served, "error") == 3
    assert breaker(served)["crashes"] == 0


@pytest.mark.parametrize(
    ("how", "reason", "reported"),
    [
        ("os._exit", "exit", "exit code 3"),
        ("segfault", "signal", r"signal 11 \(SIGSEGV\)"),
        ("killed", "signal", r"signal 9 \(SIGKILL\)"),
    ],
)
@pytest.mark.slow
def test_a_canary_whose_process_ends_is_back_soon_and_broken_off_at_its_third_crash(
    gateway: Callable[..., GatewayProcess], slack: float, how: str, reason: str, reported: str
) -> None:
    served = gateway()
    for crash in range(1, 4):
        [pid] = served.worker_pids(2)
        answer = served.ask(CANARY_KEY, how)
        assert (answer.status_code, answer.json()) == (200, {"predictions": [0.1]})
        assert answer.headers["X-Route-Reason"] == "fallback"
        wait_until(lambda p=pid: served.worker_pids(2) not in ([], [p]), 5 * slack, served.story)
        assert breaker(served)["crashes"] == crash
    after = served.ask(CANARY_KEY, how)

    assert (after.status_code, after.headers["X-Route-Reason"]) == (200, "breaker_open")
    assert breaker(served)["why"] == "it crashed 3 times in 60 s"
    assert faults(served, "crash") == 3
    assert served.metric("canary_router_worker_restarts_total", version="2", reason=reason) == 3
    assert len(re.findall(reported, served.log.read_text())) == 3
    ends = served.model()["versions"]["2"]["worker_ends"]
    assert ends["counts"] == {ends["last"]["cause"]: 3}
    assert re.fullmatch(reported, ends["last"]["cause"])


@pytest.mark.slow
def test_a_canary_that_crashes_under_load_costs_no_user_an_error(
    gateway: Callable[..., GatewayProcess], slack: float
) -> None:
    served = gateway()
    with Load(served.url, rate=200, body=body_of("os._exit")) as load:
        wait_until(lambda: breaker(served)["state"] == "open", 30 * slack, served.story)
        wait_until(lambda: served.worker_pids(2), 5 * slack, served.story)
    assert load.failed == []
    assert wrong(load) == []


@pytest.mark.parametrize("text", ["nan", "short", "long"])
def test_an_answer_of_only_nan_or_of_a_wrong_length_is_a_fault_of_the_canary(
    shared: GatewayProcess, text: str, slack: float
) -> None:
    counted = shared.from_now()
    answer = shared.session.post(
        f"{shared.url}/invocations",
        data=body_of(text, rows=2),
        headers=as_json(CANARY_KEY),
        timeout=30 * slack,
    )
    assert (answer.status_code, answer.json()) == (200, {"predictions": [0.1, 0.1]})
    assert answer.headers["X-Route-Reason"] == "fallback"
    assert faults(counted, "invalid_output") == 1
    assert counted.metric("canary_router_fallbacks_total", reason="invalid_output") == 1


@pytest.mark.slow
def test_what_is_odd_but_an_answer_goes_out_as_it_is_and_metrics_hold(
    gateway: Callable[..., GatewayProcess],
) -> None:
    served = gateway()
    assert served.ask(CANARY_KEY, "none").json() == {"predictions": [None]}
    assert served.ask(CANARY_KEY, "strings").json() == {"predictions": ["good"]}
    assert served.ask(CANARY_KEY, "inf").json() == {"predictions": [math.inf]}
    served.ask(CANARY_KEY, "nan")

    invalid = {
        kind: served.metric("canary_router_score_invalid_total", alias="canary", version="2", kind=kind)
        for kind in ("nan", "inf", "non_numeric")
    }
    assert invalid == {"nan": 1, "inf": 1, "non_numeric": 2}
    assert served.metric("canary_router_metrics_errors_total") == 0
    assert faults(served, "invalid_output") == 1


def test_a_request_of_more_rows_than_max_rows_gets_413_and_is_its_callers_fault(
    shared: GatewayProcess, slack: float
) -> None:
    for key, alias in ((PRODUCTION_KEY, "production"), (CANARY_KEY, "canary")):
        counted = shared.from_now()
        url, headers = f"{shared.url}/invocations", as_json(key)
        answer = shared.session.post(url, data=body_of("good", rows=6), headers=headers, timeout=30 * slack)
        assert (answer.status_code, answer.json()["error_code"]) == (413, "BAD_REQUEST"), alias
        refused = {"alias": alias, "outcome": "client_error"}
        assert counted.metric("canary_router_requests_total", **refused) == 1
        answer = shared.session.post(url, data=body_of("good", rows=5), headers=headers, timeout=30 * slack)
        assert answer.status_code == 200
        assert counted.metric("canary_router_canary_faults_total") == 0


def test_asked_directly_a_canary_answers_for_itself(shared: GatewayProcess, slack: float) -> None:
    counted = shared.from_now()
    url = f"{shared.url}/models/sentiment/aliases/canary/invocations"
    answers = {
        text: shared.session.post(url, data=body_of(text), headers=as_json(CANARY_KEY), timeout=30 * slack)
        for text in ("good", "raise", "os._exit")
    }
    assert {text: answer.status_code for text, answer in answers.items()} == {
        "good": 200,
        "raise": 500,
        "os._exit": 503,
    }
    assert {answer.headers["X-Route-Reason"] for answer in answers.values()} == {"direct"}
    assert faults(counted, "error") + faults(counted, "crash") == 0


@pytest.mark.slow
def test_one_canarys_damage_does_not_slow_production_down(
    gateway: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    served = gateway()
    for text in ("os._exit", "raise", "segfault"):
        served.ask(CANARY_KEY, text)
        begun = time.monotonic()
        assert served.ask(PRODUCTION_KEY, "good").json() == {"predictions": [0.1]}
        assert time.monotonic() - begun < 0.5 * slack


def as_json(key: str) -> dict[str, str]:
    return {"X-Request-Key": key, "Content-Type": "application/json"}
