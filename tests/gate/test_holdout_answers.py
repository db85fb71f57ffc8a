"""Both versions asked about each row: what is kept, what a fault of either means, and when it is over."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from router.gate import holdout_answers
from router.gate.data import Holdout, open_holdout
from router.gate.errors import GateRefused
from router.gate.findings import Outcome
from router.gate.holdout_answers import HoldoutAnswers, ask_both
from router.gate.named_metrics import metric_of
from tests.gate.fakes import Predict, both

ROWS = 25
GOOD: Predict = lambda rows: [[1 - row["a"] / 100, row["a"] / 100] for row in rows]  # noqa: E731


def fails_on(*numbers: int) -> Predict:
    def predict(rows: Any) -> Any:
        if any(row["a"] in numbers for row in rows):
            raise ValueError("too odd")
        return GOOD(rows)

    return predict


@pytest.fixture
def holdout(tmp_path: Path) -> Holdout:
    path = tmp_path / "rows.jsonl"
    table = pd.DataFrame({"a": range(ROWS), "y": [n % 2 for n in range(ROWS)]})
    table.to_json(path, orient="records", lines=True)
    return open_holdout(path, metric_of("roc_auc"), "y")


async def ask(
    holdout: Holdout, candidate: Predict, production: Predict, rows_each: int = 1
) -> HoldoutAnswers:
    return await ask_both(holdout, both(candidate, production), 1, rows_each)


@pytest.mark.parametrize("rows_each", [1, 4, ROWS, 1000])
async def test_all_rows_are_kept_however_many_a_request_has(holdout: Holdout, rows_each: int) -> None:
    answers = await ask(holdout, GOOD, GOOD, rows_each)

    assert (answers.asked, answers.kept.rows) == (ROWS, ROWS)
    assert answers.finding.why == "it answers what production answers, 25 rows"
    paired = answers.kept.paired()
    assert sorted(paired.candidate.tolist()) == [n / 100 for n in range(ROWS)]


async def test_a_row_that_the_candidate_alone_fails_is_bad_news_and_is_named(holdout: Holdout) -> None:
    answers = await ask(holdout, fails_on(3, 7), GOOD)

    assert answers.kept.rows == ROWS - 2
    assert answers.finding.outcome is Outcome.FAIL
    assert answers.finding.why == "it fails 2 rows that production answers (row 4: too odd)"


async def test_rows_that_production_fails_are_left_out_and_noted(holdout: Holdout) -> None:
    answers = await ask(holdout, fails_on(3), fails_on(3, 7))

    assert answers.kept.rows == ROWS - 2
    assert answers.finding.outcome is Outcome.PASS
    assert answers.finding.notes == (
        "production alone fails 1 row (row 8: too odd)",
        "both fail 1 row (row 4: too odd)",
    )


async def test_a_request_that_fails_fails_all_its_rows(holdout: Holdout) -> None:
    answers = await ask(holdout, fails_on(3), GOOD, rows_each=5)

    assert answers.kept.rows == ROWS - 5
    assert answers.finding.why.startswith("it fails 5 rows")


async def test_a_version_that_fails_too_many_rows_is_asked_no_further(
    holdout: Holdout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdout_answers, "MOST_FAULTS", 10)
    never = fails_on(*range(ROWS))

    answers = await ask(holdout, never, GOOD)
    assert answers.finding.outcome is Outcome.FAIL
    with pytest.raises(GateRefused, match=r"production alone fails 10 rows and more.*\(row 1: too odd\)"):
        await ask(holdout, GOOD, never)


async def test_progress_is_reported_in_rows(holdout: Holdout) -> None:
    seen: list[int] = []
    await ask_both(holdout, both(GOOD, GOOD), 1, 1, seen.append)

    assert seen == [ROWS]
