"""Both versions asked about every row of a hold-out, and what of it can be compared."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from router.gate.answers import AskedVersion, Fault, column_of, predictions_in
from router.gate.data import Holdout
from router.gate.errors import Arm, GateRefused
from router.gate.findings import Finding, judged
from router.gate.kept_rows import KeptRows
from router.gate.requests import bodies_of
from router.protocol.messages import Answer

CHECK = "answers"
MOST_FAULTS = 1000
"""Of rows that one version alone fails: then the others are not asked any more."""


@dataclass(slots=True)
class RowFaults:
    """Rows that a version did not answer as it should."""

    rows: int = 0
    first: str = ""
    """Number of the first of them in the data, from 1 on, and why."""

    def add(self, number: int, why: str) -> None:
        """Row `number` of the data."""
        self.first = self.first or f"row {number}: {why}"
        self.rows += 1


@dataclass(slots=True)
class HoldoutAnswers:
    """What came back."""

    kept: KeptRows
    """Rows that both versions answered."""
    asked: int = 0
    """Rows that both were asked about."""
    faults: dict[Arm, RowFaults] = field(default_factory=lambda: {arm: RowFaults() for arm in Arm})
    """Rows that this version alone failed."""
    both: RowFaults = field(default_factory=RowFaults)
    """Rows that both failed: of those, production's reason."""

    @property
    def finding(self) -> Finding:
        """Whether the candidate answers what production answers."""
        alone, notes = self.faults[Arm.CANDIDATE], []
        faults = (
            [f"it fails {_rows(alone.rows)} that production answers ({alone.first})"] if alone.rows else []
        )
        if (of_production := self.faults[Arm.PRODUCTION]).rows:
            notes.append(f"production alone fails {_rows(of_production.rows)} ({of_production.first})")
        if self.both.rows:
            notes.append(f"both fail {_rows(self.both.rows)} ({self.both.first})")
        return judged(CHECK, faults, f"it answers what production answers, {_rows(self.asked)}", notes)


async def ask_both(
    holdout: Holdout,
    versions: dict[Arm, AskedVersion],
    output: int | str,
    rows_each: int,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> HoldoutAnswers:
    """Each row once to each version, in requests of `rows_each` rows; the same bytes to both.

    `output`: which part of an answer is compared; `on_progress` gets how many rows were asked so far. After
    MOST_FAULTS rows that the candidate alone fails it is over: that is bad news enough. Raises AnswerRefused
    and DataRefused; GateRefused where production alone fails so many rows.
    """
    found = HoldoutAnswers(holdout.kept_rows())
    for chunk in holdout.chunks():
        bodies = list(bodies_of(chunk.features, rows_each))
        lengths = _lengths(len(chunk.features), rows_each)
        answers = await asyncio.gather(*(versions[arm].ask(bodies) for arm in Arm))
        columns = {
            arm: _column(of_arm, lengths, output, arm) for arm, of_arm in zip(Arm, answers, strict=True)
        }
        whole = _note_faults(found, columns)
        if whole.any():
            picked = {arm: _picked(columns[arm], whole) for arm in Arm}
            groups = None if chunk.groups is None else chunk.groups[whole]
            found.kept.add(chunk.targets[whole], groups, picked[Arm.CANDIDATE], picked[Arm.PRODUCTION])
        found.asked += len(whole)
        on_progress(found.asked)
        if found.faults[Arm.PRODUCTION].rows >= MOST_FAULTS:
            first = found.faults[Arm.PRODUCTION].first
            raise GateRefused(
                f"production alone fails {MOST_FAULTS} rows and more, so there is no comparison ({first})"
            )
        if found.faults[Arm.CANDIDATE].rows >= MOST_FAULTS:
            break
    return found


def _lengths(rows: int, rows_each: int) -> list[int]:
    return [min(rows_each, rows - start) for start in range(0, rows, rows_each)]


def _column(answers: Sequence[Answer], lengths: Sequence[int], output: int | str, arm: Arm) -> list[Any]:
    """What is compared of each row, or its Fault."""
    found: list[Any] = []
    for answer, rows in zip(answers, lengths, strict=True):
        predictions = predictions_in(answer)
        if isinstance(predictions, Fault):
            found += [predictions] * rows
        elif not isinstance(predictions, list) or len(predictions) != rows:
            found += [Fault("its answer has not one item per row")] * rows
        else:
            found += column_of(predictions, output, arm)
    return found


def _note_faults(found: HoldoutAnswers, columns: dict[Arm, list[Any]]) -> npt.NDArray[np.bool_]:
    """Which rows of a chunk both versions answered, shape (n,)."""
    failed = {arm: [isinstance(value, Fault) for value in columns[arm]] for arm in Arm}
    whole = ~np.logical_or(failed[Arm.CANDIDATE], failed[Arm.PRODUCTION])
    for place in np.flatnonzero(~whole).tolist():
        arms = [arm for arm in Arm if failed[arm][place]]
        faults = found.both if len(arms) == len(Arm) else found.faults[arms[0]]
        faults.add(found.asked + place + 1, columns[arms[-1]][place].why)
    return whole


def _picked(column: list[Any], whole: npt.NDArray[np.bool_]) -> list[Any]:
    if whole.all():
        return column
    return [value for value, is_whole in zip(column, whole.tolist(), strict=True) if is_whole]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
