"""The requests of each workload, written out once for every client to read."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from benchmarks.registry_layout import COLUMNS

DIFFERENT_REQUESTS = {1: 256, 32: 64, 1000: 8}
"""How many requests with different rows and keys there are, by rows per request."""

_WORDS = (
    *("the", "parcel", "came", "late", "and", "box", "was", "open", "but", "support"),
    *("kind", "thank", "you", "never", "again", "broken", "fast", "good"),
)
_HEAD = (
    "POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    "X-Request-Key: user-{key}\r\nContent-Length: {length}\r\n\r\n"
)


def _text(dice: random.Random) -> list[object]:
    return [" ".join(dice.choices(_WORDS, k=dice.randint(4, 14)))]


def _numbers(dice: random.Random) -> list[object]:
    return [round(dice.gauss(0.0, 1.0), 6) for _ in range(COLUMNS)]


_TABLES: dict[str, tuple[list[str], Callable[[random.Random], list[object]]]] = {
    "text": (["text"], _text),
    "linear": ([f"x{n}" for n in range(COLUMNS)], _numbers),
    "forest": ([f"x{n}" for n in range(COLUMNS)], _numbers),
}


def bodies(workload: str, rows: int) -> list[bytes]:
    """Different bodies in `dataframe_split`, the same in every run."""
    columns, row = _TABLES[workload]
    dice = random.Random(f"{workload} {rows}")  # noqa: S311 - rows of a benchmark, not a secret
    return [
        json.dumps(
            {"dataframe_split": {"columns": columns, "data": [row(dice) for _ in range(rows)]}}
        ).encode()
        for _ in range(DIFFERENT_REQUESTS[rows])
    ]


def write_requests(path: Path, workload: str, rows: int) -> None:
    """Whole HTTP requests, each after a line with its length; the n-th has the key `user-n`."""
    with path.open("wb") as out:
        for key, body in enumerate(bodies(workload, rows)):
            request = _HEAD.format(key=key, length=len(body)).encode() + body
            out.write(b"%d\n" % len(request) + request)


def read_requests(path: Path) -> list[bytes]:
    """What `write_requests` wrote."""
    requests = []
    with path.open("rb") as source:
        while line := source.readline():
            requests.append(source.read(int(line)))
    return requests
