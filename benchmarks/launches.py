"""Start to ready, and memory: each server alone on the machine, in turns."""

import time
from collections.abc import Collection

from benchmarks.peers import PEERS
from benchmarks.results import Launch, Results
from benchmarks.servers import SERVERS, Missing, Place
from benchmarks.workloads import bodies

WORKLOAD = "text"
_REQUESTS = 200
_REST_SECONDS = 0.5


def measure(times: int, peers: Collection[str], place: Place, results: Results) -> None:
    """Start, ask a few hundred requests, weigh and end the servers and those peers, `times` times."""
    asked = bodies(WORKLOAD, 1)[:_REQUESTS]
    started = SERVERS | {name: PEERS[name] for name in peers}
    for _ in range(times):
        for name, start in started.items():
            if name in results.missing:
                continue
            try:
                with start(WORKLOAD, place) as server:
                    for key, body in enumerate(asked):
                        server.ask(body, f"user-{key}")
                    time.sleep(_REST_SECONDS)
                    launch = Launch(server.ready_seconds, server.complete_seconds, server.tree.level())
            except Missing as missing:
                results.missing[name] = str(missing)
            else:
                results.launches.setdefault(name, []).append(launch)
