"""Metrics by name: our own, those of scikit-learn, and functions by import path."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

import numpy as np

from router.gate.errors import MetricRefused
from router.gate.statistics.difference import Floats, Method

_LOWEST = float(np.finfo(np.float64).eps)


class Needs(StrEnum):
    """What a metric takes of an answer, and of a target."""

    SCORES = "scores"
    """A number per row that is higher where the positive label is likelier, against two labels."""
    LABELS = "labels"
    """A label per row, against labels."""
    NUMBERS = "numbers"
    """A number per row, against numbers."""


Function = Callable[[Floats, Floats], Any]
"""Of targets and answers, each of shape (n,), labels as codes and of two labels 1.0 the positive one."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How answers are measured against targets."""

    name: str
    needs: Needs
    function: Function
    """Returns a value per row, of which the metric is the mean, or one value of all rows."""
    method: Method | None
    """How the interval is found. None, of functions by import path: their result says it: a value per row is
    a mean, one value of all rows is resampled."""
    greater_is_better: bool = True
    two_labels: bool = False
    """Targets have exactly two labels, one of them the positive one."""
    probabilities: bool = False
    """Scores are between 0 and 1."""
    largest: float | None = None
    """How much the value of one row, or of all where it is no mean, can differ; None: that is not known."""


def _accuracy(targets: Floats, labels: Floats) -> Floats:
    right: Floats = (targets == labels).astype(np.float64)
    return right


def _log_loss(targets: Floats, scores: Floats) -> Floats:
    # As scikit-learn does, so that a sure error costs 36 and no infinity.
    of_target = np.clip(np.where(targets == 1.0, scores, 1.0 - scores), _LOWEST, 1.0 - _LOWEST)
    losses: Floats = -np.log(of_target)
    return losses


def _squared_error(targets: Floats, numbers: Floats) -> Floats:
    errors: Floats = np.square(targets - numbers)
    return errors


def _absolute_error(targets: Floats, numbers: Floats) -> Floats:
    errors: Floats = np.abs(targets - numbers)
    return errors


def _roc_auc(targets: Floats, scores: Floats) -> float:
    raise AssertionError("both areas are computed together, by statistics.delong")


_OWN = {
    metric.name: metric
    for metric in (
        Metric("accuracy", Needs.LABELS, _accuracy, Method.PAIRED_MEAN, largest=1.0),
        Metric(
            "log_loss",
            Needs.SCORES,
            _log_loss,
            Method.PAIRED_MEAN,
            greater_is_better=False,
            two_labels=True,
            probabilities=True,
        ),
        Metric(
            "brier",
            Needs.SCORES,
            _squared_error,
            Method.PAIRED_MEAN,
            greater_is_better=False,
            two_labels=True,
            probabilities=True,
            largest=1.0,
        ),
        Metric("absolute_error", Needs.NUMBERS, _absolute_error, Method.PAIRED_MEAN, greater_is_better=False),
        Metric("squared_error", Needs.NUMBERS, _squared_error, Method.PAIRED_MEAN, greater_is_better=False),
        Metric("roc_auc", Needs.SCORES, _roc_auc, Method.DELONG, two_labels=True, largest=1.0),
    )
}
NAMES = tuple(_OWN)
"""Our own, which need no bootstrap."""


def metric_of(name: str) -> Metric:
    """The metric called `name`: one of NAMES, a scorer of scikit-learn, or a function as `module:function`.

    Such a function takes targets and answers, numpy arrays of shape (n,), and returns n values, of which the
    metric is the mean, or one number. Its attribute `greater_is_better`, True or False, is required; `needs`
    is "scores", "labels" or "numbers", which it is by default. Its module is imported, and so runs; it is
    looked for in the working directory, too.

    Raises MetricRefused.
    """
    if (own := _OWN.get(name)) is not None:
        return own
    if ":" in name:
        return _imported(name)
    # Here, not above: it imports scikit-learn, which takes seconds.
    from router.gate.scikit_learn import scorer_names, scorer_of

    names = scorer_names()
    if name in names:
        return scorer_of(name)
    # First `roc_auc` for auc, and `f1` for f1_score: a part of a name says more than letters in common.
    parts = [one for one in (*NAMES, *names) if one in name or name in one]
    close = sorted(parts, key=lambda one: abs(len(one) - len(name))) or get_close_matches(
        name, [*NAMES, *names]
    )
    hint = f"did you mean {close[0]}?" if close else "there are " + ", ".join(NAMES)
    raise MetricRefused(
        f"there is no metric {name}: {hint} (also scikit-learn's scorers, or a function as module:function)"
    )


def _imported(name: str) -> Metric:
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    sys.path.append(here)  # as an installed command lacks it; last, so that no file here hides a library
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the module runs, and may raise anything at all
        raise MetricRefused(f"the metric {name} can not be imported: {error!r}") from error
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise MetricRefused(f"the metric {name} is no function")
    greater_is_better = getattr(function, "greater_is_better", None)
    if not isinstance(greater_is_better, bool):
        raise MetricRefused(
            f"the metric {name} does not say whether more is better:"
            f" set {attribute}.greater_is_better to True or False"
        )
    needs = getattr(function, "needs", Needs.NUMBERS)
    if needs not in list(Needs):
        raise MetricRefused(f"the metric {name} needs {needs!r}, which is none of {', '.join(Needs)}")
    return Metric(
        name,
        Needs(needs),
        function,
        None,
        greater_is_better=greater_is_better,
        two_labels=needs == Needs.SCORES,
    )
