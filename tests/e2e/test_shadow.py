"""A canary answers copies of what production was asked, in idle time; nobody gets its answers, or waits for
more than one of them, and nothing of a request is anywhere but in memory."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.busy import busy_processors
from router.core.split import bucket_of
from tests.conftest import Figure
from tests.support.gateway import GatewayProcess
from tests.support.registry import Registry, built_registry_of, copied
from tests.support.waiting import wait_until

BUILD = Path(__file__).parents[1] / "support" / "build_shadow.py"
MARKER = "marker-51c6e0aa94"
NOBODY = "{production: 100, canary: 0}"


def models(shadow: str | None, split: str = NOBODY, more: str = "") -> str:
    """The model's line of the configuration."""
    shadows = f", shadow: {shadow}" if shadow else ""
    return f"  sentiment: {{split: {split}{shadows}{more}}}\n"


@pytest.fixture
def registry(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The versions of `build_shadow.py`."""
    return copied(built_registry_of(BUILD, tmp_path_factory), tmp_path)


def ask(gateway: GatewayProcess, key: str, b: float = 0.0) -> requests.Response:
    """One row, with the marker in it."""
    body = {"dataframe_split": {"columns": ["a", "b", MARKER], "data": [[0.25, b, f"{MARKER}-{key}"]]}}
    answer = gateway.session.post(
        f"{gateway.url}/invocations", json=body, headers={"X-Request-Key": key}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    return answer


def shadows(gateway: GatewayProcess) -> dict[str, Any]:
    """What is shown of the canary's."""
    shown: dict[str, Any] = (gateway.model()["shadow"] or {}).get("canary", {})
    return shown


def settled(gateway: GatewayProcess, asked: int) -> bool:
    shown = shadows(gateway)
    return not shown["waiting"] and shown["compared"] + sum(shown["dropped"].values()) == asked


def with_canary(
    registry: Registry, start: Callable[..., GatewayProcess], version: int, lines: str
) -> GatewayProcess:
    registry.move("canary", version)
    gateway = start(lines)
    gateway.wait_bound(version, "canary")
    return gateway


def change(gateway: GatewayProcess, before: str, after: str) -> None:
    """Of the configuration, and wait until it is in force."""
    text = gateway.config.read_text()
    assert before in text
    digest = gateway.state()["config"]["digest"]
    gateway.config.write_text(text.replace(before, after))
    wait_until(lambda: gateway.state()["config"]["digest"] != digest, 30, gateway.story)


def test_a_canary_without_a_share_is_told_apart_by_the_rows_on_which_it_raises(
    registry: Registry,
    start: Callable[..., GatewayProcess],
    tmp_path: Path,
    slack: float,
    figure: Figure,
) -> None:
    """And what callers sent is in no file, log or answer, also where the version quotes it as it raises."""
    gateway = with_canary(registry, start, 2, models("{canary: 50, min_idle: 0}"))
    wait_until(lambda: shadows(gateway).get("buckets") == [50_000, 100_000], 10 * slack, gateway.story)
    time.sleep(2.5)  # that long nothing is known of the processors
    luck, copied_, raising = random.Random(1), 0, 0
    for one in range(120):
        key, b = f"user-{one}", luck.choice([0.0, 2.0])
        assert ask(gateway, key, b).headers["X-Model-Version"] == "1"
        if bucket_of("sentiment", key) >= 50_000:
            copied_, raising = copied_ + 1, raising + (b > 1)
            wait_until(lambda: settled(gateway, copied_), 10 * slack, gateway.story)  # noqa: B023 - called at once
    shown = shadows(gateway)
    dropped = sum(shown["dropped"].values())
    figure(
        f"of {copied_} copies, {dropped} were dropped, and {shown['canary_faults']} of {raising} were faults"
    )

    assert shown["compared"] > copied_ / 2
    assert shown["production_faults"] == 0
    assert raising - dropped <= shown["canary_faults"] <= raising
    assert gateway.metric("canary_router_requests_total", version="2") == 0
    assert gateway.metric("canary_router_worker_cpu_seconds_total", version="2", phase="predict") == 0
    assert gateway.metric("canary_router_worker_cpu_seconds_total", version="2", phase="shadow") > 0
    breaker = gateway.model()["versions"]["2"]["breaker"]
    assert (breaker["state"], breaker["requests"], breaker["faults_of_last_50"]) == ("closed", 0, 0)

    for path in ("/v1/state", "/v1/compare", "/metrics", "/v1/caps"):
        assert MARKER not in gateway.get(path).text
    gateway.stop()
    files = [path for path in tmp_path.glob("**/*") if path.is_file()]
    assert len(files) > 5, "log, state and cache among them"
    assert [path for path in files if MARKER.encode() in path.read_bytes()] == []


def test_a_user_of_the_canary_waits_for_one_shadow_at_most(
    registry: Registry, start: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    """Each predict takes half a second, and many copies wait."""
    half = "{production: 50, canary: 50}"
    gateway = with_canary(registry, start, 3, models("{canary: 50, min_idle: 0}", half))
    time.sleep(2.5)
    keys = [f"user-{n}" for n in range(200)]
    shadowed = [key for key in keys if bucket_of("sentiment", key) >= 50_000]
    [users, *_] = [key for key in keys if bucket_of("sentiment", key) < 50_000]
    for key in shadowed[:20]:
        ask(gateway, key)
    wait_until(lambda: shadows(gateway)["waiting"] > 3, 10 * slack, gateway.story)
    began = time.monotonic()
    answer = ask(gateway, users)
    took = time.monotonic() - began
    figure(f"a canary's user was answered after {took:.2f} s, with predicts of 0.5 s")
    assert answer.headers["X-Model-Version"] == "3"
    assert took < 1.0 + 0.4 * slack


def test_copies_are_dropped_while_other_processes_have_the_processors_and_the_key_is_hot(
    registry: Registry, start: Callable[..., GatewayProcess], slack: float
) -> None:
    shadow = ", shadow: {canary: 100}"
    gateway = with_canary(registry, start, 2, models(None))
    with busy_processors(None):
        change(gateway, f"split: {NOBODY}", f"split: {NOBODY}{shadow}")
        time.sleep(2.5)
        for one in range(10):
            ask(gateway, f"user-{one}")
        shown = shadows(gateway)
    assert (shown["compared"], shown["dropped"]["busy"]) == (0, 10)

    change(gateway, shadow, "")
    assert gateway.model()["shadow"] is None
    ask(gateway, "user-1")

    change(gateway, f"split: {NOBODY}", f"split: {NOBODY}, shadow: {{canary: 100, min_idle: 0}}")
    time.sleep(2.5)

    def compared() -> bool:
        ask(gateway, "user-1")
        return bool(shadows(gateway)["compared"])

    wait_until(compared, 20 * slack, gateway.story)
    gateway.lever("abort", reason="it shall rest")
    wait_until(lambda: gateway.model()["shadow"] == {}, 10 * slack, gateway.story)
    ask(gateway, "user-1")
    assert gateway.model()["shadow"] == {}
