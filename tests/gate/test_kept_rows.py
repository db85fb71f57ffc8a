"""What is kept of rows that both versions answered, and what is said of answers that can not be."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.gate.errors import AnswerRefused, Arm, DataRefused
from router.gate.kept_rows import KeptRows
from router.gate.labels import Labels, two_labels
from router.gate.named_metrics import metric_of

NO_YES = two_labels({"no", "yes"}, "yes", "f1")
BITS = two_labels({"0", "1"}, None, "roc_auc")
TARGETS = np.asarray([1.0, 0.0, 1.0])


def keep(metric: str, labels: Labels | None, cut_off: float | None = None) -> KeptRows:
    return KeptRows(metric_of(metric), labels, cut_off)


@pytest.mark.parametrize("cut_off", [None, 0.5])
def test_a_row_takes_at_most_64_bytes_whatever_its_group_and_labels_are(cut_off: float | None) -> None:
    """Neither a group's name nor a label's text is kept."""
    kept = keep("accuracy", NO_YES, cut_off)
    answers = ["yes" * 1, "no", "yes"] if cut_off is None else [0.9, 0.1, 0.7]
    for _ in range(10):
        kept.add(TARGETS, np.asarray([1, 2, 1], dtype=np.uint64), answers, answers)

    held = sum(chunk.nbytes for column in kept._columns for chunk in column)

    assert held / kept.rows <= 64


ANSWERS = [
    pytest.param(["yes", "no", "yes"], id="list"),
    pytest.param(np.asarray(["yes", "no", "yes"]), id="array"),
    pytest.param(np.asarray(["yes", "no", "yes"], dtype=object), id="array of objects"),
    pytest.param(pd.Series(["yes", "no", "yes"], index=[7, 8, 9]), id="Series"),
    pytest.param(pd.Series(["yes", "no", "yes"], dtype="category"), id="category"),
]


@pytest.mark.parametrize("answers", ANSWERS)
def test_labels_become_the_codes_of_targets(answers: Any) -> None:
    kept = keep("f1", NO_YES)
    kept.add(TARGETS, None, answers, answers)

    assert sorted(kept.paired().candidate.tolist()) == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "answers", [[1, 0, 1], [1.0, 0.0, 1.0], [True, False, True], ["1", "0", "1"], ["true", "false", "1.0"]]
)
def test_one_and_true_are_one_label_whatever_type_holds_them(answers: list[Any]) -> None:
    kept = keep("f1", BITS)
    kept.add(TARGETS, None, answers, np.asarray(answers))
    found = kept.paired()

    assert found.candidate.tolist() == found.production.tolist() == found.targets.tolist()


def test_scores_are_cut_to_the_positive_label_from_the_cut_off_on() -> None:
    kept = keep("accuracy", NO_YES, 0.5)
    kept.add(TARGETS, None, [0.5, 0.4999, 0.9], pd.Series([0.1, 0.6, 0.2]))
    found = kept.paired()

    pairs = zip(found.targets.tolist(), found.candidate.tolist(), found.production.tolist(), strict=True)
    assert sorted(pairs) == [(0.0, 0.0, 1.0), (1.0, 1.0, 0.0), (1.0, 1.0, 0.0)]


def test_a_label_that_no_target_has_is_a_wrong_answer_where_there_are_several() -> None:
    kept = keep("accuracy", Labels({"cat", "dog", "owl"}))
    kept.add(np.asarray([0.0, 1.0, 2.0]), None, ["cat", "dog", "lynx"], ["cat", "lynx", "pike"])
    found = kept.paired()

    assert (found.candidate == found.targets).sum() == 2
    assert (found.production == found.targets).sum() == 1


@pytest.mark.parametrize(
    ("metric", "labels", "cut_off", "answers", "sentence"),
    [
        (
            "roc_auc",
            BITS,
            None,
            [0.1, float("nan"), 0.2],
            "answered 'nan' to row 5, which is no finite number",
        ),
        ("roc_auc", BITS, None, [0.1, "high", 0.2], "answered 'high' to row 5, which is no finite number"),
        ("roc_auc", BITS, None, [0.1, None, 0.2], "answered 'None' to row 5, which is no finite number"),
        ("roc_auc", BITS, None, [0.1, 10**400, 0.2], "to row 5, which is no finite number"),
        ("roc_auc", BITS, None, [0.1, [0.2, 0.8], 0.2], "to row 5, which is no finite number"),
        ("absolute_error", None, None, [1.0, 2.0, float("inf")], "answered 'inf' to row 6"),
        ("brier", BITS, None, [0.1, 1.2, 0.2], "answered '1.2' to row 5, which is no probability"),
        ("log_loss", BITS, None, [0.1, 0.2, -0.1], "answered '-0.1' to row 6, which is no probability"),
        (
            "f1",
            NO_YES,
            None,
            ["yes", "no", "maybe"],
            "'maybe' to row 6, and the target has the labels no, yes",
        ),
        ("f1", NO_YES, None, [0.7, 0.2, 0.9], "'0.7' to row 4, which is no label: --cut-off makes labels"),
        ("f1", NO_YES, None, ["yes", None, "no"], "answered 'None' to row 5, which is no label"),
        ("f1", NO_YES, None, ["yes", ["no"], "no"], "to row 5, which is no label"),
        ("f1", NO_YES, None, np.asarray([["yes"], ["no"], ["no"]]), "answered with 2 dimensions"),
        ("f1", NO_YES, None, ["yes", "no"], "answered 2 rows where it was asked about 3"),
        ("f1", NO_YES, 0.5, ["yes", "no", "no"], "answered 'yes' to row 4, which is no finite number"),
    ],
)
def test_an_answer_that_can_not_be_measured_is_named_with_version_and_row(
    metric: str, labels: Labels | None, cut_off: float | None, answers: list[Any], sentence: str
) -> None:
    good = ["yes", "no", "yes"] if (labels is NO_YES and cut_off is None) else [0.0, 1.0, 1.0]
    for arm, versions in ((Arm.CANDIDATE, (answers, good)), (Arm.PRODUCTION, (good, answers))):
        kept = keep(metric, labels, cut_off)
        kept.add(TARGETS, None, good, good)

        with pytest.raises(AnswerRefused, match=sentence) as refused:
            kept.add(TARGETS, None, *versions)

        assert refused.value.arm is arm
        assert str(refused.value).startswith(f"the {arm} answered ")


def test_a_version_whose_labels_are_other_words_is_named_and_not_all_wrong() -> None:
    kept = keep("accuracy", Labels({"cat", "dog", "owl"}))
    kept.add(TARGETS, None, ["cat", "dog", "owl"], ["Katze", "Hund", "Eule"])

    with pytest.raises(
        AnswerRefused, match="the production answered none of the target's labels cat, dog, owl"
    ):
        kept.paired()


def test_no_rows_are_no_comparison() -> None:
    with pytest.raises(DataRefused, match="no rows"):
        keep("accuracy", NO_YES).paired()


Rows = list[tuple[float, int, float, float]]


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 3), st.floats(0, 1), st.floats(0, 1)),
        min_size=1,
    ),
    st.randoms(use_true_random=False),
    st.integers(1, 5),
)
def test_order_and_chunks_of_rows_change_nothing(rows: Rows, random: Any, chunk: int) -> None:
    """To the last bit, so that a bootstrap has the same interval, too."""
    shuffled = random.sample(rows, len(rows))

    whole, parts = paired(rows, len(rows)), paired(shuffled, chunk)

    assert all((one == other).all() for one, other in zip(whole, parts, strict=True))
    assert sorted(zip(*(each.tolist() for each in whole[:3]), strict=True)) == sorted(
        (target, candidate, production) for target, _, candidate, production in rows
    )


def paired(rows: Rows, chunk: int) -> list[np.ndarray]:
    kept = keep("roc_auc", BITS)
    for start in range(0, len(rows), chunk):
        targets, groups, candidate, production = zip(*rows[start : start + chunk], strict=True)
        kept.add(np.asarray(targets), np.asarray(groups, dtype=np.uint64), list(candidate), list(production))
    found = kept.paired()
    assert found.groups is not None
    return [found.targets, found.candidate, found.production, found.groups]
