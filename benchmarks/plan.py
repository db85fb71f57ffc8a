"""What is measured, how often and for how long."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from benchmarks.peers import ENVOY, FASTAPI, RAY
from benchmarks.pythons import gateway_under
from benchmarks.registry_layout import MODELS, NEXT
from benchmarks.servers import GATEWAY, MLFLOW
from benchmarks.workloads import WORKLOADS


class Load(NamedTuple):
    """What is asked of a server at once."""

    workload: str
    rows: int
    connections: int
    busy: bool = False
    """Whether a busy process of the same priority runs on every processor that the servers may use."""

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        connections = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        return f"{self.workload}, {rows}, {connections}" + (", processors busy" if self.busy else "")


@dataclass(frozen=True, slots=True)
class Cell:
    """One load. Each round runs every server for `seconds`, one after the other."""

    load: Load
    seconds: int
    rounds: int
    servers: tuple[str, ...] = (MLFLOW, GATEWAY)


LAUNCHES, SWAPS, SCALE = "start and memory", "alias moves", "more models and keys"
BUSY = "half the capacity beside busy processes"
PART_MODELS = {LAUNCHES: "text", SWAPS: "text", SCALE: "text", BUSY: "forest"}
"""Parts of a run besides its loads, and the registered model that each asks."""
_UNOWED = {Load("text", 1, 16): {FASTAPI}, Load("text", 1, 64): {FASTAPI, RAY}}
"""Who takes part for the table though no bar speaks of it, where a plan has more peers."""
_MORE_PEERS = {ENVOY}
"""Of whom bars speak and who take part only where a plan has more peers."""


@dataclass(frozen=True, slots=True)
class Need:
    """What has to be measured for a bar."""

    load: Load | None = None
    part: str = ""
    peers: tuple[str, ...] = ()
    """Who takes part besides MLflow and the gateway."""
    tail: bool = False
    """One more cell, with rounds long enough for a p99."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One mode."""

    name: str
    seconds: int
    """Of one round."""
    rounds: int
    tail_seconds: int
    """Of a round for a p99: collections of all garbage come seconds apart. 0: none of their own."""
    tail_rounds: int
    launches: int
    """How often every server is started alone, for its start time and its memory."""
    swaps: int
    swap_limit_seconds: float
    swap_rate: int
    """Requests per second, sent on schedule whatever the answers do, while the alias moves."""
    keys: int
    """Callers with different keys, for the count of series."""
    busy_seconds: int
    """How long requests are sent on schedule beside busy processes."""
    limit_seconds: float
    """What is not begun by then is skipped, saying so."""
    bars: frozenset[str] | None
    """Which are measured where none are named; None: all."""
    more_peers: bool
    """Whether an app written by hand, Ray Serve and Envoy take part, where they are installed."""


@dataclass(frozen=True, slots=True)
class Agenda:
    """What one run does: a plan for some bars."""

    plan: Plan
    cells: tuple[Cell, ...]
    parts: frozenset[str]
    peers: frozenset[str]
    """Who is weighed alone besides MLflow and the gateway."""
    pythons: tuple[str, ...] = ()
    """Further interpreters, as in 3.12, whose gateways take part in every load that they can take."""

    @property
    def by_model(self) -> Mapping[str, list[Cell]]:
        """Loads that the same servers can take, in order."""
        ordered = sorted(self.cells, key=lambda cell: list(MODELS).index(_model(cell)))
        return {model: list(cells) for model, cells in groupby(ordered, _model)}

    @property
    def registered(self) -> dict[str, tuple[str, int]]:
        """What the registry must hold: kind and number of versions, by name."""
        kinds = {*self.by_model, *(PART_MODELS[part] for part in self.parts)}
        moves = self.plan.swaps if SWAPS in self.parts else 0
        found = {
            kind: (kind, NEXT - 1 + (moves if kind == "text" else 0)) for kind in MODELS if kind in kinds
        }
        more = MODELS["text"] if SCALE in self.parts else ()
        return {**found, **dict.fromkeys(more, ("text", NEXT - 1))}


def agenda(plan: Plan, needs: Collection[Need], pythons: Collection[str] = ()) -> Agenda:
    """What `plan` does for those needs; a load that several share is run once."""
    takers: dict[Load, set[str]] = {}
    tails = []
    for need in needs:
        if need.load is not None:
            peers = takers.setdefault(need.load, set())
            peers |= _allowed(plan, need)
            if need.tail and plan.tail_seconds:
                tails.append(Cell(need.load, plan.tail_seconds, plan.tail_rounds))
            if plan.more_peers:
                peers |= _UNOWED.get(need.load, set())
            if WORKLOADS[need.load.workload].any_python:
                peers |= set(map(gateway_under, pythons))
    cells = [
        Cell(load, plan.seconds, plan.rounds, (MLFLOW, GATEWAY, *sorted(peers)))
        for load, peers in takers.items()
    ]
    return Agenda(
        plan,
        (*cells, *tails),
        frozenset(need.part for need in needs if need.part),
        frozenset(peer for need in needs if need.part == LAUNCHES for peer in _allowed(plan, need)),
        tuple(pythons),
    )


def _allowed(plan: Plan, need: Need) -> set[str]:
    return set(need.peers) - (set() if plan.more_peers else _MORE_PEERS)


def _model(cell: Cell) -> str:
    return WORKLOADS[cell.load.workload].model
