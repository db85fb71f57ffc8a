"""One answer as a caller saw it."""

from collections.abc import Sequence
from dataclasses import dataclass

from router.demo.material import Prediction


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered what, and when. Times are seconds of one monotonic clock."""

    model: str
    row: int
    key: str
    sent: float
    received: float
    status: int
    """0 when no answer came; then `problem` says why."""
    problem: str = ""
    alias: str = ""
    """Who answered."""
    version: int | None = None
    route_alias: str = ""
    """To whom the key was given."""
    reason: str = ""
    bucket: int | None = None
    predictions: Sequence[Prediction] = ()
