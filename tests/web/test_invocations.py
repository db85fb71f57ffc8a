"""`/invocations` as a client sees it: answers, headers, errors."""

import asyncio
import re
from io import BytesIO
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from msgspec.structs import replace

from router.core.events import Answered, Rejected
from router.core.ids import CANARY, PRODUCTION
from router.errors import RouterError
from router.protocol.messages import Answer, PredictStatus
from tests.serving.conftest import V1, V2
from tests.support.fakes import Facts, FakeWorld, ok
from tests.support.waiting import until
from tests.web.conftest import Site

Client = TestClient[Any, Any]
CANARY_KEY = {"X-Request-Key": "user-2"}
PRODUCTION_KEY = {"X-Request-Key": "user-1"}


async def test_an_answer_says_who_answered_whom_the_key_was_given_and_why(traffic: Client) -> None:
    answer = await traffic.post("/invocations", data=b"{}", headers=CANARY_KEY)

    assert (answer.status, await answer.read()) == (200, b"v2")
    reported = {
        name: answer.headers[name] for name in answer.headers if name.startswith(("X-Model", "X-Route"))
    }
    assert reported == {
        "X-Model-Name": "sentiment",
        "X-Model-Version": "2",
        "X-Model-Alias": "canary",
        "X-Route-Alias": "canary",
        "X-Route-Reason": "hash",
        "X-Route-Bucket": "418",
    }
    assert answer.headers["Content-Type"] == "application/json"
    assert re.fullmatch(r"total;dur=[\d.]+, predict;dur=[\d.]+", answer.headers["Server-Timing"])


async def test_a_fallback_says_that_production_answered_for_the_canary(
    traffic: Client, world: FakeWorld, facts: Facts
) -> None:
    world.answers[V2] = Answer(PredictStatus.MODEL_ERROR, 500, b"{}", "application/json", 0, 0.0)
    answer = await traffic.post("/models/sentiment/invocations", data=b"{}", headers=CANARY_KEY)

    headers = answer.headers
    assert (answer.status, await answer.read()) == (200, b"v1")
    assert (headers["X-Model-Alias"], headers["X-Route-Alias"]) == ("production", "canary")
    assert (headers["X-Route-Reason"], headers["X-Model-Version"]) == ("fallback", "1")
    [reported] = facts.of(Answered)
    assert (reported.alias, reported.version, reported.outcome, reported.code) == (
        CANARY,
        V2,
        "fallback",
        200,
    )


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")


@pytest.mark.parametrize(
    ("headers", "trace_id"),
    [
        pytest.param([], "", id="without a header"),
        pytest.param([TRACED], TRACE, id="with one"),
        pytest.param([("Traceparent", TRACED[1])], TRACE, id="in other letters"),
        pytest.param([TRACED, TRACED], "", id="with two, of which one may be a stranger's"),
        pytest.param([("traceparent", "00-me-01")], "", id="with a malformed one"),
        pytest.param([("tracestate", "a=b")], "", id="with its companion alone"),
    ],
)
async def test_an_answer_is_reported_with_the_trace_that_its_request_belongs_to(
    traffic: Client, facts: Facts, headers: list[tuple[str, str]], trace_id: str
) -> None:
    answer = await traffic.post("/invocations", data=b"{}", headers=headers)

    [reported] = facts.of(Answered)
    assert (answer.status, reported.trace_id) == (200, trace_id)
    assert TRACE not in str(answer.headers)


async def test_an_answer_is_reported_with_what_it_says_of_the_version_the_key_was_given(
    traffic: Client, world: FakeWorld, facts: Facts
) -> None:
    raised = Answer(PredictStatus.MODEL_ERROR, 500, b"{}", "application/json", 0, 0.0)
    world.answers = {V1: replace(ok(V1), bin_index=3), V2: raised}
    for headers in (PRODUCTION_KEY, CANARY_KEY):
        await traffic.post("/invocations", data=b"{}", headers=headers)
    production, canary = facts.of(Answered)

    assert (production.reason, production.bucket, production.fault, production.bin_index) == (
        "hash",
        62121,
        "",
        3,
    )
    assert (canary.reason, canary.bucket, canary.fault, canary.bin_index) == ("hash", 418, "error", None)
    assert (canary.outcome, canary.excused, canary.blamed_batch) == ("fallback", False, None)


async def test_a_good_request_id_is_echoed_and_a_bad_one_replaced(traffic: Client) -> None:
    good = await traffic.post("/invocations", data=b"{}", headers={"X-Request-Id": "a.b:c-1"})
    bad = await traffic.post("/invocations", data=b"{}", headers={"X-Request-Id": "a b"})

    assert good.headers["X-Request-Id"] == "a.b:c-1"
    assert re.fullmatch(r"[0-9a-f]{16}", bad.headers["X-Request-Id"])


@pytest.mark.parametrize(("status", "code"), [(500, "INTERNAL_ERROR"), (400, "BAD_REQUEST")])
async def test_a_model_that_raises_is_a_500_unless_the_team_wants_mlflows_400(
    traffic: Client, site: Site, world: FakeWorld, status: int, code: str
) -> None:
    site.configure(models={"sentiment": {"model_error_status": status}})
    reported = b'{"error_code":"INTERNAL_ERROR","message":"m","sqlstate":"XXM00","error_class":"X"}'
    world.answers[V1] = Answer(PredictStatus.MODEL_ERROR, 500, reported, "application/json", 0, 0.0)
    answer = await traffic.post("/invocations", data=b"{}", headers={**PRODUCTION_KEY, "X-Request-Id": "r1"})

    body = await answer.json()
    assert (answer.status, body["error_code"], body["request_id"]) == (status, code, "r1")


@pytest.mark.parametrize("status", [500, 400])
async def test_under_mlflows_400_a_version_s_own_code_is_kept(
    traffic: Client, site: Site, world: FakeWorld, status: int
) -> None:
    """MLflow answers an MlflowException by its code, also where that is the one of any other error."""
    site.configure(models={"sentiment": {"model_error_status": status}})
    body = b'{"error_code":"INTERNAL_ERROR","message":"m","sqlstate":"XXM00","error_class":"X"}'
    error = Answer(PredictStatus.MODEL_ERROR, 500, body, "application/json", 0, 0.0, keeps_status=True)
    world.answers[V1] = error
    answer = await traffic.post("/invocations", data=b"{}", headers=PRODUCTION_KEY)

    body = await answer.json()
    assert (answer.status, body["error_code"], body["sqlstate"]) == (500, "INTERNAL_ERROR", "XXM00")


async def test_the_versions_own_refusal_reaches_the_caller(traffic: Client, world: FakeWorld) -> None:
    world.answers[V1] = Answer(PredictStatus.CLIENT_ERROR, 415, b"no such format", "text/plain", 0, 0.0)
    answer = await traffic.post("/invocations", data=b"{}", headers=PRODUCTION_KEY)

    assert (answer.status, await answer.text(), answer.content_type) == (415, "no such format", "text/plain")


async def test_an_unknown_model_is_404_in_mlflows_shape_and_no_label(traffic: Client, facts: Facts) -> None:
    answer = await traffic.post("/models/nobody/invocations", data=b"{}")

    body = await answer.json()
    assert answer.status == 404
    assert sorted(body) == ["error_class", "error_code", "message", "request_id", "sqlstate"]
    assert facts.of(Rejected) == [Rejected("__other__", "unknown_model")]


async def test_without_production_the_answer_is_503_with_retry_after(
    traffic: Client, site: Site, world: FakeWorld
) -> None:
    site.configure(models={"sentiment": {}, "other": {}})
    answer = await traffic.post("/models/other/invocations", data=b"{}")

    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (await answer.json())["error_code"] == "TEMPORARILY_UNAVAILABLE"


async def test_a_body_over_the_limit_is_413_before_it_is_read(traffic: Client, site: Site) -> None:
    site.configure(server={"body_limit_mib": 1})
    declared = await traffic.post("/invocations", data=BytesIO(b"x" * ((1 << 20) + 1)))

    async def chunks() -> Any:
        for _ in range(3):
            yield b"x" * (1 << 19)

    chunked = await traffic.post("/invocations", data=chunks())
    assert (declared.status, chunked.status) == (413, 413)


async def test_a_body_that_drips_is_408(traffic: Client, site: Site) -> None:
    site.configure(server={"body_timeout_seconds": 0.05})

    async def drips() -> Any:
        yield b"{"
        await asyncio.Event().wait()  # the body never ends

    answer = await traffic.post("/invocations", data=drips())
    assert answer.status == 408


@pytest.mark.parametrize(
    ("key", "request_parts"),
    [
        ({"header": "X-User"}, {"headers": {"X-User": "user-2"}}),
        ({"cookie": "user"}, {"cookies": {"user": "user-2"}}),
        ({"cookie": "user"}, {"headers": [("Cookie", "a=1"), ("Cookie", "user=user-2; user=user-1")]}),
        ({"query": "user"}, {"params": {"user": "user-2"}}),
        (
            {"json": "user.id"},
            {"data": b'{"user": {"id": "user-2"}}', "headers": {"Content-Type": "application/json"}},
        ),
    ],
    ids=["header", "cookie", "cookies in two lines", "query", "json"],
)
async def test_the_key_is_read_where_the_configuration_says(
    traffic: Client, site: Site, key: dict[str, str], request_parts: dict[str, Any]
) -> None:
    site.configure(models={"sentiment": {"key": key}})
    answer = await traffic.post("/invocations", **{"data": b"{}", **request_parts})

    assert (answer.headers["X-Route-Bucket"], answer.headers["X-Route-Reason"]) == ("418", "hash")


@pytest.mark.parametrize(
    ("missing", "status", "reason"),
    [("body", 200, "no_key"), ("production", 200, "no_key"), ("reject", 400, None)],
)
async def test_a_request_without_a_key_gets_what_the_configuration_says(
    traffic: Client, site: Site, missing: str, status: int, reason: str | None
) -> None:
    site.configure(models={"sentiment": {"key": {"header": "X-Request-Key", "missing": missing}}})
    answer = await traffic.post("/invocations", data=b"{}")

    assert (answer.status, answer.headers.get("X-Route-Reason")) == (status, reason)
    assert ("X-Route-Bucket" in answer.headers) == (missing == "body")


async def test_direct_access_is_404_unless_it_is_switched_on(traffic: Client, site: Site) -> None:
    path = "/models/sentiment/aliases/canary/invocations"
    assert (await traffic.post(path, data=b"{}")).status == 404

    site.configure(models={"sentiment": {"direct_access": True}})
    answer = await traffic.post(path, data=b"{}", headers=PRODUCTION_KEY)
    assert (answer.status, answer.headers["X-Route-Reason"], await answer.read()) == (200, "direct", b"v2")


async def test_a_bug_of_ours_is_a_500_with_a_request_id_and_the_connection_lives(
    traffic: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(site.gateway.dispatcher, "serve", broken)
    answer = await traffic.post("/invocations", data=b"{}", headers={"X-Request-Id": "r1"})

    body = await answer.json()
    assert (answer.status, body["request_id"]) == (500, "r1")
    assert "a bug" not in body["message"]


async def test_every_error_of_the_tree_that_can_reach_a_caller_has_a_status() -> None:
    """A new error without a status would be answered 500."""
    from router.errors import RequestRefused
    from router.web.responses import error_response

    def below(kind: type[RouterError]) -> list[type[RouterError]]:
        return [x for k in kind.__subclasses__() for x in (k, *below(k))]

    for kind in below(RequestRefused):
        assert error_response(kind("m"), "id").status != 500, kind


async def test_in_flight_is_zero_after_a_client_vanishes(
    traffic: Client, site: Site, world: FakeWorld
) -> None:
    world.held = True
    asked = asyncio.create_task(traffic.post("/invocations", data=b"{}", headers=PRODUCTION_KEY))
    await until(lambda: world.alive(V1)[0].frames)
    asked.cancel()
    world.alive(V1)[0].release()
    await until(lambda: site.gateway.dispatcher.in_flight[("sentiment", PRODUCTION)] == 0)
