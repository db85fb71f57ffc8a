"""From what a run measured to the one figure that a bar speaks of."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import growth, percentile, ratios
from benchmarks.plan import Load
from benchmarks.results import CellResult, Launch, Results, Swaps
from benchmarks.servers import GATEWAY, MLFLOW

TAIL_SECONDS = 30
LAUNCHES = 3
GROWTH_SWAPS = 100
KEYS = 100_000
MB_PER_MIB = 1.048576
OVERLOADED_MS = 1000.0
"""A steady p99 above it means that requests pile up; what a move adds cannot be seen then."""


class NotMeasured(Exception):
    """Why a bar has no figure in this run."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured for one bar."""

    value: float
    note: str = ""
    """How this run falls short of what the bar asks for, or what the figure is made of."""
    profile: str = ""
    """Where the time goes: shown of a bar that is missed."""


Measured = Callable[[Results], Figure]


def ratio(load: Load, figure: str = "per_second", over: str = MLFLOW) -> Measured:
    """The gateway's figure over another server's under a load."""

    def measured(results: Results) -> Figure:
        found = _good(results, load, results.cell(load), (GATEWAY, over))
        return Figure(found.ratio(figure, over), profile=_profile(found, over))

    return measured


def tail(load: Load) -> Measured:
    """The ratio of p99, in the longest rounds."""

    def measured(results: Results) -> Figure:
        found = _good(results, load, results.tail(load), (GATEWAY, MLFLOW))
        ours, theirs = (found.median(server, "p99_ms") for server in (GATEWAY, MLFLOW))
        note, seconds = f"{ours:.1f} ms, {theirs:.1f} ms there", found.cell.seconds
        if seconds < TAIL_SECONDS:
            note += f"; rounds of {seconds} s, not {TAIL_SECONDS} s"
        return Figure(found.ratio("p99_ms"), note, _profile(found, MLFLOW))

    return measured


def two_gateways(load: Load, one: str, over: str) -> Measured:
    """The speed of one gateway over that of another, which differ in a setting."""

    def measured(results: Results) -> Figure:
        found = _good(results, load, results.cell(load), (one, over))
        each = sorted(ratios(found.rounds[one], found.rounds[over], "per_second"))
        note = f"rounds {each[0]:.2f} to {each[-1]:.2f}; {_profile(found, over, one)}"
        return Figure(found.ratio("per_second", over, one), note)

    return measured


def processor_time(load: Load, role: str) -> Measured:
    """What one process of the gateway takes of a processor, in µs per request."""

    def measured(results: Results) -> Figure:
        found = _good(results, load, results.cell(load), (GATEWAY,))
        if (spent := found.microseconds.get(GATEWAY, {}).get(role)) is None:
            raise NotMeasured(f"no process {role} was seen")
        return Figure(spent, profile=_profile(found, MLFLOW))

    return measured


def _good(results: Results, load: Load, found: CellResult | None, servers: tuple[str, ...]) -> CellResult:
    if found is None:
        raise NotMeasured(results.lacking.get(load.workload, "this load was not run"))
    for name in servers:
        if name not in found.rounds:
            raise NotMeasured(results.missing.get(name, f"{name} took no part"))
    if failed := found.failed(*servers):
        raise NotMeasured(f"{failed} requests failed")
    return found


def _profile(found: CellResult, over: str, server: str = GATEWAY) -> str:
    """Processor time per request, in µs."""
    parts = found.microseconds.get(server, {})
    theirs = sum(found.microseconds.get(over, {}).values())
    if not parts or not theirs:
        return ""
    ours = " + ".join(f"{role} {spent:.0f}" for role, spent in parts.items() if spent >= 1)
    alone = [f"; version {number} shares no predicts: {why}" for number, why in found.alone.items()]
    return f"{ours} µs a request, {theirs:.0f} there" + "".join(alone)


def window_p99(results: Results) -> Figure:
    """Milliseconds, while an alias moves."""
    swaps = _swaps(results)
    steady = percentile(swaps.steady_ms, 99)
    note = f"steady p99 {steady:.1f} ms, {len(swaps.levels)} moves"
    if steady > OVERLOADED_MS:
        note += f"; {swaps.rate} requests per second are more than it could answer here and now"
    return Figure(percentile(swaps.window_ms, 99), note)


def window_worst(results: Results) -> Figure:
    """Milliseconds, while an alias moves."""
    return Figure(max(_swaps(results).window_ms, default=float("nan")))


def swap_failures(results: Results) -> Figure:
    """Requests without a good answer over the whole time."""
    swaps = _swaps(results)
    if swaps.never_sent and not swaps.failed:
        raise NotMeasured(
            f"{swaps.never_sent} requests were due and never sent: it answers less than the rate"
        )
    return Figure(swaps.failed, f"of {swaps.sent} requests at {swaps.rate} per second")


def _swaps(results: Results) -> Swaps:
    if results.swaps is None or not results.swaps.levels:
        raise NotMeasured("no alias was moved")
    return results.swaps


def memory(over: str) -> Measured:
    """All of a server's PSS over another's."""

    def measured(results: Results) -> Figure:
        ours, theirs = (
            _launched(results, over, name, lambda one: one.level.pss_mib) for name in (GATEWAY, over)
        )
        return Figure(ours / theirs, f"{ours:.0f} MiB in all, {theirs:.0f} MiB there{_short(results)}")

    return measured


def start(results: Results) -> Figure:
    """Seconds to ready over MLflow's."""
    ours, theirs = (
        _launched(results, MLFLOW, name, lambda one: one.ready_seconds) for name in (GATEWAY, MLFLOW)
    )
    complete = _launched(results, MLFLOW, GATEWAY, lambda one: one.complete_seconds)
    note = f"{ours:.1f} s, both aliases {complete:.1f} s, {theirs:.1f} s there{_short(results)}"
    return Figure(ours / theirs, note)


def _launched(results: Results, over: str, server: str, figure: Callable[[Launch], float]) -> float:
    if not {GATEWAY, over} <= results.launches.keys():
        raise NotMeasured(results.missing.get(over, f"{over} was not started alone"))
    return median(map(figure, results.launches[server]))


def _short(results: Results) -> str:
    times = len(results.launches[GATEWAY])
    return "" if times >= LAUNCHES else f"; started {times} times, not {LAUNCHES}"


def growth_over_moves(figure: str) -> Measured:
    """Late over early, of what the processes hold at rest after each move."""

    def measured(results: Results) -> Figure:
        levels = _swaps(results).levels
        grown = growth([getattr(level, figure) for level in levels])
        if grown != grown:
            raise NotMeasured(f"{len(levels)} moves are too few to judge")
        short = f"{len(levels)} moves, not {GROWTH_SWAPS}" if len(levels) < GROWTH_SWAPS else ""
        return Figure(grown, short)

    return measured


def slower_with_models(results: Results) -> Figure:
    """Time per request with all models over that with one."""
    if results.scale is None:
        raise NotMeasured("no gateway with more models was started")
    return Figure(median(results.scale.slower))


def a_version_more(results: Results) -> Figure:
    """MB of PSS, on average over many."""
    if (scale := results.scale) is None:
        raise NotMeasured("no gateway with more models was started")
    each = (scale.many_mib - scale.one_mib) / scale.more_versions
    note = f"{scale.one_mib:.0f} MiB with 2 versions, {scale.many_mib:.0f} MiB with {2 + scale.more_versions}"
    return Figure(each * MB_PER_MIB, note)


def series_over_keys(results: Results) -> Figure:
    """Series after requests with many keys over those before."""
    if (scale := results.scale) is None:
        raise NotMeasured("series were not counted")
    note = f"{scale.series_before} before, {scale.series_after} after {scale.keys} keys"
    short = f", not {KEYS}" if scale.keys < KEYS else ""
    return Figure(scale.series_after / scale.series_before, note + short)


def unanswered(results: Results) -> Figure:
    """Requests without a good answer at half the capacity, beside busy processes."""
    if (busy := results.busy) is None:
        raise NotMeasured("half the capacity was not asked beside busy processes")
    note = f"{busy.refused} refused, {busy.never_sent} never sent, p99 {busy.p99_ms:.0f} ms"
    rates = f"{busy.rate} per second of {busy.capacity:.0f} while nothing else ran"
    # One that answers less than half of its capacity holds the next requests up: these are refused, too.
    return Figure(
        busy.failed + busy.never_sent, f"of {busy.sent + busy.never_sent} requests, {rates}; {note}"
    )
