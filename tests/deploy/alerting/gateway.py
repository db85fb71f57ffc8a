"""Alerts on the gateway itself."""

from tests.deploy.promtool import Case
from tests.deploy.samples import ALWAYS, FIRES, OF_A, SILENT, A, B, horizon, notifications

CASES = [
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
        "CanaryRouterInternalErrors",
        FIRES,
        {f'canary_router_requests_rejected_total{{{A},model="m",reason="internal"}}': "0+0x20 2+0x39"},
        at="5m45s",
        not_yet="5m30s",
        fires=OF_A | {"model": "m"},
        summary="a:8080: a bug of the gateway answered requests for m with 500 in the last 5 minutes",
    ),
    Case(
        "CanaryRouterInternalErrors",
        SILENT,
        {
            f'canary_router_requests_rejected_total{{{A},model="m",reason="internal"}}': "0+0x60",
            f'canary_router_requests_rejected_total{{{A},model="m",reason="invalid_body"}}': "0+5x60",
        },
        at="10m",
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
        "CanaryRouterModelNotReady",
        FIRES,
        {f'canary_router_model_ready{{{A},model="m"}}': "1+0x20 0+0x39"},
        at="7m15s",
        not_yet="7m",
        fires=OF_A | {"model": "m"},
        summary="a:8080: production of m has had no worker for two minutes",
    ),
    Case(
        "CanaryRouterModelNotReady",
        SILENT,
        {f'canary_router_model_ready{{{A},model="m"}}': "1+0x20 0+0x6 1+0x30"},
        at="7m30s",
    ),
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
    # Both are 5 s behind; then b judges nothing any more, and is over two minutes behind from 7 min on.
    Case(
        "CanaryRouterEvidenceStale",
        FIRES,
        {**horizon("-5+15x60"), **horizon("-5+15x20 295+0x39", B)},
        at="7m45s",
        not_yet="7m15s",
        fires={"job": "gateways", "model": "m", "alias": "canary"},
        summary="m@canary: what came in the last 2m 50s is not judged",
    ),
    # For a minute and a half a gateway is waited for, then it counts as gone.
    Case(
        "CanaryRouterEvidenceStale",
        SILENT,
        horizon("-5+15x20 295+0x5 385+15x39"),
        at="6m45s",
    ),
    Case(
        "CanaryRouterStateNotDurable",
        FIRES,
        {f"canary_router_state_durable{{{A}}}": "1+0x20 0+0x39"},
        at="10m15s",
        not_yet="10m",
        fires=OF_A,
        summary="a:8080: its caps, journal and evidence have not been on disk for 5 minutes",
    ),
    Case(
        "CanaryRouterStateNotDurable",
        SILENT,
        {f"canary_router_state_durable{{{A}}}": "0+0x15 1+0x60"},
        at="12m",
    ),
    # Tries fail from 5 min 15 s on; the last delivery has left the ten minutes at 15 min.
    Case(
        "CanaryRouterNotificationsFailing",
        FIRES,
        notifications("0+1x20 20+0x100", "0+0x20 1+1x100"),
        at="20m15s",
        not_yet="18m",
        fires=OF_A | {"receiver": "slack"},
        summary="a:8080: slack has taken no notification for 10 minutes, and refused or missed some",
    ),
    # It is tried again now and then, and others are taken.
    Case(
        "CanaryRouterNotificationsFailing",
        SILENT,
        notifications("0+1x160", "0+1x160"),
        at="30m",
    ),
    # Six of the nine samples in two minutes are 0.15 at 6 min 30 s: 0.1003 on average.
    Case(
        "CanaryRouterLoopLag",
        FIRES,
        {f"canary_router_event_loop_lag_seconds{{{A}}}": "0.001+0x20 0.15+0x39"},
        at="7m30s",
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
