"""What was measured, as it goes into the JSON file."""

from dataclasses import dataclass, field
from statistics import median

from benchmarks.figures import Round, ratios
from benchmarks.plan import Cell, Load
from benchmarks.processes import Level
from benchmarks.servers import GATEWAY, MLFLOW


@dataclass(slots=True)
class CellResult:
    """All rounds of one cell; the n-th rounds of all servers ran next to each other."""

    cell: Cell
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    microseconds: dict[str, dict[str, float]] = field(default_factory=dict)
    """Processor time per request, by server and by what the process is."""
    alone: dict[str, str] = field(default_factory=dict)
    """Versions whose requests shared no predicts by the end, and why."""

    def failed(self, *servers: str) -> int:
        """Requests without a good answer, at these servers."""
        return sum(one.failed for server in servers for one in self.rounds[server])

    def median(self, server: str, figure: str) -> float:
        """Median over the rounds of one of `Round`'s figures."""
        return float(median(getattr(one, figure) for one in self.rounds[server]))

    def ratio(self, figure: str, over: str = MLFLOW, server: str = GATEWAY) -> float:
        """One server's figure over another's: the median of the ratios of neighbouring rounds."""
        return float(median(ratios(self.rounds[server], self.rounds[over], figure)))


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


@dataclass(frozen=True, slots=True)
class Scale:
    """A gateway with more of everything."""

    models: int
    more_versions: int
    """How many versions more than one model's two they have."""
    one_mib: float
    many_mib: float
    """PSS of all processes."""
    slower: list[float]
    """Time per request with all models over that with one; neighbouring rounds."""
    keys: int
    series_before: int
    series_after: int
    """After requests with that many different keys."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The gateway at half its capacity, asked on schedule while busy processes take processor time."""

    capacity: float
    """Answers per second before those processes were started."""
    rate: int
    """Requests per second, from then on."""
    seconds: int
    sent: int
    refused: int
    """Answers with status 429 or 503."""
    failed: int
    """All without a good answer, those among them."""
    never_sent: int
    """Due, and still without a free connection at the end: the gateway answers less than the rate."""
    p99_ms: float
    """From when requests were due, over all that were sent."""


@dataclass(slots=True)
class Results:
    """Everything of one run."""

    cells: list[CellResult] = field(default_factory=list)
    launches: dict[str, list[Launch]] = field(default_factory=dict)
    swaps: Swaps | None = None
    scale: Scale | None = None
    busy: Busy | None = None
    compared: dict[str, int] = field(default_factory=dict)
    """Answers found equal, by workload."""
    missing: dict[str, str] = field(default_factory=dict)
    """Servers that could not be started, and why."""
    lacking: dict[str, str] = field(default_factory=dict)
    """Models that can not be served here, and why."""
    skipped: list[str] = field(default_factory=list)
    """What this machine or the time limit did not allow, and why."""
    broken: list[str] = field(default_factory=list)
    """What ended with an error: a defect, ours or theirs."""

    def cell(self, load: Load) -> CellResult | None:
        """The measurement of this load with the shortest rounds: all servers take part in it."""
        found = [result for result in self.cells if result.cell.load == load]
        return min(found, key=lambda result: result.cell.seconds, default=None)

    def tail(self, load: Load) -> CellResult | None:
        """The measurement of this load with the longest rounds."""
        found = [result for result in self.cells if result.cell.load == load]
        return max(found, key=lambda result: result.cell.seconds, default=None)
