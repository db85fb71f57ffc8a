"""Documents of `/v1/state` and `/v1/compare` for situations that a real gateway comes into only in time."""

import math
import time
from typing import Any

from router.core.latency_buckets import REQUEST_SECONDS

Document = dict[str, Any]

EDGES = list(REQUEST_SECONDS)
WAITS = "Not enough data: 320 of about 640 canary requests; about 40 min at this rate."
NEEDED = "A 1-point error difference shows in about 50 min at this rate."
STATE_OF_A_GATEWAY: Document = {"version": "0.1.0", "ready": True, "config": {}, "registry": {"error": ""}}
"""What every state begins with that a command is shown, as far as it looks at it."""
SCORE_EDGES = [round((n + 1) / 20, 2) for n in range(20)]


def state(model: str = "sentiment", *, now: float | None = None) -> Document:
    """Production v1 and canary v2, 95 to 5, all well."""
    now = time.time() if now is None else now
    return {
        "version": "0.1.0",
        "ready": True,
        "serving_from_cache": False,
        "config": {"digest": "3f9c" * 16, "error": None},
        "registry": {"reachable": True, "last_success_timestamp": now - 2, "error": ""},
        "last_minute": {"requests": 871, "refused": 0, "connections_refused": 0, "refusing": False},
        "break_glass": None,
        "warnings": [],
        "state_dir": {
            "durable": True,
            "reason": "",
            "held_by": None,
            "journal": {"head": "5d41" * 16, "lines": 4, "began": now - 900},
        },
        "models": {model: model_state()},
        "fleet": {"peers": [], "look_up_error": "", "gateways": gateways("gw-1")},
        "notify": [],
        "loops": {"aliases": {"seconds_since_tick": 1.2, "error": ""}},
        "events": [
            {"timestamp": now - 900, "event": "ConfigApplied", "digest": "3f9c", "changes": []},
            {
                "timestamp": now - 899,
                "event": "AliasAspired",
                "model": model,
                "alias": "canary",
                "old": None,
                "new": 2,
            },
            {
                "timestamp": now - 895,
                "event": "VersionLoaded",
                "model": model,
                "version": 2,
                "aliases": ["canary"],
                "phase_seconds": {"fetch": 0.4, "load": 1.2, "warmup": 0.1},
                "note": "",
            },
            {
                "timestamp": now - 894,
                "event": "AliasBound",
                "model": model,
                "alias": "production",
                "old": None,
                "new": 1,
            },
            {
                "timestamp": now - 893,
                "event": "AliasBound",
                "model": model,
                "alias": "canary",
                "old": None,
                "new": 2,
            },
            {
                "timestamp": now - 60,
                "event": "SplitInForce",
                "model": model,
                "in_force": {"production": 0.95, "canary": 0.05},
                "configured": {"production": 0.95, "canary": 0.05},
            },
        ],
    }


def gateways(*counted: str, **others: Any) -> Document:
    """Those that judge together; nobody is waited for or left out unless given."""
    return {"counted": list(counted), "waiting": [], "left_out": [], **others}


def model_state() -> Document:
    """One model's part of it."""
    return {
        "ready": True,
        "serving_from_cache": False,
        "split": {"production": 95.0, "canary": 5.0},
        "split_configured": {"production": 95.0, "canary": 5.0},
        "salt": "sentiment",
        "aliases": {"production": alias_state("champion", 1), "canary": alias_state("challenger", 2)},
        "versions": {"1": version_state("production"), "2": version_state("canary", breaker=True)},
        "canary_timeout_seconds": 1.0,
        "requests": 13071,
        "keyless_share": 0.0,
        "last_minute": {
            "requests": 871,
            "refused": 0,
            "refusing": False,
            "aliases": {"production": alias_minute(828), "canary": alias_minute(43)},
        },
        "registry_error": "",
        "registry_refused": False,
        "verdicts": {"canary": {"verdict": "not_enough_data", "why": WAITS}},
        "caps": [],
        "pins": {},
        "preflight": None,
        "shadow": None,
        "rollback": {"name": "previous", "version": None, "ready": 0, "reason": "", "until": None},
        "warnings": [],
    }


def alias_state(name: str, number: int | None) -> Document:
    """An alias whose version serves."""
    since = None if number is None else time.time() - 812
    reported = {"name": name, "aspired": number, "bound": number, "bound_timestamp": since}
    return reported | {"pending": False, "gate": None, "stale": False}


def alias_minute(requests: int, refused: int = 0, passed_on: int = 0) -> Document:
    """What became of an alias's requests in the last minute."""
    refusing = refused > 0.01 * requests
    return {"requests": requests, "refused": refused, "passed_on": passed_on, "refusing": refusing}


def version_state(alias: str, *, breaker: bool = False) -> Document:
    """A version that is ready."""
    closed = {
        "alias": alias,
        "state": "closed",
        "since": None,
        "why": "",
        "requests": 640,
        "faults_of_last_50": 1,
        "crashes": 0,
    }
    return {
        "state": "ready",
        "phase": None,
        "aliases": [alias],
        "in_flight": 1,
        "queued": 0,
        "where": None,
        "workers": [4711],
        "spare": None,
        "no_spare": "",
        "error": "",
        "retry_seconds": None,
        "flavor": "python_function",
        "kept_until": None,
        "run_id": "r",
        "note": "",
        "scores": [{"output": "0", "kind": "score", "low": 0.0, "edges": SCORE_EDGES}],
        "batching": {"on": True, "why": "the example shows it"},
        "cpu_threads": {"threads": 1, "most": 2, "why": "its predicts take less than 5 ms of a processor"},
        "mismatches": [],
        "environment": None,
        "cost": {
            "predicts": 2_400,
            "fixed_seconds": 0.0019,
            "row_seconds": 0.0001,
            "predict_seconds": {"p50": 0.0023, "p95": 0.0042},
            "peak_memory_bytes": 214 << 20,
            "processor_seconds": {
                "load": 1.1,
                "warmup": 0.1,
                "predict": 5.2,
                "preflight": 0.0,
                "shadow": 0.0,
                "other": 2.3,
            },
        },
        "preflight": None,
        "worker_ends": {"counts": {}, "last": None},
        "breaker": closed if breaker else None,
    }


def shadow_check(**said: Any) -> Document:
    """The check of copies, which only a model has whose requests are shadowed."""
    seconds = {"p50": 0.004, "p95": 0.009, "p99": 0.02}
    counts = {"pairs": 2600, "agreed": 2510, "dropped": 40, "other_type": 0, "other_length": 0}
    arm = {"requests": 2600, "predict_seconds": seconds}
    return {
        "check": "shadow",
        "judges": False,
        "verdict": "not_enough_data",
        "why": "No sign in 2600 copies of production's requests: the canary alone failed 3.",
        "limit": 0.005,
        "production": {**arm, "events": 2, "rate": 2 / 2600, "keys": 2},
        "canary": {**arm, "events": 3, "rate": 3 / 2600, "keys": 3},
        "difference": 1 / 2600,
        "interval": None,
        "excused": 18,
        **counts,
        "flips": 61,
        "rows": 7400,
        "scores": {"raised": 700, "lowered": 600, "edges": [1e-6, 1.0], "counts": [10, 5, 2500, 0]},
        "shows_none": True,
        "pairs_needed": 1400,
        "seconds_to_show_point": 140.0,
        "needed": "A 1-point error difference shows in about 1400 copies, in about 2 min at this rate.",
        "shown": "Of copies: 2510 of 2600 copies agree.",
        **said,
    }


def cost_arm(predicts: int, seconds: float) -> Document:
    """What predicts of one version cost."""
    return {
        "predicts": predicts,
        "rows": 3 * predicts,
        "left_out": 12,
        "fixed_seconds": 0.9 * seconds,
        "row_seconds": 0.03 * seconds,
        "seconds": seconds,
        "predict_seconds": {"p50": 1.1 * seconds, "p95": 2.0 * seconds},
        "processors": 14.5 * seconds,
        "peak_memory_bytes": 214 << 20,
    }


def environment_state(**changes: Any) -> Document:
    """A Python environment of a version's own."""
    return {
        "digest": "7a1e" * 16,
        "python": "3.11.7",
        "pins": "3f9c" * 16,
        "size_bytes": 630_000_000,
        "build_seconds": 6.25,
        "differs": ["scikit-learn 1.5.2, the gateway has 1.7.1"],
        "note": "",
        **changes,
    }


def compare(*reported: Any, model: str = "sentiment", **changes: Any) -> Document:
    """Contract of `/v1/compare` with one challenger, as `challenger` says."""
    return {"models": {model: {"canary": challenger(*reported, **changes)}}}


def pattern(finding: str = "off", why: str = "Nothing is looked at.", **changes: Any) -> Document:
    """What the faults of a canary share: nothing is looked at."""
    return {
        "finding": finding,
        "why": why,
        "faults": 0,
        "good_answers": 0,
        "faults_without_traits": 0,
        "columns": 0,
        "columns_left_out": 0,
        "traits_compared": 0,
        "shared": [],
        **changes,
    }


def challenger(
    verdict: str = "not_enough_data",
    why: str = WAITS,
    *,
    fault_rate: float = 0.004,
    slower: float = 1.1,
    shifted: float = 0.0,
) -> Document:
    """A canary with 640 requests beside production's 12 431."""
    n, m = 12431, 640
    latency = {"production": bell(n, math.log(0.004), 0.7), "canary": bell(m, math.log(0.004 * slower), 0.7)}
    faults = round(m * fault_rate)
    limits = {"faults": 0.005, "latency": 0.05}
    rate = {"faults": fault_rate, "latency": 0.05 * slower}
    base = {"faults": 0.003, "latency": 0.05}

    def arm(requests: int, part: float) -> Document:
        events = round(requests * part)
        return {"requests": requests, "events": events, "rate": events / requests, "keys": requests // 12}

    def check(name: str) -> Document:
        gap = rate[name] - base[name]
        return {
            "check": name,
            "verdict": verdict,
            "judges": True,
            "why": f"{name}: as the sentence says.",
            "limit": limits[name],
            "margin": limits[name],
            "production": arm(n, base[name]),
            "canary": arm(m, rate[name]),
            "difference": gap,
            "interval": [gap - 0.012, gap + 0.014],
            "excused": 0,
            "seconds_needed": 2400.0,
            "requests_needed": 640,
            "seconds_until_fail": None,
            "seconds_to_show_point": 3000.0,
            "needed": NEEDED,
        }

    quantiles = {"p50": 0.004, "p95": 0.0127, "p99": 0.0204}
    scores = {
        "output": "0",
        "kind": "score",
        "psi": 0.02 + shifted,
        "noise": 0.031,
        "line": 0.07,
        "size": "large" if shifted else "none",
        "ks": 0.04 + shifted / 2,
        "ks_bound": 0.09,
        "ks_at_most": 0.05,
        "proven": bool(shifted),
        "production": {
            "scores": n,
            "keys": 1030,
            "keys_out_of_range": 0,
            "mean": 0.52,
            "p50": 0.5,
            "p95": 0.88,
            "invalid": 0,
        },
        "canary": {
            "scores": m,
            "keys": 52,
            "keys_out_of_range": 0,
            "mean": 0.52 + shifted / 4,
            "p50": 0.51,
            "p95": 0.9,
            "invalid": 2,
        },
        "uncounted": "",
        "saturated": False,
        "mean_difference": shifted / 4,
        "mean_interval": [-0.01, 0.03 + shifted / 4],
    }
    return {
        "verdict": verdict,
        "why": why,
        "production_version": 1,
        "version": 2,
        "share": 0.05,
        "since_timestamp": time.time() - 812,
        "seconds": 812.0,
        "verdict_changed_timestamp": time.time() - 812,
        "horizon_timestamp": time.time() - 6,
        "judged_up_to_seconds": 6.0,
        "gateways": gateways("gw-1"),
        "comparable": True,
        "not_comparable_because": "",
        "pattern": pattern(),
        "checks": [
            check("faults"),
            check("latency")
            | {
                "edge_seconds": 0.025,
                "quantiles_seconds": {
                    "production": quantiles,
                    "canary": {name: value * slower for name, value in quantiles.items()},
                },
                "quantiles_over_last_edge": {
                    "production": dict.fromkeys(quantiles, False),
                    "canary": dict.fromkeys(quantiles, False),
                },
            },
            {
                "check": "scores",
                "judges": False,
                "verdict": "pass",
                "why": "No shift seen.",
                "outputs": [scores],
            },
            {
                "check": "split",
                "judges": False,
                "verdict": "pass",
                "why": "The split is as configured.",
                "expected_share": 0.05,
                "observed_share": 0.0493,
                "pair_share": 1.0,
            },
            {
                "check": "cost",
                "judges": False,
                "verdict": "pass",
                "why": "The canary takes 1.02 times as much processor time as production.",
                "limit": 0.2,
                "change": "",
                "ratio": 1.02,
                "interval": [0.97, 1.07],
                "failed_interval": None,
                "rows_per_predict": 3.2,
                "production": cost_arm(48_000, 0.00212),
                "canary": cost_arm(2_400, 0.00216),
            },
        ],
        "window_seconds": 900,
        "latency": {"edges_seconds": EDGES, **latency},
        "scores": [
            {
                "output": "0",
                "kind": "score",
                "low": 0.0,
                "edges": SCORE_EDGES,
                "production": two_hills(n, 0.0),
                "canary": two_hills(m, shifted / 4),
            },
        ],
        "rates": {
            "production": rates(13.8, n, 37, 0),
            "canary": rates(0.71, m, faults, faults),
        },
    }


def rates(per_second: float, requests: int, faults: int, fallbacks: int) -> Document:
    """What an arm did in the window; one fault was a timeout."""
    kinds = {"error": max(0, faults - 1), "timeout": min(1, faults), "crash": 0, "invalid_output": 0}
    counts = {"requests": requests, "faults": faults, "fallbacks": fallbacks, "faults_by_kind": kinds}
    return {"requests_per_second": per_second, **counts}


def bell(total: int, middle: float, width: float) -> list[int]:
    """`total` answers with logarithms around `middle`, in the bins of `EDGES` and one beyond."""
    below = [0.5 * (1 + math.erf((math.log(edge) - middle) / width / math.sqrt(2))) for edge in EDGES]
    return [round(total * (b - a)) for a, b in zip([0.0, *below], [*below, 1.0], strict=True)]


def two_hills(total: int, moved: float) -> list[int]:
    """`total` scores of a classifier that is mostly sure, in the bins of `SCORE_EDGES`."""
    heights = [
        math.exp(-(((edge - 0.14 - moved) / 0.12) ** 2))
        + 0.8 * math.exp(-(((edge - 0.9 - moved / 3) / 0.1) ** 2))
        + 0.05
        for edge in SCORE_EDGES
    ]
    return [round(total * height / sum(heights)) for height in heights]
