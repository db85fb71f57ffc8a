"""Alerts on what versions fail."""

from tests.deploy.promtool import Case
from tests.deploy.samples import (
    AGAINST,
    BOUND,
    FIRES,
    LITTLE,
    OF_CANARY,
    PRODUCTION,
    SILENT,
    fallbacks,
    info,
    requests,
    verdict,
)

CASES = [
    Case(
        "CanaryRouterVerdictFail",
        FIRES,
        {**BOUND, **verdict("fail", "0+0x20 1+0x39")},
        at="5m45s",
        not_yet="5m30s",
        fires={"job": "gateways", "model": "m", "alias": "canary"},
        summary="m@canary: the comparison with production says FAIL; v2 serves",
    ),
    # The canary was given another share before the time was over, and is judged anew.
    Case(
        "CanaryRouterVerdictFail",
        SILENT,
        {**BOUND, **verdict("fail", "0+0x20 1 0+0x39")},
        at="7m",
    ),
    # However few requests it is made of, the verdict says that it is proven; without one nothing fires.
    Case(
        "CanaryRouterVerdictFail",
        LITTLE,
        {**BOUND, **verdict("not_enough_data", "1+0x60"), **verdict("fail", "0+0x60")},
        at="12m",
    ),
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
    # 50 of 250.
    Case(
        "CanaryRouterRequestsRefused",
        FIRES,
        {
            **BOUND,
            **requests(PRODUCTION, "ok", "0+10x60"),
            **requests(PRODUCTION, "overloaded", "0+0x20 50+0x39", 503),
        },
        at="5m45s",
        not_yet="5m30s",
        fires={"job": "gateways", "model": "m", "alias": "production", "version": "1"},
        summary="m@production v1: 20% of its requests in the last 5 minutes were refused for want of room",
    ),
    # One in two hundred.
    Case(
        "CanaryRouterRequestsRefused",
        SILENT,
        {
            **BOUND,
            **requests(PRODUCTION, "ok", "0+199x60"),
            **requests(PRODUCTION, "overloaded", "0+1x60", 503),
        },
        at="10m",
    ),
    # 4 of 204.
    Case(
        "CanaryRouterRequestsRefused",
        "stays silent about four",
        {
            **BOUND,
            **requests(PRODUCTION, "ok", "0+10x60"),
            **requests(PRODUCTION, "overloaded", "0+0x20 4+0x39", 503),
        },
        at="7m",
    ),
    # 25 of 45.
    Case(
        "CanaryRouterRequestsRefused",
        LITTLE,
        {
            **BOUND,
            **requests(PRODUCTION, "ok", "0+1x60"),
            **requests(PRODUCTION, "overloaded", "0+0x20 25+0x39", 503),
        },
        at="7m",
    ),
    Case(
        "CanaryRouterRequestsRefused",
        "stays silent about other failures, and about what production answered in the canary's place",
        {
            **fallbacks("0+10x60", "0+10x60"),
            **requests(PRODUCTION, "timeout", "0+10x60", 504),
            **requests(PRODUCTION, "model_error", "0+10x60", 503),
        },
        at="10m",
    ),
    # 40 of 240 against 0 of 200; three standard errors are 3 √(1/11 · 10/11 · (1/240 + 1/200)) = 0.083.
    Case(
        "CanaryRouterCanaryFailsMore",
        FIRES,
        fallbacks("0+10x60", "0+0x20 40+0x39"),
        at="5m45s",
        not_yet="5m30s",
        fires=AGAINST,
        summary="m@canary v2 fails 16.67% more of its requests than production v1 of its own",
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
    # 200 of 20 200 against 0 of 20 000: 0.99 points; three standard errors are 0.2.
    Case(
        "CanaryRouterCanaryFailsMore",
        "stays silent about less than 2 points, however sure",
        {**fallbacks("0+1000x60", "0+0x20 200+0x39"), **requests(PRODUCTION, "ok", "0+1000x60")},
        at="7m",
    ),
    # 4 of 54 against 0 of 20 000.
    Case(
        "CanaryRouterCanaryFailsMore",
        "stays silent about four",
        {**fallbacks("0+2.5x60", "0+0x20 4+0x39"), **requests(PRODUCTION, "ok", "0+1000x60")},
        at="7m",
    ),
    # 50 of 250 against 0 of 40; three standard errors are 3 √(0.1724 · 0.8276 · (1/250 + 1/40)) = 0.193.
    Case(
        "CanaryRouterCanaryFailsMore",
        "waits for enough traffic at production",
        {**fallbacks("0+10x60", "0+0x20 50+0x39"), **requests(PRODUCTION, "ok", "0+2x60")},
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
    # 8 of 200.
    Case(
        "CanaryRouterFallbackInUse",
        FIRES,
        fallbacks("0+9.6x60", "0+0x20 8+0x39"),
        at="6m15s",
        not_yet="6m",
        fires=OF_CANARY,
        summary="m@canary v2: production answers 4% of its requests in its place",
    ),
    # 50 of 20 050.
    Case(
        "CanaryRouterFallbackInUse",
        "stays silent about one in four hundred",
        fallbacks("0+1000x60", "0+0x20 50+0x39"),
        at="7m",
    ),
    # 4 of 204.
    Case("CanaryRouterFallbackInUse", SILENT, fallbacks("0+10x60", "0+0x20 4+0x39"), at="7m"),
    # 25 of 45.
    Case("CanaryRouterFallbackInUse", LITTLE, fallbacks("0+1x60", "0+0x20 25+0x39"), at="7m"),
]
