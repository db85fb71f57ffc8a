"""Alerts on aliases, swaps, polls and replicas."""

from tests.deploy.promtool import Case
from tests.deploy.samples import (
    FIRES,
    OF_A,
    PRODUCTION,
    SILENT,
    STEP_1,
    A,
    B,
    C,
    digests,
    environment,
    info,
    polls,
    swap,
)

CASES = [
    Case(
        "CanaryRouterRollbackNotReady",
        FIRES,
        {f'canary_router_rollback_ready{{{A},model="m",version="1"}}': "2+0x20 0+0x39"},
        at="10m15s",
        not_yet="10m",
        fires=OF_A | {"model": "m", "version": "1"},
        summary="m on a:8080: v1, which a rollback goes back to, is neither loaded nor whole in the cache",
    ),
    Case(
        "CanaryRouterRollbackNotReady",
        SILENT,
        {f'canary_router_rollback_ready{{{A},model="m",version="1"}}': "0+0x15 1+0x60"},
        at="12m",
    ),
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
        "CanaryRouterRegistryUnreachable",
        "stays silent about a single poll",
        polls("0+0x160", "0+0x20 1+0x139"),
        at="7m",
    ),
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
        "CanaryRouterReplicaEnvironmentSkew",
        FIRES,
        {**environment("aa", A), **environment("bb", B), **environment("bb", C)},
        at="15m",
        not_yet="14m45s",
        fires={"job": "gateways", "model": "m", "alias": "production", "version": "1"},
        summary="m@production: replicas have served v1 with 2 different sets of packages for 15 minutes",
    ),
    # One replica is ten minutes late with a new gateway, whose MLflow is in the pins.
    Case(
        "CanaryRouterReplicaEnvironmentSkew",
        SILENT,
        {
            **environment("aa", A, "1+0x40 stale"),
            **environment("bb", A, "_x40 1+0x120"),
            **environment("bb", B),
        },
        at="25m",
    ),
    Case(
        "CanaryRouterReplicaEnvironmentSkew",
        "stays silent where two versions have packages of their own",
        {**environment("aa", A), **environment("bb", B, version=2)},
        at="30m",
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
]
