"""Classes: counts that add up, and labels that are compared as numpy and Python compare them."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.scores import ClassCounts, ClassSpec, count_labels, describe, label_text, to_json

SPEC = ClassSpec(0, ("ham", "7", "true"))
labels = st.lists(
    st.sampled_from(
        ["ham", "spam", "7", 7, 7.0, True, False, 0, None, math.nan, np.float32("nan"), np.int64(7)]
    )
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.integers(), max_size=1),
    max_size=40,
)


def by_hand(values: list[Any]) -> ClassCounts:
    """One label after the other."""
    counts, nan = [0, 0, 0, 0], 0
    for value in values:
        number = isinstance(value, (bool, int, float, np.number))
        place = 3
        if isinstance(value, str):
            place = {"ham": 0, "7": 1, "true": 2}.get(value, 3)
        elif number and value == 7:
            place = 1
        elif number and value == 1:
            place = 2
        counts[place] += 1
        nan += bool(number and value != value)
    return ClassCounts(tuple(counts), nan)


@given(labels)
def test_labels_are_counted_one_by_one(values: list[Any]) -> None:
    assert count_labels(values, SPEC)[0] == by_hand(values)


@given(labels, labels)
def test_counting_two_batches_and_adding_is_counting_both(one: list[Any], other: list[Any]) -> None:
    together, _ = count_labels([*one, *other], SPEC)

    assert count_labels(one, SPEC)[0] + count_labels(other, SPEC)[0] == together
    assert together + ClassCounts((0, 0, 0, 0)) == together


@given(labels)
def test_a_bin_index_is_the_class_its_label_counts_in(values: list[Any]) -> None:
    _, bin_indexes = count_labels(values, SPEC, range(len(values)))

    for value, index in zip(values, bin_indexes, strict=True):
        alone = by_hand([value])
        assert index == (None if alone.nan else alone.counts.index(1))


def test_a_class_is_written_as_json_spells_it() -> None:
    spelled = [label_text(value) for value in ("é", True, False, 3, 3.0, np.int64(-2), np.str_("a"), 10**30)]

    assert spelled == ["é", "true", "false", "3", "3", "-2", "a", str(10**30)]
    assert {label_text(value) for value in (0.5, math.nan, math.inf, None, [], b"a", Decimal(1))} == {None}


def test_labels_are_all_nan_when_there_are_some_and_each_is() -> None:
    cases: list[list[Any]] = [[math.nan], [math.nan, "ham"], [math.nan, None], ["ham"], []]

    assert [count_labels(case, SPEC)[0].all_nan for case in cases] == [True, False, False, False, False]


@pytest.mark.parametrize(
    "build",
    [
        lambda: ClassSpec(0, ()),
        lambda: ClassSpec(0, tuple(map(str, range(21)))),
        lambda: ClassSpec(0, ("a", "a")),
        lambda: ClassSpec(0, ("true", "1")),
        lambda: ClassSpec(0, ("0", "false")),
        lambda: ClassSpec(0, ("__other__",)),
        lambda: ClassSpec(0, ("",)),
        lambda: ClassSpec(0, ("a\n",)),
        lambda: ClassSpec(0, ("a" * 129,)),
    ],
)
def test_classes_that_can_not_be_distinguished_are_refused(build: Callable[[], ClassSpec]) -> None:
    with pytest.raises(ValueError, match=r"class|label"):
        build()


def test_numbers_spelled_in_another_way_are_text() -> None:
    """`007` is no integer that anybody writes, and no reason to refuse the list."""
    spec = ClassSpec(0, ("7", "007", "٧"))

    assert count_labels(["007", 7, "٧"], spec)[0].counts == (1, 1, 1, 0)


def test_what_is_counted_is_reported_in_words_and_as_values() -> None:
    assert describe(SPEC) == "output 0 by the classes ham, 7, true"
    assert to_json(SPEC) == {"output": "0", "kind": "class", "classes": ["ham", "7", "true", "__other__"]}
