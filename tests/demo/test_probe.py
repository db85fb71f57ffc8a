"""The checker finds every kind of wrong answer, and only those."""

from dataclasses import replace

import pytest

from router.demo.answer import Answer
from router.demo.material import Material, TrainedVersion
from router.demo.probe import Checker, bucket_of, owner_of
from router.demo.story import Effect
from router.demo.summary import problems, summary
from router.demo.tally import Tally
from router.demo.timeline import Timeline

VERSIONS = {number: TrainedVersion(number, "", [number / 10]) for number in (1, 2)}
MATERIAL = Material("sentiment", [{"text": "fine"}], VERSIONS)

GOOD = Answer(
    "sentiment",
    row=0,
    key="user-1",
    sent=1.0,
    received=1.1,
    status=200,
    alias="production",
    version=1,
    route_alias="production",
    reason="hash",
    bucket=62121,
    predictions=[0.1],
)
CANARY = replace(
    GOOD, key="user-2", bucket=418, alias="canary", route_alias="canary", version=2, predictions=[0.2]
)


@pytest.fixture
def checker() -> Checker:
    return Checker(
        {"sentiment": MATERIAL},
        {"sentiment": Timeline(5.0)},
        {
            ("sentiment", "production"): Timeline[int | None](1),
            ("sentiment", "canary"): Timeline[int | None](2),
        },
    )


def test_the_formula_gives_the_published_buckets() -> None:
    assert [bucket_of("sentiment", key) for key in ("user-1", "user-2", "42")] == [62121, 418, 90928]
    assert owner_of(4_999, 5.0) == "canary"
    assert owner_of(5_000, 5.0) == "production"


def test_right_answers_are_right(checker: Checker) -> None:
    for answer in (GOOD, CANARY, replace(GOOD, predictions=[0.1 + 1e-12])):
        checker.judge(answer)

    assert (checker.judged, checker.wrong) == (3, 0)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(replace(GOOD, status=503, problem="not ready"), "status 503: not ready", id="status"),
        pytest.param(replace(GOOD, status=0, problem="no answer: reset"), "no answer: reset", id="lost"),
        pytest.param(replace(GOOD, bucket=62120), "published formula", id="bucket"),
        pytest.param(replace(GOOD, bucket=None), "published formula", id="no bucket"),
        pytest.param(replace(GOOD, route_alias="canary"), "does not own bucket", id="alias"),
        pytest.param(replace(GOOD, alias="staging"), "nobody configured", id="strange alias"),
        pytest.param(replace(GOOD, version=2), "the alias names v1", id="version"),
        pytest.param(replace(GOOD, version=None), "the alias names v1", id="no version"),
        pytest.param(replace(GOOD, predictions=[0.2]), "offline", id="prediction of the other version"),
        pytest.param(replace(GOOD, predictions=[0.1 + 1e-8]), "offline", id="prediction a little off"),
        pytest.param(replace(GOOD, predictions=[float("nan")]), "offline", id="nan"),
        pytest.param(replace(GOOD, predictions=[[0.1, 0.9]]), "offline", id="shape"),
        pytest.param(replace(GOOD, predictions=[None]), "offline", id="null"),
        pytest.param(replace(GOOD, predictions=["0.1"]), "offline", id="text"),
        pytest.param(replace(GOOD, predictions=[]), "offline", id="nothing"),
    ],
)
def test_a_wrong_answer_is_found_and_makes_the_demo_fail(checker: Checker, answer: Answer, told: str) -> None:
    tally = Tally()
    tally.count(answer)
    checker.judge(answer)

    assert checker.wrong == 1
    assert any(told in problem for problem in problems(checker, tally, []))


def test_a_key_that_changes_its_alias_at_one_split_is_found(checker: Checker) -> None:
    """Also where the gateway and our formula would agree on a bucket: this looks at answers only."""
    checker.judge(GOOD)
    checker._alias_of_key["sentiment", 5.0]["user-1"] = "canary"
    checker.judge(GOOD)

    assert "not sticky" in checker.problems[0]


def test_a_key_that_loses_the_canary_while_its_share_is_wider_is_found(checker: Checker) -> None:
    checker.judge(CANARY)
    checker._alias_of_key["sentiment", 25.0] = {"user-2": "production"}

    assert checker.keys_that_left() == ["user-2"]
    assert "user-2 lost the canary although its share was wider" in problems(checker, Tally(), [])


def test_a_canary_that_is_not_there_is_answered_for_by_production(checker: Checker) -> None:
    """Its share goes to production, and the answer says why."""
    stand_in = replace(GOOD, key="user-2", bucket=418, reason="canary_absent")
    checker.judge(stand_in)

    assert checker.wrong == 0
    assert "  production answered 1 times for the canary: canary_absent" in list(
        summary(checker, Tally(), [])
    )


def test_a_step_that_no_answer_shows_makes_the_demo_fail(checker: Checker) -> None:
    tally = Tally()
    tally.count(GOOD)
    checker.judge(GOOD)

    assert problems(checker, tally, [Effect("promotion", "first answer by v2", 0.8)]) == []
    assert problems(checker, tally, [Effect("promotion", "first answer by v2", None)]) != []


def test_answers_that_were_never_judged_make_the_demo_fail(checker: Checker) -> None:
    """Silence is no proof, and neither is a demo without a single answer."""
    tally = Tally()
    assert problems(checker, tally, []) != []
    tally.count(GOOD)
    assert problems(checker, tally, []) != []
