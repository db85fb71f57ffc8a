"""Both versions by one metric, and the difference turned so that more is better."""

import math

import numpy as np
import pytest

from router.core.verdict import Verdict
from router.gate import comparison
from router.gate.comparison import compare
from router.gate.errors import MetricRefused
from router.gate.kept_rows import PairedRows
from router.gate.named_metrics import metric_of
from router.gate.statistics.difference import ENOUGH_ALIKE, Method
from router.gate.statistics.verdict import judge
from tests.gate.statistics.made_up_versions import MadeUpVersions

FEW_RESAMPLES = 200


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "RESAMPLES", FEW_RESAMPLES)


def rows(kind: str, groups: int | None = None) -> PairedRows:
    """400 rows of labels, probabilities, or numbers."""
    draw = MadeUpVersions(400, groups).drawing(1)
    found = draw.labels() if kind == "labels" else draw.scores()
    answers = [found.candidate, found.production]
    if kind == "scores":
        answers = [1 / (1 + np.exp(-each)) for each in answers]
    return PairedRows(found.targets, *answers, found.groups)


METRICS = [
    ("accuracy", "labels", Method.PAIRED_MEAN, True),
    ("log_loss", "scores", Method.PAIRED_MEAN, False),
    ("brier", "scores", Method.PAIRED_MEAN, False),
    ("absolute_error", "numbers", Method.PAIRED_MEAN, False),
    ("squared_error", "numbers", Method.PAIRED_MEAN, False),
    ("roc_auc", "scores", Method.DELONG, True),
    ("f1", "labels", Method.BOOTSTRAP, True),
    ("r2", "numbers", Method.BOOTSTRAP, True),
    ("tests.gate.own_metrics:pinball", "numbers", Method.PAIRED_MEAN, False),
    ("tests.gate.own_metrics:median_error", "numbers", Method.BOOTSTRAP, False),
    ("tests.gate.own_metrics:top_tenth", "scores", Method.BOOTSTRAP, True),
]


@pytest.mark.parametrize("groups", [None, 30])
@pytest.mark.parametrize(("name", "kind", "method", "greater"), METRICS)
def test_the_difference_is_turned_so_that_more_is_better(
    name: str, kind: str, method: Method, greater: bool, groups: int | None
) -> None:
    found = compare(metric_of(name), rows(kind, groups))

    assert (found.metric, found.method, found.greater_is_better) == (name, method, greater)
    assert (found.rows, found.groups) == (400, groups)
    turned = found.candidate - found.production if greater else found.production - found.candidate
    assert found.point == pytest.approx(turned)
    assert found.low < found.point < found.high


@pytest.mark.parametrize(("name", "kind", "method", "greater"), METRICS)
def test_swapped_versions_negate_the_difference(name: str, kind: str, method: Method, greater: bool) -> None:
    before = rows(kind)
    swapped = PairedRows(before.targets, before.production, before.candidate, None)
    found, other = compare(metric_of(name), before), compare(metric_of(name), swapped)

    assert (other.candidate, other.production) == (found.production, found.candidate)
    assert (other.point, other.low, other.high) == pytest.approx((-found.point, -found.high, -found.low))


def test_equal_labels_of_40_rows_are_no_proof_of_f1() -> None:
    few = rows("labels")
    found = compare(
        metric_of("f1"), PairedRows(few.targets[:40], few.candidate[:40], few.candidate[:40], None)
    )
    rarer = int(min(few.targets[:40].sum(), 40 - few.targets[:40].sum()))

    assert found.point == 0
    assert found.high == -found.low == pytest.approx(math.log(40) / rarer)
    assert found.notes == (
        f"the versions differ in 0 of {rarer} rows of one label, so the interval allows for unseen ones",
    )


@pytest.mark.parametrize("groups", [None, 400], ids=["rows", "groups"])
@pytest.mark.parametrize("name", ["balanced_accuracy", "f1_macro", "matthews_corrcoef"])
def test_a_label_that_was_hardly_seen_is_allowed_for_however_much_was_seen_of_the_others(
    name: str, groups: int | None
) -> None:
    """The candidate is better on a frequent label, and nobody knows what it does with the rare one."""
    targets = np.repeat([0.0, 1.0, 2.0], [1000, 995, 5])
    production = targets.copy()
    production[:14] = 1.0
    codes = None if groups is None else np.arange(2000) % groups
    found = compare(metric_of(name), PairedRows(targets, targets, production, codes))

    largest = 2.0 if name == "matthews_corrcoef" else 1.0
    unit = "rows" if groups is None else "groups"
    assert found.point > 0.004
    assert found.low == pytest.approx(found.point - largest * math.log(40) / 5)
    assert found.notes == (
        f"the versions differ in 0 of 5 {unit} of one label, so the interval allows for unseen ones",
    )


@pytest.mark.parametrize("groups", [None, 10], ids=["rows", "groups"])
@pytest.mark.parametrize(
    "name", ["absolute_error", "r2", "tests.gate.own_metrics:pinball", "tests.gate.own_metrics:median_error"]
)
def test_a_few_rows_that_both_predict_well_say_nothing_of_a_metric_without_an_end(
    name: str, groups: int | None
) -> None:
    """What was seen of its range says nothing of rows that were not."""
    targets = np.arange(20.0)
    codes = None if groups is None else np.arange(20) % groups
    found = compare(metric_of(name), PairedRows(targets, targets, targets, codes))
    judgement = judge(found, 0.005)

    assert (found.point, found.low, found.high) == (0.0, -math.inf, math.inf)
    assert judgement.verdict is Verdict.NOT_ENOUGH_DATA
    assert "how much one can differ is not known of this metric, so fewer than 738" in judgement.sentence


def test_with_enough_rows_what_was_seen_is_what_one_row_can_differ() -> None:
    targets = np.arange(float(ENOUGH_ALIKE))
    answers = targets + np.linspace(-1.0, 1.0, ENOUGH_ALIKE)
    found = compare(metric_of("absolute_error"), PairedRows(targets, answers, answers, None))

    assert ENOUGH_ALIKE == 738
    assert found.high == -found.low == pytest.approx(math.log(40) / 738, rel=0.01)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("of_two_shapes", r"returned shape \(3,\) of 400 rows"),
        ("raises", "can not be computed of these rows: there is no table of prices"),
    ],
)
def test_a_function_that_has_no_value_is_refused_by_name(name: str, sentence: str) -> None:
    with pytest.raises(MetricRefused, match=sentence):
        compare(metric_of(f"tests.gate.own_metrics:{name}"), rows("numbers"))


def test_one_label_among_the_rows_that_both_answered_has_no_area() -> None:
    """The hold-out has two, and rows that a version fails are left out."""
    found = rows("scores")
    with pytest.raises(MetricRefused, match="all rows that both versions answered have one label"):
        compare(metric_of("roc_auc"), found._replace(targets=np.ones(400)))


@pytest.mark.parametrize("groups", [None, 30], ids=["rows", "groups"])
@pytest.mark.parametrize("name", ["absolute_error", "tests.gate.own_metrics:pinball"])
def test_answers_so_large_that_their_mean_is_no_number_are_refused(name: str, groups: int | None) -> None:
    found = rows("numbers", groups)
    with pytest.raises(MetricRefused, match="has no finite value on these rows"):
        compare(metric_of(name), found._replace(production=np.full(400, 1.7e308)))


def test_a_value_that_is_no_number_is_refused() -> None:
    answers = rows("numbers")
    with pytest.raises(MetricRefused, match=r"can not be computed|has no finite value"):
        compare(metric_of("neg_mean_squared_log_error"), answers._replace(candidate=answers.candidate - 50))
