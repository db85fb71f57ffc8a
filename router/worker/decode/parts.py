"""One request, decoded but not yet a table, and what makes tables of such requests."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol


class Part(Protocol):
    """One request, decoded but not yet a table."""

    @property
    def rows(self) -> int:
        """Rows of the request, at least 1."""

    @property
    def key(self) -> Hashable:
        """Parts of one decoder with equal keys may stand in one table: equal columns and dtypes."""

    def merged(self, parts: Sequence[Any]) -> Any:
        """The data of `parts`, of which this is the first; all have its key. New data at each call."""


class Decoder(Protocol):
    """Makes of a request's body what MLflow would hand to the version, or leaves it to MLflow."""

    @property
    def params(self) -> dict[str, Any] | None:
        """What MLflow passes as params for a request without any; the caller's own."""

    def part(self, body: bytes) -> Part | None:
        """The decoded JSON body; None for the unusual and for what MLflow would refuse. Never raises."""

    def table(self, parts: Sequence[Part]) -> Any:
        """What MLflow would hand to predict for one part; for several of one key, the rows of all."""


Reader = Callable[[Any], Part | None]
"""Decodes what stands under one format key. May raise what numpy or pandas raise: that is a None too."""
