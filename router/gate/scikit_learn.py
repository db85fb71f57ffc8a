"""Scorers of scikit-learn by their names, asked through their public interface: an estimator that repeats
what a version answered. Importing this takes seconds.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer, get_scorer_names

from router.gate.errors import MetricRefused
from router.gate.named_metrics import Metric, Needs
from router.gate.statistics.difference import Floats, Method

_BETWEEN_0_AND_1 = {
    "average_precision",
    "balanced_accuracy",
    "completeness_score",
    "fowlkes_mallows_score",
    "homogeneity_score",
    "neg_brier_score",
    "normalized_mutual_info_score",
    "rand_score",
    "top_k_accuracy",
    "v_measure_score",
}
"""Or, of a loss, between −1 and 0. What a next release adds is not among them until somebody looked."""
_AVERAGED = ("f1", "jaccard", "precision", "recall", "roc_auc")
"""Alone, or followed by how labels are averaged; all between 0 and 1."""
_SOME_NUMBERS = np.asarray([1.5, 2.0, 3.0, 4.5])
_TWO_LABELS = np.asarray([1.0, 0.0, 1.0, 0.0])
_THREE_LABELS = np.asarray([2.0, 0.0, 1.0, 0.0])
_NO_PROBABILITIES = np.asarray([3.0, -2.0, 2.0, -1.0])


class _Classified(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # it has no types
    """Answers with the one column that it is asked about: as labels, or as scores of the label 1."""

    asked: Needs | None = None

    def __init__(self, targets: Floats) -> None:
        self.classes_ = np.unique(targets)

    def fit(self, features: Any, targets: Any) -> "_Classified":
        """Nothing; scikit-learn takes for fitted what has `classes_`."""
        return self

    def predict(self, features: Floats) -> Floats:
        self.asked = Needs.LABELS
        return features[:, 0]

    def predict_proba(self, features: Floats) -> Floats:
        self.asked = Needs.SCORES
        return np.column_stack([1.0 - features[:, 0], features[:, 0]])


class _Regressed(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Answers with the one column that it is asked about."""

    def fit(self, features: Any, targets: Any) -> "_Regressed":
        """Nothing."""
        return self

    def predict(self, features: Floats) -> Floats:
        return features[:, 0]


def scorer_names() -> list[str]:
    """What scikit-learn, as it is installed, calls its scorers."""
    return list(get_scorer_names())


def scorer_of(name: str) -> Metric:
    """The scorer `name`, one of `scorer_names`; of all of them more is better. Raises MetricRefused.

    What it needs is found by trying it: numbers that are no labels first, then two labels, then three.
    """
    scorer = get_scorer(name)
    if _takes(partial(_of_numbers, scorer), _SOME_NUMBERS, _SOME_NUMBERS):
        return Metric(name, Needs.NUMBERS, partial(_of_numbers, scorer), Method.BOOTSTRAP)
    function = partial(_of_labels, scorer)
    estimator = _Classified(_TWO_LABELS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scorer(estimator, _TWO_LABELS[:, None], _TWO_LABELS)
    except Exception as error:
        raise MetricRefused(
            f"the metric {name} takes neither numbers nor one label per row: {error}"
        ) from error
    scores = estimator.asked is Needs.SCORES
    return Metric(
        name,
        Needs.SCORES if scores else Needs.LABELS,
        function,
        Method.BOOTSTRAP,
        two_labels=scores or not _takes(function, _THREE_LABELS, _THREE_LABELS),
        probabilities=scores and not _takes(function, _TWO_LABELS, _NO_PROBABILITIES),
        largest=_largest(name),
    )


def _largest(name: str) -> float | None:
    """Between its least and its most; None of those that have no end, or are not known to have one."""
    if name == "matthews_corrcoef":
        return 2.0  # from −1 on
    return 1.0 if name in _BETWEEN_0_AND_1 or name.startswith(_AVERAGED) else None


def _takes(function: Callable[[Floats, Floats], Any], targets: Floats, answers: Floats) -> bool:
    """Whether it has a value for them, without a warning that it is not meant for them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a next release changes
            warnings.simplefilter("error", UserWarning)
            function(targets, answers)
    except Exception:  # noqa: BLE001 - whatever it raises, it does not take them
        return False
    return True


def _of_numbers(scorer: Any, targets: Floats, numbers: Floats) -> float:
    return float(scorer(_Regressed(), numbers[:, None], targets))


def _of_labels(scorer: Any, targets: Floats, answers: Floats) -> float:
    return float(scorer(_Classified(targets), answers[:, None], targets))
