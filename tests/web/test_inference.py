"""The Open Inference Protocol V2 as a client sees it: paths, metadata, headers, one shape of errors."""

import asyncio
import json
from io import BytesIO
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from msgspec.structs import replace

from router import __version__
from router.core.events import Answered, CanaryFaulted, FellBack, Rejected
from router.core.ids import CANARY, PRODUCTION
from router.protocol.messages import Answer, PredictStatus, ScoringProtocol, TensorInfo
from tests.serving.conftest import V1, V2
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until
from tests.web.conftest import Site

Client = TestClient[Any, Any]
INFER = "/v2/models/sentiment/infer"
CANARY_KEY = {"X-Request-Key": "user-2"}
PRODUCTION_KEY = {"X-Request-Key": "user-1"}
BODY = b'{"inputs": []}'
BROKEN = Answer(PredictStatus.MODEL_ERROR, 500, b'{"error":"it raised"}', "application/json", 0, 0.0)


async def error_of(answer: Any) -> str:
    assert answer.content_type == "application/json"
    reported = await answer.json()
    assert list(reported) == ["error"]
    message: str = reported["error"]
    return message


async def test_an_inference_goes_through_the_split_with_the_same_headers_and_facts(
    traffic: Client, world: FakeWorld, facts: Facts
) -> None:
    answer = await traffic.post(INFER, data=BODY, headers=CANARY_KEY)

    reported = {
        name: answer.headers[name] for name in answer.headers if name.startswith(("X-Model", "X-Route"))
    }
    assert (answer.status, await answer.read()) == (200, b"v2")
    assert reported == {
        "X-Model-Name": "sentiment",
        "X-Model-Version": "2",
        "X-Model-Alias": "canary",
        "X-Route-Alias": "canary",
        "X-Route-Reason": "hash",
        "X-Route-Bucket": "418",
    }
    assert "Server-Timing" in answer.headers
    [[query]] = world.alive(V2)[0].frames
    assert (query.body, query.protocol, query.max_rows) == (BODY, ScoringProtocol.V2, 100_000)
    [fact] = facts.of(Answered)
    assert (fact.alias, fact.version, fact.outcome, fact.code) == (CANARY, V2, "ok", 200)


async def test_a_canary_fault_sends_the_same_bytes_to_production(
    traffic: Client, world: FakeWorld, facts: Facts
) -> None:
    world.answers[V2] = BROKEN
    answer = await traffic.post(INFER, data=BODY, headers=CANARY_KEY)

    assert (answer.status, await answer.read()) == (200, b"v1")
    assert (answer.headers["X-Route-Reason"], answer.headers["X-Model-Version"]) == ("fallback", "1")
    [[first]], [[second]] = world.alive(V2)[0].frames, world.alive(V1)[0].frames
    assert first == second
    assert facts.of(FellBack) == [FellBack("sentiment", CANARY, PRODUCTION, "model_error")]
    assert [fact.version for fact in facts.of(CanaryFaulted)] == [V2]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (BROKEN, 500),
        (Answer(PredictStatus.CLIENT_ERROR, 400, b'{"error":"shape"}', "application/json", 0, 0.0), 400),
        (Answer(PredictStatus.CLIENT_ERROR, 413, b'{"error":"rows"}', "application/json", 0, 0.0), 413),
    ],
)
async def test_what_the_version_says_reaches_the_caller_as_it_is(
    traffic: Client, site: Site, world: FakeWorld, sent: Answer, status: int
) -> None:
    """`model_error_status` is for clients of MLflow's protocol."""
    site.configure(models={"sentiment": {"model_error_status": 400}})
    world.answers[V1] = sent
    answer = await traffic.post(INFER, data=BODY, headers=PRODUCTION_KEY)

    assert (answer.status, await answer.read()) == (status, sent.body)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/secret/infer",
        "/v2/models/sentiment/versions/1/infer",
        "/v2/models/sentiment/versions/secret/infer",
        "/v2/models/sentiment/aliases/canary/infer",
        "/v2/models/sentiment/generate",
        "/v2/secret",
    ],
)
async def test_what_is_not_there_is_404_of_one_shape(traffic: Client, path: str) -> None:
    answer = await traffic.post(path, data=BODY)

    assert answer.status == 404
    assert "secret" not in await error_of(answer)


async def test_an_unknown_model_is_no_label(traffic: Client, facts: Facts) -> None:
    await traffic.post("/v2/models/secret/infer", data=BODY)

    assert facts.of(Rejected) == [Rejected("__other__", "unknown_model")]


@pytest.mark.parametrize(("method", "path"), [("GET", INFER), ("POST", "/v2"), ("PUT", "/v2/health/live")])
async def test_another_method_is_405_of_the_same_shape(traffic: Client, method: str, path: str) -> None:
    answer = await traffic.request(method, path)

    assert answer.status == 405
    assert answer.headers["Allow"]
    assert await error_of(answer)


async def test_tensors_as_bytes_after_the_json_are_refused_before_they_are_read(
    traffic: Client, facts: Facts
) -> None:
    headers = {"Inference-Header-Content-Length": "14", "Content-Type": "application/octet-stream"}
    answer = await traffic.post(INFER, data=BODY + bytes(8), headers=headers)

    assert answer.status == 400
    assert "tensors are taken as JSON only" in await error_of(answer)
    assert facts.of(Rejected) == [Rejected("sentiment", "invalid_body")]


async def test_bodies_that_are_too_long_or_too_slow_are_errors_of_the_same_shape(
    traffic: Client, site: Site
) -> None:
    site.configure(server={"body_limit_mib": 1, "body_timeout_seconds": 0.05})
    long = await traffic.post(INFER, data=BytesIO(b"x" * ((1 << 20) + 1)))

    async def drips() -> Any:
        yield b"{"
        await asyncio.Event().wait()  # the body never ends

    slow = await traffic.post(INFER, data=drips())
    assert (long.status, slow.status) == (413, 408)
    assert await error_of(long)
    assert await error_of(slow)


async def test_a_deadline_and_a_full_queue_are_errors_of_the_same_shape(
    traffic: Client, site: Site, world: FakeWorld
) -> None:
    site.configure(models={"sentiment": {"timeout_seconds": 0.1, "queue_rows": 1}})
    world.held = True
    asked = [asyncio.create_task(traffic.post(INFER, data=BODY, headers=PRODUCTION_KEY)) for _ in range(4)]
    answers = await asyncio.gather(*asked)

    assert {answer.status for answer in answers} == {503, 504}
    for answer in answers:
        assert await error_of(answer)
        assert ("Retry-After" in answer.headers) == (answer.status == 503)
    world.held = False
    world.alive(V1)[0].release_all()


async def test_a_bug_of_ours_is_a_500_of_the_same_shape(
    traffic: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(site.gateway.dispatcher, "serve", broken)
    answer = await traffic.post(INFER, data=BODY)

    assert answer.status == 500
    assert "a bug" not in await error_of(answer)


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "application/vnd.x"])
async def test_a_key_in_the_json_is_read_whatever_the_content_type_says(
    traffic: Client, site: Site, content_type: str | None
) -> None:
    """All bodies of this protocol are JSON."""
    site.configure(models={"sentiment": {"key": {"json": "parameters.user"}}})
    body = json.dumps({"inputs": [], "parameters": {"user": "user-2"}}).encode()
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await traffic.post(INFER, data=body, headers=headers)

    assert (answer.headers["X-Route-Bucket"], answer.headers["X-Route-Reason"]) == ("418", "hash")


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ({"header": "X-User"}, {"headers": {"X-User": "user-2"}}),
        ({"cookie": "user"}, {"cookies": {"user": "user-2"}}),
        ({"cookie": "user"}, {"headers": [("Cookie", "a=1"), ("Cookie", "user=user-2; user=user-1")]}),
        ({"query": "user"}, {"params": {"user": "user-2"}}),
        ({"json": "id"}, {"data": b'{"id": "user-2"}'}),
        ({"json": "inputs.0.data.0"}, {"data": b'{"inputs": [{"data": ["user-2"]}]}'}),
    ],
    ids=["header", "cookie", "cookies in two lines", "query", "id", "tensor"],
)
async def test_the_key_is_read_where_the_configuration_says(
    traffic: Client, site: Site, key: dict[str, str], parts: dict[str, Any]
) -> None:
    site.configure(models={"sentiment": {"key": key}})
    answer = await traffic.post(INFER, **{"data": b"{}", **parts})

    assert (answer.headers["X-Route-Bucket"], answer.headers["X-Route-Reason"]) == ("418", "hash")


async def test_one_version_can_be_asked_for_where_that_is_allowed(traffic: Client, site: Site) -> None:
    site.configure(models={"sentiment": {"direct_access": True}})
    for number, alias in ((1, "production"), (2, "canary")):
        answer = await traffic.post(f"/v2/models/sentiment/versions/{number}/infer", data=BODY)
        headers = answer.headers
        assert (answer.status, headers["X-Route-Reason"], headers["X-Model-Alias"]) == (200, "direct", alias)
        assert await answer.read() == f"v{number}".encode()
    for number in ("3", "0", "-1", "01", "one", "9" * 30, "%31%30"):
        answer = await traffic.post(f"/v2/models/sentiment/versions/{number}/infer", data=BODY)
        assert answer.status == 404
        assert await error_of(answer)


async def test_direct_access_never_falls_back(traffic: Client, site: Site, world: FakeWorld) -> None:
    site.configure(models={"sentiment": {"direct_access": True}})
    world.answers[V2] = BROKEN
    answer = await traffic.post("/v2/models/sentiment/versions/2/infer", data=BODY)

    assert (answer.status, answer.headers["X-Model-Version"]) == (500, "2")


async def test_the_server_reports_its_name_and_version(traffic: Client) -> None:
    answer = await traffic.get("/v2")

    assert await answer.json() == {"name": "canary-router", "version": __version__, "extensions": []}


async def test_health_says_yes_with_200(traffic: Client) -> None:
    for path, reported in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/sentiment/ready", {"name": "sentiment", "ready": True}),
    ):
        answer = await traffic.get(path)
        assert (answer.status, await answer.json(), answer.content_type) == (
            200,
            reported,
            "application/json",
        )


async def test_health_says_no_with_400(traffic: Client, site: Site) -> None:
    site.configure(models={"sentiment": {"direct_access": True}, "other": {}})
    site.gateway.traffic.stopping = True
    for path, reported in (
        ("/v2/health/ready", {"ready": False}),
        ("/v2/models/other/ready", {"name": "other", "ready": False}),
        ("/v2/models/sentiment/versions/3/ready", {"name": "sentiment", "ready": False}),
    ):
        answer = await traffic.get(path)
        assert (answer.status, await answer.json()) == (400, reported)
    assert (await traffic.get("/v2/health/live")).status == 200
    assert (await traffic.get("/v2/models/sentiment/versions/2/ready")).status == 200


async def test_metadata_is_productions_and_names_what_is_served(traffic: Client, site: Site) -> None:
    harness = site.gateway.models.managers["sentiment"].harnesses[V1]
    assert harness.info is not None
    harness.info = replace(
        harness.info,
        inputs=(TensorInfo("text", "BYTES", (-1,)), TensorInfo("photo", "BYTES", (-1,), "base64")),
        outputs=(TensorInfo("score", "FP64", (-1, 2)),),
    )
    answer = await traffic.get("/v2/models/sentiment")

    assert (answer.status, await answer.json()) == (
        200,
        {
            "name": "sentiment",
            "versions": ["1", "2"],
            "platform": "mlflow",
            "inputs": [
                {"name": "text", "datatype": "BYTES", "shape": [-1]},
                {
                    "name": "photo",
                    "datatype": "BYTES",
                    "shape": [-1],
                    "parameters": {"content_type": "base64"},
                },
            ],
            "outputs": [{"name": "score", "datatype": "FP64", "shape": [-1, 2]}],
        },
    )


async def test_metadata_of_one_version_is_its_own(traffic: Client, site: Site) -> None:
    path = "/v2/models/sentiment/versions/2"
    assert (await traffic.get(path)).status == 404

    site.configure(models={"sentiment": {"direct_access": True}})
    harness = site.gateway.models.managers["sentiment"].harnesses[V2]
    assert harness.info is not None
    harness.info = replace(harness.info, inputs=(TensorInfo("text", "BYTES", (-1,)),))
    assert [one["name"] for one in (await (await traffic.get(path)).json())["inputs"]] == ["text"]
    missing = await traffic.get("/v2/models/sentiment/versions/7")
    assert missing.status == 404
    assert await error_of(missing)


async def test_metadata_without_a_version_or_a_model_is_an_error(traffic: Client, site: Site) -> None:
    site.configure(models={"sentiment": {}, "other": {}})
    unready, unknown = await traffic.get("/v2/models/other"), await traffic.get("/v2/models/secret")

    assert (unready.status, unready.headers["Retry-After"]) == (503, "1")
    assert unknown.status == 404
    assert await error_of(unready)
    assert "secret" not in await error_of(unknown)
    assert (await traffic.post("/v2/models/other/infer", data=BODY)).status == 503


async def test_in_flight_is_zero_after_a_client_vanishes(
    traffic: Client, site: Site, world: FakeWorld
) -> None:
    world.held = True
    asked = asyncio.create_task(traffic.post(INFER, data=BODY, headers=PRODUCTION_KEY))
    await until(lambda: world.alive(V1)[0].frames)
    asked.cancel()
    world.alive(V1)[0].release()
    await until(lambda: site.gateway.dispatcher.in_flight[("sentiment", PRODUCTION)] == 0)
