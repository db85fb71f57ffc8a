"""When a client that got 503 is asked to come back."""

from typing import Any

import pytest

from router.core.ids import PRODUCTION, VersionId
from router.errors import NotReady, Overloaded, RequestRefused, TooLarge
from router.protocol.messages import ScoringProtocol
from router.serving.harness import LOAD_DELAYS
from router.web.responses import error_response, retry_after
from tests.support.fakes import FakeWorld
from tests.support.waiting import until
from tests.web.conftest import Site


@pytest.mark.parametrize(
    ("seconds", "header"),
    [
        (None, "1"),
        (0.0, "1"),
        (0.3, "1"),
        (1.0, "1"),
        (1.01, "2"),
        (19.2, "20"),
        (299.5, "300"),
        (1e9, "300"),
    ],
)
def test_the_header_has_whole_seconds_from_one_to_three_hundred(seconds: float | None, header: str) -> None:
    assert retry_after(seconds) == header


@pytest.mark.parametrize("protocol", ScoringProtocol)
@pytest.mark.parametrize(
    ("error", "header"),
    [
        (Overloaded("full", retry_after=2.5), "3"),
        (NotReady("no worker"), "1"),
        (TooLarge("too large", retry_after=9.0), None),
    ],
    ids=lambda case: type(case).__name__,
)
def test_only_a_503_has_it(error: RequestRefused, header: str | None, protocol: ScoringProtocol) -> None:
    assert error_response(error, "0", protocol).headers.get("Retry-After") == header


async def test_without_production_it_is_the_time_to_the_next_load(
    traffic: Any, site: Site, world: FakeWorld
) -> None:
    site.configure(models={"sentiment": {}, "other": {}})
    manager, broken = site.gateway.models.managers["other"], VersionId("other", 1)
    world.broken.add(broken)
    manager.set_aspired({PRODUCTION: broken})
    await until(lambda: manager.harnesses[broken].failures == 1)
    answer = await traffic.post("/models/other/invocations", data=b"{}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, f"{LOAD_DELAYS[0]:.0f}")
    answer = await traffic.post("/v2/models/other/infer", data=b"{}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, f"{LOAD_DELAYS[0]:.0f}")
