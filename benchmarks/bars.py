"""What we owe, by the numbers of `docs/performance.md`, and whether a run shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import growth, percentile
from benchmarks.results import CellResult, Results, Swaps
from benchmarks.servers import GATEWAY, MLFLOW

TAIL_SECONDS = 30
GROWTH_SWAPS = 100
OVERLOADED_MS = 1000.0
"""A steady p99 above it means that requests pile up; what a move adds cannot be seen then."""


class NotMeasured(Exception):
    """Why a bar has no figure in this run."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured for one bar."""

    value: float
    note: str = ""
    """How this run falls short of what the bar asks for, or what explains the figure."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise."""

    number: str
    what: str
    unit: str
    limit: float
    stretch: float
    at_least: bool
    """True: more is better."""
    figure: Callable[[Results], Figure]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One promise in one run."""

    bar: Bar
    verdict: str
    """met, missed or not measured."""
    value: float | None
    note: str


def judge(bar: Bar, results: Results) -> Outcome:
    """Hold a bar against a run."""
    try:
        figure = bar.figure(results)
    except NotMeasured as reason:
        return Outcome(bar, "not measured", None, str(reason))
    met = figure.value >= bar.limit if bar.at_least else figure.value <= bar.limit
    return Outcome(bar, "met" if met else "missed", figure.value, figure.note)


def _cell(results: Results, workload: str, rows: int, connections: int) -> CellResult:
    found = results.cell(workload, rows, connections)
    if found is None:
        raise NotMeasured("this load was not run")
    if failed := found.failed():
        raise NotMeasured(f"{failed} requests failed")
    return found


def _speed(workload: str, rows: int, connections: int) -> Callable[[Results], Figure]:
    return lambda results: Figure(_cell(results, workload, rows, connections).ratio("per_second"))


def _p50_alone(results: Results) -> Figure:
    return Figure(_cell(results, "text", 1, 1).ratio("p50_ms"))


def _p99(results: Results) -> Figure:
    found = _cell(results, "text", 1, 16)
    seconds = found.cell.seconds
    return Figure(
        found.ratio("p99_ms"),
        "" if seconds >= TAIL_SECONDS else f"rounds of {seconds} s, not {TAIL_SECONDS} s",
    )


def _swaps(results: Results) -> Swaps:
    if results.swaps is None:
        raise NotMeasured("no alias was moved")
    return results.swaps


def _window_p99(results: Results) -> Figure:
    swaps = _swaps(results)
    steady = percentile(swaps.steady_ms, 99)
    note = f"steady p99 {steady:.1f} ms, {len(swaps.levels)} moves"
    if steady > OVERLOADED_MS:
        note += f"; {swaps.rate} requests per second are more than it could answer here and now"
    return Figure(percentile(swaps.window_ms, 99), note)


def _window_worst(results: Results) -> Figure:
    return Figure(max(_swaps(results).window_ms, default=float("nan")))


def _swap_failures(results: Results) -> Figure:
    swaps = _swaps(results)
    if swaps.never_sent and not swaps.failed:
        raise NotMeasured(
            f"{swaps.never_sent} requests were due and never sent: it answers less than the rate"
        )
    return Figure(swaps.failed, f"of {swaps.sent} requests at {swaps.rate} per second")


def _launched(results: Results, figure: Callable[[str], float]) -> float:
    if not {GATEWAY, MLFLOW} <= results.launches.keys():
        raise NotMeasured("no server was started alone")
    return figure(GATEWAY) / figure(MLFLOW)


def _memory(results: Results) -> Figure:
    def mib(server: str) -> float:
        return median(launch.level.pss_mib for launch in results.launches[server])

    ratio = _launched(results, mib)
    return Figure(ratio, f"{mib(GATEWAY):.0f} MiB in all, {mib(MLFLOW):.0f} MiB there")


def _start(results: Results) -> Figure:
    def ready(server: str) -> float:
        return median(launch.ready_seconds for launch in results.launches[server])

    ratio = _launched(results, ready)
    complete = median(launch.complete_seconds for launch in results.launches[GATEWAY])
    note = f"{ready(GATEWAY):.1f} s, both aliases {complete:.1f} s, {ready(MLFLOW):.1f} s there"
    return Figure(ratio, note)


def _growth(figure: str) -> Callable[[Results], Figure]:
    def measured(results: Results) -> Figure:
        levels = _swaps(results).levels
        ratio = growth([getattr(level, figure) for level in levels])
        if ratio != ratio:
            raise NotMeasured(f"{len(levels)} moves are too few to tell")
        short = f"{len(levels)} moves, not {GROWTH_SWAPS}" if len(levels) < GROWTH_SWAPS else ""
        return Figure(ratio, short)

    return measured


def _speed_bar(number: str, load: tuple[str, int, int], limit: float, stretch: float) -> Bar:
    workload, rows, connections = load
    what = f"{workload}, {rows} row{'s' if rows > 1 else ''}, {connections} connections, answers per second"
    return Bar(number, what, "×", limit, stretch, at_least=True, figure=_speed(*load))


def _bound(
    number: str, what: str, unit: str, limit: float, stretch: float, figure: Callable[[Results], Figure]
) -> Bar:
    return Bar(number, what, unit, limit, stretch, at_least=False, figure=figure)


BARS = (
    _speed_bar("P1", ("text", 1, 64), 20, 30),
    _speed_bar("P2", ("text", 1, 16), 12, 18),
    _bound("P4", "text, 1 row, 1 connection, p50", "×", 0.30, 0.20, _p50_alone),
    _speed_bar("P5", ("linear", 1, 64), 50, 80),
    _speed_bar("P6", ("forest", 1, 16), 8, 12),
    _speed_bar("P7", ("text", 32, 16), 7, 10),
    _speed_bar("P7", ("text", 1000, 4), 1.5, 2),
    _bound("P9", "text, 1 row, 16 connections, p99", "×", 0.05, 0.02, _p99),
    _bound("P10", "alias moved under open loop: p99", " ms", 15, 15, _window_p99),
    _bound("P10", "alias moved under open loop: worst", " ms", 40, 40, _window_worst),
    _bound("P10", "alias moved under open loop: failed", "", 0, 0, _swap_failures),
    _bound("P11", "memory (PSS) for both aliases", "×", 1.0, 0.7, _memory),
    _bound("P12", "start to ready", "×", 0.7, 0.4, _start),
    _bound("P15", "growth of memory (PSS) over moves", "×", 1.05, 1.05, _growth("pss_mib")),
    _bound("P15", "growth of threads over moves", "×", 1.05, 1.05, _growth("threads")),
    _bound("P15", "growth of descriptors over moves", "×", 1.05, 1.05, _growth("descriptors")),
)
"""Ratios are the gateway's figure over that of `mlflow models serve`."""
