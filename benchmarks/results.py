"""What was measured, as it goes into the JSON file."""

from dataclasses import dataclass, field
from statistics import median

from benchmarks.figures import Round
from benchmarks.plan import Cell
from benchmarks.processes import Level
from benchmarks.servers import GATEWAY, MLFLOW


@dataclass(slots=True)
class CellResult:
    """All rounds of one cell; the n-th rounds of all servers ran next to each other."""

    cell: Cell
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    microseconds: dict[str, dict[str, float]] = field(default_factory=dict)
    """Processor time per request, by server and by what the process is."""

    def failed(self) -> int:
        """Requests without a good answer, at any server."""
        return sum(one.failed for rounds in self.rounds.values() for one in rounds)

    def median(self, server: str, figure: str) -> float:
        """Median over the rounds of one of `Round`'s figures."""
        return float(median(getattr(one, figure) for one in self.rounds[server]))

    def ratio(self, figure: str, over: str = MLFLOW) -> float:
        """The gateway's figure over another server's: the median of the ratios of neighbouring rounds."""
        pairs = zip(self.rounds[GATEWAY], self.rounds[over], strict=True)
        return float(median(getattr(ours, figure) / getattr(theirs, figure) for ours, theirs in pairs))


@dataclass(frozen=True, slots=True)
class Launch:
    """A server started alone, answered some requests, and ended."""

    ready_seconds: float
    complete_seconds: float
    level: Level


@dataclass(slots=True)
class Swaps:
    """An alias that moved under load on schedule. Milliseconds from when requests were due."""

    rate: int
    steady_ms: list[float] = field(default_factory=list)
    """While nothing moved."""
    window_ms: list[float] = field(default_factory=list)
    """From when the gateway noticed until the old version was gone."""
    window_seconds: list[float] = field(default_factory=list)
    failed: int = 0
    sent: int = 0
    never_sent: int = 0
    """Due, and still without a free connection at the end: the server answers less than the rate."""
    levels: list[Level] = field(default_factory=list)
    """After each move, at rest."""


@dataclass(slots=True)
class Results:
    """Everything of one run."""

    cells: list[CellResult] = field(default_factory=list)
    launches: dict[str, list[Launch]] = field(default_factory=dict)
    swaps: Swaps | None = None
    compared: dict[str, int] = field(default_factory=dict)
    """Answers found equal, by workload."""
    skipped: list[str] = field(default_factory=list)
    """What this machine or the time limit did not allow, and why."""
    broken: list[str] = field(default_factory=list)
    """What ended with an error: a defect, ours or theirs."""

    def cell(self, workload: str, rows: int, connections: int) -> CellResult | None:
        """The measurement of this load with the longest rounds."""
        wanted = (workload, rows, connections)
        found = [r for r in self.cells if (r.cell.workload, r.cell.rows, r.cell.connections) == wanted]
        return max(found, key=lambda result: result.cell.seconds, default=None)
