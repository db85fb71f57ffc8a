"""Labels of a hold-out as numbers: which label is which code, and which is the positive one."""

import math
import re
from collections.abc import Collection, Hashable, Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from router.core.scores import label_text
from router.gate.errors import DataRefused
from router.gate.statistics.difference import Floats

MOST_LABELS = 1_000
"""A target with more of them is a number, or a text."""
_TRUTHS = {"true": "1", "True": "1", "false": "0", "False": "0"}
_WHOLE = re.compile(r"(0|-?[1-9][0-9]{0,17})\.0{1,18}")
_NEGATIVE, _POSITIVE = "0", "1"
_SHOWN = 5


def text_of(value: Any) -> str | None:
    """A label as text, the same whatever type holds it; None for what is no label, such as 0.5 or NaN.

    1, 1.0, True and the texts "1", "1.0" and "true" are one label: a CSV has texts only, and versions answer
    with JSON's types.
    """
    text = label_text(value.item() if isinstance(value, np.generic) else value)
    if text is None:
        return None
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else _TRUTHS.get(text, text)


def texts_of(values: Any) -> tuple[list[str | None], Any]:
    """The different values of a column as texts, and of each row the place of its own; −1: it has none."""
    column = pd.Series(values)
    try:
        places, different = pd.factorize(column)
    except TypeError:  # a list, for instance, which is no label
        places, different = pd.factorize(
            column.map(lambda one: one if isinstance(one, Hashable) else math.nan)
        )
    return [text_of(one) for one in different], places


class Labels:
    """The labels that targets have; versions may answer others, which are wrong on each row."""

    def __init__(self, texts: Collection[str], positive: str | None = None) -> None:
        """`positive`: of two labels the one whose code is 1; None: codes are in the order of the texts.

        Raises DataRefused where there are over MOST_LABELS, or `positive` is not one of them.
        """
        if len(texts) > MOST_LABELS:
            raise DataRefused(f"the target has over {MOST_LABELS} labels: is it a number, or a text?")
        if positive is not None and positive not in texts:
            raise DataRefused(f"no row has the positive label {positive}: the target's are {listed(texts)}")
        ordered = sorted(texts, key=lambda text: (text == positive, _number(text), text))
        self._codes = {text: float(code) for code, text in enumerate(ordered)}
        self.known = frozenset(ordered)
        """Texts of the labels that targets have."""
        self.positive = positive

    def code_of(self, text: str) -> float | None:
        """Of a target's label, or of one that a version answered; None beyond MOST_LABELS."""
        if text not in self._codes and len(self._codes) < 2 * MOST_LABELS:
            self._codes[text] = float(len(self._codes))
        return self._codes.get(text)


def two_labels(texts: Collection[str], positive: str | None, metric: str) -> Labels:
    """Labels of which one is the positive one. Raises DataRefused unless there are two.

    `positive` is None where they are 0 and 1, or false and true, which say it themselves.
    """
    if len(texts) > 2:
        raise DataRefused(f"{metric} compares two labels, and the target has {len(texts)}: {listed(texts)}")
    if len(texts) < 2:
        raise DataRefused(f"all rows have the target {listed(texts)}: {metric} needs rows of two labels")
    if positive is None:
        if set(texts) != {_NEGATIVE, _POSITIVE}:
            raise DataRefused(
                f"which of the labels {listed(texts)} is the positive one is not known: --positive says it"
            )
        positive = _POSITIVE
    return Labels(texts, positive)


def listed(texts: Iterable[str]) -> str:
    """Some labels for an operator, in order, short ones."""
    ordered = sorted(texts, key=lambda text: (_number(text), text))
    shown = ", ".join(text[:40] for text in ordered[:_SHOWN])
    return shown if len(ordered) <= _SHOWN else f"{shown} and {len(ordered) - _SHOWN} more"


def _number(text: str) -> float:
    """So that 10 comes after 9, and words after numbers."""
    try:
        return float(text)
    except ValueError:
        return float("inf")


def numbers_in(values: Any) -> Floats:
    """A column as numbers of shape (n,); NaN for what is none, a text that looks like a number too."""
    column = pd.Series(values)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return column.to_numpy(np.float64)
    return np.fromiter(map(_float, column), dtype=np.float64, count=len(column))


def _float(value: Any) -> float:
    if not isinstance(value, (bool, int, float, Decimal, np.number, np.bool_)):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an integer beyond any float
        return math.inf
