"""Every kind of wrong answer is found, and only those.

An answer is held against what was asked for when it came, and not against what was known by then.
"""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from router.demo.dataset import Dataset, TrainedVersion
from router.demo.operator import Registry
from router.demo.probe import Checker, Effect, Timeline, Watch, bucket_of, owner_of, read_splits
from router.demo.screen import DemoTotals
from router.demo.traffic import Answer

VERSIONS = {number: TrainedVersion(number, "", [number / 10]) for number in (1, 2)}
DATASET = Dataset("sentiment", [{"text": "fine"}], VERSIONS)

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
        {"sentiment": DATASET},
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
    ("answer", "said"),
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
def test_a_wrong_answer_is_found_and_makes_the_demo_fail(checker: Checker, answer: Answer, said: str) -> None:
    totals = DemoTotals(checker)
    totals.count(answer)
    checker.judge(answer)

    assert checker.wrong == 1
    assert any(said in problem for problem in totals.problems([]))


def test_a_refusal_is_counted_apart_and_is_no_wrong_answer(checker: Checker) -> None:
    totals = DemoTotals(checker)
    for answer in (GOOD, replace(GOOD, status=503, problem="too many", retry_after=1.0), GOOD):
        totals.count(answer)
        checker.judge(answer)

    assert totals.problems([]) == []
    assert totals.view().headline.endswith("3 requests, 0 wrong, 1 refused")
    first, *others = totals.summary([])
    assert first == "2 answers judged, each prediction by the offline one: 0 wrong, 1 refused"
    assert "  refused, as more than can be answered in time: 1 of 3 requests" in others
    assert others[-1] == "everything was right"


def test_a_demo_in_which_every_request_is_refused_fails(checker: Checker) -> None:
    """Nothing was wrong, and nothing was shown."""
    totals = DemoTotals(checker)
    refused = replace(GOOD, status=503, problem="too many", retry_after=1.0)
    totals.count(refused)
    checker.judge(refused)

    assert totals.problems([]) == ["no request was answered"]


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
    assert "user-2 lost the canary although its share was wider" in DemoTotals(checker).problems([])


def test_a_canary_that_is_not_there_is_answered_for_by_production(checker: Checker) -> None:
    """Its share goes to production, and the answer says why."""
    for reason in ("canary_not_ready", "breaker_open", "capped", "canary_absent"):
        stand_in = replace(GOOD, key="user-2", bucket=418, reason=reason)
        checker.judge(stand_in)

    assert checker.wrong == 0
    assert "  production answered 1 times for the canary: canary_absent" in list(
        DemoTotals(checker).summary([])
    )


def test_a_step_that_no_answer_shows_makes_the_demo_fail(checker: Checker) -> None:
    totals = DemoTotals(checker)
    totals.count(GOOD)
    checker.judge(GOOD)

    assert totals.problems([Effect("promotion", "first answer by v2", 0.8)]) == []
    assert totals.problems([Effect("promotion", "first answer by v2", None)]) != []


def test_answers_that_were_never_judged_make_the_demo_fail(checker: Checker) -> None:
    """Silence is no proof, and neither is a demo without a single answer."""
    totals = DemoTotals(checker)
    assert totals.problems([]) != []
    totals.count(GOOD)
    assert totals.problems([]) != []


def _right(timeline: Timeline[int], value: int, sent: float, received: float) -> bool:
    return timeline.explanation(sent, received, lambda one: one == value) is not None


def test_until_an_answer_shows_the_move_both_versions_are_right() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)

    assert _right(timeline, 1, sent=11.0, received=11.1)
    assert timeline.latest.shown_at is None


def test_the_first_answer_by_the_new_version_is_when_the_move_took_effect() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)

    assert _right(timeline, 2, sent=11.0, received=11.1)
    assert timeline.latest.shown_at == 11.1


def test_once_shown_the_old_version_is_wrong_for_requests_sent_later() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)
    _right(timeline, 2, sent=11.0, received=11.1)

    assert _right(timeline, 1, sent=11.05, received=11.2), "it was under way when the move was seen"
    assert not _right(timeline, 1, sent=11.15, received=11.2)


def test_a_version_that_nobody_asked_for_yet_is_wrong() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)

    assert not _right(timeline, 2, sent=9.0, received=9.9)
    assert not _right(timeline, 3, sent=11.0, received=11.1)


def test_a_rollback_is_shown_by_its_own_answer_not_by_one_from_before_the_promotion() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)
    _right(timeline, 2, sent=11.0, received=11.1)
    timeline.ask(1, not_before=20.0)

    assert _right(timeline, 2, sent=20.5, received=20.6)
    assert timeline.latest.shown_at is None
    assert _right(timeline, 1, sent=21.0, received=21.1)
    assert timeline.latest.shown_at == 21.1
    assert not _right(timeline, 2, sent=21.2, received=21.3)


def test_asking_again_for_the_latest_value_changes_nothing() -> None:
    timeline = Timeline(1)
    timeline.ask(1, not_before=10.0)

    assert timeline.latest.asked_at < 0


class _Registry(Registry):
    """Answers from memory."""

    def __init__(self) -> None:
        self.named = {"production": 1, "canary": 2}
        self.broken = False

    async def aliases(self, model: str) -> dict[str, int]:
        if self.broken:
            raise MlflowException("database is locked")
        return dict(self.named)


@pytest.fixture
def registry() -> _Registry:
    return _Registry()


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "router.yaml"
    file.write_text("models: {sentiment: {split: {production: 95, canary: 5}}}\n")
    return file


def _answer(version: int) -> Answer:
    now = time.monotonic()
    return replace(GOOD, sent=now, received=now, version=version, predictions=[version / 10])


async def test_a_gateway_that_sees_a_move_before_we_do_is_not_wrong(
    registry: _Registry, config_file: Path, checker: Checker
) -> None:
    watch = Watch(registry, config_file, checker)
    await watch.look()
    registry.named["production"] = 2
    watch.receive(_answer(version=2))
    await watch.look()

    assert (checker.judged, checker.wrong) == (1, 0)
    assert checker.named["sentiment", "production"].latest.shown_at is not None


async def test_an_answer_by_a_version_that_was_never_named_is_wrong(
    registry: _Registry, config_file: Path, checker: Checker
) -> None:
    watch = Watch(registry, config_file, checker)
    watch.receive(_answer(version=2))
    await watch.look()

    assert checker.wrong == 1


async def test_while_the_registry_can_not_be_read_nothing_is_judged(
    registry: _Registry, config_file: Path, checker: Checker
) -> None:
    watch = Watch(registry, config_file, checker)
    watch.receive(_answer(version=2))
    registry.broken = True
    await watch.look()
    assert checker.judged == 0

    registry.broken, registry.named["production"] = False, 2
    await watch.look()
    assert (checker.judged, checker.wrong) == (1, 0)


async def test_after_the_end_the_watch_goes_on_until_every_answer_is_judged(
    registry: _Registry, config_file: Path, checker: Checker
) -> None:
    watch = Watch(registry, config_file, checker)
    watch.receive(replace(_answer(version=1), received=time.monotonic() + 0.1))
    watch.finish()
    await watch.keep_looking()

    assert checker.judged == 1


@pytest.mark.parametrize(
    "text",
    ["", "models: [", "models: {sentiment: {}}", "models: 3", "models: {sentiment: {split: {canary: a}}}"],
)
def test_a_file_that_makes_no_sense_asks_for_nothing(config_file: Path, text: str) -> None:
    """The gateway refuses it and keeps its split; so do we."""
    assert read_splits(config_file) == {"sentiment": 5.0}
    config_file.write_text(text)
    assert read_splits(config_file) == {}
    config_file.unlink()
    assert read_splits(config_file) == {}
