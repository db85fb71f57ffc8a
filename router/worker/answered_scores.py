"""A child that reads the scores of a version's answers: the version runs elsewhere, and answers as JSON.

What is counted, and how, is what a worker counts of the same predictions, as far as an answer shows them. No
code of the version runs here.
"""

import math
import os
import resource
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import reduce
from itertools import chain, islice
from operator import add
from pathlib import Path
from typing import Any

import pandas as pd

from router.core.answer_reading import parse_answer
from router.core.scores import OutputCounts, OutputSpec
from router.core.version_address import Engine
from router.processes.gc_tuning import freeze_heap
from router.protocol.channel import Channel
from router.protocol.messages import MAX_DIMENSIONS
from router.protocol.score_frames import (
    Chosen,
    CountedAnswers,
    chosen_header,
    counts_header,
    groups_of,
    start_of,
)
from router.worker.score_selection import choose_outputs
from router.worker.scores import count_scores

MOST_BYTES = 512 << 20
"""Of memory of its own; it takes a tenth of that while it reads answers of a megabyte."""
_LESS_URGENT = 10
"""By so much it is nicer than the gateway and its workers: who waits for an answer comes first."""


def main(sock: socket.socket) -> None:
    """Read what the first frame says, and count until the other side of `sock` is gone."""
    os.nice(_LESS_URGENT)
    _limit_memory()
    channel = Channel(sock)
    try:
        _serve(channel)
    except ConnectionError:  # the gateway went away while we answered
        return


def _limit_memory() -> None:
    """Take no more of the machine than `MOST_BYTES` beyond what came with the template. An answer that would
    need more is none: it is caught as a MemoryError, or ends this process."""
    with suppress(OSError, ValueError):  # on systems without /proc, and where there is a lower one
        inherited = int(Path("/proc/self/statm").read_bytes().split()[5]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (inherited + MOST_BYTES, hard))


def _serve(channel: Channel) -> None:
    if (first := channel.receive()) is None:
        return
    spec, engine, example = start_of(first)
    chosen = choose_outputs(spec, None if example is None else table_of(predictions_in(engine, example)))
    freeze_heap()
    header = chosen_header(Chosen(chosen.counted, chosen.suggested, chosen.note))
    channel.send({**header, "id": first.header.get("id")})
    while (frame := channel.receive()) is not None:
        counted = count_answers(engine, frame.bodies, groups_of(frame), chosen.counted)
        channel.send({**counts_header(counted), "id": frame.header.get("id")})


def count_answers(
    engine: Engine, answers: Sequence[bytes], groups: Sequence[int], outputs: Sequence[OutputSpec]
) -> CountedAnswers:
    """What `answers` count for, so many of each group. Never raises."""
    tallies = iter([count_scores(predictions_in(engine, body), outputs) for body in answers])
    counts: list[tuple[OutputCounts, ...]] = []
    bins: list[int | None] = []
    for number in groups:
        group = list(islice(tallies, number))
        counts.append(tuple(reduce(add, each) for each in zip(*(one.counts for one in group), strict=True)))
        bins.extend(one.bin_indexes[0] for one in group)
    return CountedAnswers(tuple(counts), tuple(bins))


def predictions_in(engine: Engine, body: bytes) -> Any:
    """What a version predicted, as far as its good answer shows it; None for an answer that is none.

    A table is a list of mappings, one per row. Never raises.
    """
    try:
        document = parse_answer(body)
        if engine == "v2":
            return _predictions_of(document["outputs"])
        # The answer to an LLM's request stands alone.
        return document.get("predictions", document) if isinstance(document, dict) else None
    except Exception:  # noqa: BLE001 - whoever runs elsewhere may answer anything at all
        return None


def table_of(predictions: Any) -> Any:
    """The same, with a list of mappings as the table that it was, if it was one."""
    if isinstance(predictions, list) and predictions and all(isinstance(row, Mapping) for row in predictions):
        return pd.DataFrame(predictions)
    return predictions


def _predictions_of(tensors: Sequence[Mapping[str, Any]]) -> Any:
    columns = {str(tensor["name"]): _values_of(tensor) for tensor in tensors}
    if not tensors:
        raise ValueError("no outputs")
    if len(tensors) == 1:
        return next(iter(columns.values()))  # engines name single outputs each in their own way
    rows = {len(values) for values in columns.values()}
    if len(rows) > 1:
        return columns
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values_of(tensor: Mapping[str, Any]) -> list[Any]:
    """By row: of a tensor with more dimensions than one a list for each."""
    shape, data = tensor["shape"], tensor["data"]
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError("more dimensions than a tensor has")
    flat = _flat(data, len(shape)) if data and isinstance(data[0], list) else data
    width = math.prod(shape[1:])
    if width < 1:
        raise ValueError("no columns")
    rows = range(0, len(flat), width)
    if len(shape) > 2:
        # It has no columns. Cut in its dimensions, a megabyte of short rows would take a gigabyte.
        return [None] * len(rows)
    if str(tensor["datatype"]).startswith("FP"):
        flat = [math.nan if value is None else value for value in flat]  # as JSON has to write it
    return flat if len(shape) < 2 else [flat[start : start + width] for start in rows]


def _flat(data: list[Any], dimensions: int) -> list[Any]:
    """Engines may nest what the shape says already."""
    for _ in range(dimensions):
        if not any(isinstance(item, list) for item in data):
            return data
        data = list(chain.from_iterable(item if isinstance(item, list) else (item,) for item in data))
    raise ValueError("nested deeper than its shape says")
