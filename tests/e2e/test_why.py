"""A real canary that fails where a column is null: everyone names the column, and nobody a value."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Figure
from tests.support.browser import chromium, missing
from tests.support.comparison import command
from tests.support.gateway import GatewayProcess
from tests.support.registry import built_registry_of
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}, why: on}\n"
SECRET = "value-8f3a61d0"
"""In every request as a cell, and as the name of a column that the signature lacks."""


@pytest.fixture(scope="session")
def built_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Production, and a canary that raises where `plan` is null."""
    script = Path(__file__).parents[1] / "support" / "build_null_plan.py"
    return built_registry_of(script, tmp_path_factory)


def ask(gateway: GatewayProcess, number: int) -> None:
    """One request, of a key of its own; every fifth has no plan, and half as many no age."""
    record = {
        "plan": None if number % 5 == 0 else SECRET,
        "age": None if number % 2 else 33.0,
        SECRET: SECRET,
    }
    answer = gateway.session.post(
        f"{gateway.url}/invocations",
        json={"dataframe_records": [record]},
        headers={"X-Request-Key": f"key-{number}"},
        timeout=30,
    )
    assert answer.status_code == 200, "production answers what the canary fails"


def pattern(gateway: GatewayProcess) -> dict[str, Any]:
    found: dict[str, Any] = gateway.get("/v1/compare").json()["models"]["sentiment"]["canary"]["pattern"]
    return found


def test_the_column_that_a_canary_can_not_take_null_is_named_everywhere_and_no_value_anywhere(
    start: Callable[..., GatewayProcess], tmp_path: Path, slack: float, figure: Figure
) -> None:
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    assert pattern(gateway)["finding"] == "few_faults"
    assert command(gateway, "why", "sentiment")[0] == 4
    gateway.wait_compared()
    asked = 0

    def is_found() -> bool:
        nonlocal asked
        for _ in range(100):
            asked += 1
            ask(gateway, asked)
        return pattern(gateway)["finding"] == "pattern"

    wait_until(is_found, 60 * slack, gateway.story)
    wait_until(lambda: gateway.model()["verdicts"]["canary"]["verdict"] == "fail", 30 * slack, gateway.story)
    found = pattern(gateway)
    first = found["shared"][0]
    figure(f"{asked} requests, half of them the canary's, until its {found['faults']} faults had a pattern")
    assert (first["column"], first["kind"], first["faults"]) == ("plan", "null", found["faults"])
    assert first["good_answers"] == 0
    assert {one["column"] for one in found["shared"]} <= {"plan", None}, "a body with a null is shorter, too"

    code, table = command(gateway, "why", "sentiment")
    assert (code, "Its faults share: column plan null (" in table) == (1, True), table
    code, reported = command(gateway, "why", "sentiment", "-o", "json")
    assert json.loads(reported)["sentiment"]["canary"]["shared"][0]["column"] == "plan"

    shown = ""
    if not missing():
        with chromium() as browser:
            browser.open(gateway.url)
            browser.wait(lambda: browser.texts(".pattern tbody tr"))
            row = browser.texts(".pattern tbody tr")[0]
            assert row.startswith("column plan null")
            shown = browser.text()

    outputs = [table, reported, shown, gateway.get("/metrics").text, gateway.log.read_text()]
    outputs += [json.dumps(gateway.state()), gateway.get("/v1/compare").text]
    outputs += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(outputs) > 10
    assert not any(SECRET in output for output in outputs)

    gateway.config.write_text(gateway.config.read_text().replace("why: on", "why: off"))
    wait_until(lambda: pattern(gateway)["finding"] == "off", 10 * slack, gateway.story)
    code, told = command(gateway, "why", "sentiment")
    assert (code, "set models.sentiment.why: on" in told) == (2, True), told
