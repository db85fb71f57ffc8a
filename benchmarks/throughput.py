"""Requests per second and latency: servers take turns under the same load, after giving equal answers."""

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

from benchmarks.busy import busy_processors
from benchmarks.load import Loader
from benchmarks.peers import ECHO, FASTAPI, FOREIGN, RAY
from benchmarks.plan import Cell
from benchmarks.processes import Ended
from benchmarks.results import CellResult, Results
from benchmarks.servers import GATEWAY, MLFLOW, SERVERS, Missing, Place, Server, Start
from benchmarks.workloads import WORKLOADS, bodies, write_requests

COMPARED = {1: 100, 32: 8, 1000: 1}
"""Answers compared before anything is measured, by rows."""
_WARM_SECONDS = 1
_UNLIKE = {"csv": {ECHO, FASTAPI, RAY}}
"""Who understands no such body; the echo's answer is no prediction, whatever it is asked."""


class Unequal(RuntimeError):
    """One of our gateways, or MLflow, answered something else than it should: no speed means anything."""


def measure(
    model: str,
    cells: list[Cell],
    peers: Mapping[str, Start],
    place: Place,
    loader: Loader,
    results: Results,
    on_time: Callable[[object], bool],
) -> Iterator[str]:
    """Add cells that ask one model to `results`; yields news now and then. Raises Unequal, Ended."""
    with ExitStack() as stack:
        wanted = {name for cell in cells for name in cell.servers}
        starts = {name: start for name, start in (SERVERS | dict(peers)).items() if name in wanted}
        servers = _started(model, starts, place, stack, results)
        if not {GATEWAY, MLFLOW} <= servers.keys():
            return
        alike = {}
        for workload in dict.fromkeys(cell.load.workload for cell in cells):
            rows = sorted({cell.load.rows for cell in cells if cell.load.workload == workload})
            comparison = compare(list(servers.values()), workload, rows)
            results.compared[workload] = comparison.equal
            results.broken += [
                f"{name} takes no part in {workload}: {why}" for name, why in comparison.unlike.items()
            ]
            alike[workload] = servers.keys() - comparison.unlike.keys()
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place.directory)))
        for cell in cells:
            if on_time(cell.load):
                requests = directory / f"{cell.load.workload}-{cell.load.rows}.requests"
                write_requests(requests, cell.load.workload, cell.load.rows)
                yield f"{cell.load}, {cell.rounds} rounds of {cell.seconds} s"
                taking_part = [servers[name] for name in cell.servers if name in alike[cell.load.workload]]
                with busy_processors(place.core) if cell.load.busy else nullcontext():
                    measured = _measure_cell(cell, taking_part, loader, requests)
                results.cells.append(measured)


def _started(
    model: str, starts: Mapping[str, Start], place: Place, stack: ExitStack, results: Results
) -> dict[str, Server]:
    """Those that can be; a peer that can not be started keeps nobody else from it."""
    servers = {}
    for name, start in starts.items():
        try:
            servers[name] = stack.enter_context(start(model, place))
        except Missing as missing:
            results.missing[name] = str(missing)
        except Ended as ended:
            if name in SERVERS:
                raise
            results.missing[name] = f"it did not start: {ended}"
    return servers


class Comparison(NamedTuple):
    """What was found before anything is measured."""

    equal: int
    """Requests that all who take part answered alike."""
    unlike: dict[str, str]
    """Servers of others that answered otherwise than MLflow, and how."""


def compare(servers: list[Server], workload: str, rows: list[int]) -> Comparison:
    """Ask all servers the same, the gateway for both its versions. Raises Unequal."""
    equal, versions, unlike = 0, set(), dict[str, str]()
    content_type, tolerance = WORKLOADS[workload].content_type, WORKLOADS[workload].tolerance
    for count in rows:
        for key, body in enumerate(bodies(workload, count)[: COMPARED[count]]):
            answers = {}
            for server in servers:
                if server.name in _UNLIKE.get(workload, {ECHO}) or server.name in unlike:
                    continue
                status, reported, version = server.ask(body, f"user-{key}", content_type=content_type)
                if status == 200:
                    answers[server.name] = json.loads(reported)
                else:
                    _differs(server.name, f"it answered {status}: {reported[:500]!r}", unlike)
                if server.name == GATEWAY:
                    versions.add(version)
            for name, answer in answers.items():
                if not same(answer, answers[MLFLOW], tolerance):
                    _differs(name, f"it and {MLFLOW} differ on request {key} of {count} rows", unlike)
            equal += 1
    if len(versions) < 2:
        raise Unequal(f"all keys went to version {versions}: the split is not in force")
    return Comparison(equal, unlike)


def _differs(name: str, how: str, unlike: dict[str, str]) -> None:
    if name not in FOREIGN:
        raise Unequal(f"{name}: {how}")
    unlike[name] = how


def same(one: object, other: object, tolerance: float) -> bool:
    """Equal in types, structure and order; floats within the tolerance, relatively."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=tolerance) or (one != one and other != other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other, repeat(tolerance)))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values(), repeat(tolerance)))
    return one == other


def _measure_cell(cell: Cell, servers: list[Server], loader: Loader, requests: Path) -> CellResult:
    result = CellResult(cell, {server.name: [] for server in servers})
    connections = cell.load.connections
    used = {server.name: defaultdict[str, float](float) for server in servers}
    for server in servers:
        loader.closed_loop(server.port, requests, connections, _WARM_SECONDS)
    for _ in range(cell.rounds):
        for server in servers:
            before = server.tree.processor_seconds()
            one = loader.closed_loop(server.port, requests, connections, cell.seconds)
            server.tree.alive()
            if not one.requests:
                raise Ended(f"{server.name} answered nothing under {cell.load}: {server.tree.tail()}")
            result.rounds[server.name].append(one)
            for role, seconds in server.tree.processor_seconds().items():
                used[server.name][role] += seconds - before.get(role, 0.0)
    for name, spent in used.items():
        answered = sum(one.requests for one in result.rounds[name])
        result.microseconds[name] = {
            role: 1e6 * seconds / answered for role, seconds in spent.items() if seconds > 0
        }
    result.alone = _alone(next(server for server in servers if server.name == GATEWAY))
    return result


def _alone(server: Server) -> dict[str, str]:
    [model] = json.loads(server.get("/v1/state"))["models"].values()
    reported = {number: version["batching"] for number, version in model["versions"].items()}
    return {
        number: batching["why"] for number, batching in reported.items() if batching and not batching["on"]
    }
