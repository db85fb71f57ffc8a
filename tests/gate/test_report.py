"""What a report says of findings: one verdict, its reason, and figures that any reader of JSON takes."""

import json
import math
from dataclasses import replace

import jsonschema
import orjson
import pytest

from router.core.gate_record import MOST_BYTES, Registered, gate_tag, read_gate_record
from router.core.ids import VersionId
from router.core.verdict import Verdict
from router.gate.findings import Finding, Outcome, found, judged, not_checked, verdict_of
from router.gate.report import GateReport, HoldoutResult
from router.gate.statistics.difference import Difference, Method
from router.gate.statistics.verdict import judge
from tests.support.document_blocks import ROOT

SCHEMA = json.loads((ROOT / "config" / "gate-report.schema.json").read_text(encoding="utf-8"))
OF = Registered(VersionId("fraud", 8), "r-1", "m-1", "0123456789ab")
PASSED, FAILED = judged("signature", [], "it fits"), judged("example", ["it raises"], "")
OPEN, UNSEEN = (
    found("holdout", Outcome.NOT_ENOUGH_DATA, "too few rows"),
    not_checked("metadata", "nothing asked"),
)
UNBOUNDED = Difference(
    "f1", True, 0.5, 0.4, 0.1, -math.inf, math.inf, 40, 2, Method.BOOTSTRAP, ("two groups",)
)


def result(difference: Difference = UNBOUNDED) -> HoldoutResult:
    judgement = judge(difference, 0.005, 0.01)
    return HoldoutResult(
        "s3://b/h", "ab" * 32, "y", "customer", "score", 41, difference, 0.005, 0.01, judgement
    )


def report(*findings: Finding, holdout: HoldoutResult | None = None) -> GateReport:
    return GateReport(OF, 7, 1_795_900_000.0, "ci", "0.1.0", findings, holdout)


@pytest.mark.parametrize(
    ("findings", "verdict", "why"),
    [
        ((UNSEEN, PASSED), Verdict.PASS, "nothing speaks against it; no hold-out was asked about"),
        ((PASSED, OPEN), Verdict.NOT_ENOUGH_DATA, "too few rows"),
        ((PASSED, FAILED, OPEN), Verdict.FAIL, "it raises"),
        ((FAILED, judged("answers", ["it is silent"], "")), Verdict.FAIL, "it raises; it is silent"),
    ],
)
def test_one_fail_fails_and_little_data_is_no_pass(
    findings: tuple[Finding, ...], verdict: Verdict, why: str
) -> None:
    assert verdict_of(findings) is verdict
    assert (report(*findings).verdict, report(*findings).why) == (verdict, why)


def test_an_interval_without_an_end_is_null_to_a_reader_of_json() -> None:
    document = orjson.loads(orjson.dumps(report(PASSED, OPEN, holdout=result()).to_json()))

    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    difference = document["holdout"]["difference"]
    assert (difference["low"], difference["high"], difference["method"]) == (None, None, "bootstrap")
    assert (document["holdout"]["groups"], document["holdout"]["rows_asked"]) == (2, 41)


def test_the_record_has_the_figures_and_fits_a_tag_whatever_the_findings_say() -> None:
    sure = replace(UNBOUNDED, low=0.0123456789, high=0.2)
    many = [judged(f"check {n} " + "x" * 100, ["x" * 2000], "") for n in range(40)]

    record = report(PASSED, holdout=result(sure)).record()
    assert (record.data, record.against) == ("ab" * 32, 7)
    assert record.figures["interval"] == [0.0123457, 0.2]
    tag = gate_tag(report(*many, holdout=result()).record())
    assert len(tag.encode()) <= MOST_BYTES
    kept = read_gate_record(tag)
    assert (kept.verdict, kept.figures["metric"], kept.left_out > 0) == (Verdict.FAIL, "f1", True)


def test_a_tag_names_what_failed_and_quotes_neither_rows_nor_words_of_a_version() -> None:
    """Who reads the registry need not be allowed to read the hold-out."""
    words = "it fails 3 rows that production answers (row 7: no account DE89370400440532013000)"
    failed = report(judged("answers", [words], ""), FAILED, PASSED, holdout=result())

    tag = gate_tag(failed.record())
    assert read_gate_record(tag).figures["checks"] == {
        "answers": "fail",
        "example": "fail",
        "signature": "pass",
    }
    assert "DE89370400440532013000" not in tag
    assert FAILED.why not in tag
    assert (read_gate_record(tag).figures["rows_asked"], read_gate_record(tag).figures["rows"]) == (41, 40)
    assert failed.to_json()["checks"][0]["why"] == words


def test_words_of_others_are_one_bounded_line_without_credentials() -> None:
    said = judged("load", ["\x1b[2J\nsqlite://ann:hidden@host/" + "x" * 5000], "", ["n" * 900] * 30)

    assert said.why.isprintable()
    assert "hidden" not in said.why
    assert (len(said.why) <= 2000, len(said.notes), len(said.notes[0]) <= 500) == (True, 20, True)
