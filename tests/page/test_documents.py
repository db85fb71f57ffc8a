"""The documents that other tests of the page write by hand have the shape of the gateway's own."""

from collections.abc import Iterator
from typing import Any

import pytest

from router.analysis.document import document
from router.analysis.fault_patterns import FaultPatterns
from router.control.alias_watch import AliasWatch
from router.control.status import TrafficCounts
from router.core.ids import CANARY, PRODUCTION
from router.core.scores import ScoreSpec
from tests.analysis.test_recorder import Gateway
from tests.page import documents
from tests.serving.conftest import V1, V2
from tests.support.status import status_of


@pytest.fixture
async def gateway() -> Any:
    """A canary beside production, which both count their scores."""
    gateway = Gateway()
    gateway.world.suggested = {V1: (ScoreSpec(),), V2: (ScoreSpec(),)}
    await gateway.serve({PRODUCTION: V1, CANARY: V2})
    gateway.answer(600, PRODUCTION, V1, bin_index=3)
    gateway.answer(600, CANARY, V2, bin_index=4)
    gateway.look()
    yield gateway
    await gateway.models.close(0.0)


def names(value: Any, place: str = "") -> Iterator[str]:
    """Dotted places of all that has a name; an item of a list has its number."""
    if isinstance(value, list):
        value = {str(number): item for number, item in enumerate(value) if isinstance(item, dict)}
    if isinstance(value, dict):
        for name, item in value.items():
            yield f"{place}.{name}"
            yield from names(item, f"{place}.{name}")


async def test_what_is_written_by_hand_of_a_comparison_has_the_gateways_names(gateway: Gateway) -> None:
    patterns = FaultPatterns(gateway.models, lambda: gateway.now)
    compared = patterns.add_to(document(gateway.analysis))
    assert set(names(documents.compare())) == set(names(compared))


async def test_what_is_written_by_hand_of_the_state_has_the_gateways_names(gateway: Gateway) -> None:
    """But for counts of what happened by name, and events, of which each has names of its own."""
    watch = AliasWatch(gateway.world, gateway.models, gateway.facts, lambda: 1e9)
    counts = TrafficCounts(received={"sentiment": 13071})
    status = status_of(
        gateway.models, watch, gateway.facts, gateway.world, traffic=counts, analysis=gateway.analysis
    )

    assert set(names({**documents.state(), "events": []})) == set(names(status.document()))
