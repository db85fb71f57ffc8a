"""A request with too many rows."""

from collections.abc import Callable

from tests.e2e.conftest import Registry
from tests.support import faulty_registry
from tests.support.faulty_registry import body_of
from tests.support.gateway import GatewayProcess

built_registry = faulty_registry.built_registry

HEADERS = {"Content-Type": "application/json", "X-Request-Key": "user-1"}


def test_a_request_of_more_rows_than_max_rows_gets_413_and_is_its_callers_fault(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    gateway = start("  sentiment: {split: {production: 50, canary: 50}, max_rows: 5}\n")
    gateway.wait_bound(2, "canary")
    for key, alias in (("user-1", "production"), ("user-2", "canary")):
        headers = HEADERS | {"X-Request-Key": key}
        url = f"{gateway.url}/invocations"
        answer = gateway.session.post(url, data=body_of("good", rows=6), headers=headers, timeout=30 * slack)
        assert (answer.status_code, answer.json()["error_code"]) == (413, "BAD_REQUEST"), alias
        counted = {"alias": alias, "outcome": "client_error"}
        assert gateway.metric("canary_router_requests_total", **counted) == 1
        answer = gateway.session.post(url, data=body_of("good", rows=5), headers=headers, timeout=30 * slack)
        assert answer.status_code == 200
    assert gateway.metric("canary_router_canary_faults_total") == 0
