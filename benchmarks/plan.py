"""What is measured, how often and for how long."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from benchmarks.peers import FASTAPI
from benchmarks.registry_layout import MODELS, NEXT
from benchmarks.servers import GATEWAY, MLFLOW
from benchmarks.workloads import WORKLOADS


class Load(NamedTuple):
    """What is asked of a server at once."""

    workload: str
    rows: int
    connections: int

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        connections = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        return f"{self.workload}, {rows}, {connections}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One load. Each round runs every server for `seconds`, one after the other."""

    load: Load
    seconds: int
    rounds: int
    servers: tuple[str, ...] = (MLFLOW, GATEWAY)


LAUNCHES, SWAPS, SCALE = "start and memory", "alias moves", "more models and keys"
"""Parts of a run besides its loads."""


@dataclass(frozen=True, slots=True)
class Need:
    """What has to be measured for a bar."""

    load: Load | None = None
    part: str = ""
    peer: str = ""
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
    limit_seconds: float
    """What is not begun by then is skipped, saying so."""
    bars: frozenset[str] | None
    """Which are measured where none are named; None: all."""
    fastapi: bool
    """Whether an app written by hand takes part, for the table."""


@dataclass(frozen=True, slots=True)
class Agenda:
    """What one run does: a plan for some bars."""

    plan: Plan
    cells: tuple[Cell, ...]
    parts: frozenset[str]
    peers: frozenset[str]
    """Who is weighed alone besides MLflow and the gateway."""

    @property
    def by_model(self) -> Mapping[str, list[Cell]]:
        """Loads that the same servers can take, in order."""
        ordered = sorted(self.cells, key=lambda cell: list(MODELS).index(_model(cell)))
        return {model: list(cells) for model, cells in groupby(ordered, _model)}

    @property
    def registered(self) -> dict[str, tuple[str, int]]:
        """What the registry must hold: kind and number of versions, by name."""
        kinds = {*self.by_model, *({"text"} if self.parts else ())}
        moves = self.plan.swaps if SWAPS in self.parts else 0
        found = {
            kind: (kind, NEXT - 1 + (moves if kind == "text" else 0)) for kind in MODELS if kind in kinds
        }
        more = MODELS["text"] if SCALE in self.parts else ()
        return {**found, **dict.fromkeys(more, ("text", NEXT - 1))}


def agenda(plan: Plan, needs: Collection[Need]) -> Agenda:
    """What `plan` does for those needs; a load that several share is run once."""
    takers: dict[Load, set[str]] = {}
    tails = []
    for need in needs:
        if need.load is not None:
            peers = takers.setdefault(need.load, set())
            peers |= {need.peer} - {""}
            if need.tail and plan.tail_seconds:
                tails.append(Cell(need.load, plan.tail_seconds, plan.tail_rounds))
            if plan.fastapi and need.load.workload == "text" and need.load.connections in (16, 64):
                peers |= {FASTAPI} if need.load.rows == 1 else set()
    cells = [
        Cell(load, plan.seconds, plan.rounds, (MLFLOW, GATEWAY, *sorted(peers)))
        for load, peers in takers.items()
    ]
    return Agenda(
        plan,
        (*cells, *tails),
        frozenset(need.part for need in needs if need.part),
        frozenset(need.peer for need in needs if need.peer and need.part == LAUNCHES),
    )


def _model(cell: Cell) -> str:
    return WORKLOADS[cell.load.workload].model
