"""A real gateway under load is capped by its command line, by an alert, and by its configuration's reload."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import requests

from router.core.split import bucket_of
from tests.e2e.conftest import Registry
from tests.support.gateway import GatewayProcess
from tests.support.load import Load, Seen
from tests.support.waiting import wait_until

TOKEN, LOWER = "operators-only-0123456789", "alertmanagers-only-0123456789"
MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"


def keys_of_canary(answers: list[Seen]) -> set[str]:
    return {one.key for one in answers if one.route_alias == "canary"}


def test_under_load_a_capped_canary_gets_nothing_from_the_answer_on_and_a_resume_returns_the_same_keys(
    registry: Registry, start: Callable[..., GatewayProcess], tmp_path: Path, slack: float
) -> None:
    """And no request fails for it; nor does the token that may only lower give anything back."""
    registry.move("production", 1)
    registry.move("canary", 2)
    (tmp_path / "admin").write_text(TOKEN)
    (tmp_path / "lower").write_text(LOWER)
    files = {f"{name}_token_file": str(tmp_path / name) for name in ("admin", "lower")}
    variables = {f"CANARY_ROUTER_SERVER__{key.upper()}": file for key, file in files.items()}
    gateway = start(MODELS, **variables)
    gateway.config.write_text(
        gateway.config.read_text().replace(
            "admin: 127.0.0.1:0}", f"admin: 127.0.0.1:0, admin_token_file: {tmp_path}/admin}}"
        )
    )  # where the command line looks for it; the gateway has it from its environment
    gateway.wait_bound(2, "canary")
    as_ann = ("--by", "ann", "--url", gateway.admin)

    with Load(gateway.url, rate=200, keys=200) as load:

        def every_key_was_asked(since: float) -> bool:
            """Twice, so that each was sent after `since`."""
            seen = [one.key for one in list(load.seen) if one.sent_at > since]
            return len(seen) >= 2 * 200 and len(set(seen)) == 200

        def answers(since: float, until: float = float("inf")) -> list[Seen]:
            return [one for one in list(load.seen) if since < one.sent_at < until]

        began = time.monotonic()
        wait_until(lambda: every_key_was_asked(began), 30 * slack, gateway.story)
        before = keys_of_canary(answers(began))
        assert before == {f"user-{n}" for n in range(200) if bucket_of("sentiment", f"user-{n}") < 50_000}

        # All of it
        done = gateway.command("abort", "sentiment", "--reason", "p95 is 2 s", *as_ann)
        aborted = time.monotonic()
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{gateway.admin}: canary v2 is capped at 0 % by ann: p95 is 2 s" in done.stdout
        wait_until(lambda: every_key_was_asked(aborted), 30 * slack, gateway.story)
        reasons = {one.reason for one in answers(aborted) if one.key in before}
        assert (keys_of_canary(answers(aborted)), reasons) == (set(), {"capped"})
        shown = gateway.command("status", "--url", gateway.admin)
        assert "sentiment canary v2 is capped at 0 % by ann: p95 is 2 s (since " in shown.stdout
        [cap] = gateway.model()["caps"]
        assert (cap["version"], cap["to_percent"], cap["by"]) == (2, 0.0, "ann")
        assert gateway.metric("canary_router_split_cap_ratio", alias="canary") == 0
        assert "canary_router_split_cap_ratio" in gateway.get("/metrics").text
        assert gateway.metric("canary_router_split_ratio", alias="canary") == 0
        assert gateway.metric("canary_router_routing_decisions_total", reason="capped") >= len(before)

        # Nothing else gives it back
        lower = {"Authorization": f"Bearer {LOWER}"}
        refused = requests.post(f"{gateway.admin}/-/resume", json={}, headers=lower, timeout=30)
        assert refused.status_code == 401
        text = gateway.config.read_text().replace("production: 50, canary: 50", "production: 40, canary: 60")
        gateway.config.write_text(text)
        wait_until(lambda: gateway.model()["split_configured"]["canary"] == 60, 30 * slack, gateway.story)
        assert gateway.model()["split"]["canary"] == 0
        gateway.config.write_text(text.replace("production: 40, canary: 60", "production: 50, canary: 50"))
        wait_until(lambda: gateway.model()["split_configured"]["canary"] == 50, 30 * slack, gateway.story)

        # And back
        done = gateway.command("resume", "sentiment", "--reason", "it was the data", *as_ann)
        resumed = time.monotonic()
        assert done.returncode == 0, done.stderr
        wait_until(lambda: every_key_was_asked(resumed), 30 * slack, gateway.story)
        assert keys_of_canary(answers(resumed)) == before
        assert "canary_router_split_cap_ratio{" not in gateway.get("/metrics").text

        # An alert, by the token that may only lower
        alert = {
            "status": "firing",
            "labels": {"alertname": "Errors", "canary_action": "abort", "model": "sentiment", "version": "2"},
            "annotations": {"summary": "7 % errors"},
            "startsAt": "2026-11-20T14:32:00Z",
            "fingerprint": "c1a0",
        }
        webhook = {"version": "4", "alerts": [alert]}
        taken = requests.post(f"{gateway.admin}/-/alertmanager", json=webhook, headers=lower, timeout=30)
        alerted = time.monotonic()
        assert (taken.status_code, taken.json()["alerts"][0]["result"]) == (200, "capped")
        wait_until(lambda: every_key_was_asked(alerted), 30 * slack, gateway.story)
        assert keys_of_canary(answers(alerted)) == set()

        # A look at the registry, which another version starts from without that cap
        registry.move("canary", 5)
        admin = {"Authorization": f"Bearer {TOKEN}"}
        looked = requests.post(f"{gateway.admin}/-/poll", headers=admin, timeout=30).json()
        assert looked["looked"]
        assert looked["models"]["sentiment"]["aliases"]["canary"]["aspired"] == 5
        gateway.wait_bound(5, "canary")
        wait_until(lambda: load.answered_by(5), 30 * slack, gateway.story)

    assert load.failed == []
    log = gateway.log.read_text()
    assert [line["by"] for line in gateway.lines("share capped")] == ["ann", "alertmanager"]
    assert [line["why"] for line in gateway.lines("cap lifted")] == ["it was the data"]
    assert not re.search(f"{TOKEN}|{LOWER}", log + json.dumps(gateway.state()))
