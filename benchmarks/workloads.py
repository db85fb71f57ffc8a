"""The requests of each workload, written out once for every client to read."""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.registry_layout import COLUMNS

DIFFERENT_REQUESTS = {1: 256, 32: 64, 1000: 8}
"""How many requests with different rows and keys there are, by rows per request."""

_WORDS = (
    *("the", "parcel", "came", "late", "and", "box", "was", "open", "but", "support"),
    *("kind", "thank", "you", "never", "again", "broken", "fast", "good"),
)
_HEAD = (
    "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    "X-Request-Key: user-{key}\r\nContent-Length: {length}\r\n\r\n"
)


def _text(dice: random.Random) -> list[object]:
    return [" ".join(dice.choices(_WORDS, k=dice.randint(4, 14)))]


def _numbers(dice: random.Random) -> list[object]:
    return [round(dice.gauss(0.0, 1.0), 6) for _ in range(COLUMNS)]


def _split(columns: list[str], rows: list[list[object]]) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": rows}}).encode()


def _csv(columns: list[str], rows: list[list[object]]) -> bytes:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class Workload:
    """What callers send to one registered model."""

    model: str
    """Its name in the registry."""
    columns: list[str]
    row: Callable[[random.Random], list[object]]
    content_type: str = "application/json"
    body: Callable[[list[str], list[list[object]]], bytes] = _split
    tolerance: float = 1e-9
    """How far floats of two servers may differ, relatively; the default is that of `batching_rtol`."""
    any_python: bool = True
    """Whether an interpreter with the gateway's own libraries and no others can serve it, of any version."""


_TWENTY = [f"x{n}" for n in range(COLUMNS)]
_SINGLE = 1e-5
"""Between sums of 32-bit floats by different numbers of threads."""

WORKLOADS = {
    "text": Workload("text", ["text"], _text),
    # No compiled decoder reads CSV: the same version, by the path of MLflow's own code.
    "csv": Workload("text", ["text"], _text, "text/csv", _csv),
    "linear": Workload("linear", _TWENTY, _numbers),
    "forest": Workload("forest", _TWENTY, _numbers),
    # Pickled with its code, which only the interpreter that wrote it can read.
    "sentiment": Workload("sentiment", ["text"], _text, any_python=False),
    "sleep": Workload("sleep", ["text"], _text),
    "minilm": Workload("minilm", ["text"], _text, tolerance=_SINGLE, any_python=False),
    "torch": Workload("torch", _TWENTY, _numbers, tolerance=_SINGLE, any_python=False),
    "xgboost": Workload("xgboost", _TWENTY, _numbers, any_python=False),
}


def bodies(workload: str, rows: int) -> list[bytes]:
    """Different bodies, the same in every run."""
    return list(islice(_bodies(workload, rows), DIFFERENT_REQUESTS[rows]))


def _bodies(workload: str, rows: int) -> Iterable[bytes]:
    what = WORKLOADS[workload]
    dice = random.Random(f"{what.model} {rows}")  # noqa: S311 - rows of a benchmark, not a secret
    while True:
        yield what.body(what.columns, [what.row(dice) for _ in range(rows)])


def write_requests(path: Path, workload: str, rows: int) -> None:
    """Whole HTTP requests, each after a line with its length; the n-th has the key `user-n`."""
    _write(path, WORKLOADS[workload].content_type, enumerate(bodies(workload, rows)))


def write_keys(path: Path, workload: str, first: int, count: int) -> None:
    """Like `write_requests`: `count` requests of one row, each with its own key, from `user-first` on."""
    several = bodies(workload, 1)
    keyed = ((key, several[key % len(several)]) for key in range(first, first + count))
    _write(path, WORKLOADS[workload].content_type, keyed)


def write_bodies(path: Path, asked: Iterable[bytes], where: str) -> None:
    """Like `write_requests`, of these bodies in JSON, for another path."""
    _write(path, "application/json", enumerate(asked), where)


def _write(
    path: Path, content_type: str, keyed: Iterable[tuple[int, bytes]], where: str = "/invocations"
) -> None:
    with path.open("wb") as out:
        for key, body in keyed:
            head = _HEAD.format(path=where, content_type=content_type, key=key, length=len(body))
            request = head.encode() + body
            out.write(b"%d\n" % len(request) + request)


def read_requests(path: Path) -> list[bytes]:
    """What `write_requests` wrote."""
    requests = []
    with path.open("rb") as source:
        while line := source.readline():
            requests.append(source.read(int(line)))
    return requests
