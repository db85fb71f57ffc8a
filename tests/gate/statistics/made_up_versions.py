"""Hold-outs of two made-up versions whose true difference is known; rows of one group are alike."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from router.gate.statistics.difference import Codes, Floats

POSITIVE = 0.3
"""Share of rows with the label 1."""
ALIKE = 0.3
"""Correlation of what is drawn for rows of one group."""
SENSITIVITY = (0.78, 0.70)
"""Share of positive rows that candidate and production find."""
FALSE_ALARMS = (0.12, 0.10)
"""Share of negative rows that they take for positive."""
MEANS = (1.1, 0.9)
"""By how much they score positive rows higher, in standard deviations of a score."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Targets and what both versions answered, each of shape (n,)."""

    targets: Floats
    candidate: Floats
    production: Floats
    groups: Codes | None


@dataclass(frozen=True, slots=True)
class MadeUpVersions:
    """Draws of `rows`; `groups` of unequal sizes, None: rows are independent."""

    rows: int
    groups: int | None

    def drawing(self, seed: int) -> "Draw":
        """Everything that is drawn of one seed."""
        drawn = np.random.default_rng(seed)
        groups = None
        if self.groups is not None:
            sizes = drawn.uniform(0.5, 1.5, self.groups)
            groups = np.sort(drawn.choice(self.groups, self.rows, p=sizes / sizes.sum()))
            groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        return Draw(drawn, self.rows, groups)


class Draw:
    """One hold-out."""

    def __init__(self, drawn: np.random.Generator, rows: int, groups: Codes | None) -> None:
        self.drawn, self.rows, self.groups = drawn, rows, groups
        self.hides_groups = False
        """True: rows of one group are alike, and nobody says so."""

    def normal(self) -> Floats:
        """Standard normal per row, those of one group correlated by ALIKE."""
        own = self.drawn.normal(size=self.rows)
        if self.groups is None:
            return own
        shared = self.drawn.normal(size=int(self.groups.max()) + 1)[self.groups]
        return np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * own

    def labels(self) -> Answered:
        """Labels by SENSITIVITY and FALSE_ALARMS; the versions err on the same rows more often than not."""
        targets = (ndtr(self.normal()) < POSITIVE).astype(float)
        shared = self.normal()
        answers = []
        for sensitivity, false_alarms in zip(SENSITIVITY, FALSE_ALARMS, strict=True):
            uniform = ndtr(0.8 * shared + 0.6 * self.normal())
            answers.append((uniform < np.where(targets == 1, sensitivity, false_alarms)).astype(float))
        return Answered(targets, *answers, None if self.hides_groups else self.groups)

    def scores(self) -> Answered:
        """Scores that are normal in each class, so that an area is Φ(mean/√2)."""
        targets = (self.drawn.random(self.rows) < POSITIVE).astype(float)
        shared = self.normal()
        answers = [mean * targets + 0.8 * shared + 0.6 * self.normal() for mean in MEANS]
        return Answered(targets, *answers, None if self.hides_groups else self.groups)

    def losses(self) -> Floats:
        """Differences per row, skewed as those of a log loss are, with the mean 0.01."""
        return 0.01 + 0.2 * (np.exp(0.5 * self.normal()) - np.exp(0.125)) + 0.1 * self.normal()


def true_f1(version: int) -> float:
    """Of one of the versions, over all rows there are."""
    found, alarms = POSITIVE * SENSITIVITY[version], (1 - POSITIVE) * FALSE_ALARMS[version]
    return 2 * found / (POSITIVE + found + alarms)


def true_accuracy(version: int) -> float:
    """Of one of the versions, over all rows there are."""
    return POSITIVE * SENSITIVITY[version] + (1 - POSITIVE) * (1 - FALSE_ALARMS[version])


def true_area(version: int) -> float:
    """Of one of the versions, over all rows there are."""
    return float(ndtr(MEANS[version] / np.sqrt(2)))


def f1(targets: Floats, labels: Floats) -> float:
    """2·TP/(positive rows + rows that are taken for positive), in microseconds."""
    return float(2 * (targets @ labels) / max(1.0, targets.sum() + labels.sum()))
