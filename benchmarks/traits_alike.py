"""`python -m benchmarks.traits_alike [SECONDS]`: whether an equal canary looks slow by `why: on`.

Both aliases serve the same artefact, each half of the keys, and every request has many rows. An answer of
the canary waits for the reading of its request, one of production never does.
"""

import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import percentile
from benchmarks.processes import environment
from benchmarks.registry_layout import CANARY, PRODUCTION
from benchmarks.servers import HOST, Place, Server, gateway_by

SECONDS = 60.0
"""Of load in each of the turns, unless the command says otherwise."""
CLIENTS, PAUSE_SECONDS = 4, 0.02
"""Each asks, waits for the answer, and then so long: queues would hide what is looked for."""
TURNS = ("off", "on", "off", "on")
CASES: dict[str, tuple[str, bytes]] = {
    "1 000 rows of JSON": (
        "application/json",
        json.dumps({"dataframe_split": {"columns": ["text"], "data": [["good box"]] * 1000}}).encode(),
    ),
    "2 000 rows of CSV": ("text/csv", b"text\n" + b"good box\n" * 2000),
}
"""By name, what is asked: within 64 KiB and 2 000 cells, so that all of it is read."""


def main(seconds: float) -> None:
    """Print a line for each case and turn."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        command = [sys.executable, "-m", "benchmarks.registry", "build", name, "text:text:3"]
        subprocess.run(command, check=True, env=environment())  # noqa: S603 - its own words
        for case, (content_type, body) in CASES.items():
            for why in TURNS:
                place = Place(directory, None)
                with gateway_by(["canary-router"], "gateway", ["text"], place, share=50) as server:
                    _turn(directory, server, why)
                    latencies = _ask(server, content_type, body, seconds)
                    print(f"{case}, why: {why}: {_line(latencies, _compared(server))}", flush=True)


def _turn(directory: Path, server: Server, why: str) -> None:
    """Say it in the file, and wait until that is in force. Whoever waits too long is ended by hand."""
    config = directory / f"router-{server.port}.yaml"
    config.write_text(config.read_text().replace("split:", f"why: {why}, split:"))
    wanted = "off" if why == "off" else "few_faults"
    while _compared(server)["pattern"]["finding"] != wanted:
        time.sleep(0.1)


def _compared(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.get("/v1/compare"))["models"]["text"]["canary"]
    return found


def _ask(server: Server, content_type: str, body: bytes, seconds: float) -> dict[int, list[float]]:
    """Milliseconds of every answer, by version."""
    latencies: dict[int, list[float]] = {PRODUCTION: [], CANARY: []}
    until = time.monotonic() + seconds
    clients = [
        threading.Thread(target=_client, args=(server, content_type, body, until, latencies, number))
        for number in range(CLIENTS)
    ]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    return latencies


def _client(
    server: Server,
    content_type: str,
    body: bytes,
    until: float,
    latencies: dict[int, list[float]],
    first: int,
) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    turn = first
    while time.monotonic() < until:
        headers = {"Content-Type": content_type, "X-Request-Key": f"user-{turn}"}
        turn += CLIENTS
        began = time.perf_counter()
        connection.request("POST", "/invocations", body, headers)
        answer = connection.getresponse()
        answer.read()
        took = (time.perf_counter() - began) * 1e3
        if answer.status == 200:
            latencies[int(answer.headers["X-Model-Version"])].append(took)
        time.sleep(PAUSE_SECONDS)
    connection.close()


def _line(latencies: dict[int, list[float]], compared: dict[str, Any]) -> str:
    [check] = (one for one in compared["checks"] if one["check"] == "latency")
    each = []
    for arm, version in (("production", PRODUCTION), ("canary", CANARY)):
        times = ", ".join(f"{percentile(latencies[version], part):.2f}" for part in (50, 95, 99))
        rate = "not judged yet" if (slow := check[arm]["rate"]) is None else f"{100 * slow:.1f} % slow"
        each.append(f"{arm} {times} ms, {rate}")
    requests = sum(map(len, latencies.values()))
    return f"{requests} requests; p50, p95, p99 of {'; of '.join(each)}; {check['verdict']}"


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
