"""What lets a version through is its own record, its metadata, or an override; all else is an objection."""

from dataclasses import replace

import pytest

from router.core.gate import GateEvidence, GateRules, judge, not_judged
from router.core.gate_metadata import Metadata, check_required, metadata_in
from router.core.gate_record import Objection, gate_tag, override_tag
from router.core.verdict import Verdict
from tests.core.test_gate_record import FRAUD_V7, HOUR, KEY, LET_PASS, NOW, OTHER_KEY, PASSED

RULES = GateRules(168 * HOUR, KEY)
EVIDENCE = GateEvidence(FRAUD_V7, gate_tag(PASSED, KEY), None)


def test_a_version_with_a_passed_record_of_its_own_is_let_through() -> None:
    judgement = judge(EVIDENCE, RULES, NOW)

    assert judgement.passes
    assert judgement.record == PASSED
    assert judgement.by_what(6) == "passed against v6 at 2026-11-18T10:06:40Z"
    assert judgement.why_not == ""


def test_that_production_moved_since_is_only_a_note() -> None:
    judgement = judge(EVIDENCE, RULES, NOW)

    assert judgement.by_what(8) == "passed against v6 at 2026-11-18T10:06:40Z; production is now v8"
    # Once it is production itself, what it was compared with is what it replaced.
    assert judgement.by_what(7) == "passed against v6 at 2026-11-18T10:06:40Z"


def test_metadata_that_is_missing_holds_a_version_that_passed() -> None:
    judgement = judge(replace(EVIDENCE, missing=("tags.approved_by",)), RULES, NOW)

    assert not judgement.passes
    assert judgement.why_not == "the registry has no tags.approved_by of it"


def test_an_override_lets_through_what_did_not_pass_and_says_who() -> None:
    failed = gate_tag(replace(PASSED, verdict=Verdict.FAIL), KEY)
    evidence = GateEvidence(FRAUD_V7, failed, override_tag(LET_PASS, KEY), ("description",))

    judgement = judge(evidence, RULES, NOW)

    assert judgement.passes
    assert judgement.override == LET_PASS
    assert judgement.by_what() == (
        "let through by anna until 2026-11-18T12:06:40Z: production is worse than nothing"
    )


def test_an_override_that_does_not_count_is_named_beside_what_the_gate_says() -> None:
    evidence = GateEvidence(FRAUD_V7, None, override_tag(LET_PASS, OTHER_KEY))

    judgement = judge(evidence, RULES, NOW + 2 * HOUR)

    assert list(judgement.objections) == ["no_record", "wrong_signature", "too_old"]
    assert judgement.why_not == (
        "it has no tag canary_router.gate; its tag canary_router.override is not signed by the gate's key; "
        "its tag canary_router.override ended at 2026-11-18T12:06:40Z"
    )


def test_of_two_tags_one_that_would_count_but_for_its_age_is_enough() -> None:
    ended = NOW + 2 * HOUR
    evidence = GateEvidence(FRAUD_V7, None, override_tag(LET_PASS, KEY))
    forged = replace(evidence, override_tag=override_tag(LET_PASS, OTHER_KEY))

    assert judge(evidence, RULES, ended).counts_but_for({Objection.TOO_OLD})
    assert not judge(forged, RULES, ended).counts_but_for({Objection.TOO_OLD})
    none = judge(replace(evidence, override_tag=None), RULES, ended)
    assert not none.counts_but_for({Objection.TOO_OLD})


def test_a_passed_record_is_what_counts_where_there_is_an_override_too() -> None:
    judgement = judge(replace(EVIDENCE, override_tag=override_tag(LET_PASS, KEY)), RULES, NOW)

    assert (judgement.record, judgement.override) == (PASSED, None)


def test_a_version_of_which_nothing_is_known_is_not_let_through() -> None:
    assert not not_judged(FRAUD_V7.version, Objection.NOT_READ, "the registry does not answer").passes


def test_the_key_is_in_no_text_of_the_rules() -> None:
    assert "kkkk" not in repr(RULES)


METADATA = Metadata(
    {"lr": "0.1", "empty": " "}, {"git_commit": "3f9c"}, {"auc": 0.9, "nan": float("nan")}, "d"
)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("params.lr", True),
        ("params.empty", False),
        ("params.git_commit", False),
        ("tags.git_commit", True),
        ("metrics.auc", True),
        ("metrics.nan", False),
        ("metrics.lr", False),
        ("description", True),
    ],
)
def test_metadata_has_to_be_there_and_not_empty(name: str, *, there: bool) -> None:
    assert check_required(name) == name
    assert METADATA.missing([name]) == (() if there else (name,))


def test_a_hold_out_is_required_as_metadata_is_and_is_none() -> None:
    required = ["tags.git_commit", check_required("holdout"), "description"]

    assert metadata_in(required) == ("tags.git_commit", "description")


def test_where_a_hold_out_is_required_only_an_examination_with_one_counts() -> None:
    rules, without = replace(RULES, holdout=True), gate_tag(replace(PASSED, data=None), KEY)

    assert judge(EVIDENCE, rules, NOW).passes
    assert judge(replace(EVIDENCE, gate_tag=without), RULES, NOW).passes
    judgement = judge(replace(EVIDENCE, gate_tag=without), rules, NOW)
    assert judgement.objections == {"no_holdout": "the gate had no hold-out of it"}


def test_an_override_needs_no_hold_out() -> None:
    evidence = replace(
        EVIDENCE, gate_tag=gate_tag(replace(PASSED, data=None), KEY), override_tag=override_tag(LET_PASS, KEY)
    )

    assert judge(evidence, replace(RULES, holdout=True), NOW).override == LET_PASS


def test_a_description_of_white_space_is_none() -> None:
    assert Metadata(description=" \n").missing(["description"]) == ("description",)


@pytest.mark.parametrize("name", ["", "lr", "params", "params.", "param.lr", "tags.a\nb", "Description"])
def test_what_names_no_metadata_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"must be params\.NAME, tags\.NAME, metrics\.NAME, description or holdout"
    ):
        check_required(name)
