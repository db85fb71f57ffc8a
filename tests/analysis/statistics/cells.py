"""Cells as processes would report them, made without the gateway's recorder."""

from collections.abc import Iterable, Iterator
from typing import Any

from router.analysis.run_state import RunState
from router.analysis.statistics.durations import bin_of
from router.analysis.statistics.records import Ranges, Record, RunCell

BUCKETS = 100_000


def split(canary_buckets: int) -> Ranges:
    """The canary owns the lowest buckets, production the rest."""
    return Ranges((canary_buckets, BUCKETS), (0, canary_buckets))


def counted(answers: Iterable[tuple[Any, ...]], ranges: Ranges, line: float | None) -> Record:
    """The record of answers (bucket, canary, fault, seconds, call or −1), with counts by group."""
    record, calls = Record(ranges, line), set()
    groups: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
    for bucket, canary, fault, seconds, call in answers:
        arm = record.canary if canary else record.production
        group = groups[canary].setdefault(bucket % 1024, [0] * 6)
        record.seen.add(bucket)
        arm.requests += 1
        group[0] += 1
        if fault:
            arm.faults += 1
            group[1] += 1
            if call < 0:
                record.faulty.add(bucket)
            elif call not in calls:
                calls.add(call)
                record.faulty_calls.add(bucket)
            continue
        bin_index = bin_of(seconds)
        arm.durations[bin_index] = arm.durations.get(bin_index, 0) + 1
        if line is not None:
            arm.timed += 1
            group[2] += 1
            if seconds > line:
                arm.slow += 1
                group[3] += 1
                record.slow.add(bucket)
    record.production.groups, record.canary.groups = groups
    return record


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
