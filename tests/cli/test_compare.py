"""What a terminal shows of a comparison, and the exit code a script reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli import root
from tests.cli.servers import answering
from tests.page import documents


def arm(requests: int, events: int) -> dict[str, Any]:
    return {
        "requests": requests,
        "events": events,
        "rate": events / requests if requests else None,
        "keys": 9,
    }


def rate(check: str, verdict: str, canary: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "check": check,
        "verdict": verdict,
        "judges": True,
        "why": f"{check} in words.",
        "production": arm(1000, 1),
        "canary": canary,
        "difference": None if canary["rate"] is None else canary["rate"] - 0.001,
        "interval": None if canary["rate"] is None else [0.012, 0.055],
        "needed": "A 1-point error difference shows in about 40 min at this rate.",
        **more,
    }


def cost(
    ratio: float | None, interval: list[float] | None, change: str, *, judges: bool = False
) -> dict[str, Any]:
    production, canary = (
        {"predicts": predicts, "seconds": seconds} for predicts, seconds in ((4800, 0.00275), (4790, 0.0057))
    )
    found = {"ratio": ratio, "interval": interval, "change": change, "rows_per_predict": 17.5}
    said = {"check": "cost", "verdict": "fail", "judges": judges, "why": "c", "limit": 0.2}
    return {**said, **found, "production": production, "canary": canary}


def entry(verdict: str, why: str, **more: Any) -> dict[str, Any]:
    scores = {"scores": 800, "keys": 700, "mean": 0.51, "p50": 0.5, "p95": 0.9, "invalid": 0}
    shift = {"output": "0", "kind": "score", "psi": 0.13, "noise": 0.05, "line": 0.1, "size": "moderate"}
    shift |= {"production": scores, "canary": scores, "mean_difference": 0.0, "mean_interval": [-0.02, 0.01]}
    return {
        "verdict": verdict,
        "why": why,
        "production_version": 1,
        "version": 2,
        "share": 0.05,
        "checks": [
            rate("faults", verdict, arm(60, 2)),
            rate("latency", "not_enough_data", arm(0, 0), edge_seconds=0.025),
            {"check": "scores", "verdict": "fail", "judges": False, "why": "s", "outputs": [shift]},
            {
                "check": "split",
                "verdict": "pass",
                "judges": False,
                "why": "s",
                "expected_share": 0.05,
                "observed_share": 0.049,
            },
            cost(2.07, [1.96, 2.18], "dearer"),
        ],
        **more,
    }


FAILS = entry("fail", "The canary fails 3.2 points more of its requests than production.")
WAITS = entry("not_enough_data", "Not enough data: 31 of about 640 canary requests.")
PASSES = entry("pass", "The canary is no worse than production.")
RESTS = entry(
    "not_enough_data", "Not compared: the registry names no canary.", version=None, share=0.0, checks=[]
)


Ask = Callable[..., Result]


@pytest.fixture
def ask() -> Ask:
    def ask(models: dict[str, Any], *arguments: str, columns: int = 120) -> Result:
        with answering({"/v1/compare": {"models": models}}) as url:
            return CliRunner(env={"COLUMNS": str(columns)}).invoke(
                root, ["compare", "--url", url, *arguments]
            )

    return ask


@pytest.mark.parametrize(
    ("reported", "code"),
    [
        (FAILS, 1),
        (WAITS, 0),
        (PASSES, 0),
        (RESTS, 0),
    ],
    ids=["fail", "not enough data", "pass", "not compared"],
)
def test_only_a_canary_that_fails_is_an_error(ask: Ask, reported: dict[str, Any], code: int) -> None:
    for output in ("table", "json"):
        assert ask({"m": {"canary": reported}}, "-o", output).exit_code == code


def test_the_table_says_it_in_words_and_signs_and_never_by_colour_alone(ask: Ask) -> None:
    shown = ask({"m": {"canary": FAILS}}).output

    assert "m canary: v2 against production v1, 5 % of the keys" in shown
    assert "✘ FAIL: The canary fails 3.2 points more of its requests than production." in shown
    assert "│ ✘ FAIL " in shown
    assert "0.1 % of 1000 │" in shown
    assert "3.33 % of 60 │" in shown
    assert "+3.23 points +1.2 to +5.5 │" in shown
    assert "PSI 0.13 mean +0 -0.02 to +0.01 │ moderate shift" in shown
    assert "over 25 ms" in shown
    assert "moderate shift" in shown, "scores that are only reported neither pass nor fail"
    assert "faults: faults in words." in shown
    assert "A 1-point error difference shows in about 40 min at this rate." in shown
    assert "\x1b" not in shown, "a terminal has colours, a pipe has none"


def test_at_80_columns_every_cell_is_whole_and_every_figure_has_its_unit(ask: Ask) -> None:
    """Requests by the million and two-digit differences among them."""
    reported = entry("fail", "The canary fails.")
    big = rate("faults", "not_enough_data", arm(1_234_567, 200_000), interval=[-0.1234, 0.1357])
    reported["checks"][0] = big | {"difference": -0.1234}
    shown = ask({"m": {"canary": reported}}, columns=80).output.splitlines()
    table = [line for line in shown if line.startswith(("┃", "│"))]
    cells = [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in table]

    assert cells == [
        ["", "", "", "difference,", ""],
        ["check", "production", "canary", "95 % interval", "verdict"],
        ["faults", "0.1 %", "16.2 %", "-12.3 points", "… not enough data"],
        ["", "of 1000", "of 1234567", "-12.3 to +13.6", ""],
        ["over 25 ms", "0.1 %", "–", "–", "… not enough data"],
        ["", "of 1000", "of 0", "", ""],
        ["score 0", "mean 0.51", "mean 0.51", "PSI 0.13", "moderate shift"],
        ["", "of 800", "of 800", "mean +0", ""],
        ["", "", "", "-0.02 to +0.01", ""],
        ["share of keys", "95.1 %", "4.9 %", "-0.1 points", "as due"],
        ["processor", "2.75 ms", "5.7 ms", "2.07 times", "⚠ dearer"],
        ["time", "of 4800", "of 4790", "1.96 to 2.18", ""],
    ]
    assert max(map(len, table)) <= 80


def test_a_further_alias_has_its_name_above_its_figures_and_its_share_is_of_the_keys_of_two(ask: Ask) -> None:
    reported = entry("pass", "Alias shadow is no worse than production.", share=0.1)
    reported["checks"][-1] |= {"expected_share": 1 / 9, "observed_share": 0.108, "pair_share": 0.9}
    shown = ask({"m": {"shadow": reported}}).output

    assert "m shadow: v2 against production v1, 10 % of the keys" in shown
    assert "┃ production ┃" in " ".join(shown.split())
    assert "┃ shadow ┃" in " ".join(shown.split())
    assert "canary" not in shown
    assert "keys of these two" in shown


def test_scores_that_are_not_counted_are_marked(ask: Ask) -> None:
    reported = entry("not_enough_data", "No pass: 600 of 640 answers of the canary hold no score.")
    reported["checks"][2]["outputs"][0]["uncounted"] = "canary"
    assert "│ ⚠ not counted " in ask({"m": {"canary": reported}}).output


def test_too_little_is_said_once(ask: Ask) -> None:
    shown = ask({"m": {"canary": WAITS}}).output
    assert "…: Not enough data: 31 of about 640 canary requests." in shown


def test_what_is_not_compared_is_reported_without_a_table(ask: Ask) -> None:
    shown = ask({"m": {"canary": RESTS}}).output
    assert "m canary: not compared, 0 % of the keys" in shown
    assert "…: Not compared: the registry names no canary." in shown
    assert "━" not in shown


GATEWAYS = {
    "counted": ["gw-1", "gw-2"],
    "waiting": [{"host": "gw-2", "silent_seconds": 40.2}],
    "left_out": [{"host": "gw-3", "why": "its clock is 61 s off"}],
}
TOGETHER = "at 2 gateways: gw-1 gw-2"
"""Whom they wait for, and whom they leave out, is in the sentence of the verdict."""


def test_it_says_up_to_when_is_judged_and_with_whom(ask: Ask) -> None:
    alone = {"counted": ["gw-1"], "waiting": [], "left_out": []}
    judged = {"horizon_timestamp": 1.8e9, "judged_up_to_seconds": 6.4}
    at = "08:00:00 UTC"

    shown = ask({"m": {"canary": WAITS | judged | {"gateways": GATEWAYS}}}).output
    assert f"\njudged up to {at}, 6 s ago, {TOGETHER}\n" in shown
    shown = ask({"m": {"canary": WAITS | judged | {"gateways": alone}}}).output
    assert f"\njudged up to {at}, 6 s ago\n" in shown
    assert "judged" not in ask({"m": {"canary": WAITS}}).output, "an older gateway does not say it"


def test_one_model_can_be_asked_for(ask: Ask) -> None:
    models = {"m": {"canary": FAILS}, "n": {"canary": PASSES}}
    assert ask(models).exit_code == 1
    assert ask(models, "n").exit_code == 0
    assert json.loads(ask(models, "n", "-o", "json").output) == {"models": {"n": {"canary": PASSES}}}
    refused = ask(models, "o")
    assert (refused.exit_code, "it serves: m, n" in refused.output) == (2, True)


def test_an_older_gateway_without_comparisons_is_out_of_reach() -> None:
    with answering({"/v1/state": {"models": {}, "config": {}}}) as url:
        reported = CliRunner().invoke(root, ["compare", "--url", url])
    assert (reported.exit_code, "404" in reported.output) == (3, True)


def test_the_address_comes_from_the_configuration(tmp_path: Path) -> None:
    with answering({"/v1/compare": {"models": {"m": {"canary": PASSES}}}}) as url:
        path = tmp_path / "router.yaml"
        path.write_text(f"server: {{admin: '{url.removeprefix('http://')}'}}\nmodels: {{m: {{}}}}\n")
        assert CliRunner().invoke(root, ["compare", "-c", str(path)]).exit_code == 0
    path.write_text("models: [")
    reported = CliRunner().invoke(root, ["compare", "-c", str(path)])
    assert "with --url http://HOST:PORT none is needed" in str(reported.exception)


@pytest.mark.parametrize(
    ("fleet", "line"),
    [
        ({"gateways": GATEWAYS}, f"\njudged {TOGETHER}\n"),
        ({"gateways": {"counted": ["gw-1"], "waiting": [], "left_out": []}}, ""),
        ({}, ""),
    ],
    ids=["together", "alone", "older"],
)
def test_status_names_the_gateways_that_judge_together(fleet: dict[str, Any], line: str) -> None:
    state = {
        **documents.STATE_OF_A_GATEWAY,
        "models": {},
        "fleet": fleet,
    }
    with answering({"/v1/state": state}) as url:
        shown = CliRunner(env={"COLUMNS": "200"}).invoke(root, ["status", "--url", url]).output
    assert line in shown
    assert ("judged" in shown) is bool(line)


def test_status_has_a_line_per_canary(ask: Ask) -> None:
    state = {
        **documents.STATE_OF_A_GATEWAY,
        "models": {
            "m": {
                "aliases": {},
                "versions": {},
                "warnings": [],
                "verdicts": {"canary": {"verdict": "fail", "why": "It is bad."}},
            }
        },
    }
    with answering({"/v1/state": state}) as url:
        reported = CliRunner().invoke(root, ["status", "--url", url])
    assert (reported.exit_code, "m canary ✘ FAIL: It is bad." in reported.output) == (0, True)


def test_status_says_which_versions_compute_on_several_processors_and_why() -> None:
    why = "its predicts took 11 ms with 2 threads, 20 ms with 1 thread"
    versions = {
        str(number): {"state": "ready", "error": "", "cpu_threads": threads}
        for number, threads in {
            1: {"threads": 2, "most": 2, "why": why},
            2: {"threads": 1, "most": 2, "why": "its predicts take less than 5 ms of a processor"},
            3: None,
        }.items()
    }
    state = {
        **documents.STATE_OF_A_GATEWAY,
        "models": {"m": {"aliases": {}, "versions": versions, "warnings": [], "verdicts": {}}},
    }
    with answering({"/v1/state": state}) as url:
        shown = CliRunner().invoke(root, ["status", "--url", url])
    assert (shown.exit_code, shown.output.count("threads for linear algebra")) == (0, 1)
    assert f"m v1: 2 threads for linear algebra: {why}" in shown.output


def test_status_says_which_environments_versions_have_and_which_are_built() -> None:
    own = documents.environment_state(note="logged under Python 3.10, which is not here")
    versions = {
        "1": {"state": "ready", "error": "", "environment": own},
        "2": {"state": "loading", "error": "", "phase": "environment", "environment": None},
        "3": {"state": "ready", "error": "", "environment": None, "phase": None},
        "4": {"state": "ready", "error": ""},  # of an older gateway
    }
    state = {
        **documents.STATE_OF_A_GATEWAY,
        "models": {"m": {"aliases": {}, "versions": versions, "warnings": [], "verdicts": {}}},
    }
    with answering({"/v1/state": state}) as url:
        shown = CliRunner().invoke(root, ["status", "--url", url])
    details = "scikit-learn 1.5.2, the gateway has 1.7.1; logged under Python 3.10, which is not here"
    assert [line for line in shown.output.splitlines() if line.startswith("m v")] == [
        f"m v1: own environment, Python 3.11.7, pins 3f9c3f9c3f9c: {details}",
        "m v2: its environment is looked for, or built",
    ]


def test_an_open_breaker_is_a_line_and_status_ends_with_1() -> None:
    reported = {"alias": "canary", "state": "open", "why": "50 of its last 50 requests were faults"}
    version = {"state": "ready", "error": "", "in_flight": 0, "breaker": reported}
    alias = {"aspired": 2, "bound": 2, "pending": False, "stale": False}
    model = {"aliases": {"canary": alias}, "versions": {"1": {**version, "breaker": None}, "2": version}}
    state = {
        **documents.STATE_OF_A_GATEWAY,
        "models": {"m [b]": {**model, "split": {"canary": 0}, "warnings": [], "verdicts": {}}},
    }
    with answering({"/v1/state": state}) as url:
        shown = CliRunner().invoke(root, ["status", "--url", url])
    line = "m [b] v2: its breaker is open, production has its share: 50 of its last 50 requests"
    assert (shown.exit_code, line in shown.output, "│ m [b] │" in shown.output) == (1, True, True)


@pytest.mark.parametrize(("refusing", "code"), [(True, 1), (False, 0), (None, 0)])
def test_status_ends_with_1_while_requests_are_refused_and_says_every_warning(
    code: int, *, refusing: bool | None
) -> None:
    """An older gateway says nothing of them; what production answered is a warning, and nothing more."""
    line = "production refused 17 % of its requests in the last minute (170 of 1000)"
    model = {"aliases": {}, "versions": {}, "split": {}, "verdicts": {}, "warnings": [line]}
    state: dict[str, Any] = {
        **documents.STATE_OF_A_GATEWAY,
        "models": {"m": model},
    }
    if refusing is not None:
        state |= {"last_minute": {"refusing": refusing}, "warnings": ["3 connections were refused"]}
    with answering({"/v1/state": state}) as url:
        shown = CliRunner().invoke(root, ["status", "--url", url])
    assert (shown.exit_code, f"m: {line}" in shown.output) == (code, True)
    assert ("\n3 connections were refused" in shown.output) is (refusing is not None)


@pytest.mark.parametrize(("ready", "code"), [(False, 1), (True, 0)])
def test_status_ends_with_1_while_production_of_one_model_has_no_worker(code: int, *, ready: bool) -> None:
    """The gateway is ready: its other models answer."""
    rest = {"aliases": {}, "versions": {}, "split": {}, "verdicts": {}, "warnings": []}
    models = {"m": {**rest, "ready": ready}, "other": {**rest, "ready": True}}
    with answering({"/v1/state": {**documents.STATE_OF_A_GATEWAY, "models": models}}) as url:
        shown = CliRunner().invoke(root, ["status", "--url", url])
    line = "\nm: production has no worker that answers: its callers wait for one, or get 503\n"
    assert (shown.exit_code, line in shown.output) == (code, not ready)
    assert "other: " not in shown.output


def test_status_says_that_caps_and_journal_are_not_durable_and_why() -> None:
    """It hurts nobody: the exit code is 0."""
    reason = "state held by gw-1, pid 17"
    state: dict[str, Any] = {
        **documents.STATE_OF_A_GATEWAY,
        "models": {},
        "state_dir": {"durable": False, "reason": reason, "held_by": "gw-1:17"},
    }
    with answering({"/v1/state": state}) as url:
        shown = CliRunner().invoke(root, ["status", "--url", url])
    assert (shown.exit_code, f"\ncaps and journal are not durable: {reason}\n" in shown.output) == (0, True)


@pytest.mark.parametrize("output", ["price [eur]", "[/b]"])
def test_the_name_of_an_output_is_no_markup(ask: Ask, output: str) -> None:
    reported = entry("pass", "Good.")
    reported["checks"][2]["outputs"][0]["output"] = output
    shown = ask({"m": {"canary": reported}})
    assert (shown.exit_code, f"score {output}" in shown.output) == (0, True)


@pytest.mark.parametrize(
    ("check", "line"),
    [
        (cost(2.07, [1.96, 2.18], "dearer"), "of 4800 5.7 ms of 4790 2.07 times 1.96 to 2.18 ⚠ dearer"),
        (cost(1.02, [0.9, 1.1], ""), "1.02 times 0.9 to 1.1 no change"),
        (cost(2.07, [1.96, 2.18], "dearer", judges=True), "2.07 times 1.96 to 2.18 ✘ FAIL"),
        (cost(None, None, "") | {"verdict": "not_enough_data"}, "of 4800 of 4790 – … not enough data"),
    ],
    ids=["dearer", "alike", "judged", "unknown"],
)
def test_cost_is_a_line_of_its_own(ask: Ask, check: dict[str, Any], line: str) -> None:
    shown = ask({"sentiment": {"canary": entry("pass", "It is.", checks=[check])}}, columns=160).output

    [row] = [text for text in shown.splitlines() if "processor time" in text]
    assert line in " ".join(row.replace("│", " ").split())


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({}, "0.0769 % of 2600 0.115 % of 2600 +0.04 points no sign"),
        ({"shows_none": False}, "+0.04 points … not enough data"),
        ({"shows_none": False, "verdict": "fail", "judges": True}, "+0.04 points ✘ FAIL"),
    ],
    ids=["no sign", "too few", "fails"],
)
def test_copies_of_requests_are_a_line_of_their_own(ask: Ask, said: dict[str, Any], line: str) -> None:
    check = documents.shadow_check(**said)
    shown = ask({"sentiment": {"canary": entry("pass", "It is.", checks=[check])}}, columns=160).output

    [row] = [text for text in shown.splitlines() if "faults of copies" in text]
    assert line in " ".join(row.replace("│", " ").split())
    sentences = " ".join(shown.split())
    assert f"shadow: {check['why']} {check['shown']} {check['needed']}" in sentences
