"""Alerts on who gets what."""

from tests.deploy.promtool import Case
from tests.deploy.samples import CANARY, FIRES, LITTLE, SILENT, A, B, capped, info, preflight, split, unasked

CANARY_OF_M = 'model="m",alias="canary"'

CASES = [
    Case(
        "CanaryRouterCapInForce",
        FIRES,
        capped("0.01+0x90", "0.05+0x90"),
        interval="1m",
        at="60m",
        not_yet="59m",
        fires={"job": "gateways", "model": "m", "alias": "canary"},
        summary="m@canary: a cap has left it 1% of the keys at most for an hour",
    ),
    # As low as the file says: the two agree.
    Case(
        "CanaryRouterCapInForce",
        SILENT,
        capped("0+0x90", "0+0x90"),
        interval="1m",
        at="90m",
    ),
    Case(
        "CanaryRouterCapInForce",
        LITTLE,
        capped("0+0x40 stale", "0.05+0x90"),
        interval="1m",
        at="70m",
    ),
    # Reported and not held, on one of two gateways.
    Case(
        "CanaryRouterPreflightFailed",
        FIRES,
        {**info(CANARY), **preflight("0+0x60", "0.05+0x60"), **preflight("1+0x60", "0.05+0x60", B)},
        at="30s",
        not_yet="15s",
        fires={"job": "gateways", "model": "m", "alias": "canary"},
        summary="m@canary: what serves failed its pre-flight, and has users; v2 serves",
    ),
    Case("CanaryRouterPreflightFailed", SILENT, preflight("1+0x60", "0.05+0x60"), at="10m"),
    # Held at the gateway where it failed, and not at another that does not know of it.
    Case(
        "CanaryRouterPreflightFailed",
        LITTLE,
        {**preflight("0+0x60", "0+0x60"), **preflight("1+0x60", "0.05+0x60", B)},
        at="10m",
    ),
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
    # 1 % at a share of 5 %.
    Case(
        "CanaryRouterSplitSkew",
        "fires about too few, too",
        split("0+990x40", "0+10x40"),
        interval="1m",
        at="17m",
        not_yet="14m",
        fires={"job": "gateways", "model": "m", "alias": "canary"},
        summary="m@canary gets 0.20 times the requests that its share of the keys stands for",
    ),
    Case(
        "CanaryRouterSplitSkew",
        "stays silent while both aliases serve one version",
        {
            **split("0+1000x40", "0+0x40"),
            f'canary_router_routing_decisions_total{{{A},{CANARY_OF_M},reason="same_version"}}': "0+50x40",
        },
        interval="1m",
        at="35m",
    ),
    # 600 in half an hour, 30 of them the canary's.
    Case("CanaryRouterSplitSkew", LITTLE, split("0+17x40", "0+3x40"), interval="1m", at="35m"),
]
