"""A canary that nobody is routed to fails by what it does with copies, and stays so over a restart."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Figure
from tests.support.gateway import GatewayProcess
from tests.support.registry import Registry, built_registry_of, copied
from tests.support.waiting import wait_until

BUILD = Path(__file__).parents[1] / "support" / "build_shadow.py"
LINES = "  sentiment: {split: {production: 100, canary: 0}, shadow: {canary: 100, min_idle: 0}}\n"


@pytest.fixture
def registry(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The versions of `build_shadow.py`."""
    return copied(built_registry_of(BUILD, tmp_path_factory), tmp_path)


def entry(gateway: GatewayProcess) -> dict[str, Any]:
    """What is known of the canary."""
    found: dict[str, Any] = gateway.get("/v1/compare").json()["models"]["sentiment"]["canary"]
    return found


@pytest.mark.slow
def test_a_canary_fails_by_copies_before_it_has_a_user(
    registry: Registry, start: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    """It raises where `b` is above 1, as every second request has it; eleven cells of 5 s are the fewest."""
    registry.move("canary", 2)
    gateway = start(LINES)
    gateway.wait_bound(2, "canary")
    users, began = itertools.count(), time.monotonic()

    def fails() -> bool:
        one = next(users)
        body = {"dataframe_split": {"columns": ["a", "b"], "data": [[0.25, 2.0 * (one % 2)]]}}
        headers = {"X-Request-Key": f"user-{one}"}
        answer = gateway.session.post(f"{gateway.url}/invocations", json=body, headers=headers, timeout=30)
        assert (answer.status_code, answer.headers["X-Model-Version"]) == (200, "1")
        return bool(entry(gateway)["verdict"] == "fail")

    wait_until(fails, 90 + 30 * slack, gateway.story)
    shown = entry(gateway)
    [check] = [check for check in shown["checks"] if check["check"] == "shadow"]
    figure(f"FAIL after {time.monotonic() - began:.0f} s and {check['pairs']} copies, none of a user's")

    assert "copies of production's requests the canary alone failed" in shown["why"]
    assert (shown["share"], shown["comparable"]) == (0.0, True)
    assert check["production"]["events"] == 0
    assert check["canary"]["keys"] >= 11
    errors = gateway.metric("canary_router_shadow_comparisons_total", result="canary_error")
    assert errors >= check["canary"]["events"]
    assert gateway.metric("canary_router_requests_total", version="2") == 0

    gateway.stop()
    again = start(LINES)
    again.wait_bound(2, "canary")
    wait_until(lambda: entry(again)["verdict"] == "fail", 20 * slack, again.story)
