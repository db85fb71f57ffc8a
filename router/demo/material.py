"""What traffic is made of: rows to send, and what every version answers to each of them offline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, str | float]
Prediction = float | Sequence[float]


@dataclass(frozen=True, slots=True)
class TrainedVersion:
    """One version as its training run left it."""

    number: int
    told: str
    """How good it is, for people: one short phrase with a number."""
    expected: Sequence[Prediction]
    """Its answer to each holdout row, from the model in memory before it was logged."""


@dataclass(frozen=True, slots=True)
class Material:
    """One registered model: holdout rows, and its versions' answers to them."""

    model: str
    rows: Sequence[Row]
    versions: Mapping[int, TrainedVersion]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Material":
        """Inverse of `dataclasses.asdict` through JSON, which turns version numbers into text."""
        versions = {int(n): TrainedVersion(**told) for n, told in document["versions"].items()}
        return cls(document["model"], document["rows"], versions)
