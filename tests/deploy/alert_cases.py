"""Series on which each alert must fire, and others on which it must not; every figure worked out by hand.

A value `0+10x60` is promtool's for 0, 10, 20, … 600; `0+0x20 50+0x39` is 21 zeros, then 50 forty times.
Where trouble begins with a step, that is at sample 21 or 16, so that windows hold whole counts.
"""

from tests.deploy.promtool import Case

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


BOUND = {**info(PRODUCTION), **info(CANARY)}


def requests(labels: str, outcome: str, values: str, code: int = 200) -> dict[str, str]:
    return {f'canary_router_requests_total{{{A},{labels},outcome="{outcome}",code="{code}"}}': values}


def fallbacks(good: str, fell_back: str) -> dict[str, str]:
    """Production answers well 10 requests per 15 s, 200 in 5 minutes; the canary does as told."""
    return {
        **BOUND,
        **requests(PRODUCTION, "ok", "0+10x60"),
        **requests(CANARY, "ok", good),
        **requests(CANARY, "fallback", fell_back),
    }


def durations(labels: str, fast: str, count: str, seconds: str) -> dict[str, str]:
    """Good answers: `fast` of them within 10 ms, all within 25 ms, `seconds` altogether."""
    name, outcome = "canary_router_request_duration_seconds", 'outcome="ok"'
    return {
        f'{name}_bucket{{{A},{labels},{outcome},le="0.01"}}': fast,
        f'{name}_bucket{{{A},{labels},{outcome},le="0.025"}}': count,
        f'{name}_bucket{{{A},{labels},{outcome},le="+Inf"}}': count,
        f"{name}_count{{{A},{labels},{outcome}}}": count,
        f"{name}_sum{{{A},{labels},{outcome}}}": seconds,
    }


def scores(labels: str, counts: tuple[int, ...]) -> dict[str, str]:
    """Counts of four bins on [0, 1], which all come at minute 16."""
    edges = ("0.25", "0.5", "0.75", "1.0")
    of = f'{A},{labels},output="0"'
    told = {
        f'canary_router_score_bin_total{{{of},bin="{edge}"}}': f"0+0x15 {count}+0x30"
        for edge, count in zip(edges, counts, strict=True)
    }
    for n, edge in enumerate(edges, 1):
        told[f'canary_router_score_bucket{{{of},le="{edge}"}}'] = f"0+0x15 {sum(counts[:n])}+0x30"
    told[f'canary_router_score_bucket{{{of},le="+Inf"}}'] = f"0+0x15 {sum(counts)}+0x30"
    return told


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


def digests(*of_replicas: str) -> dict[str, str]:
    return {
        f'canary_router_config_info{{{where},sha256="{digest}"}}': ALWAYS
        for where, digest in zip((A, B, C), of_replicas, strict=False)
    }


OF_A = {"job": "gateways", "instance": "a:8080"}
FIRES, SILENT, LITTLE = "fires", "stays silent", "waits for enough traffic"

OF_TRAFFIC = [
    # 200 good requests and 50 errors in 5 minutes: a fifth.
    Case(
        "CanaryRouterErrorRateHigh",
        FIRES,
        {
            **BOUND,
            **requests(PRODUCTION, "ok", "0+10x60"),
            **requests(PRODUCTION, "model_error", "0+0x20 50+0x39", 500),
        },
        at="5m45s",
        not_yet="5m30s",
        fires={"job": "gateways", "model": "m", "alias": "production", "version": "1"},
        summary="m@production v1: callers got an error for 20% of its requests in the last 5 minutes",
    ),
    # One in a hundred.
    Case(
        "CanaryRouterErrorRateHigh",
        SILENT,
        {
            **BOUND,
            **requests(PRODUCTION, "ok", "0+99x60"),
            **requests(PRODUCTION, "model_error", "0+1x60", 500),
        },
        at="10m",
    ),
    # Half of them, but only 40.
    Case(
        "CanaryRouterErrorRateHigh",
        LITTLE,
        {**BOUND, **requests(PRODUCTION, "ok", "0+1x60"), **requests(PRODUCTION, "timeout", "0+1x60", 504)},
        at="10m",
    ),
    Case(
        "CanaryRouterErrorRateHigh",
        "stays silent about requests that were the callers' fault or production answered",
        {**fallbacks("0+10x60", "0+10x60"), **requests(PRODUCTION, "client_error", "0+10x60", 400)},
        at="10m",
    ),
    # Version 1 failed all it was asked until minute 3; then production moved, and version 3 fails nothing.
    Case(
        "CanaryRouterErrorRateHigh",
        "is over as soon as the alias serves another version",
        {
            **info(PRODUCTION, "1+0x12 stale"),
            **info('model="m",alias="production",version="3"', "_x12 1+0x60"),
            **requests(PRODUCTION, "model_error", "0+100x12 1200+0x60", 500),
            **requests('model="m",alias="production",version="3"', "ok", "_x12 0+10x60"),
        },
        at="5m",
    ),
    # 50 of 250 against 0 of 200; three standard errors are 3 √(1/9 · 8/9 · (1/250 + 1/200)) = 0.089.
    Case(
        "CanaryRouterCanaryFailsMore",
        FIRES,
        fallbacks("0+10x60", "0+0x20 50+0x39"),
        at="5m45s",
        not_yet="5m30s",
        fires=AGAINST,
        summary="m@canary v2 fails 20% more of its requests than production v1 of its own",
    ),
    # 8 of 208 against 6 of 206: 0.9 points.
    Case(
        "CanaryRouterCanaryFailsMore",
        SILENT,
        {
            **fallbacks("0+10x60", "0+0x20 8+0x39"),
            **requests(PRODUCTION, "model_error", "0+0x20 6+0x39", 500),
        },
        at="7m",
    ),
    # 6 of 206 against 0 of 200: 2.9 points; three standard errors are 3 √(0.0148 · 0.9852 · 0.00985) = 3.6.
    Case(
        "CanaryRouterCanaryFailsMore",
        "stays silent about what chance can do",
        fallbacks("0+10x60", "0+0x20 6+0x39"),
        at="7m",
    ),
    # 25 of 45.
    Case("CanaryRouterCanaryFailsMore", LITTLE, fallbacks("0+1x60", "0+0x20 25+0x39"), at="7m"),
    # Both 25 %.
    Case(
        "CanaryRouterCanaryFailsMore",
        "stays silent when production fails as much",
        {
            **fallbacks("0+9x60", "0+3x60"),
            **requests(PRODUCTION, "ok", "0+9x60"),
            **requests(PRODUCTION, "model_error", "0+3x60", 500),
        },
        at="7m",
    ),
    # 50 of 250.
    Case(
        "CanaryRouterFallbackInUse",
        FIRES,
        fallbacks("0+10x60", "0+0x20 50+0x39"),
        at="6m15s",
        not_yet="6m",
        fires=OF_CANARY,
        summary="m@canary v2: production answers 20% of its requests in its place",
    ),
    # 4 of 204.
    Case("CanaryRouterFallbackInUse", SILENT, fallbacks("0+10x60", "0+0x20 4+0x39"), at="7m"),
    # 25 of 45.
    Case("CanaryRouterFallbackInUse", LITTLE, fallbacks("0+1x60", "0+0x20 25+0x39"), at="7m"),
    # p95 is 0.01 · 0.95 = 9.5 ms against 10 + 15 · 0.95 = 24.25 ms, 2.5526 times; means are 8 and 20 ms. The
    # hundredth request comes at 2 min 30 s.
    Case(
        "CanaryRouterLatencyRegression",
        FIRES,
        {
            **BOUND,
            **durations(PRODUCTION, "0+10x60", "0+10x60", "0+0.08x60"),
            **durations(CANARY, "0+0x60", "0+10x60", "0+0.2x60"),
        },
        at="4m30s",
        not_yet="4m15s",
        fires=AGAINST,
        summary="m@canary v2: its p95 is 2.55 times that of production v1",
    ),
    # All of 9.8 ms against all of 10.2 ms.
    Case(
        "CanaryRouterLatencyRegression",
        "stays silent when an edge of the bins lies between the two",
        {
            **BOUND,
            **durations(PRODUCTION, "0+10x60", "0+10x60", "0+0.098x60"),
            **durations(CANARY, "0+0x60", "0+10x60", "0+0.102x60"),
        },
        at="12m",
    ),
    Case(
        "CanaryRouterLatencyRegression",
        SILENT,
        {
            **BOUND,
            **durations(PRODUCTION, "0+10x60", "0+10x60", "0+0.08x60"),
            **durations(CANARY, "0+10x60", "0+10x60", "0+0.09x60"),
        },
        at="12m",
    ),
    # 40 in 10 minutes.
    Case(
        "CanaryRouterLatencyRegression",
        LITTLE,
        {
            **BOUND,
            **durations(PRODUCTION, "0+10x60", "0+10x60", "0+0.08x60"),
            **durations(CANARY, "0+0x60", "0+1x60", "0+0.02x60"),
        },
        at="12m",
    ),
    # Shares 0.25 each against 200.5, 400.5, 600.5 and 800.5 of 2002: 0.2277.
    Case(
        "CanaryRouterScoreDrift",
        FIRES,
        two_scores((200, 400, 600, 800), (250, 250, 250, 250)),
        interval="1m",
        at="21m",
        not_yet="20m",
        fires={**AGAINST, "output": "0"},
        summary="m@canary v2: PSI of output 0 is 0.228 against production v1",
    ),
    Case(
        "CanaryRouterScoreDrift",
        SILENT,
        two_scores((500, 500, 500, 500), (240, 250, 260, 250)),
        interval="1m",
        at="25m",
    ),
    # PSI 0.2272, of 100 scores.
    Case(
        "CanaryRouterScoreDrift",
        LITTLE,
        two_scores((100, 200, 300, 400), (25, 25, 25, 25)),
        interval="1m",
        at="25m",
    ),
    # 0.1, 0.3, 0.6 against 0.25, 0.5, 0.75: at most 0.2 apart; chance gives 1.95 √(1/1000 + 1/2000) = 0.0755.
    Case(
        "CanaryRouterScoresDiffer",
        FIRES,
        two_scores((200, 400, 600, 800), (250, 250, 250, 250)),
        interval="1m",
        at="21m",
        not_yet="20m",
        fires={**AGAINST, "output": "0"},
        summary="m@canary v2: K-S of output 0 is 0.200 against production v1",
    ),
    # 0.225, 0.475, 0.725 against 0.25, 0.5, 0.75.
    Case(
        "CanaryRouterScoresDiffer",
        SILENT,
        two_scores((450, 500, 500, 550), (250, 250, 250, 250)),
        interval="1m",
        at="25m",
    ),
    # 0.5 apart, of 400.
    Case(
        "CanaryRouterScoresDiffer",
        LITTLE,
        two_scores((500, 500, 500, 500), (0, 0, 200, 200)),
        interval="1m",
        at="25m",
    ),
    # 50 of 1050.
    Case(
        "CanaryRouterInvalidScores",
        FIRES,
        invalid(250, 50),
        interval="1m",
        at="17m",
        not_yet="16m",
        fires={**OF_CANARY, "output": "0"},
        summary="m@canary v2: 4.762% of output 0 are no number or outside the range",
    ),
    # 5 of 1005.
    Case("CanaryRouterInvalidScores", SILENT, invalid(250, 5), interval="1m", at="20m"),
    # 40 of 80.
    Case("CanaryRouterInvalidScores", LITTLE, invalid(10, 40), interval="1m", at="20m"),
    # 100 per minute, of which 5 should have been the canary's.
    Case(
        "CanaryRouterCanaryWithoutTraffic",
        FIRES,
        unasked("0+100x30"),
        interval="1m",
        at="12m",
        not_yet="11m",
        fires={"job": "gateways", "model": "m", "alias": "canary"},
        summary="m@canary got none of about 50 requests that its share should have brought in 10 minutes",
    ),
    Case(
        "CanaryRouterCanaryWithoutTraffic",
        SILENT,
        unasked("0+100x30", canary="0+1x30"),
        interval="1m",
        at="20m",
    ),
    Case(
        "CanaryRouterCanaryWithoutTraffic",
        "stays silent while its version is new",
        unasked("0+100x30", loaded_at=900),
        interval="1m",
        at="20m",
    ),
    # 10 per minute: 5 in 10 minutes.
    Case("CanaryRouterCanaryWithoutTraffic", LITTLE, unasked("0+10x30"), interval="1m", at="20m"),
    # 15 % at a share of 5 %; 500 were to be expected after 10 minutes.
    Case(
        "CanaryRouterSplitSkew",
        FIRES,
        split("0+850x40", "0+150x40"),
        interval="1m",
        at="17m",
        not_yet="14m",
        fires={"job": "gateways", "model": "m", "alias": "canary"},
        summary="m@canary gets 3.00 times the requests that its share of the keys stands for",
    ),
    Case("CanaryRouterSplitSkew", SILENT, split("0+940x40", "0+60x40"), interval="1m", at="35m"),
    Case(
        "CanaryRouterSplitSkew",
        "stays silent in the half hour after a change of the split",
        split("0+850x40", "0+150x40", share="0.25+0x9 0.05+0x30"),
        interval="1m",
        at="35m",
    ),
    # 600 in half an hour, 30 of them the canary's.
    Case("CanaryRouterSplitSkew", LITTLE, split("0+17x40", "0+3x40"), interval="1m", at="35m"),
]

OF_STATE = [
    Case(
        "CanaryRouterSwapFailed",
        FIRES,
        swap(STEP_1, STEP_1),
        at="5m45s",
        not_yet="5m30s",
        fires={**OF_A, "model": "m", "alias": "production"},
        summary="m@production on a:8080: the version that the registry names does not load; v1 serves on",
    ),
    Case("CanaryRouterSwapFailed", SILENT, swap("0+0x160", STEP_1), at="10m"),
    Case(
        "CanaryRouterSwapFailed",
        "is over when the alias serves what the registry names",
        swap(STEP_1, "0+0x160"),
        at="7m",
    ),
    Case(
        "CanaryRouterAliasPending",
        FIRES,
        swap("0+0x160", STEP_1),
        at="15m15s",
        not_yet="15m",
        fires={**OF_A, "model": "m", "alias": "production"},
        summary="m@production on a:8080: the registry has named another version for 10 minutes; v1 serves on",
    ),
    Case("CanaryRouterAliasPending", SILENT, swap("0+0x160", "0+0x20 1+0x30 0+0x100"), at="20m"),
    # The last good poll is that of minute 5.
    Case(
        "CanaryRouterRegistryUnreachable",
        FIRES,
        polls("0+3x20 60+0x139", "0+0x20 3+3x139"),
        at="11m",
        not_yet="10m45s",
        fires=OF_A,
        summary="a:8080: no poll of the registry has succeeded in the last 5 minutes, 60 have failed",
    ),
    Case("CanaryRouterRegistryUnreachable", SILENT, polls("0+1x160", "0+2x160"), at="20m"),
    Case(
        "CanaryRouterReplicaVersionSkew",
        FIRES,
        {
            **info(PRODUCTION, instance=A),
            **info('model="m",alias="production",version="2"', instance=B),
            **info('model="m",alias="production",version="2"', instance=C),
        },
        at="5m",
        not_yet="4m45s",
        fires={"job": "gateways", "model": "m", "alias": "production"},
        summary="m@production: replicas have served 2 different versions for 5 minutes: v2 on 2 v1 on 1",
    ),
    # One replica is two minutes late.
    Case(
        "CanaryRouterReplicaVersionSkew",
        SILENT,
        {
            **info(PRODUCTION, "1+0x8 stale"),
            **info('model="m",alias="production",version="2"', "_x8 1+0x60"),
            **info('model="m",alias="production",version="2"', instance=B),
        },
        at="7m",
    ),
    Case(
        "CanaryRouterReplicaConfigSkew",
        FIRES,
        digests("aa", "bb", "bb"),
        at="5m",
        not_yet="4m45s",
        fires={"job": "gateways"},
        summary="gateways: replicas have had 2 different configurations in force for 5 minutes",
    ),
    Case("CanaryRouterReplicaConfigSkew", SILENT, digests("bb", "bb", "bb"), at="10m"),
    Case(
        "CanaryRouterConfigReloadFailed",
        FIRES,
        {f"canary_router_config_last_reload_successful{{{A}}}": "1+0x20 0+0x39"},
        at="5m45s",
        not_yet="5m30s",
        fires=OF_A,
        summary="a:8080 refused its configuration; the one before is in force",
    ),
    Case(
        "CanaryRouterConfigReloadFailed",
        SILENT,
        {f"canary_router_config_last_reload_successful{{{A}}}": "1+0x20 0 1+0x39"},
        at="7m",
    ),
    Case(
        "CanaryRouterNotReady",
        FIRES,
        {f"canary_router_ready{{{A}}}": "1+0x20 0+0x39"},
        at="7m15s",
        not_yet="7m",
        fires=OF_A,
        summary="a:8080 has not been ready for two minutes",
    ),
    Case("CanaryRouterNotReady", SILENT, {f"canary_router_ready{{{A}}}": "0+0x6 1+0x60"}, at="7m"),
    Case(
        "CanaryRouterDown",
        FIRES,
        {f"up{{{A}}}": "1+0x20 0+0x39", f"canary_router_ready{{{A}}}": "1+0x20 stale"},
        at="6m15s",
        not_yet="6m",
        fires=OF_A,
        summary="a:8080 does not answer its scrapes",
    ),
    Case(
        "CanaryRouterDown",
        SILENT,
        {f"up{{{A}}}": ALWAYS, f"canary_router_ready{{{A}}}": ALWAYS, f"up{{{B}}}": "0+0x60"},
        at="10m",
    ),
    # Six of the nine samples in two minutes are 0.15 at 6 min 30 s: 0.1003 on average.
    Case(
        "CanaryRouterLoopLag",
        FIRES,
        {f"canary_router_event_loop_lag_seconds{{{A}}}": "0.001+0x20 0.15+0x39"},
        at="9m",
        not_yet="7m15s",
        fires=OF_A,
        summary="a:8080: its event loop is 150ms late",
    ),
    # One long pause.
    Case(
        "CanaryRouterLoopLag",
        SILENT,
        {f"canary_router_event_loop_lag_seconds{{{A}}}": "0.001+0x20 0.5 0.001+0x39"},
        at="7m",
    ),
]

CASES = [*OF_TRAFFIC, *OF_STATE]
