"""What the demo's traffic asks about: rows that no version was trained on, the same every time."""

import pandas as pd

from router.demo.customers import FULL, customers
from router.demo.dataset import sentences
from router.demo.material import Row

HOLDOUT, SENT = 1500, 150
"""Customers a version is measured on, and how many of them traffic asks about."""


def sentiment_rows() -> list[Row]:
    """A text each."""
    return [{"text": one.text} for one in sentences("holdout")]


def churn_holdout() -> pd.DataFrame:
    """Customers with what became of them."""
    return customers(HOLDOUT, seed=3)


def churn_rows() -> list[Row]:
    """All columns of a customer each, though a version takes those of its own signature only."""
    rows = churn_holdout()[list(FULL)].head(SENT).to_dict(orient="records")
    return [{str(name): value for name, value in row.items()} for row in rows]
