"""Cells as processes would report them, made without the gateway's recorder."""

from collections.abc import Iterable, Iterator
from typing import Any

from router.analysis.run_state import RunState
from router.analysis.statistics.records import Ranges, Record, RunCell

BUCKETS = 100_000


def split(canary_buckets: int) -> Ranges:
    """The canary owns the lowest buckets, production the rest."""
    return Ranges((canary_buckets, BUCKETS), (0, canary_buckets))


def of_counts(
    ranges: Ranges, line: float | None, production: tuple[int, int], canary: tuple[int, int], *, slow: bool
) -> Record:
    """A record of so many (requests, events) in each arm; the events are slow answers, or faults."""
    record = Record(ranges, line)
    for arm, (requests, events) in ((record.production, production), (record.canary, canary)):
        arm.requests = requests
        if slow:
            arm.timed, arm.slow = requests, events
        else:
            arm.faults = events
        counts = [requests, 0, requests, events] if slow else [requests, events, 0, 0]
        arm.groups = {0: [*counts, 0, 0]} if requests else {}
    return record


def comparing(*records: Record, ranges: Ranges | None = None, history: Any = None) -> RunCell:
    """One process in one cell, which began with the split of its first record unless said otherwise."""
    return RunCell(True, ranges or records[0].ranges, list(records), history)


def folded(state: RunState, cells: Iterable[list[RunCell]]) -> Iterator[int]:
    """Each cell once it is folded, from the state's next one on."""
    for cell, parts in enumerate(cells, start=state.horizon + 1):
        state.fold(cell, parts)
        yield cell
