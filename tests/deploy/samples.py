"""Series that a gateway would export, in promtool's notation.

A value `0+10x60` is promtool's for 0, 10, 20, … 600; `0+0x20 50+0x39` is 21 zeros, then 50 forty times.
Where trouble begins with a step, that is at sample 21 or 16, so that windows hold whole counts.
"""

JOB = 'job="gateways"'
A = f'{JOB},instance="a:8080"'
B = f'{JOB},instance="b:8080"'
C = f'{JOB},instance="c:8080"'
PRODUCTION = 'model="m",alias="production",version="1"'
CANARY = 'model="m",alias="canary",version="2"'
OF_CANARY = {"job": "gateways", "model": "m", "alias": "canary", "version": "2"}
AGAINST = {**OF_CANARY, "production_version": "1"}
ALWAYS = "1+0x160"
STEP_1 = "0+0x20 1+0x139"


def info(labels: str, values: str = ALWAYS, instance: str = A) -> dict[str, str]:
    """The version that an alias serves."""
    return {f'canary_router_model_info{{{instance},{labels},run_id="r",flavor="python_function"}}': values}


def environment(pins: str, instance: str, values: str = ALWAYS, version: int = 1) -> dict[str, str]:
    """The environment of its own in which production serves a version."""
    labels = f'model="m",alias="production",version="{version}",python="3.11.7",pins="{pins}"'
    return {f"canary_router_environment_info{{{instance},{labels}}}": values}


BOUND = {**info(PRODUCTION), **info(CANARY)}


def requests(labels: str, outcome: str, values: str, code: int = 200) -> dict[str, str]:
    return {f'canary_router_requests_total{{{A},{labels},outcome="{outcome}",code="{code}"}}': values}


def fallbacks(good: str, fell_back: str) -> dict[str, str]:
    """Production answers well 10 requests per 15 s, 200 in 5 minutes; the canary does as given."""
    return {
        **BOUND,
        **requests(PRODUCTION, "ok", "0+10x60"),
        **requests(CANARY, "ok", good),
        **requests(CANARY, "fallback", fell_back),
    }


def durations(labels: str, within: dict[str, str], count: str, seconds: str) -> dict[str, str]:
    """Good answers by upper edge in seconds, `count` and `seconds` of them altogether."""
    name, outcome = "canary_router_request_duration_seconds", 'outcome="ok"'
    bins = {**within, "+Inf": count}
    reported = {f'{name}_bucket{{{A},{labels},{outcome},le="{le}"}}': values for le, values in bins.items()}
    reported[f"{name}_count{{{A},{labels},{outcome}}}"] = count
    reported[f"{name}_sum{{{A},{labels},{outcome}}}"] = seconds
    return reported


FAST = {"0.01": "0+10x60", "0.025": "0+10x60"}
"""10 answers per 15 s, all within 10 ms."""
SLOW = {"0.01": "0+0x60", "0.025": "0+10x60"}
"""10 answers per 15 s, all after 10 ms and within 25."""


def scores(labels: str, counts: tuple[int, ...]) -> dict[str, str]:
    """Counts of four bins on [0, 1], which all come at minute 16."""
    edges = ("0.25", "0.5", "0.75", "1.0")
    of = f'{A},{labels},output="0"'
    reported = {
        f'canary_router_score_bin_total{{{of},bin="{edge}"}}': f"0+0x15 {count}+0x30"
        for edge, count in zip(edges, counts, strict=True)
    }
    for n, edge in enumerate(edges, 1):
        reported[f'canary_router_score_bucket{{{of},le="{edge}"}}'] = f"0+0x15 {sum(counts[:n])}+0x30"
    reported[f'canary_router_score_bucket{{{of},le="+Inf"}}'] = f"0+0x15 {sum(counts)}+0x30"
    return reported


def two_scores(production: tuple[int, ...], canary: tuple[int, ...]) -> dict[str, str]:
    return {**BOUND, **scores(PRODUCTION, production), **scores(CANARY, canary)}


def invalid(counts: int, nan: int) -> dict[str, str]:
    """Four bins of `counts` scores each, and `nan` beside them."""
    of = f'{A},{CANARY},output="0"'
    return {
        **two_scores((250, 250, 250, 250), (counts,) * 4),
        f'canary_router_score_invalid_total{{{of},kind="nan"}}': f"0+0x15 {nan}+0x30",
        f'canary_router_score_invalid_total{{{of},kind="out_of_range"}}': "0+0x46",
    }


def unasked(production: str, canary: str = "0+0x30", loaded_at: int = 0) -> dict[str, str]:
    """Requests per minute, a canary's share of 5 %, and when its version became ready, in seconds."""
    return {
        **BOUND,
        **requests(PRODUCTION, "ok", production),
        **requests(CANARY, "ok", canary),
        f'canary_router_split_configured_ratio{{{A},model="m",alias="production"}}': "0.95+0x30",
        f'canary_router_split_configured_ratio{{{A},model="m",alias="canary"}}': "0.05+0x30",
        f"canary_router_model_loaded_timestamp_seconds{{{A},{CANARY}}}": f"{loaded_at}+0x30",
    }


def split(production: str, canary: str, share: str = "0.05+0x40") -> dict[str, str]:
    """Requests per minute whose key was hashed, at shares of 95 and 5 %."""
    decisions = f"canary_router_routing_decisions_total{{{A}"
    return {
        f'{decisions},model="m",alias="production",reason="hash"}}': production,
        f'{decisions},model="m",alias="canary",reason="hash"}}': canary,
        f'canary_router_split_ratio{{{A},model="m",alias="production"}}': "0.95+0x40",
        f'canary_router_split_ratio{{{A},model="m",alias="canary"}}': share,
    }


def capped(cap: str, configured: str) -> dict[str, str]:
    """The canary's cap and its share in the file, as ratios."""
    return {
        f'canary_router_split_cap_ratio{{{A},model="m",alias="canary"}}': cap,
        f'canary_router_split_configured_ratio{{{A},model="m",alias="canary"}}': configured,
    }


def preflight(passed: str, share: str, instance: str = A) -> dict[str, str]:
    """Whether a gateway's canary passed its pre-flight, and the share that it has there."""
    of = f'{instance},model="m",alias="canary"'
    return {
        f"canary_router_preflight_passed{{{of}}}": passed,
        f"canary_router_split_ratio{{{of}}}": share,
    }


def verdict(name: str, values: str) -> dict[str, str]:
    return {f'canary_router_verdict{{{A},model="m",alias="canary",verdict="{name}"}}': values}


def horizon(values: str, instance: str = A) -> dict[str, str]:
    """Until when answers are judged, in seconds since the first sample."""
    of = f'{instance},model="m",alias="canary"'
    return {f"canary_router_evidence_horizon_timestamp_seconds{{{of}}}": values}


def swap(failures: str, pending: str) -> dict[str, str]:
    of = f'{A},model="m",alias="production"'
    return {
        **info(PRODUCTION),
        f'canary_router_model_swaps_total{{{of},result="success"}}': "1+0x160",
        f'canary_router_model_swaps_total{{{of},result="failure"}}': failures,
        f"canary_router_alias_pending{{{of}}}": pending,
    }


def polls(success: str, failure: str) -> dict[str, str]:
    return {
        f'canary_router_registry_polls_total{{{A},model="m",result="success"}}': success,
        f'canary_router_registry_polls_total{{{A},model="m",result="failure"}}': failure,
    }


def notifications(delivered: str, retried: str) -> dict[str, str]:
    of = f'{A},receiver="slack"'
    return {
        f'canary_router_notifications_total{{{of},result="delivered"}}': delivered,
        f'canary_router_notifications_total{{{of},result="retried"}}': retried,
    }


def digests(*of_replicas: str) -> dict[str, str]:
    return {
        f'canary_router_config_info{{{where},sha256="{digest}"}}': ALWAYS
        for where, digest in zip((A, B, C), of_replicas, strict=False)
    }


OF_A = {"job": "gateways", "instance": "a:8080"}
FIRES, SILENT, LITTLE = "fires", "stays silent", "waits for enough traffic"
