"""`python -m benchmarks.traits`: what `why: on` costs a request of a canary, in µs of processor time."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from time import process_time
from typing import Any

from mlflow.types import ColSpec, Schema
from msgspec.structs import replace

from router.analysis.statistics.trait_counts import TraitCounts
from router.core.events import Event
from router.core.ids import CANARY, VersionId
from router.core.routing import Assignment, Reason
from router.core.traits import SAMPLED_SHARE, TraitsWanted
from router.protocol.messages import Answer, Batch, PredictStatus, Query, answers_frame, predict_frame
from router.serving.trait_sampling import TraitSampler
from router.worker.traits import Allowance, TraitReader

_SECONDS = 0.5
"""Spent on each figure."""
_SAMPLES = 25


class _Nobody:
    def record(self, event: Event) -> None:
        """Forget it."""


def main() -> None:
    """Print one line per case, and then what is left of them in the mean request."""
    readers = {columns: TraitReader(*_version(columns)) for columns in (1, 20, 64)}
    read = {
        (columns, rows): _line(
            f"worker: read {columns} columns, {rows} rows", partial(reader.read, _query(columns, rows))
        )
        for columns, reader in readers.items()
        for rows in (1, 32, 100, 1000)
    }
    answer = Answer(PredictStatus.OK, 200, b"[0.5]", "application/json", 1, 0.001)
    for wanted in TraitsWanted:
        queries = [replace(_query(1, 1), traits=wanted)] * 16
        name = wanted or "never"
        if wanted is not TraitsWanted.ALWAYS:
            answers = [answer] * 16
            batch = partial(_complete, readers[1], queries, answers)
            _line(f"worker: 16 good answers, traits wanted {name}", batch)
        _line(f"gateway: a frame of 16, traits wanted {name}", partial(predict_frame, 1, queries))
    traced = replace(answer, traits=(2, 8))
    for one in (answer, traced):
        many = Batch(1, tuple(range(16)), (one,) * 16)
        _line(f"worker: a frame of 16 answers, traits {one.traits}", partial(answers_frame, many))
    gateway = _line("gateway: draw one, and count it where it was drawn", _gateway())
    mean = gateway + SAMPLED_SHARE * read[20, 1]
    print(f"\na good request of one row and 20 columns to a canary: {mean:.1f} µs in the mean")


def _complete(reader: TraitReader, queries: Sequence[Query], answers: Sequence[Answer]) -> None:
    reader.complete(queries, range(len(queries)), answers, Allowance())


def _gateway() -> Callable[[], object]:
    sampler, counts = TraitSampler(_Nobody()), TraitCounts()
    assigned = Assignment(CANARY, VersionId("m", 2), 418, Reason.HASH)
    query = _query(20, 1)
    buckets = iter(range(1 << 60))

    def one() -> None:
        bucket = next(buckets) % 5000
        draw = sampler.draw(assigned, bucket)
        replace(query, traits=draw.wanted)
        if draw.wanted is TraitsWanted.ALWAYS:
            sampler.note(assigned, draw, (2, 8), 100, fault=False)
            counts.take(bucket, draw.ordinal, (2, 8), 100, fault=False)

    return one


def _version(columns: int) -> tuple[Schema, bytes]:
    return Schema([ColSpec("double", f"feature_{i}") for i in range(columns)]), _query(columns, 5).body


def _query(columns: int, rows: int) -> Query:
    names = [f"feature_{i}" for i in range(columns)]
    data = [[0.125 * i + row for i in range(columns)] for row in range(rows)]
    return Query(
        json.dumps({"dataframe_split": {"columns": names, "data": data}}).encode(), "application/json"
    )


def _line(name: str, work: Callable[[], Any]) -> float:
    times = 1
    while _taken(work, times) < _SECONDS / _SAMPLES:
        times *= 2
    took = median(_taken(work, times) / times for _ in range(_SAMPLES)) * 1e6
    print(f"{name:60}{took:10.2f}")
    return took


def _taken(work: Callable[[], Any], times: int) -> float:
    began = process_time()
    for _ in range(times):
        work()
    return process_time() - began


if __name__ == "__main__":
    main()
