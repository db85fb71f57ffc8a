"""`python -m benchmarks.elsewhere [--mlserver PROGRAM]`: what `where: {http: …}` adds to `where: local`.

One version, asked five ways by turns: the gateway with the version in a worker of its own; an `mlflow models
serve`, by itself and through a gateway; an MLServer likewise, where one is named. The canary is loaded
everywhere and has no share. Neighbouring rounds are compared: what else the machine does hits all alike.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.figures import Round
from benchmarks.load import Loader, build_registry
from benchmarks.processes import Ended, cores
from benchmarks.registry_layout import CANARY, PRODUCTION
from benchmarks.servers import (
    GATEWAY,
    Place,
    Running,
    Server,
    free_port,
    gateway_by,
    mlflow_serve,
    status,
    tree,
    wait,
)
from benchmarks.throughput import same
from benchmarks.workloads import WORKLOADS, bodies, write_bodies

WORKLOAD = "text"
LOCAL, MLFLOW, MLSERVER = "local", "mlflow models serve", "MLServer"
_WARM_SECONDS = 1
_COMPARED = 50
Engine = Callable[[Place, int, int], AbstractContextManager[Server]]
"""Starts one with a version of that number, at a port of 127.0.0.VERSION."""
_V2 = f"/v2/models/{WORKLOAD}/infer"


@dataclass(slots=True)
class Way:
    """One way to have the version answer, and what its rounds took."""

    name: str
    server: Server
    path: str
    gateway: Running | None
    """None: the engine is asked by itself."""
    engine: Running | None
    """None: it is the gateway's own worker."""
    rounds: dict[int, list[Round]] = field(default_factory=dict)
    """By connections."""
    spent: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """Microseconds of a processor per request in each round: the gateway's, and the engine's or worker's."""

    def measure(self, loader: Loader, requests: Path, connections: int, seconds: int) -> None:
        """One more round. Raises Ended."""
        before = self._seconds()
        one = loader.good_round(self.server, requests, connections, seconds)
        gateway, engine = (
            1e6 * (now - then) / one.requests for now, then in zip(self._seconds(), before, strict=True)
        )
        self.rounds.setdefault(connections, []).append(one)
        self.spent.setdefault(connections, []).append((gateway, engine))

    def _seconds(self) -> tuple[float, float]:
        ours = self.gateway.processor_seconds() if self.gateway else {}
        worker = 0.0 if self.engine else ours.pop("worker", 0.0)
        engine = self.engine.processor_seconds() if self.engine else {}
        return sum(ours.values()), worker + sum(engine.values())

    def line(self, connections: int) -> str:
        """A row of the table: medians, with the least and the most of rates and of the p50."""
        rounds, spent = self.rounds[connections], self.spent[connections]
        rates = [one.per_second for one in rounds]
        p50s = [one.p50_ms for one in rounds]
        gateway, engine = (median(column) for column in zip(*spent, strict=True))
        return (
            f"| {connections} | {self.name} | {median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
            f" | {median(p50s):.2f} ({min(p50s):.2f} to {max(p50s):.2f})"
            f" | {median(one.p99_ms for one in rounds):.1f}"
            f" | {f'{gateway:.0f}' if self.gateway else '–'} | {engine:.0f} |"
        )


def main() -> None:
    """Read the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(description="What an engine elsewhere adds to a version here.")
    parser.add_argument("--mlserver", help="the program mlserver, of an environment of its own")
    parser.add_argument("--connections", default="1,16,64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of one round")
    arguments = parser.parse_args()
    server_core, client_core = cores() or (None, None)
    loader = Loader("wrk" if shutil.which("wrk") else "python", client_core)
    counts = [int(one) for one in arguments.connections.split(",")]
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="canary-router-elsewhere-"))
        place = Place(Path(directory), server_core)
        build_registry(place.directory, {WORKLOAD: (WORKLOADS[WORKLOAD].model, CANARY)})
        ways = _ways(place, arguments.mlserver, stack)
        asked = {"/invocations": bodies(WORKLOAD, 1), _V2: [_v2(body) for body in bodies(WORKLOAD, 1)]}
        _compare(ways, asked)
        for path, sent in asked.items():
            write_bodies(_requests(place, path), sent, path)
        try:
            _measure(ways, loader, place, counts, arguments.rounds, arguments.seconds)
        except Ended as ended:
            raise SystemExit(str(ended)) from None
    pinned = "servers on one processor, the load on another" if server_core is not None else "no pinning"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {arguments.rounds} rounds of {arguments.seconds} s, {pinned}")
    print("| connections | asked | requests/s | p50 ms | p99 ms | gateway µs | engine or worker µs |")
    print("|---|---|---|---|---|---|---|")
    for connections in counts:
        for way in ways:
            print(way.line(connections))


def _ways(place: Place, mlserver: str | None, stack: ExitStack) -> list[Way]:
    with_worker = stack.enter_context(_gateway(place, ""))
    ways = [Way("gateway, `local`", with_worker, "/invocations", with_worker.tree, None)]
    engines: list[tuple[str, str, str, Engine]] = [(MLFLOW, "mlflow", "/invocations", _mlflow)]
    if mlserver:
        engines.append((MLSERVER, "v2", _V2, partial(_mlserver, mlserver)))
    for name, protocol, path, engine in engines:
        port = free_port()
        production, _ = (
            stack.enter_context(engine(place, version, port)) for version in (PRODUCTION, CANARY)
        )
        where = f'{{http: "http://127.0.0.{{version}}:{port}", protocol: {protocol}}}'
        through = stack.enter_context(_gateway(place, where))
        ways += [
            Way(f"{name} by itself", production, path, None, production.tree),
            Way(f"gateway, `http` before {name}", through, path, through.tree, production.tree),
        ]
    return ways


def _gateway(place: Place, where: str) -> AbstractContextManager[Server]:
    return gateway_by(["canary-router"], GATEWAY, [WORKLOAD], place, share=0, where=where)


def _mlflow(place: Place, version: int, port: int) -> AbstractContextManager[Server]:
    return mlflow_serve(WORKLOAD, place, version=version, host=f"127.0.0.{version}", port=port)


@contextmanager
def _mlserver(program: str, place: Place, version: int, port: int) -> Iterator[Server]:
    """As `canary-router render` has it started, under the version's own number, in one process."""
    host, home = f"127.0.0.{version}", place.directory / f"mlserver-{version}"
    home.mkdir()
    [model] = (place.directory / "artifacts").rglob("MLmodel")  # one artefact, registered as all versions
    settings = {
        "MLSERVER_HOST": host,
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(free_port()),
        "MLSERVER_METRICS_PORT": str(free_port()),
        # Its parallel workers end at once with the newest uvloop that it may be installed with.
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_MODEL_NAME": WORKLOAD,
        "MLSERVER_MODEL_VERSIONS": f'["{version}"]',
        "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_mlflow.MLflowRuntime",
        "MLSERVER_MODEL_URI": str(model.parent),
    }
    began = time.monotonic()
    log = place.directory / f"mlserver-{version}.log"
    with tree([program, "start", str(home)], log, settings, place.core, "server") as started:
        ready = f"/v2/models/{WORKLOAD}/ready"
        seconds = wait(started, lambda: status(port, ready, host) == 200, began)
        yield Server(MLSERVER, port, started, log, seconds, seconds)


def _v2(body: bytes) -> bytes:
    """The same rows in the Open Inference Protocol."""
    texts = [row[0] for row in json.loads(body)["dataframe_split"]["data"]]
    column = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return json.dumps(
        {"inputs": [{**column, "parameters": {"content_type": "str"}}], "parameters": {"content_type": "pd"}}
    ).encode()


def _compare(ways: list[Way], asked: Mapping[str, list[bytes]]) -> None:
    """Raises SystemExit unless all give the same answers."""
    for number in range(_COMPARED):
        answers = []
        for way in ways:
            code, reported, _ = way.server.ask(asked[way.path][number], f"user-{number}", path=way.path)
            if code != 200:
                raise SystemExit(f"{way.name} answered {code}: {reported[:500]!r}")
            answer = json.loads(reported)
            answers.append(answer["outputs"][0]["data"] if "outputs" in answer else answer["predictions"])
        if not all(same(one, answers[0], WORKLOADS[WORKLOAD].tolerance) for one in answers):
            raise SystemExit(f"request {number} is answered differently: {answers}")


def _measure(
    ways: list[Way], loader: Loader, place: Place, counts: list[int], rounds: int, seconds: int
) -> None:
    for connections in counts:
        for way in ways:
            loader.closed_loop(way.server.port, _requests(place, way.path), connections, _WARM_SECONDS)
        for turn in range(rounds):
            for way in ways if turn % 2 == 0 else reversed(ways):
                way.measure(loader, _requests(place, way.path), connections, seconds)


def _requests(place: Place, path: str) -> Path:
    return place.directory / f"requests{path.replace('/', '-')}"


if __name__ == "__main__":
    main()
