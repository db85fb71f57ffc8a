"""What holds wherever versions run: in processes of the gateway, or behind addresses, by real servers."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.support.adapters import MODEL, Adapter, adapter_of
from tests.support.gateway import gateways
from tests.support.load import Load
from tests.support.registry import built_registry_of, copied
from tests.support.waiting import wait_until

BUILD = Path(__file__).parents[1] / "support" / "build_wherever.py"
ELSEWHERE = [
    pytest.param("mlflow models serve", marks=pytest.mark.slow),
    "v2",
    *(["mlserver"] if "TEST_MLSERVER" in os.environ else []),
    *(["kserve"] if "TEST_KSERVE" in os.environ else []),
    *(["ray v2", "ray mlflow"] if "TEST_RAY" in os.environ else []),
]
"""What versions elsewhere run in; `make mlserver`, `make kserve` and `make ray` install what they name."""
KINDS = [pytest.param("local", marks=pytest.mark.slow), *ELSEWHERE]
of_those_elsewhere = pytest.mark.parametrize("adapter", ELSEWHERE, indirect=True, scope="module")
NUMBERS = (2, 5)
"""Versions that answer a tenth of their number."""
TALKER, SLEEPER = 11, 6
"""Answers a text with its number before it, and raises on `poison`; sleeps as long as the text says."""


@pytest.fixture(scope="module", params=KINDS)
def adapter(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Adapter]:
    directory = tmp_path_factory.mktemp("wherever")
    registry = copied(built_registry_of(BUILD, tmp_path_factory), directory)
    adapter = adapter_of(request.param, registry, directory)
    try:
        adapter.serve(*NUMBERS, TALKER, SLEEPER)
        registry.move("production", 2)
        registry.move("canary", TALKER)
        with gateways(directory, registry.uri, POLL_SECONDS) as start:
            adapter.gateway = start(
                f"  {MODEL}:\n    split: {{production: 50, canary: 50}}\n    where: {adapter.where}\n"
                "    canary_timeout_seconds: 20\n"
            )
            adapter.gateway.wait_bound(TALKER, "canary")
            yield adapter
    finally:
        adapter.close()


def at(adapter: Adapter, alias: str) -> str:
    """A key that the split gives to `alias`."""
    for number in range(100):
        if adapter.ask(f"key-{number}").headers["X-Route-Alias"] == alias:
            return f"key-{number}"
    raise AssertionError(f"no key of {alias}")


def bind(adapter: Adapter, alias: str, version: int) -> None:
    adapter.registry.move(alias, version)
    adapter.gateway.wait_bound(version, alias)


def is_of(adapter: Adapter, version: int, body: bytes) -> bool:
    """Whether the version wrote the answer to `good`."""
    value = adapter.value(body)
    return bool(value == f"{TALKER} good" if version == TALKER else value == version / 10)


def test_ready_means_that_it_has_answered_its_example(adapter: Adapter) -> None:
    [loaded] = [one for one in adapter.gateway.loads() if one["version"] == TALKER][:1]

    assert {"load", "warmup"} <= loaded["seconds"].keys()


def test_each_answer_is_that_of_the_version_it_names(adapter: Adapter) -> None:
    bind(adapter, "canary", TALKER)
    seen = set()
    for number in range(40):
        answer = adapter.ask(f"user-{number}")
        assert answer.status_code == 200, answer.text
        version = int(answer.headers["X-Model-Version"])
        assert is_of(adapter, version, answer.content)
        seen.add(version)

    assert seen == {adapter.gateway.bound(), TALKER}


def test_what_a_version_raises_is_its_fault_where_production_answers(adapter: Adapter) -> None:
    """MLflow's server answers 400 to it, as to a request that can not be decoded."""
    bind(adapter, "production", 2)
    bind(adapter, "canary", TALKER)
    key = at(adapter, "canary")
    before = adapter.gateway.metric("canary_router_canary_faults_total")

    answer = adapter.ask(key, "poison")

    assert answer.status_code == 200
    assert answer.headers["X-Route-Reason"] == "fallback"
    assert adapter.value(answer.content) == 0.2
    assert adapter.gateway.metric("canary_router_canary_faults_total") == before + 1


def test_production_moves_under_load_and_no_request_fails(
    adapter: Adapter, slack: float, figure: Figure
) -> None:
    bind(adapter, "canary", TALKER)
    with Load(adapter.gateway.url, clients=8, rate=60, body=adapter.body("good"), path=adapter.path) as load:
        for version in (5, 2, 5):
            bind(adapter, "production", version)
            answered = load.answered_by(version)
            wait_until(lambda v=version, n=answered: load.answered_by(v) > n + 5, 20 * slack)

    figure(load.summary())
    assert load.failed == [], load.summary()
    figure(f"three swaps, 0 failed of {len(load.seen)}")
    assert {one.version for one in load.seen} >= {2, 5, TALKER}
    assert [one for one in load.seen if not is_of(adapter, one.version, one.body)] == []


def test_requests_under_way_are_answered_before_their_version_goes(adapter: Adapter, slack: float) -> None:
    bind(adapter, "canary", SLEEPER)
    key = at_slowly(adapter)
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(adapter.ask(key, "3").headers["X-Model-Version"]))
    asking.start()
    wait_until(lambda: state(adapter, SLEEPER)["in_flight"] == 1, 10 * slack)

    bind(adapter, "canary", TALKER)

    asking.join(30 * slack)
    assert answers == [str(SLEEPER)]
    wait_until(lambda: str(SLEEPER) not in adapter.gateway.model()["versions"], 10 * slack)


def at_slowly(adapter: Adapter) -> str:
    for number in range(100):
        if adapter.ask(f"key-{number}", "0").headers["X-Route-Alias"] == "canary":
            return f"key-{number}"
    raise AssertionError("no key of canary")


def state(adapter: Adapter, version: int) -> dict[str, Any]:
    found: dict[str, Any] = adapter.gateway.model()["versions"][str(version)]
    return found


def test_the_death_of_a_canary_under_load_costs_no_request(
    adapter: Adapter, slack: float, figure: Figure
) -> None:
    """Production answers in its place, until it is lost and after that, and it comes back by itself."""
    bind(adapter, "production", 2)
    bind(adapter, "canary", TALKER)
    wait_until(lambda: is_alive(adapter, TALKER), 40 * slack)
    before = len(adapter.gateway.lines("worker ended"))
    with Load(adapter.gateway.url, clients=8, rate=60, body=adapter.body("good"), path=adapter.path) as load:
        wait_until(lambda: load.answered_by(TALKER) > 20, 20 * slack)
        adapter.kill(TALKER)
        wait_until(lambda: len(adapter.gateway.lines("worker ended")) > before, 40 * slack)
        if adapter.elsewhere:
            adapter.serve(TALKER)
        wait_until(lambda: is_alive(adapter, TALKER), 40 * slack)

    figure(load.summary())
    assert load.failed == [], load.summary()
    figure(f"a canary that dies and comes back, 0 failed of {len(load.seen)}")


def is_alive(adapter: Adapter, version: int) -> bool:
    found = state(adapter, version)
    return found["where"] is not None if adapter.elsewhere else found["workers"] != []


def scores_of(adapter: Adapter, alias: str, version: int, le: str = "0.5") -> float:
    """How many were counted in the bin that ends there."""
    return adapter.gateway.metric(
        "canary_router_score_bin_total", alias=alias, version=str(version), output="0", bin=le
    )


def test_each_answers_score_is_counted_under_the_alias_that_was_asked(adapter: Adapter, slack: float) -> None:
    """Production's example suggests what is counted, and nothing is where a canary's answers are texts."""
    bind(adapter, "production", 5)
    bind(adapter, "canary", 2)
    before = scores_of(adapter, "production", 5), scores_of(adapter, "canary", 2, "0.2")
    asked = [adapter.ask(f"user-{number}").headers["X-Route-Alias"] for number in range(60)]
    of = [asked.count(alias) for alias in ("production", "canary")]

    wait_until(
        lambda: (
            [
                scores_of(adapter, "production", 5) - before[0],
                scores_of(adapter, "canary", 2, "0.2") - before[1],
            ]
            == of
        ),
        20 * slack,
    )

    assert [one["output"] for one in state(adapter, 5)["scores"]] == ["0"]
    bind(adapter, "canary", TALKER)
    assert state(adapter, TALKER)["scores"] == []


@of_those_elsewhere
def test_scores_go_on_when_what_reads_them_is_killed_under_load(
    adapter: Adapter, slack: float, figure: Figure
) -> None:
    bind(adapter, "production", 5)
    bind(adapter, "canary", 2)
    killed: set[int] = set()

    def kill() -> bool:
        before = len(killed)
        for process in adapter.gateway.descendants():
            with suppress(psutil.NoSuchProcess):  # one that was about to be another
                if process.pid not in killed and process.name() == "router-scores":
                    process.kill()
                    killed.add(process.pid)
        return len(killed) > before

    with Load(adapter.gateway.url, clients=8, rate=60, body=adapter.body("good"), path=adapter.path) as load:
        for _ in range(3):
            wait_until(kill, 40 * slack)
        known = scores_of(adapter, "production", 5)
        wait_until(lambda: scores_of(adapter, "production", 5) > known + 20, 60 * slack)

    assert load.failed == [], load.summary()
    assert len(killed) >= 3
    found = state(adapter, 5)["where"]["scores"]
    answers = found["read"] + found["lost"] + found["busy"]
    figure(
        f"{len(killed)} ends of what reads scores, 0 failed of {len(load.seen)}, {found['share']:.1%} read"
    )
    assert found["share"] == pytest.approx(found["read"] / answers)


@of_those_elsewhere
def test_production_that_dies_answers_503_until_it_is_back(adapter: Adapter, slack: float) -> None:
    """One that runs here is back within a moment, so this is of those elsewhere."""
    bind(adapter, "production", 5)
    key = at(adapter, "production")
    adapter.kill(5)
    refused = adapter.ask(key)
    assert refused.status_code == adapter.gone_status  # it was asked, and is not there
    wait_until(lambda: state(adapter, 5)["where"] is None, 40 * slack)

    began = time.monotonic()
    assert adapter.ask(key).status_code == 503
    assert time.monotonic() - began < 2 * slack

    adapter.serve(5)
    wait_until(lambda: adapter.ask(key).status_code == 200, 40 * slack)


@of_those_elsewhere
def test_a_version_elsewhere_takes_nothing_here_and_says_what_is_not_known(adapter: Adapter) -> None:
    """No process but what reads its scores, no weights; what describes it is in the cache, in a place of its
    own."""
    bind(adapter, "production", 2)
    found = state(adapter, 2)
    scores = found["where"]["scores"]
    files = {path.name for path in (adapter.directory / "cache").glob(f"{MODEL}/*/files/*")}

    assert found["workers"] == []
    assert files == {"MLmodel", "input_example.json", "serving_input_example.json"}
    assert found["where"] == {
        "address": adapter.address(2),
        "protocol": adapter.protocol,
        "verified": adapter.names_version,
        "scores": scores,
        "without_effect": [],
        "not_known": ["rows", "cost", "memory", "threads", "traits of failed requests"],
    }
    assert scores.keys() == {"reading", "error", "share", "read", "busy", "too_long", "lost"}
    assert {process.name() for process in adapter.gateway.descendants()} <= {
        *("router-template", "router-agent", "router-fetch", "router-describe", "router-scores")
    }


@of_those_elsewhere
def test_a_request_in_the_other_protocol_is_answered_415(adapter: Adapter) -> None:
    other = "/invocations" if adapter.protocol == "v2" else f"/v2/models/{MODEL}/infer"

    answer = adapter.gateway.session.post(adapter.gateway.url + other, json={"inputs": []})

    assert answer.status_code == 415
    assert "this model's versions speak" in answer.text
