"""What we owe, by the numbers of `docs/performance.md`, and whether a run shows it."""

from dataclasses import dataclass

from benchmarks import bar_figures as figures
from benchmarks.bar_figures import Measured, NotMeasured
from benchmarks.peers import ECHO, ENVOY, NGINX, SHARED, SILENT, UNSHARED
from benchmarks.plan import BUSY, LAUNCHES, SCALE, SWAPS, Load, Need
from benchmarks.results import Results
from benchmarks.servers import GATEWAY, MLFLOW


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise."""

    number: str
    what: str
    unit: str
    limit: float
    stretch: float
    need: Need
    figure: Measured
    at_least: bool
    """True: more is better."""


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
    reported = (figure.note, "" if met else figure.profile)
    return Outcome(bar, "met" if met else "missed", figure.value, "; ".join(filter(None, reported)))


def _speed(number: str, load: Load, limit: float, stretch: float, over: str = MLFLOW) -> Bar:
    peers = () if over == MLFLOW else (over,)
    what = ", over ".join([str(load), *peers])
    figure = figures.ratio(load, over=over)
    return Bar(number, what, "×", limit, stretch, Need(load, peers=peers), figure, at_least=True)


def _setting(number: str, what: str, limit: float, stretch: float, load: Load, one: str, over: str) -> Bar:
    need = Need(load, peers=tuple(name for name in (one, over) if name != GATEWAY))
    figure = figures.two_gateways(load, one, over)
    return Bar(number, f"{what}: {load}", "×", limit, stretch, need, figure, at_least=True)


def _bound(
    number: str, what: str, unit: str, limit: float, stretch: float, need: Need, figure: Measured
) -> Bar:
    return Bar(number, what, unit, limit, stretch, need=need, figure=figure, at_least=False)


_ALONE, _TAIL, _CROWD = Load("text", 1, 1), Load("text", 1, 16), Load("text", 1, 64)
_LAUNCHES, _SWAPS, _SCALE = Need(part=LAUNCHES), Need(part=SWAPS), Need(part=SCALE)
_BY_NGINX, _BY_ENVOY = (Need(part=LAUNCHES, peers=(name,)) for name in (NGINX, ENVOY))
_MOVED = "alias moved, open loop"
_HALF = "processors busy, half the capacity: refused"
_SPENT = f"{_CROWD}:"

BARS = (
    _speed("P1", Load("text", 1, 64), 20, 30),
    _speed("P1b", Load("sentiment", 1, 16), 5, 12),
    _speed("P1c", Load("sleep", 1, 64), 1.0, 2),
    _speed("P2", Load("text", 1, 16), 12, 18),
    _speed("P3", Load("text", 1, 64), 0.50, 0.70, over=ECHO),
    _bound("P4", f"{_ALONE}, p50", "×", 0.30, 0.20, Need(_ALONE), figures.ratio(_ALONE, "p50_ms")),
    _speed("P5", Load("linear", 1, 64), 50, 80),
    _speed("P6", Load("forest", 1, 16), 8, 12),
    _speed("P7", Load("text", 32, 16), 7, 10),
    _speed("P7", Load("text", 1000, 4), 1.5, 2),
    _speed("P8", Load("csv", 1, 16), 7, 11),
    _bound("P9", f"{_TAIL}, p99", "×", 0.05, 0.02, Need(_TAIL, tail=True), figures.tail(_TAIL)),
    _bound("P10", f"{_MOVED}: p99", " ms", 15, 15, _SWAPS, figures.window_p99),
    _bound("P10", f"{_MOVED}: worst", " ms", 40, 40, _SWAPS, figures.window_worst),
    _bound("P10", f"{_MOVED}: failed", "", 0, 0, _SWAPS, figures.swap_failures),
    _bound("P11", "memory (PSS), both aliases", "×", 1.0, 0.7, _LAUNCHES, figures.memory(MLFLOW)),
    _bound("P12", "start to ready", "×", 0.7, 0.4, _LAUNCHES, figures.start),
    _setting("P13", "metrics and scores, on over off", 0.92, 0.97, _CROWD, GATEWAY, SILENT),
    _speed("P14", Load("text", 1, 64), 20, 30, over=NGINX),
    _bound("P14", "memory (PSS), over nginx split", "×", 0.6, 0.4, _BY_NGINX, figures.memory(NGINX)),
    _speed("P14", Load("text", 1, 64), 20, 30, over=ENVOY),
    _bound("P14", "memory (PSS), over Envoy split", "×", 0.6, 0.4, _BY_ENVOY, figures.memory(ENVOY)),
    *(
        _bound(
            "P15", f"growth over moves: {name}", "×", 1.05, 1.05, _SWAPS, figures.growth_over_moves(figure)
        )
        for name, figure in (("memory", "pss_mib"), ("threads", "threads"), ("descriptors", "descriptors"))
    ),
    _bound("P15", "10 models over 1: time a request", "×", 1.05, 1.05, _SCALE, figures.slower_with_models),
    _bound("P15", "one more version: memory (PSS)", " MB", 60, 40, _SCALE, figures.a_version_more),
    _bound("P15", "100 000 keys: series", "×", 1.05, 1.05, _SCALE, figures.series_over_keys),
    _speed("P16", Load("forest", 1, 16, busy=True), 6, 8),
    _bound("P16", _HALF, "", 0, 0, Need(part=BUSY), figures.unanswered),
    _bound(
        "P17", f"{_SPENT} gateway", " µs", 60, 50, Need(_CROWD), figures.processor_time(_CROWD, "gateway")
    ),
    _bound("P17", f"{_SPENT} worker", " µs", 28, 22, Need(_CROWD), figures.processor_time(_CROWD, "worker")),
    _setting("P18", "90 to 10 over 100 to 0", 0.90, 0.97, _CROWD, SHARED, UNSHARED),
    _speed("P19", Load("minilm", 1, 8), 1.3, 2),
    _speed("P19", Load("torch", 1, 8), 8, 12),
    _speed("P19", Load("xgboost", 1, 8), 3, 5),
)
"""Ratios are the gateway's figure over that of `mlflow models serve`, where no other server is named."""
