"""The committed sentences, and the made-up customers."""

import re
from collections import Counter

import pytest

from router.demo.dataset import FULL, customers, sentences

TRAIN, HOLDOUT = sentences("train"), sentences("holdout")


def test_there_are_some_hundred_sentences_and_no_third_part() -> None:
    assert (len(TRAIN), len(HOLDOUT)) == (434, 154), "data/README.md says so too"
    assert {one.part for one in TRAIN + HOLDOUT} == {"train", "holdout"}


@pytest.mark.parametrize("part", [TRAIN, HOLDOUT], ids=["train", "holdout"])
def test_every_part_and_domain_is_balanced(part: tuple[object, ...]) -> None:
    """Else a version could be good by always saying the same."""
    counts = Counter((one.domain, one.label) for one in part)  # type: ignore[attr-defined]  # of Sentence

    assert len(counts) == 14
    assert all(counts[domain, 0] == counts[domain, 1] for domain, _ in counts)


def test_no_sentence_occurs_twice_or_in_both_parts() -> None:
    """Case and punctuation make no other sentence."""
    plain = Counter(" ".join(re.findall(r"[a-z']+", one.text.lower())) for one in TRAIN + HOLDOUT)

    assert plain.most_common(1)[0][1] == 1


def test_negations_are_in_both_classes() -> None:
    """A negation must not give the answer away: what it negates must."""
    negated = Counter(
        one.label for one in TRAIN if re.search(r"\b(not|no|never|nothing)\b|n't", one.text.lower())
    )

    assert min(negated[0], negated[1]) >= 40


def test_the_same_seed_makes_the_same_customers() -> None:
    table = customers(500, seed=5)

    assert table.equals(customers(500, seed=5))
    assert list(table) == [*FULL, "churned"]
    assert 0.25 < table["churned"].mean() < 0.5
