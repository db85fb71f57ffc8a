"""The alert on how long they take."""

from tests.deploy.promtool import Case
from tests.deploy.samples import (
    AGAINST,
    BOUND,
    CANARY,
    FAST,
    FIRES,
    LITTLE,
    PRODUCTION,
    SILENT,
    SLOW,
    durations,
)

CASES = [
    # p95 is 0.01 · 0.95 = 9.5 ms against 10 + 15 · 0.95 = 24.25 ms, 2.5526 times; means are 8 and 20 ms. The
    # hundredth request comes at 2 min 30 s.
    Case(
        "CanaryRouterLatencyRegression",
        FIRES,
        {
            **BOUND,
            **durations(PRODUCTION, FAST, "0+10x60", "0+0.08x60"),
            **durations(CANARY, SLOW, "0+10x60", "0+0.2x60"),
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
            **durations(PRODUCTION, FAST, "0+10x60", "0+0.098x60"),
            **durations(CANARY, SLOW, "0+10x60", "0+0.102x60"),
        },
        at="12m",
    ),
    Case(
        "CanaryRouterLatencyRegression",
        SILENT,
        {
            **BOUND,
            **durations(PRODUCTION, FAST, "0+10x60", "0+0.08x60"),
            **durations(CANARY, FAST, "0+10x60", "0+0.09x60"),
        },
        at="12m",
    ),
    # 24.25 ms against 25 + 25 · 2/7 = 32.1 ms, 1.3 times; means are 12 and 16 ms.
    Case(
        "CanaryRouterLatencyRegression",
        "stays silent about a third",
        {
            **BOUND,
            **durations(PRODUCTION, {**SLOW, "0.05": "0+10x60"}, "0+10x60", "0+0.12x60"),
            **durations(
                CANARY,
                {"0.01": "0+0x60", "0.025": "0+93x60", "0.05": "0+100x60"},
                "0+100x60",
                "0+1.6x60",
            ),
        },
        at="12m",
    ),
    # 0.95 ms against 1 + 1.5 · 0.95 = 2.425 ms.
    Case(
        "CanaryRouterLatencyRegression",
        "stays silent about a millisecond",
        {
            **BOUND,
            **durations(PRODUCTION, {"0.001": "0+10x60", "0.0025": "0+10x60"}, "0+10x60", "0+0.005x60"),
            **durations(CANARY, {"0.001": "0+0x60", "0.0025": "0+10x60"}, "0+10x60", "0+0.02x60"),
        },
        at="12m",
    ),
    Case(
        "CanaryRouterLatencyRegression",
        "waits for enough traffic at production",
        {
            **BOUND,
            **durations(PRODUCTION, {"0.01": "0+1x60", "0.025": "0+1x60"}, "0+1x60", "0+0.008x60"),
            **durations(CANARY, SLOW, "0+10x60", "0+0.2x60"),
        },
        at="12m",
    ),
    # 40 in 10 minutes.
    Case(
        "CanaryRouterLatencyRegression",
        LITTLE,
        {
            **BOUND,
            **durations(PRODUCTION, FAST, "0+10x60", "0+0.08x60"),
            **durations(CANARY, {"0.01": "0+0x60", "0.025": "0+1x60"}, "0+1x60", "0+0.02x60"),
        },
        at="12m",
    ),
]
