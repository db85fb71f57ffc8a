"""Facts of scores that are read after their answers went out, because their versions run elsewhere."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from router.core.ids import Alias, VersionId
from router.core.scores import OutputCounts
from router.core.split import Split


class ReadResult(StrEnum):
    """What became of the scores of one answer; values of the label `result`."""

    READ = "read"
    BUSY = "busy"
    """Left out: whoever reads them had as many answers as it takes."""
    TOO_LONG = "too_long"
    """Left out: the answer is longer than what is read."""
    LOST = "lost"
    """Whoever reads them ended, took too long or was not there."""


class ReadScore(NamedTuple):
    """The first score of one answer, to a request that the split routed by its key."""

    bucket: int
    """0 to 99 999."""
    split: Split
    """By which it was routed."""
    bin_index: int | None
    """As `Answer.bin_index`; None for a score that does not count."""


@dataclass(frozen=True, slots=True)
class ScoresRead:
    """So many good answers of a version that runs elsewhere, asked under `alias`, had one result."""

    model: str
    alias: Alias
    version: VersionId
    result: ReadResult
    answers: int
    scores: tuple[OutputCounts, ...] = ()
    """Per counted output, of all of them; empty unless they were read."""
    of_split: tuple[ReadScore, ...] = ()
    """Of those that the split routed by their keys; empty unless they were read."""


OfScores = ScoresRead
