"""The Open Inference Protocol V2 through a real gateway, the split and real versions."""

from collections.abc import Callable
from typing import Any

import requests

from tests.e2e.conftest import Registry
from tests.support import slowness
from tests.support.gateway import GatewayProcess

MODELS = "  sentiment: {split: {production: 50, canary: 50}, key: {json: id}, direct_access: true}\n"
PRODUCTION_KEY, CANARY_KEY = "user-1", "user-2"


def infer(gateway: GatewayProcess, key: str, text: Any = "good", path: str = "") -> requests.Response:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}
    url = f"{gateway.url}/v2/models/sentiment{path}/infer"
    return gateway.session.post(url, json={"id": key, "inputs": [tensor]}, timeout=30 * slowness.slack())


def test_an_inference_is_split_answered_and_rescued_as_any_other_request(
    start: Callable[..., GatewayProcess], registry: Registry
) -> None:
    """The canary is a version that raises on the text `bad`."""
    registry.move("canary", 7)
    gateway = start(MODELS)
    gateway.wait_bound(7, "canary")

    for key, alias, version in ((PRODUCTION_KEY, "production", 1), (CANARY_KEY, "canary", 7)):
        answer = infer(gateway, key)
        assert answer.json() == {
            "model_name": "sentiment",
            "model_version": str(version),
            "id": key,
            "outputs": [{"name": "predict", "shape": [1], "datatype": "FP64", "data": [version / 10]}],
        }
        assert (answer.status_code, answer.headers["X-Model-Alias"]) == (200, alias)

    rescued = infer(gateway, CANARY_KEY, "bad")
    assert (rescued.status_code, rescued.json()["model_version"]) == (200, "1")
    assert rescued.headers["X-Route-Reason"] == "fallback"
    direct = infer(gateway, CANARY_KEY, "bad", "/versions/7")
    assert (direct.status_code, list(direct.json())) == (500, ["error"])
    mistaken = infer(gateway, CANARY_KEY, 7)
    assert (mistaken.status_code, list(mistaken.json())) == (400, ["error"])

    assert gateway.get("/v2/health/ready").json() == {"ready": True}
    assert gateway.get("/v2/models/sentiment").json()["versions"] == ["1", "7"]
    counted = {
        outcome: gateway.metric("canary_router_requests_total", version="7", outcome=outcome)
        for outcome in ("ok", "fallback", "model_error", "client_error")
    }
    assert counted == {"ok": 1, "fallback": 1, "model_error": 1, "client_error": 1}
    assert gateway.metric("canary_router_canary_faults_total", version="7") == 1
