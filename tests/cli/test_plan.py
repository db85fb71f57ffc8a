"""What `plan` shows before a share is changed, what `split` does with it, and how a key is explained."""

import json
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli import root
from router.core.split import hashed
from tests.cli.conftest import Serve

FORECAST = {"about": 720.0, "low": 400.0, "high": 2_000.0, "why_not": ""}
PLAN: dict[str, Any] = {
    "model": "m",
    "share": {"configured": 5.0, "in_force": 5.0, "planned": 25.0, "planned_in_force": 25.0},
    "split": {},
    "traffic": {"seconds": 3_420.0, "requests": 10_000, "without_key": 0.01},
    "buckets": {"seen": 4_870, "change_side": 20_000, "seen_change_side": 974, "first": 5_000, "end": 25_000},
    "keys": {
        "seen": {"about": 4_993, "more_than": None},
        "change_side": {"about": 998, "more_than": None},
    },
    "requests_per_second": {
        "now": {"production": 95.04, "canary": 5.0},
        "then": {"production": 75.0, "canary": 25.0},
    },
    "workers": {"version": 2, "configured": 1, "needed": 1, "busy": 0.213},
    "seconds_until_pass": {**FORECAST, "scores_judge": False},
    "seconds_until_point_shows": {"about": None, "low": None, "high": None, "why_not": "no key came"},
    "verdict": "pass",
    "why": "It is good.",
    "against": [],
}
AGAINST = {**PLAN, "against": [{"code": "fail", "why": "The canary fails 3 points more."}]}
FILE = """\
models:
  m:
    split: {production: 95, canary: 5}   # ours
    pins: {canary: [qa-1], production: [tenant-7]}
"""


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "110"}).invoke(root, arguments)


Plan = Callable[..., Result]


@pytest.fixture
def plan(serve: Serve) -> Plan:
    def plan(document: Any, *arguments: str, status: int = 200) -> Result:
        return invoke("plan", "--url", serve(document, status).url, "m", "25", *arguments)

    return plan


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(FILE)
    return path


def test_a_plan_is_a_few_lines(plan: Plan) -> None:
    assert plan(PLAN).output.splitlines() == [
        "m: canary 5 % → 25 % of the keys",
        "  buckets   20000 of 100000 change side; keys were seen in 974",
        "  keys      about 998 change side, of about 4993 seen in the last 57 min",
        "  requests  production 95 → 75, canary 5 → 25 a second",
        "  workers   v2 needs 1 (21 % of one are taken); 1 configured",
        "  pass      about 12 min (7 min to 33 min) if it is as good as production",
        "  1 point   no forecast: no key came",
        "  Nothing speaks against it.",
    ]


def test_what_speaks_against_it_is_said_and_is_an_error_only_when_strict(plan: Plan) -> None:
    shown = plan(AGAINST)

    assert shown.output.splitlines()[-1] == "  ✘ fail: The canary fails 3 points more."
    strict = [plan(document, "--strict").exit_code for document in (AGAINST, PLAN)]
    assert (shown.exit_code, strict) == (0, [1, 0])


def test_too_many_keys_and_what_is_not_in_force_are_said(plan: Plan) -> None:
    changed = {
        **PLAN,
        "share": {**PLAN["share"], "in_force": 0.0, "planned_in_force": 2.0},
        "keys": {name: {"about": None, "more_than": 400_000} for name in ("seen", "change_side")},
        "workers": {"version": None, "configured": 2, "needed": None, "busy": None},
    }
    lines = plan(changed).output.splitlines()

    assert lines[1] == "  in force  0 % → 2 %"
    assert "over 400000 change side, of over 400000 seen" in lines[3]
    assert lines[5] == "  workers   no version serves as canary; 2 configured"


def test_of_a_canary_without_a_share_nothing_is_forecast(plan: Plan) -> None:
    lines = plan(
        {**PLAN, "share": {**PLAN["share"], "planned": 0.0, "planned_in_force": 0.0}}
    ).output.splitlines()

    assert [line.split()[0] for line in lines[1:-1]] == ["buckets", "keys", "requests"]


def test_json_is_what_the_gateway_answers(plan: Plan) -> None:
    assert json.loads(plan(PLAN, "-o", "json").output) == PLAN


@pytest.mark.parametrize("percent", ["five", "5%", "-1", "101", "0.0005", ""])
def test_a_percent_that_can_not_be_is_a_usage_error(percent: str) -> None:
    refused = invoke("plan", "--url", "http://127.0.0.1:1", "--", "m", percent)

    assert refused.exit_code == 2
    assert "PERCENT must be" in refused.output


def test_what_the_gateway_does_not_know_is_a_usage_error_in_its_own_words(plan: Plan) -> None:
    refused = plan({"detail": "no such registered model here"}, status=404)

    assert refused.exit_code == 2
    assert "no such registered model here" in refused.output


@pytest.mark.parametrize(
    ("status", "document"),
    [(404, {"detail": "Not Found"}), (500, {"detail": "no"}), (200, {"models": {}}), (404, []), (400, "x")],
    ids=["an older gateway", "an error", "another document", "another server", "no document"],
)
def test_what_does_not_plan_is_no_gateway(plan: Plan, status: int, document: Any) -> None:
    refused = plan(document, status=status)

    assert refused.exit_code == 3
    assert "no gateway answers at http://127.0.0.1:" in refused.output


# ---- split


def in_force(production: float, canary: float, error: str | None = None) -> dict[str, Any]:
    """What `/v1/state` says while the file with these shares is in force."""
    text = FILE.replace("95", f"{production:g}").replace("canary: 5}", f"canary: {canary:g}}}")
    return {"models": {}, "config": {"digest": sha256(text.encode()).hexdigest(), "error": error}}


def test_split_shows_the_plan_and_then_edits(file: Path, serve: Serve) -> None:
    gateway = serve({**AGAINST, **in_force(87.5, 12.5)})
    done = invoke("split", "-c", str(file), "--url", gateway.url, "m", "12.5")

    assert done.exit_code == 0
    assert [path for _, path, _, _ in gateway.seen] == ["/v1/plan?model=m&share=12.5", "/v1/state"]
    assert "✘ fail: The canary fails 3 points more." in done.stderr
    assert done.stderr.endswith(f"In force at {gateway.url}.\n")
    assert done.stdout.startswith(f"--- {file}\n+++ {file}\n")
    assert file.read_text() == FILE.replace("95", "87.5").replace("canary: 5}", "canary: 12.5}")
    assert not any(key in done.output for key in ("qa-1", "tenant-7"))


def test_split_without_a_gateway_says_so_and_edits(file: Path) -> None:
    done = invoke("split", "-c", str(file), "--url", "http://127.0.0.1:1", "m", "0")

    assert done.exit_code == 0
    assert done.stderr.startswith("what this would do could not be asked: no gateway answers")
    assert done.stderr.endswith("\nWhether it is in force is not known.\n")
    assert "canary: 0}" in file.read_text()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"error": "cold keys changed"}, "cold keys changed"),
        ({"error": None}, "it has another file in force; does it read this one?"),
        ({}, "it has another file in force; does it read this one?"),
    ],
    ids=["refused", "another file", "an older gateway"],
)
def test_a_split_that_is_not_in_force_says_why_and_what_takes_the_share_away(
    file: Path, serve: Serve, said: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("router.cli.split"), "IN_FORCE_SECONDS", 0.3)
    gateway = serve({**PLAN, "models": {}, "config": {"digest": "0", **said}})
    lowered, again = [invoke("split", "-c", str(file), "--url", gateway.url, "m", "0") for _ in range(2)]
    raised = invoke("split", "-c", str(file), "--url", gateway.url, "m", "10")

    assert (lowered.exit_code, raised.exit_code) == (1, 1)
    assert "canary: 10}" in file.read_text()
    message = f"The file is written, and not in force at {gateway.url}: {why}\n"
    assert again.stderr.endswith(message_and_lever := lowered.stderr[lowered.stderr.index(message) :])
    assert message_and_lever == (
        f"{message}`canary-router abort m --reason TEXT` takes the canary's share away without the file.\n"
    )
    assert raised.stderr.endswith(message)


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [(AGAINST, 200, 1), ({}, 503, 3), ({**PLAN, **in_force(75, 25)}, 200, 0)],
    ids=["no", "?", "yes"],
)
def test_a_strict_split_edits_only_what_nothing_speaks_against(
    file: Path, serve: Serve, document: Any, status: int, code: int
) -> None:
    url = serve(document, status).url
    done = invoke("split", "-c", str(file), "--url", url, "--strict", "m", "25")

    assert done.exit_code == code
    assert (file.read_text() == FILE) is (code != 0)


@pytest.mark.parametrize(("document", "status"), [({**AGAINST, **in_force(99, 1)}, 200), ({}, 503)])
def test_a_smaller_share_needs_nobodys_leave(file: Path, serve: Serve, document: Any, status: int) -> None:
    """Down is free, also for a script that is strict."""
    url = serve(document, status).url
    done = invoke("split", "-c", str(file), "--url", url, "--strict", "m", "1")

    assert done.exit_code == 0
    assert "canary: 1}" in file.read_text()


def test_split_print_writes_the_changed_file_out_and_leaves_it_alone(file: Path, serve: Serve) -> None:
    done = invoke("split", "-c", str(file), "--url", serve(PLAN).url, "--print", "m", "25")

    assert done.exit_code == 0
    assert done.stdout == FILE.replace("95", "75").replace("canary: 5}", "canary: 25}")
    assert "Nothing speaks against it." in done.stderr
    assert file.read_text() == FILE


def test_a_read_only_file_is_printed_all_the_same(file: Path, serve: Serve) -> None:
    """A ConfigMap is changed where it comes from."""
    file.chmod(0o444)
    done = invoke("split", "-c", str(file), "--url", serve(PLAN).url, "--print", "m", "25")

    assert done.exit_code == 0


# ---- route


def explained(file: Path, key: str) -> dict[str, Any]:
    reported: dict[str, Any] = json.loads(invoke("route", "-c", str(file), "m", key, "-o", "json").output)
    return reported


def test_route_says_pinned(file: Path) -> None:
    digest = hashed("m", "user-5")[1].hex()
    file.write_text(FILE.replace("[qa-1]", f"[qa-1, 'sha256:{digest}']"))

    decided = {
        key: (one := explained(file, key))["alias"] + " " + one["reason"]
        for key in ("qa-1", "user-5", "tenant-7")
    }
    assert decided == {"qa-1": "canary pinned", "user-5": "canary pinned", "tenant-7": "production pinned"}
    assert explained(file, "user-6")["reason"] == "hash"
    lines = invoke("route", "-c", str(file), "m", "qa-1").output.splitlines()
    assert lines[0] == "m: this key goes to canary (reason pinned)"
    assert lines[3] == "  It is pinned to canary, whatever its bucket."
