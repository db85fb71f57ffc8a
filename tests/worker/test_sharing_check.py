"""Shared predicts are repeated alone now and then, and sharing stays where the answers are equal."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router.protocol.messages import Answer, Batching, Query
from router.worker.batching_trial import ENOUGH_TRIALS, LARGEST_BODY, BatchingTrial, TrialSample, efforts
from router.worker.batching_trial import shown_by_example as shown
from router.worker.decode.request_decoder import DecodedRequest
from router.worker.load import Loaded, load_version
from router.worker.sharing_check import EVERY, FIRST, SharingCheck
from router.worker.tolerance import equal
from tests.support.saved_versions import json_query, predictions, spec_of, text_query

Get = Callable[[str], Loaded]
RTOL = 1e-9
CALLERS = 12
_drawn = random.Random(7)
TEXTS = ["".join(_drawn.choices("abcdefghijklmnopqrstuvwxyz ", k=_drawn.randint(3, 200))) for _ in range(60)]
FRAMES = [[text_query(text) for text in TEXTS[i : i + CALLERS]] for i in range(0, len(TEXTS), CALLERS)]


def answer(loaded: Loaded, check: SharingCheck, queries: Sequence[Query]) -> list[Any]:
    """What each gets, by shared predicts that `check` looks at."""
    answers: dict[int, Answer] = {}
    for places, some in loaded.scorer.together(queries, check):
        answers.update(zip(places, some, strict=True))
    return [predictions(answers[place].body) for place in range(len(queries))]


def kept(loaded: Loaded, frames: Sequence[Sequence[Query]] = FRAMES) -> SharingCheck:
    """A check that has kept the tenth shared predict."""
    check = SharingCheck(loaded.scorer, RTOL)
    for number in range(FIRST[0]):
        assert check.left == 0
        answer(loaded, check, frames[number % len(frames)])
    assert check.left == len(frames[(FIRST[0] - 1) % len(frames)])
    return check


def repeated(check: SharingCheck) -> Batching | None:
    """The decision, if any, after all that is kept was repeated, or what of it was needed."""
    while check.left:
        if (decision := check.repeat()) is not None:
            return decision
    return None


def test_sixty_texts_of_any_length_are_answered_alone_as_by_twelve_callers_but_for_rounding(
    loaded: Get,
) -> None:
    """A third of them differ in their last bits, as float32 does in tables of another width."""
    padded = loaded("padded")
    assert padded.info.batching.merges
    alone = [predictions(padded.scorer.answer(text_query(text)).body) for text in TEXTS]
    check = SharingCheck(padded.scorer, RTOL)
    shared = [one for frame in FRAMES for one in answer(padded, check, frame)]
    assert shared != alone
    assert equal(shared, alone, RTOL)
    assert repeated(kept(padded)) is None


def test_a_version_that_depends_on_other_texts_only_where_lengths_differ_is_found_in_service(
    loaded: Get,
) -> None:
    """Both texts of its example have four letters."""
    unmasked = loaded("padded_without_a_mask")
    assert unmasked.info.batching.merges
    decision = repeated(kept(unmasked))
    assert decision is not None
    assert (decision.merges, decision.differs) == (False, True)
    assert decision.why == "in service it answered requests together differently than alone"


def test_what_is_repeated_are_the_10th_100th_1000th_and_each_ten_thousandth_shared_predict(
    loaded: Get,
) -> None:
    check = SharingCheck(loaded("signed").scorer, RTOL)
    looked_at = []
    for number in range(1, 3 * EVERY + 1):
        check.shared(FRAMES[0][:2], [1, 1], np.array([0.5, 0.5]))
        if check.left:
            looked_at.append(number)
            check.clear()
    assert looked_at == [*FIRST, EVERY, 2 * EVERY, 3 * EVERY]


def test_one_that_is_too_large_is_not_kept_but_the_next_that_is_not(loaded: Get) -> None:
    check = SharingCheck(loaded("signed").scorer, RTOL)
    large = [text_query("x" * LARGEST_BODY), text_query("y")]
    for queries in (*[large] * (FIRST[0] + 5), FRAMES[0][:2]):
        assert check.left == 0
        check.shared(queries, [1, 1], np.array([0.5, 0.5]))
    assert check.left == 2


class Steered:
    """A scorer whose version answers what a test says, alone and together."""

    def __init__(self, alone: Callable[[], Any], together: Callable[[], Any]) -> None:
        self.alone, self.shared = alone, together

    def decode(self, query: Query) -> Any:
        return query

    def predict(self, requests: list[Any]) -> Any:
        try:
            return _Predicted(self.alone())
        except ValueError as error:
            return _Predicted(failure=error)

    def together(self, queries: Sequence[Query], looks: Any) -> Any:
        looks.shared(queries, [1] * len(queries), self.shared())
        return iter(())


class _Predicted:
    def __init__(self, predictions: Any = None, failure: BaseException | None = None) -> None:
        self.predictions, self.failure = predictions, failure


def steered(shared: Any, alone: Callable[[], Any], together: Callable[[], Any]) -> SharingCheck:
    check = SharingCheck(Steered(alone, together), RTOL)  # type: ignore[arg-type]
    for _ in range(FIRST[0]):
        check.shared(FRAMES[0][:2], [1, 1], shared)
    return check


def fail() -> Any:
    raise ValueError("what it asks is away")


def test_an_answer_that_changed_with_the_time_is_no_difference() -> None:
    now = iter([[2.0], [3.0], [3.0]])
    check = steered([1.0, 1.0], alone=lambda: next(now), together=lambda: [3.0, 3.0])
    assert repeated(check) is None


def test_a_version_that_draws_its_answers_shares_no_more() -> None:
    check = steered([1.0, 1.0], alone=lambda: [random.random()], together=lambda: [3.0, 3.0])
    assert repeated(check) is not None


def test_a_repeat_that_fails_shows_nothing() -> None:
    assert repeated(steered([1.0, 1.0], alone=fail, together=fail)) is None


def test_what_can_not_be_kept_is_passed_over() -> None:
    check = SharingCheck(Steered(fail, fail), RTOL)  # type: ignore[arg-type]
    for _ in range(FIRST[0]):
        check.shared(FRAMES[0][:2], [1, 1], [lambda: 0, lambda: 0])
    assert check.left == 0


def test_of_a_version_with_env_vars_no_request_is_predicted_twice(versions: Path) -> None:
    """It may have effects outside, such as a bill."""
    loaded = load_version(spec_of(versions, "has_env_vars"))
    assert (loaded.trial, loaded.check) == (None, None)
    assert not loaded.info.batching.merges
    assert "env_vars" in loaded.info.batching.why
    assert loaded.info.effects == ("it used variables of the environment when it was logged: SOME_API_KEY")


def more_than(rows: int) -> Callable[[Any], Any]:
    """A predict whose answers are other ones in tables of more rows."""
    return lambda table: np.asarray(table)[:, 0] + (len(table) > rows)


def test_an_example_is_also_tried_in_a_table_of_many_rows() -> None:
    batching = shown(pd.DataFrame({"x": [1.0, 2.0]}), more_than(16), RTOL)
    assert batching is not None
    assert (batching.merges, batching.why) == (
        False,
        "its input example is predicted differently in a larger table",
    )


def test_a_version_that_takes_few_rows_only_shares_predicts_of_few() -> None:
    """More of them fail, and are asked one by one."""

    def predict(table: Any) -> Any:
        if len(table) > 4:
            raise ValueError("too many rows")
        return np.asarray(table)[:, 0]

    batching = shown(pd.DataFrame({"x": [1.0, 2.0]}), predict, RTOL)
    assert batching is not None
    assert batching.merges
    earned = trial_of(predict)
    assert earned is not None
    assert earned.merges


def trial_of(predict: Callable[[Any], Any]) -> Batching | None:
    """What is found out from requests of one row each, predicted one after the other."""
    trial = BatchingTrial(lambda requests: predict(_table(requests)), RTOL, _table)
    for number in range(3 * ENOUGH_TRIALS):
        request = DecodedRequest(1, ("key",), None, np.array([[float(number)]]))
        with efforts() as took:
            predicted = predict(request.data)
        trial.add(TrialSample(request, b"%d" % number, predicted, took[0]))
    return trial.decision


def _table(requests: list[DecodedRequest]) -> Any:
    return np.concatenate([one.data for one in requests])


def test_a_trial_is_sometimes_of_more_than_two_requests() -> None:
    decision = trial_of(more_than(4))
    assert decision is not None
    assert (decision.merges, decision.why) == (False, "it answers requests together differently")


@pytest.mark.parametrize("query", [Query(b"{", None), json_query({"nothing": 1})])
def test_a_request_that_is_refused_shares_nothing_to_be_repeated(loaded: Get, query: Query) -> None:
    check = SharingCheck(loaded("signed").scorer, RTOL)
    for _ in range(FIRST[0]):
        list(loaded("signed").scorer.together([query, *FRAMES[0][:2]], check))
    assert check.left == 2
