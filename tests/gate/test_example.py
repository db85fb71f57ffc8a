"""Input examples: the candidate answers them, and with what callers of production can read."""

from typing import Any

import orjson
import pytest

from router.gate.example import Examples, check_examples
from router.gate.findings import Finding, Outcome
from tests.gate.fakes import Predict, both


def example(**columns: Any) -> bytes:
    names = list(columns)
    data = [list(row) for row in zip(*columns.values(), strict=True)]
    return orjson.dumps({"dataframe_split": {"columns": names, "data": data}})


OLD, NEW = example(a=[1.0, 2.0]), example(a=[3.0], b=[4.0])
SCORES: Predict = lambda rows: [0.5 for _ in rows]  # noqa: E731


def needs_b(rows: Any) -> Any:
    if any("b" not in row for row in rows):
        raise ValueError("missing inputs ['b']")
    return [row["b"] / 10 for row in rows]


async def check(candidate: Predict, production: Predict, *examples: bytes | None, sent: Any = ()) -> Finding:
    return await check_examples(both(candidate, production), Examples(*examples), sent)


async def test_a_candidate_that_answers_both_examples_as_production_does_passes() -> None:
    found = await check(SCORES, SCORES, OLD, NEW)

    assert (found.outcome, found.notes) == (Outcome.PASS, ())
    assert found.why == "it answers production's and its own input example, as production does"


async def test_a_candidate_that_fails_on_an_example_fails_and_says_on_which() -> None:
    found = await check(needs_b, SCORES, OLD, NEW)

    assert found.outcome is Outcome.FAIL
    assert found.why == "it does not answer production's input example: missing inputs ['b']"


async def test_columns_that_callers_send_are_added_to_productions_example() -> None:
    found = await check(needs_b, SCORES, OLD, NEW, sent=["b"])

    assert (found.outcome, found.notes) == (Outcome.PASS, ())


async def test_a_column_that_no_example_has_a_value_of_is_not_made_up() -> None:
    found = await check(needs_b, SCORES, OLD, example(a=[1.0]), sent=["b"])

    assert found.outcome is Outcome.FAIL


@pytest.mark.parametrize(
    "answer",
    [
        lambda rows: [1 for _ in rows],
        lambda rows: ["yes" for _ in rows],
        lambda rows: [[0.1, 0.9] for _ in rows],
        lambda rows: [{"score": 0.5} for _ in rows],
    ],
    ids=["labels", "texts", "columns", "objects"],
)
async def test_answers_of_another_type_or_shape_fail(answer: Predict) -> None:
    found = await check(answer, SCORES, OLD, None)

    assert found.outcome is Outcome.FAIL
    assert "and production a number per row" in found.why


async def test_a_missing_value_is_no_other_type() -> None:
    found = await check(lambda rows: [None, 0.5][: len(rows)], SCORES, OLD, None)

    assert found.outcome is Outcome.PASS


async def test_an_example_that_production_itself_does_not_answer_is_noted() -> None:
    found = await check(needs_b, needs_b, OLD, NEW)

    assert found.outcome is Outcome.PASS
    assert found.notes == ("production does not answer its own input example itself: missing inputs ['b']",)


async def test_without_any_example_nothing_is_checked() -> None:
    assert (await check(SCORES, SCORES, None, None)).outcome is Outcome.NOT_CHECKED


async def test_where_production_answers_no_example_types_are_not_compared_and_that_is_said() -> None:
    found = await check(SCORES, needs_b, None, OLD)

    assert found.outcome is Outcome.PASS
    assert found.notes == ("production answers none of them, so the answers' types are not compared",)
