"""What the demo's versions learn from and are asked about, and what each of them answers offline.

The sentences are committed; the customers come from a seeded generator, none from a person.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FILE = Path(__file__).parent / "data" / "sentences.jsonl"
BASIC = ("tenure_months", "monthly_charge", "contract_months", "support_calls_90d")
"""Columns the first version of the churn model looks at."""
FULL = (*BASIC, "logins_30d", "late_payments_12m")
"""Columns the second one looks at."""
HOLDOUT, SENT = 1500, 150
"""Customers a version is measured on, and how many of them traffic asks about."""

Row = Mapping[str, str | float]
Prediction = float | Sequence[float]


@dataclass(frozen=True, slots=True)
class TrainedVersion:
    """One version as its training run left it."""

    number: int
    quality: str
    """How good it is: one short phrase with a number, for people."""
    expected: Sequence[Prediction]
    """Its answer to each holdout row, from the model in memory before it was logged."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """One registered model: the rows that traffic sends, and its versions' answers to them."""

    model: str
    rows: Sequence[Row]
    versions: Mapping[int, TrainedVersion]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Dataset":
        """Inverse of `dataclasses.asdict` through JSON, which turns version numbers into text."""
        versions = {int(n): TrainedVersion(**version) for n, version in document["versions"].items()}
        return cls(document["model"], document["rows"], versions)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One line of the file."""

    text: str
    label: int
    """1 positive, 0 negative."""
    domain: str
    part: str
    """train or holdout; a sentence is in one of them only."""


@cache
def sentences(part: str) -> tuple[Sentence, ...]:
    """The sentences of `part`, in the file's order, which mixes domains and labels."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return tuple(one for line in lines if (one := Sentence(**json.loads(line))).part == part)


def sentiment_rows() -> list[Row]:
    """One text per row, none of which a version was trained on; the same at every call."""
    return [{"text": one.text} for one in sentences("holdout")]


def customers(count: int, seed: int) -> pd.DataFrame:
    """`count` customers: the columns of FULL as floats, and `churned` (0 or 1, about a quarter are 1).

    People leave early in a monthly contract, when they call support often, stop logging in or pay late;
    a high charge makes it worse for those who are not bound by a contract.
    """
    draw = np.random.default_rng(seed)
    tenure = np.ceil(draw.gamma(1.6, 16.0, count)).clip(1, 96)
    contract = draw.choice([1.0, 12.0, 24.0], count, p=[0.5, 0.3, 0.2])
    charge = draw.normal(42.0 + 6.0 * (contract == 1.0), 11.0).clip(9.0, 95.0).round(2)
    calls = draw.poisson(0.7 + 1.3 * draw.random(count) ** 3).astype(float)
    logins = draw.poisson(draw.gamma(2.0, 4.5, count)).astype(float)
    late = draw.binomial(6, 0.12, count).astype(float)
    leaning = (
        -2.9
        + 1.5 * (contract == 1.0)
        + 1.6 * np.exp(-tenure / 9.0)
        + 0.04 * (charge - 45.0) * (contract == 1.0)
        + 0.55 * calls
        + 0.9 * (logins < 4.0)
        + 0.5 * late
    )
    churned = draw.random(count) < 1.0 / (1.0 + np.exp(-leaning))
    columns = (tenure, charge, contract, calls, logins, late)
    table = pd.DataFrame(dict(zip(FULL, columns, strict=True)))
    return table.assign(churned=churned.astype(int))


def churn_holdout() -> pd.DataFrame:
    """HOLDOUT customers that no version was trained on, with `churned`."""
    return customers(HOLDOUT, seed=3)


def churn_rows() -> list[Row]:
    """The first SENT of them with all columns, though a version takes only those of its own signature."""
    rows = churn_holdout()[list(FULL)].head(SENT).to_dict(orient="records")
    return [{str(name): value for name, value in row.items()} for row in rows]
