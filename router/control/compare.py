"""The document of `/v1/compare`: counts, intervals, verdicts of every rollout. What is not known is null."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

from router.control import words
from router.control.compared import Compared
from router.control.comparison import Comparison
from router.control.rollout import Rollout
from router.control.windows import WINDOW_SECONDS, Counts
from router.core.evidence import Verdict
from router.core.evidence.report import ArmRate, LatencyCheck, RateCheck, ScoreCheck, SplitCheck
from router.core.ids import Alias
from router.core.latency_buckets import REQUEST_SECONDS
from router.core.outcomes import FaultKind
from router.core.scores import shown_name, to_json

_FAULT_KINDS = [kind.value for kind in FaultKind]
_NOTHING = Counts(0, 0, (0,) * len(FaultKind), (0,) * (len(REQUEST_SECONDS) + 1), ())


def document(comparison: Comparison, model: str | None = None) -> dict[str, Any]:
    """JSON-ready, as of the last look; of one registered model, or of all."""
    chosen = comparison.models if model is None else {model: comparison.models.get(model, {})}
    return {"models": {name: _aliases(comparison, aliases) for name, aliases in chosen.items()}}


def verdicts(comparison: Comparison, model: str) -> dict[str, dict[str, str]]:
    """The short form, by further alias, for `/v1/state`."""
    return {
        alias: {"verdict": compared.verdict, "why": compared.why}
        for alias, compared in comparison.models.get(model, {}).items()
    }


def _aliases(comparison: Comparison, aliases: Mapping[Alias, Compared]) -> dict[str, Any]:
    return {alias: _entry(comparison, compared) for alias, compared in aliases.items()}


def _entry(comparison: Comparison, compared: Compared) -> dict[str, Any]:
    rollout = compared.rollout
    return {
        "verdict": compared.verdict,
        "why": compared.why,
        "production_version": compared.production.number if compared.production else None,
        "version": compared.version.number if compared.version else None,
        "share": compared.share,
        "since_timestamp": rollout.since_timestamp if rollout else None,
        "seconds": rollout.report.seconds if rollout else None,
        "comparable": not compared.obstacle,
        "not_comparable_because": compared.obstacle,
        "checks": _checks(rollout, compared) if rollout else [],
        **_window(comparison, rollout),
    }


def _checks(rollout: Rollout, compared: Compared) -> list[dict[str, Any]]:
    shown = []
    for known in rollout.report.checks:
        check = _at_rest(known) if compared.obstacle and isinstance(known, RateCheck) else known
        entry: dict[str, Any] = {
            "check": check.check,
            "verdict": check.verdict,
            "judges": check.judges,
            "why": words.check(check, compared.alias),
        }
        if isinstance(check, RateCheck):
            entry |= _rate(check)
        elif isinstance(check, ScoreCheck):
            entry["outputs"] = _shifts(check, rollout)
        elif isinstance(check, SplitCheck):
            entry |= {
                "expected_share": check.expected_share,
                "observed_share": check.observed_share,
                "pair_share": check.pair_share,
            }
        shown.append(_known(entry))
    if rollout.report.scores is None:
        why = words.NO_SCORES
        nothing = {"verdict": Verdict.NOT_ENOUGH_DATA, "judges": False, "why": why, "outputs": []}
        shown.insert(-1, {"check": "scores", **nothing})
    return shown


def _at_rest(check: RateCheck) -> RateCheck:
    """Without forecasts: nothing arrives, so none of them comes true."""
    still = check.seconds_needed if check.verdict is Verdict.PASS else None
    return replace(check, seconds_needed=still, fail_seconds=None, seconds_to_show_point=None)


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
        "needed": words.point(check),
    }
    if isinstance(check, LatencyCheck):
        entry |= {
            "edge_seconds": check.edge_seconds,
            "quantiles_seconds": asdict(check.quantiles_seconds),
            "quantiles_over_last_edge": asdict(check.quantiles_over_last_edge),
        }
    return entry


def _arm(arm: ArmRate) -> dict[str, Any]:
    return {"requests": arm.requests, "events": arm.events, "rate": arm.rate, "keys": arm.keys}


def _shifts(check: ScoreCheck, rollout: Rollout) -> list[dict[str, Any]]:
    names = map(shown_name, rollout.pair.outputs)
    shown = []
    for name, output in zip(names, check.outputs, strict=False):
        shown.append({"output": name, **asdict(output)})
    return shown


def _window(comparison: Comparison, rollout: Rollout | None) -> dict[str, Any]:
    production, canary = rollout.window.counts() if rollout else (_NOTHING, _NOTHING)
    seconds = comparison.window_seconds(rollout) if rollout else 0.0
    outputs = rollout.pair.outputs if rollout else ()
    return {
        "window_seconds": min(WINDOW_SECONDS, seconds),
        "latency": {
            "edges_seconds": REQUEST_SECONDS,
            "production": production.latency,
            "canary": canary.latency,
        },
        "scores": [
            {**to_json(output), "production": production.marks[index], "canary": canary.marks[index]}
            for index, output in enumerate(outputs)
        ],
        "rates": {"production": _rates(production, seconds), "canary": _rates(canary, seconds)},
    }


def _rates(counts: Counts, seconds: float) -> dict[str, Any]:
    return {
        "requests_per_second": counts.requests / seconds if seconds > 0.0 else None,
        "requests": counts.requests,
        "faults": sum(counts.faults),
        "fallbacks": counts.fallbacks,
        "faults_by_kind": dict(zip(_FAULT_KINDS, counts.faults, strict=True)),
    }


def _known(value: Any) -> Any:
    """Without what is no finite number: null stands for it."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_known(item) for item in value]
    return value
