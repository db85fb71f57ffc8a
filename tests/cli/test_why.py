"""What a terminal shows of what faults share, and the exit code a script reads."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli import root
from tests.cli.servers import answering

NOTHING = {"faults": 0, "good_answers": 0, "shared": []}
SHARED = {
    "trait": "column plan null",
    "kind": "null",
    "column": "plan",
    "faults": 46,
    "good_answers": 3,
    "p": 1.2e-30,
}
FOUND: dict[str, dict[str, Any]] = {
    "pattern": {
        "faults": 46,
        "good_answers": 430,
        "shared": [SHARED],
        "why": "Its faults share: column plan null.",
    },
    "no_pattern": {"faults": 46, "good_answers": 430, "shared": [], "why": "No pattern."},
    "few_faults": {**NOTHING, "why": "Under 8 faults of different keys so far: 0."},
    "few_good_answers": {**NOTHING, "faults": 40, "why": "Nearly all it was asked failed."},
    "off": {**NOTHING, "why": "Nothing is looked at: `why` of this model is off."},
}
Ask = Callable[..., Result]


def entry(finding: str, **more: Any) -> dict[str, Any]:
    return {"version": 2, "pattern": {"finding": finding, **FOUND[finding], **more}}


@pytest.fixture
def ask() -> Ask:
    def ask(aliases: dict[str, Any], *arguments: str, model: str = "m") -> Result:
        with answering({"/v1/compare": {"models": {"m": aliases}}}) as url:
            return CliRunner(env={"COLUMNS": "100"}).invoke(root, ["why", model, "--url", url, *arguments])

    return ask


@pytest.mark.parametrize(
    ("finding", "code"),
    [("no_pattern", 0), ("pattern", 1), ("off", 2), ("few_faults", 4), ("few_good_answers", 4)],
)
def test_a_finding_is_one_sentence_and_an_exit_code(ask: Ask, finding: str, code: int) -> None:
    shown = ask({"canary": entry(finding)})

    assert shown.exit_code == code
    assert shown.output.startswith(f"m canary: v2\n{FOUND[finding]['why']}\n")
    assert ("models.m.why: on" in shown.output) is (finding == "off")


def test_what_faults_share_is_a_table_and_json_has_it_as_the_gateway_says(ask: Ask) -> None:
    row = next(
        line for line in ask({"canary": entry("pattern")}).output.splitlines() if "46" in line and "│" in line
    )
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["column plan null", "46", "3", "1e-30"]

    reported = json.loads(ask({"canary": entry("pattern")}, "-o", "json").output)
    assert reported == {"m": {"canary": {"version": 2, "finding": "pattern", **FOUND["pattern"]}}}


def test_of_several_canaries_the_worst_decides(ask: Ask) -> None:
    aliases = {"canary": entry("no_pattern"), "challenger": entry("pattern"), "third": entry("few_faults")}
    assert ask(aliases).exit_code == 1
    assert ask({"canary": entry("no_pattern"), "challenger": entry("few_faults")}).exit_code == 4


def test_a_columns_name_moves_no_cursor_and_is_no_markup(ask: Ask) -> None:
    named = {**SHARED, "trait": "column \x1b[31m[red]plan\u202e null"}
    shown = ask(
        {"canary": entry("pattern", shared=[named], why="Its faults share: \x1b]0;x\x07 null.")}
    ).output

    assert "\x1b" not in shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "column ?[31m[red]plan? null" in shown
    assert "Its faults share: ?]0;x? null." in shown


def test_a_model_without_a_canary_and_one_that_is_not_there_are_told(ask: Ask) -> None:
    assert (ask({}).output, ask({}).exit_code) == ("m has no canary\n", 4)
    assert ask({}, model="nobody").exit_code == 2
    assert ask({"canary": {"version": 2}}).exit_code == 1
