"""The document of `/v1/compare`: counts, intervals, verdicts of every run. What is not known is null."""

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from router.analysis import shadow_text, text
from router.analysis.checks import ArmRate, Check, LatencyCheck, RateCheck, ScoreCheck
from router.analysis.comparison_status import ComparisonStatus
from router.analysis.cost_check import CostArm, CostCheck
from router.analysis.paired_check import PairedArm, PairedCheck
from router.analysis.recorder import AnalysisRecorder
from router.analysis.run import AnalysisRun
from router.analysis.statistics.counts import NOTHING, WINDOW_SECONDS, CountersSnapshot
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.outcomes import FaultKind
from router.core.scores import shown_name, to_json

_FAULT_KINDS = [kind.value for kind in FaultKind]


def document(recorder: AnalysisRecorder, model: str | None = None) -> dict[str, Any]:
    """JSON-ready, as of the last look; of one registered model, or of all."""
    chosen = recorder.statuses if model is None else {model: recorder.statuses.get(model, {})}
    return {
        "models": {
            name: {alias: _entry(recorder, status) for alias, status in aliases.items()}
            for name, aliases in chosen.items()
        }
    }


def verdicts(recorder: AnalysisRecorder, model: str) -> dict[str, dict[str, str]]:
    """The short form, by alias but production, for `/v1/state`."""
    return {
        alias: {"verdict": status.verdict, "why": recorder.why(status)}
        for alias, status in recorder.statuses.get(model, {}).items()
    }


def _entry(recorder: AnalysisRecorder, status: ComparisonStatus) -> dict[str, Any]:
    run = status.run
    horizon = run.horizon_timestamp if run and run.has_horizon else None
    return {
        "verdict": status.verdict,
        "why": recorder.why(status),
        "production_version": status.production.number if status.production else None,
        "version": status.version.number if status.version else None,
        "share": status.share,
        "since_timestamp": run.since_timestamp if run else None,
        "seconds": run.report.seconds if run else None,
        "verdict_changed_timestamp": run.verdict_changed_timestamp if run else None,
        "horizon_timestamp": horizon,
        "judged_up_to_seconds": None if horizon is None else max(0.0, recorder.now() - horizon),
        "gateways": gateways(recorder),
        "comparable": not status.obstacle,
        "not_comparable_because": status.obstacle,
        "checks": [_check(check, status, run) for check in run.report.checks] if run else [],
        **_window(recorder, run),
    }


def gateways(recorder: AnalysisRecorder) -> dict[str, Any]:
    """By host, whose answers count in every verdict, who of them keeps it back, and who is left out."""
    view = recorder.gateways()
    return {
        "counted": list(view.counted),
        "waiting": [{"host": one.host, "silent_seconds": one.silent_seconds} for one in view.waiting],
        "left_out": [{"host": one.host, "why": one.why} for one in view.left_out],
    }


def _check(check: Check, status: ComparisonStatus, run: AnalysisRun) -> Any:
    if status.obstacle and isinstance(check, RateCheck):
        check = check.without_forecasts()
    entry: dict[str, Any] = {
        "check": check.check,
        "verdict": check.verdict,
        "judges": check.judges,
        "why": text.check_sentence(check, status.alias),
    }
    if isinstance(check, RateCheck):
        entry |= _rate(check)
    elif isinstance(check, ScoreCheck):
        names = map(shown_name, run.versions.outputs)
        entry["outputs"] = [
            {"output": name, **asdict(output)} for name, output in zip(names, check.outputs, strict=False)
        ]
    elif isinstance(check, CostCheck):
        entry |= _cost(check)
    elif isinstance(check, PairedCheck):
        entry |= _shadow(check, still=bool(status.obstacle))
    else:
        entry |= {
            "expected_share": check.expected_share,
            "observed_share": check.observed_share,
            "pair_share": check.pair_share,
        }
    return _finite(entry)


def _rate(check: RateCheck) -> dict[str, Any]:
    entry = {
        "limit": check.limit,
        "margin": check.margin,
        "production": _arm(check.production),
        "canary": _arm(check.canary),
        "difference": check.difference,
        "interval": check.interval,
        "excused": check.excused,
        "seconds_needed": check.seconds_needed,
        "requests_needed": check.requests_needed,
        "seconds_until_fail": check.fail_seconds,
        "seconds_to_show_point": check.seconds_to_show_point,
        "needed": text.detectable_difference(check),
    }
    if isinstance(check, LatencyCheck):
        entry |= {
            "edge_seconds": check.edge_seconds,
            "quantiles_seconds": asdict(check.quantiles_seconds),
            "quantiles_over_last_edge": asdict(check.quantiles_over_last_edge),
        }
    return entry


def _shadow(check: PairedCheck, *, still: bool) -> dict[str, Any]:
    """`still`: nothing is compared at this moment, so that no forecast comes true."""
    counts, seconds = check.counts, None if still else check.seconds_to_show_point
    return {
        "limit": check.limit,
        "production": _shadow_arm(check.production, counts.pairs),
        "canary": _shadow_arm(check.canary, counts.pairs),
        "difference": check.difference,
        "interval": None,
        "excused": counts.both_faults,
        "pairs": counts.pairs,
        "agreed": counts.agreed,
        "dropped": counts.dropped,
        "other_type": counts.other_type,
        "other_length": counts.other_length,
        "flips": counts.flips,
        "rows": counts.rows,
        "scores": asdict(check.scores),
        "shows_none": check.shows_none,
        "pairs_needed": check.pairs_needed,
        "seconds_to_show_point": seconds,
        "needed": shadow_text.pairs_needed(check, "" if seconds is None else text.duration(seconds)),
        "shown": shadow_text.shown_differences(check),
    }


def _shadow_arm(arm: PairedArm, pairs: int) -> dict[str, Any]:
    """As of a check of rates; what counts is what this version failed alone."""
    rate = arm.alone / pairs if pairs else None
    shown = {"requests": pairs, "events": arm.alone, "rate": rate, "keys": arm.hit_keys}
    return {**shown, "predict_seconds": asdict(arm.seconds)}


def _cost(check: CostCheck) -> dict[str, Any]:
    return {
        "limit": check.limit,
        "change": check.change,
        "ratio": check.ratio,
        "interval": check.interval,
        "failed_interval": check.failed,
        "rows_per_predict": check.rows,
        "production": _cost_arm(check.production),
        "canary": _cost_arm(check.canary),
    }


def _cost_arm(arm: CostArm) -> dict[str, Any]:
    cost = arm.cost
    return {
        "predicts": cost.predicts,
        "rows": cost.rows,
        "left_out": cost.left_out,
        "fixed_seconds": cost.line.fixed_seconds,
        "row_seconds": cost.line.row_seconds,
        "seconds": cost.seconds,
        "predict_seconds": {"p50": arm.predict_seconds_p50, "p95": arm.predict_seconds_p95},
        "processors": arm.processors,
        "peak_memory_bytes": arm.peak_memory_bytes,
    }


def _arm(arm: ArmRate) -> dict[str, Any]:
    return {"requests": arm.requests, "events": arm.events, "rate": arm.rate, "keys": arm.keys}


def _window(recorder: AnalysisRecorder, run: AnalysisRun | None) -> dict[str, Any]:
    production, canary = run.window.counts() if run else (NOTHING, NOTHING)
    seconds = recorder.window_seconds(run) if run else 0.0
    return {
        "window_seconds": min(WINDOW_SECONDS, seconds),
        "latency": {
            "edges_seconds": REQUEST_SECONDS,
            "production": production.latency,
            "canary": canary.latency,
        },
        "scores": [
            {**to_json(output), "production": production.bins[index], "canary": canary.bins[index]}
            for index, output in enumerate(run.versions.outputs if run else ())
        ],
        "rates": {"production": _rates(production, seconds), "canary": _rates(canary, seconds)},
    }


def _rates(counts: CountersSnapshot, seconds: float) -> dict[str, Any]:
    return {
        "requests_per_second": counts.requests / seconds if seconds > 0.0 else None,
        "requests": counts.requests,
        "faults": sum(counts.faults),
        "fallbacks": counts.fallbacks,
        "faults_by_kind": dict(zip(_FAULT_KINDS, counts.faults, strict=True)),
    }


def _finite(value: Any) -> Any:
    """The same, with null for what is no finite number."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
