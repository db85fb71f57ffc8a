"""One number changes in a file."""

import json
import math
import os
import time
from collections.abc import Callable

import pytest

from router.core.split import bucket_of
from tests.conftest import Figure
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.waiting import wait_until

MODELS = "  sentiment:\n    split: {production: 95, canary: 5}  # the one number\n"

KEYS, REQUESTS = (3000, 2500) if os.environ.get("FAULTS") else (1000, 900)
"""Of each phase."""


@pytest.fixture(scope="module")
def gateway(start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    gateway = start_shared(MODELS)
    gateway.wait_bound(2, "canary")
    return gateway


def set_canary(gateway: GatewayProcess, percent: int) -> None:
    done = gateway.command("split", "sentiment", str(percent))
    assert done.returncode == 0, done.stderr
    assert "# the one number" in gateway.config.read_text()


def test_a_share_raised_and_lowered_in_the_file_keeps_every_key_it_had(
    gateway: GatewayProcess, slack: float, figure: Figure
) -> None:
    """5 → 25 → 5 under load: in force within 5 s, no canary key at 5 leaves it in between."""
    phases, took = [], []
    with Load(gateway.url, keys=KEYS, rate=400) as load:
        for percent in (5, 25, 5):
            if phases:
                set_canary(gateway, percent)
                took.append(
                    wait_until(
                        lambda p=percent: gateway.model()["split"]["canary"] == p, 5 * slack, gateway.story
                    )
                )
            begun = time.monotonic()
            wait_until(lambda b=begun: sum(s.sent_at > b for s in load.seen) > REQUESTS, 60 * slack)
            phases.append((percent, begun, time.monotonic()))
    in_force = ", ".join(f"{seconds:.1f} s" for seconds in took)
    figure(f"{load.summary()}; in force {in_force} after the file changed")
    assert load.failed == []
    canary_keys, keys = [], []
    for percent, begun, ended in phases:
        inside = [s for s in load.seen if s.sent_at > begun and s.sent_at + s.seconds < ended]
        alias_of = {s.key: s.route_alias for s in inside}
        canary_keys.append({key for key, alias in alias_of.items() if alias == "canary"})
        keys.append(set(alias_of))
        share, n = len(canary_keys[-1]) / len(alias_of), len(alias_of)
        # Keys are dealt once, by the hash: five standard errors is one false alarm in a million.
        assert abs(share - percent / 100) < 5 * math.sqrt(percent / 100 * (1 - percent / 100) / n)
    first, middle, last = canary_keys
    everywhere = set.intersection(*keys)
    assert len(everywhere) > KEYS // 3
    assert first & everywhere <= middle
    assert first & everywhere == last & everywhere


def test_the_offline_explanation_of_a_key_is_what_the_gateway_did(gateway: GatewayProcess) -> None:
    done = gateway.command("route", "sentiment", "user-2")
    assert done.returncode == 0, done.stderr
    reported = done.stdout
    answer, route = gateway.ask("user-2"), gateway.get("/v1/route?model=sentiment&key=user-2").json()

    assert "goes to canary" in reported
    assert "418" in reported
    assert answer.headers["X-Route-Bucket"] == "418" == str(route["bucket"])
    assert answer.headers["X-Route-Alias"] == "canary" == route["alias"]


def test_what_is_pinned_stays_and_what_is_planned_moves(
    start: Callable[..., GatewayProcess], slack: float
) -> None:
    """Of a gateway as an operator runs it: pins by an edit of the file, a plan, then the change itself."""
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    keys = [f"caller-{number}" for number in range(300)]
    tester, tenant = "caller-secret-1", "caller-secret-2"
    text = gateway.config.read_text()
    gateway.config.write_text(text + f"    pins: {{canary: [{tester}], production: [{tenant}]}}\n")
    wait_until(lambda: gateway.model()["pins"] == {"canary": 1, "production": 1}, 60 * slack, gateway.story)

    def given() -> dict[str, str]:
        return {key: gateway.ask(key).headers["X-Route-Alias"] for key in (*keys, tester, tenant)}

    before, at = given(), ("--url", gateway.admin)
    asked = gateway.command("plan", "sentiment", "25", "-o", "json", *at)
    plan = json.loads(asked.stdout)
    done = gateway.command("split", "sentiment", "25", *at)
    assert (asked.returncode, done.returncode) == (0, 0), asked.stderr + done.stderr
    assert "sentiment: canary 5 % → 25 % of the keys" in done.stderr
    wait_until(lambda: gateway.model()["split"]["canary"] == 25, 60 * slack, gateway.story)
    after = given()

    moved = {key for key in before if before[key] != after[key]}
    assert plan["buckets"]["seen_change_side"] == len({bucket_of("sentiment", key) for key in moved})
    assert (before[tester], after[tester], before[tenant], after[tenant]) == ("canary",) * 2 + (
        "production",
    ) * 2
    assert gateway.ask(tester).headers["X-Route-Reason"] == "pinned"
    assert gateway.metric("canary_router_routing_decisions_total", reason="pinned") == 5
    assert gateway.command("plan", "sentiment", "100", "--strict", *at).returncode == 1
    assert gateway.command("plan", "nobody", "25", *at).returncode == 2
    shown = [gateway.log.read_text(), json.dumps(gateway.state()), asked.stdout, done.stdout, done.stderr]
    assert not any("secret" in one for one in shown)


def test_a_share_that_something_else_in_the_file_keeps_from_being_in_force_is_said_to_be_so(
    start: Callable[..., GatewayProcess],
) -> None:
    """A changed salt waits for a reload, and the whole file with it. The cap needs no file."""
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    at = ("--url", gateway.admin)
    gateway.config.write_text(gateway.config.read_text() + "    salt: another\n")

    refused = gateway.command("split", "sentiment", "0", *at)

    assert (refused.returncode, gateway.model()["split"]["canary"]) == (1, 5)
    why = f"The file is written, and not in force at {gateway.admin}: models.sentiment.salt"
    assert why in refused.stderr
    assert "it waits for SIGHUP or POST /-/reload" in refused.stderr
    assert "`canary-router abort sentiment --reason TEXT` takes the canary's share away" in refused.stderr
    status = gateway.command("status", *at)
    assert (status.returncode, "configuration: models.sentiment.salt" in status.stdout) == (1, True)

    gateway.command("abort", "sentiment", "--reason", "a test", *at)
    assert gateway.model()["split"]["canary"] == 0
