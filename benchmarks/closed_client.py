"""Every connection sends its next request when the last is answered: `… HOST PORT FILE CONNECTIONS SECONDS`.

Stands in for wrk where that is not installed. Prints one `Round` as JSON.
"""

import asyncio
import itertools
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import uvloop

from benchmarks.figures import Round, percentile
from benchmarks.http_client import Connection
from benchmarks.workloads import read_requests


async def measure(host: str, port: int, requests: list[bytes], connections: int, seconds: float) -> Round:
    """Ask for `seconds`; what is unanswered then does not count."""
    turn = itertools.cycle(requests)
    latencies: list[float] = []
    failed = 0

    def send(connection: Connection) -> None:
        sent_at = time.perf_counter()

        def reported(status: int) -> None:
            nonlocal failed
            latencies.append((time.perf_counter() - sent_at) * 1e3)
            failed += not 200 <= status < 300

        connection.ask(next(turn), reported)

    all_of_them = [Connection(host, port, send) for _ in range(connections)]
    began = time.perf_counter()
    await asyncio.gather(*(connection.open() for connection in all_of_them))
    await asyncio.sleep(seconds)
    took, answered, lost = time.perf_counter() - began, list(latencies), failed
    for connection in all_of_them:
        connection.close()
    return Round(
        took,
        len(answered),
        lost,
        percentile(answered, 50),
        percentile(answered, 99),
        max(answered, default=float("nan")),
    )


def main(host: str, port: str, file: str, connections: str, seconds: str) -> None:
    """As the module says."""
    asked = measure(host, int(port), read_requests(Path(file)), int(connections), float(seconds))
    print(json.dumps(asdict(uvloop.run(asked))))


if __name__ == "__main__":
    main(*sys.argv[1:])
