"""A configuration that changes faster than it can be read."""

import time
from collections.abc import Callable

import pytest

from tests.conftest import Figure
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.waiting import wait_until

CHANGES = 100
STORM_SECONDS = 10.0
IN_FORCE_SECONDS = 5.0


def models_of(canary: int) -> str:
    return f"  sentiment: {{split: {{production: {100 - canary}, canary: {canary}}}}}\n"


@pytest.mark.slow
def test_a_hundred_changes_in_ten_seconds_cost_no_request_and_the_last_is_in_force(
    start: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    """Row 18. Every second one is written in place, in two halves; the others by renaming."""
    gateway = start(models_of(50))
    gateway.wait_bound(2, "canary")
    text = gateway.config.read_text()
    splits = set()
    with Load(gateway.url, rate=200) as load:
        begun = time.monotonic()
        for turn in range(CHANGES):
            changed = text.replace(models_of(50), models_of(turn % 90 + 1))
            if turn % 2:
                beside = gateway.config.with_suffix(".new")
                beside.write_text(changed)
                beside.replace(gateway.config)
            else:
                with gateway.config.open("w") as file:
                    file.write(changed[: len(changed) // 2])
                    file.flush()
                    file.write(changed[len(changed) // 2 :])
            splits.add(gateway.model()["split"]["canary"])
            time.sleep(max(0.0, begun + (turn + 1) * STORM_SECONDS / CHANGES - time.monotonic()))
        last = (CHANGES - 1) % 90 + 1
        took = wait_until(lambda: gateway.model()["split"]["canary"] == last, IN_FORCE_SECONDS * slack)
        error = gateway.state()["config"]["error"]
    figure(f"{load.summary()}; the last in force after {took:.1f} s, {len(splits)} in force meanwhile")
    assert load.failed == []
    assert error is None
    assert splits <= {50, *range(1, 91)}
