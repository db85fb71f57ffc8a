"""What is measured, how often and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """One load. Each round runs every server for `seconds`, one after the other."""

    workload: str
    rows: int
    connections: int
    seconds: int
    rounds: int

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        connections = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        return f"{self.workload}, {rows}, {connections}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One mode."""

    name: str
    cells: tuple[Cell, ...]
    launches: int
    """How often every server is started alone, for its start time and its memory."""
    swaps: int
    swap_rate: int
    """Requests per second, sent on schedule whatever the answers do, while the alias moves."""
    limit_seconds: float
    """What is not begun by then is skipped, saying so."""

    @property
    def workloads(self) -> list[str]:
        """In order, each once."""
        return list(dict.fromkeys(cell.workload for cell in self.cells))


_OF_BARS = (
    *(("text", 1, 1), ("text", 1, 16), ("text", 1, 64), ("text", 32, 16), ("text", 1000, 4)),
    *(("linear", 1, 64), ("forest", 1, 16)),
)
"""Workload, rows, connections: what the bars speak of."""

_ALL = (
    *(
        (name, rows, many)
        for name in ("text", "linear", "forest")
        for rows in (1, 32)
        for many in (1, 16, 64)
    ),
    ("text", 1000, 4),
)

TAIL = Cell("text", 1, 16, seconds=30, rounds=2)
"""Collections of all garbage come seconds apart; a p99 over a shorter time may not see them."""

PLANS = {
    plan.name: plan
    for plan in (
        Plan(
            name="full",
            cells=(*(Cell(*load, seconds=5, rounds=5) for load in _ALL), TAIL),
            launches=5,
            swaps=20,
            swap_rate=500,
            limit_seconds=3600,
        ),
        Plan(
            name="quick",
            cells=tuple(Cell(*load, seconds=2, rounds=2) for load in _OF_BARS),
            launches=1,
            swaps=5,
            swap_rate=500,
            limit_seconds=600,
        ),
        Plan(  # what the test of this package runs
            name="tiny",
            cells=(Cell("text", 1, 4, seconds=1, rounds=1),),
            launches=1,
            swaps=1,
            swap_rate=50,
            limit_seconds=1200,
        ),
    )
}
