"""Metrics by name: what each needs, and that its values are scikit-learn's."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from router.gate.errors import MetricRefused
from router.gate.named_metrics import NAMES, Metric, Needs, metric_of
from router.gate.scikit_learn import scorer_names
from router.gate.statistics.difference import Floats, Method

DRAWN = np.random.default_rng(1)
TARGETS = (DRAWN.random(400) < 0.3).astype(float)
SCORES = np.clip(0.3 * TARGETS + 0.7 * DRAWN.random(400), 0.0, 1.0)
LABELS = (SCORES >= 0.5).astype(float)
THREE = DRAWN.integers(0, 3, 400).astype(float)
OTHER_THREE = np.where(DRAWN.random(400) < 0.6, THREE, 0.0)

UNUSABLE = {"f1_samples", "jaccard_samples", "precision_samples", "recall_samples"}
"""Of several labels per row, which no answer here has."""


@pytest.mark.parametrize(
    ("name", "function", "answers"),
    [
        ("accuracy", sklearn_metrics.accuracy_score, LABELS),
        ("log_loss", sklearn_metrics.log_loss, SCORES),
        ("brier", sklearn_metrics.brier_score_loss, SCORES),
        ("absolute_error", sklearn_metrics.mean_absolute_error, SCORES),
        ("squared_error", sklearn_metrics.mean_squared_error, SCORES),
    ],
)
def test_means_of_a_value_per_row_are_scikit_learns(name: str, function: object, answers: Floats) -> None:
    values = metric_of(name).function(TARGETS, answers)

    assert values.shape == (400,)
    assert values.mean() == pytest.approx(function(TARGETS, answers), rel=1e-12)  # type: ignore[operator]


def test_a_sure_error_costs_a_number_and_no_infinity() -> None:
    losses = metric_of("log_loss").function(np.asarray([1.0, 0.0]), np.asarray([0.0, 1.0]))

    assert losses == pytest.approx([36.04, 36.04], abs=0.01)


@pytest.mark.parametrize(
    ("name", "function", "targets", "answers"),
    [
        ("f1", sklearn_metrics.f1_score, TARGETS, LABELS),
        ("precision", sklearn_metrics.precision_score, TARGETS, LABELS),
        ("recall", sklearn_metrics.recall_score, TARGETS, LABELS),
        ("balanced_accuracy", sklearn_metrics.balanced_accuracy_score, THREE, OTHER_THREE),
        ("matthews_corrcoef", sklearn_metrics.matthews_corrcoef, THREE, OTHER_THREE),
        ("average_precision", sklearn_metrics.average_precision_score, TARGETS, 5 * SCORES),
        ("r2", sklearn_metrics.r2_score, TARGETS, SCORES),
    ],
)
def test_scorers_have_the_values_of_the_functions_beneath_them(
    name: str, function: object, targets: Floats, answers: Floats
) -> None:
    metric = metric_of(name)

    assert metric.method is Method.BOOTSTRAP
    assert metric.function(targets, answers) == pytest.approx(function(targets, answers))  # type: ignore[operator]


def test_of_every_scorer_it_is_known_what_it_needs() -> None:
    """Whichever release of scikit-learn is installed: by trying, not by a list of ours."""
    unusable, needs = set(), {}
    for name in scorer_names():
        if name in NAMES:
            continue
        try:
            needs[name] = metric_of(name)
        except MetricRefused:
            unusable.add(name)

    assert unusable == UNUSABLE
    assert all(each.greater_is_better and each.method is Method.BOOTSTRAP for each in needs.values())
    assert facts(needs["f1"]) == (Needs.LABELS, True, False)
    assert facts(needs["f1_macro"]) == (Needs.LABELS, False, False)
    assert facts(needs["rand_score"]) == (Needs.LABELS, False, False)
    assert facts(needs["average_precision"]) == (Needs.SCORES, True, False)
    assert facts(needs["neg_log_loss"]) == (Needs.SCORES, True, True)
    assert facts(needs["neg_brier_score"]) == (Needs.SCORES, True, True)
    assert facts(needs["neg_root_mean_squared_error"]) == (Needs.NUMBERS, False, False)
    assert facts(needs["neg_mean_poisson_deviance"]) == (Needs.NUMBERS, False, False)


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("f1", 1.0),
        ("f1_macro", 1.0),
        ("balanced_accuracy", 1.0),
        ("average_precision", 1.0),
        ("neg_brier_score", 1.0),
        ("roc_auc_ovr", 1.0),
        ("matthews_corrcoef", 2.0),
        ("neg_log_loss", None),
        ("d2_log_loss_score", None),
        ("d2_brier_score", None),
        ("mutual_info_score", None),
        ("adjusted_rand_score", None),
        ("positive_likelihood_ratio", None),
        ("r2", None),
    ],
)
def test_of_a_scorer_it_is_known_how_much_it_can_differ_or_that_nobody_knows(
    name: str, largest: float | None
) -> None:
    if name not in scorer_names():
        pytest.skip(f"this release of scikit-learn has no {name}")
    assert metric_of(name).largest == largest


def facts(metric: Metric) -> tuple[Needs, bool, bool]:
    return metric.needs, metric.two_labels, metric.probabilities


def test_a_function_by_import_path_says_itself_what_it_needs() -> None:
    pinball, top = (metric_of(f"tests.gate.own_metrics:{name}") for name in ("pinball", "top_tenth"))

    assert (pinball.needs, pinball.greater_is_better, pinball.method) == (Needs.NUMBERS, False, None)
    assert (top.needs, top.greater_is_better, top.two_labels) == (Needs.SCORES, True, True)


def test_a_function_of_the_working_directory_is_found_and_hides_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed command does not have it on its path."""
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    lines = "def ours(targets, numbers):\n    return 1.0\nours.greater_is_better = True\n"
    for name in ("metrics_of_this_team.py", "colorsys.py"):
        (tmp_path / name).write_text(lines)
    sys.modules.pop("colorsys", None)

    assert metric_of("metrics_of_this_team:ours").greater_is_better
    with pytest.raises(MetricRefused, match="can not be imported"):
        metric_of("colorsys:ours")
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("acuracy", "there is no metric acuracy: did you mean accuracy?"),
        ("f1_score", r"did you mean f1\?"),
        ("auc", r"did you mean roc_auc\?"),
        ("mean_absolute_error", r"did you mean neg_mean_absolute_error\?"),
        ("zzz", "there are accuracy, log_loss, brier, absolute_error, squared_error, roc_auc"),
        ("f1_samples", "takes neither numbers nor one label per row"),
        ("tests.gate.nowhere:loss", "can not be imported"),
        ("tests.gate.own_metrics:missing", "can not be imported"),
        ("tests.gate.own_metrics:__doc__", "is no function"),
        ("tests.gate.own_metrics:says_nothing", "set says_nothing.greater_is_better to True or False"),
        ("tests.gate.own_metrics:needs_more", "needs 'tokens', which is none of scores, labels, numbers"),
    ],
)
def test_what_is_no_metric_is_refused_with_what_to_do(name: str, sentence: str) -> None:
    with pytest.raises(MetricRefused, match=sentence):
        metric_of(name)
