"""The modes: `full`, three quarters of an hour; `quick`, three minutes; `tiny`, whether it all works."""

from benchmarks.plan import Plan

_CORE = frozenset({"P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12"})

PLANS = {
    plan.name: plan
    for plan in (
        Plan(
            name="full",
            seconds=5,
            rounds=5,
            tail_seconds=30,
            tail_rounds=3,
            launches=3,
            swaps=100,
            swap_limit_seconds=900,
            swap_rate=500,
            keys=100_000,
            busy_seconds=30,
            limit_seconds=5400,
            bars=None,
            more_peers=True,
        ),
        Plan(
            name="quick",
            seconds=2,
            rounds=2,
            tail_seconds=0,
            tail_rounds=0,
            launches=3,
            swaps=5,
            swap_limit_seconds=120,
            swap_rate=500,
            keys=100_000,
            busy_seconds=10,
            limit_seconds=600,
            bars=_CORE,
            more_peers=False,
        ),
        Plan(  # what the test of this package runs
            name="tiny",
            seconds=1,
            rounds=1,
            tail_seconds=0,
            tail_rounds=0,
            launches=1,
            swaps=1,
            swap_limit_seconds=60,
            swap_rate=50,
            keys=1_000,
            busy_seconds=2,
            limit_seconds=1200,
            bars=frozenset({"P1", "P10", "P11", "P12"}),
            more_peers=False,
        ),
    )
}
