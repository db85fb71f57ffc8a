"""A gateway that asks for the gate, before a real registry: whom a canary gets, and that nobody waits."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.agent.source import fingerprint_of
from router.core.gate_record import (
    GATE_TAG,
    OVERRIDE_TAG,
    GateRecord,
    Override,
    Registered,
    gate_tag,
    override_tag,
)
from router.core.ids import VersionId
from router.core.verdict import Verdict
from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.support.fleet import fleet
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

KEY = b"by-which-the-gate-signs-0123456789"
HOUR = 3600.0
HOLDOUT = "c" * 64
"""Digest of the rows on which it was judged."""
IN_A_POLL_SECONDS = POLL_SECONDS + 1.5
"""A poll, a second between two looks at the gate, and the answers themselves."""


def version_of(registry: Registry, number: int, model: str = "sentiment") -> Registered:
    found = registry.client.get_model_version(model, str(number))
    ids = found.run_id or None, found.model_id or None
    return Registered(VersionId(model, number), *ids, fingerprint_of(found))


def passed(registry: Registry, number: int, model: str = "sentiment", **changes: Any) -> GateRecord:
    of = version_of(registry, number, model)
    return replace(GateRecord(of, Verdict.PASS, 1, time.time() - HOUR, "ci", HOLDOUT), **changes)


def write(registry: Registry, number: int, tag: str, name: str = GATE_TAG, model: str = "sentiment") -> None:
    registry.client.set_model_version_tag(model, str(number), name, tag)


def gate(gateway: GatewayProcess, alias: str = "canary") -> tuple[str, list[str]]:
    document = gateway.model()["aliases"][alias]["gate"]
    return document["state"], document["objections"]


def why(gateway: GatewayProcess) -> str:
    return str(gateway.model()["aliases"]["canary"]["gate"]["why"])


def alias_of_each(gateway: GatewayProcess, keys: range) -> list[tuple[str, str]]:
    answers = [gateway.ask(f"user-{n}") for n in keys]
    return [(one.headers["X-Route-Alias"], one.headers["X-Model-Version"]) for one in answers]


def test_a_canary_gets_nobody_until_a_tag_of_its_own_says_that_it_passed(
    registry: Registry, start: Callable[..., GatewayProcess], tmp_path: Path, slack: float, figure: Figure
) -> None:
    """Row 107. Each tag that does not count is refused by name, and no request fails for any of it."""
    (tmp_path / "key").write_bytes(KEY + b"\n")
    rules = f"max_age_hours: 24, require: [holdout], key_file: {tmp_path}/key"
    asks = f"canary: required, production: report, {rules}"
    models = f"  sentiment: {{split: {{production: 50, canary: 50}}, gate: {{{asks}}}}}\n"
    gateway = start(models)
    gateway.wait_bound(2, "canary")

    def held_by(*objections: str, version: int = 2) -> None:
        expected = ("held", list(objections))
        wait_until(lambda: gateway.bound("canary") == version and gate(gateway) == expected, 20 * slack)

    with Load(gateway.url, rate=50) as load:
        held_by("no_record")
        shown = gateway.command("status", "--url", gateway.admin)
        assert shown.returncode == 1
        held = "the gate holds canary v2, and production has its share: it has no tag canary_router.gate"
        assert f"sentiment: {held}" in shown.stdout
        assert "sentiment: production v1 has not passed the gate" in shown.stdout
        assert gateway.metric("canary_router_gate_passed", alias="canary") == 0
        refused = gateway.command(
            "promote", "sentiment", "--yes", "--reason", "haste", "--by", "ann", "--url", gateway.admin
        )
        assert refused.returncode == 1
        assert "it has not passed the gate: it has no tag canary_router.gate" in refused.stderr

        write(registry, 2, gate_tag(passed(registry, 1), KEY))
        held_by("other_version")
        write(registry, 2, gate_tag(passed(registry, 2), KEY[::-1]))
        held_by("wrong_signature")
        write(registry, 2, gate_tag(passed(registry, 2, at=time.time() - 25 * HOUR), KEY))
        held_by("too_old")
        write(registry, 2, gate_tag(passed(registry, 2, data=None), KEY))
        held_by("no_holdout")
        write(registry, 2, gate_tag(passed(registry, 2, at=time.time() - 25 * HOUR), KEY))
        held_by("too_old")
        gateway.lever("resume")
        assert gate(gateway) == ("held", ["too_old"]), "no verb lifts it"

        write(registry, 1, gate_tag(passed(registry, 1, "shadowed"), KEY), model="shadowed")
        copy = int(registry.client.copy_model_version("models:/shadowed/1", "sentiment").version)
        registry.move("canary", copy)
        held_by("other_model", version=copy)
        registry.move("canary", 2)
        held_by("too_old")
        assert {one.route_alias for one in list(load.seen)} == {"production"}
        assert {one.reason for one in list(load.seen)} >= {"gated", "hash"}

        write(registry, 2, gate_tag(passed(registry, 2), KEY))
        written = time.monotonic()
        wait_until(lambda: load.seen[-1].route_alias == "canary", 20 * slack, gateway.story)
        took = time.monotonic() - written
        figure(f"had its share {took:.2f} s after the tag was written, polled every {POLL_SECONDS} s")
        assert took < IN_A_POLL_SECONDS * slack
        assert gateway.metric("canary_router_gate_passed", alias="canary") == 1

        # What runs stays, whatever becomes of its tag and of production.
        write(registry, 2, gate_tag(passed(registry, 2, at=time.time() - 1000 * HOUR), KEY))
        registry.move("production", 5)
        gateway.wait_bound(5)
        assert gate(gateway) == ("passed", [])
        assert why(gateway).endswith("; production is now v5")
        moved = time.monotonic()
        wait_until(
            lambda: load.seen[-1].sent_at > moved and load.seen[-1].route_alias == "canary", 20 * slack
        )

        let_through = Override(
            version_of(registry, 5), "an incident", time.time(), time.time() + HOUR, "anna"
        )
        write(registry, 5, override_tag(let_through, KEY), OVERRIDE_TAG)
        wait_until(lambda: gate(gateway, "production") == ("overridden", []), 20 * slack)
        shown = gateway.command("status", "--url", gateway.admin)
        assert "production v5 has not passed the gate: let through by anna until" in shown.stdout
    assert load.failed == []
    assert [line["objections"] for line in gateway.lines("not passed the gate, so held at 0")]


@pytest.mark.slow
def test_with_everything_asked_for_nobody_waits_and_three_replicas_answer_each_key_alike(
    registry: Registry,
    start: Callable[..., GatewayProcess],
    tmp_path: Path,
    slack: float,
    figure: Figure,
) -> None:
    """Row 108. Also one that starts after the canary's tag has become too old; a fresh one with an empty
    cache is ready; and production goes back as it does without a gate."""
    (tmp_path / "key").write_bytes(KEY)
    asks = f"canary: required, production: report, require: [description], key_file: {tmp_path}/key"
    write(registry, 2, gate_tag(passed(registry, 2), KEY))
    registry.client.update_model_version("sentiment", "2", "trained in May")
    keys = range(40)
    with fleet(registry.uri, tmp_path, POLL_SECONDS, keys=f", gate: {{{asks}}}") as three:
        for gateway in three.gateways:
            gateway.wait_ready()
            gateway.wait_bound(2, "canary")
            wait_until(lambda gateway=gateway: gate(gateway) == ("passed", []), 20 * slack, gateway.story)
        first, second, third = (alias_of_each(gateway, keys) for gateway in three.gateways)
        assert first == second == third
        assert {alias for alias, _ in first} == {"production", "canary"}

        write(registry, 2, gate_tag(passed(registry, 2, at=time.time() - 1000 * HOUR), KEY))
        three.gateways[2].process.kill()
        three.gateways[2].process.wait()
        shutil.rmtree(tmp_path / "gw-2" / "state")
        late = three.start(2).wait_ready()
        late.wait_bound(2, "canary")
        wait_until(lambda: gate(late) == ("passed", []), 20 * slack, late.story)
        # By the others, before its own look at the registry, which finds what now speaks against it.
        wait_until(lambda: why(late).startswith("it was let through before, and would not now:"), 20 * slack)
        assert alias_of_each(late, keys) == first

        seconds = []
        for version in (5, 1):
            registry.move("production", version)
            moved = time.monotonic()
            for gateway in (*three.gateways[:2], late):
                gateway.wait_bound(version)
            seconds.append(time.monotonic() - moved)
        figure(f"three gateways went back to an ungated production in {seconds[1]:.2f} s")
        assert seconds[1] < 5 * slack
        assert alias_of_each(late, keys) == alias_of_each(three.gateways[0], keys)

        alone = start(
            f"  sentiment: {{split: {{production: 50, canary: 50}}, gate: {{{asks}}}}}\n",
            cache=tmp_path / "empty",
        )
        assert alone.get("/readyz").status_code == 200
        alone.wait_bound(2, "canary")
        wait_until(lambda: gate(alone, "production")[0] == "not_passed", 20 * slack, alone.story)
        wait_until(lambda: gate(alone) == ("held", ["too_old"]), 20 * slack, alone.story)
