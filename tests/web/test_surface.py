"""Health, observation and admin paths."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient
from yarl import URL

from router.core.ids import CANARY, PRODUCTION
from router.web.apps import traffic_app
from tests.serving.conftest import V1
from tests.support.fakes import FakeWorld
from tests.web.conftest import Site

Client = TestClient[Any, Any]


@pytest.mark.parametrize("path", ["/ping", "/health"])
async def test_health_answers_as_mlflow_does(traffic: Client, path: str) -> None:
    answer = await traffic.get(path)
    assert (answer.status, await answer.read(), answer.headers["Content-Type"]) == (
        200,
        b"\n",
        "application/json",
    )


async def test_version_is_mlflows_bare(traffic: Client) -> None:
    answer = await traffic.get("/version")
    assert (answer.status, await answer.text()) == (200, "3.17.2")


@pytest.mark.parametrize("path", ["/ping", "/readyz"])
async def test_a_gateway_that_stops_says_so_and_closes_connections(
    traffic: Client, site: Site, path: str
) -> None:
    site.gateway.traffic.stopping = True
    answer = await traffic.get(path)
    assert (answer.status, answer.headers["Connection"]) == (503, "close")
    assert (await traffic.get("/livez")).status == 200


async def test_readyz_lists_the_models_when_asked(traffic: Client, site: Site) -> None:
    site.configure(models={"sentiment": {}, "typo": {}})
    assert await (await traffic.get("/readyz?verbose")).text() == (
        "ready\n[+] sentiment production is version 1\n[-] typo production is not bound\n"
    )


async def test_an_unknown_path_and_a_wrong_method_answer_as_mlflow_does(traffic: Client) -> None:
    missing, wrong = await traffic.get("/nothing"), await traffic.get("/invocations")
    assert (missing.status, await missing.json()) == (404, {"detail": "Not Found"})
    assert (wrong.status, await wrong.json()) == (405, {"detail": "Method Not Allowed"})
    assert wrong.headers["Allow"] == "POST"


@pytest.mark.parametrize("name", ["a b;c{d}", "größe", "100%25", "a+b", "#a?b&c", "{name}"])
async def test_a_model_of_every_name_has_its_paths(traffic: Client, site: Site, name: str) -> None:
    site.configure(models={"sentiment": {}, name: {}})
    path = quote(name, safe="")
    answer = await traffic.post(URL(f"/models/{path}/invocations", encoded=True), json={"inputs": [1]})
    ready = await traffic.get(URL(f"/v2/models/{path}/ready", encoded=True))

    assert (answer.status, ready.status) == (503, 400), "known, and not bound yet"


async def test_the_server_does_not_show_its_libraries(traffic: Client) -> None:
    assert (await traffic.get("/livez")).headers["Server"] == "canary-router"


async def test_metrics_pass_the_accept_header_and_the_name_filter(traffic: Client) -> None:
    answer = await traffic.get("/metrics?name[]=a&name[]=b", headers={"Accept": "text/plain"})
    assert await answer.text() == "# text/plain ['a', 'b']"


async def test_route_explains_a_key(traffic: Client) -> None:
    reported = await (await traffic.get("/v1/route?model=sentiment&key=user-2")).json()
    assert reported == {
        "model": "sentiment", "alias": "canary", "version": 2, "bucket": 418, "reason": "hash",
        "owner": "canary", "salt": "sentiment", "split": {"production": 50.0, "canary": 50.0},
    }  # fmt: skip


async def test_route_says_why_a_canary_key_goes_to_production(
    traffic: Client, site: Site, world: FakeWorld
) -> None:
    site.gateway.models.managers["sentiment"].set_aspired({PRODUCTION: V1})
    reported = await (await traffic.get("/v1/route?model=sentiment&key=user-2")).json()
    assert (reported["alias"], reported["owner"], reported["reason"]) == (PRODUCTION, CANARY, "canary_absent")


async def test_route_says_that_a_key_is_pinned_and_to_whom(traffic: Client, site: Site) -> None:
    site.configure(models={"sentiment": {"pins": {"production": ["user-2"], "canary": ["qa-1"]}}})
    reported = [
        await (await traffic.get(f"/v1/route?model=sentiment&key={key}")).json() for key in ("user-2", "qa-1")
    ]

    assert [(one["alias"], one["reason"], one["owner"]) for one in reported] == [
        (PRODUCTION, "pinned", PRODUCTION),
        (CANARY, "pinned", CANARY),
    ]


@pytest.mark.parametrize(
    ("query", "status"),
    [("model=nobody&key=k", 404), ("model=sentiment", 400), ("model=sentiment&key=", 400)],
)
async def test_route_refuses_what_it_cannot_explain(traffic: Client, query: str, status: int) -> None:
    assert (await traffic.get(f"/v1/route?{query}")).status == status


async def test_what_is_compared_is_reported_of_one_model_or_of_all(
    traffic: Client, admin: Client, site: Site, aiohttp_client: Callable[..., Any]
) -> None:
    site.gateway.compare = lambda model: {"models": {model or "all": {}}}
    for listener in (traffic, admin):
        assert await (await listener.get("/v1/compare")).json() == {"models": {"all": {}}}
        reported = await listener.get("/v1/compare?model=sentiment")
        assert await reported.json() == {"models": {"sentiment": {}}}
        assert (await listener.get("/v1/compare?model=nobody")).status == 404
    hidden = await aiohttp_client(traffic_app(site.gateway, observable=False))
    assert (await hidden.get("/v1/compare")).status == 404


async def test_only_the_admin_listener_has_verbs(traffic: Client, admin: Client) -> None:
    assert (await traffic.post("/-/reload")).status == 404
    answer = await admin.post("/-/reload")
    assert (answer.status, await answer.json()) == (
        200,
        {"digest": "3f9c", "changes": ["models.sentiment.split"]},
    )


async def test_a_refused_reload_is_422_with_every_error(admin: Client, site: Site) -> None:
    site.problems = ["router.yaml:3 models.sentiment.split: must sum to 100", "router.yaml:9 x: unknown key"]
    answer = await admin.post("/-/reload")
    assert (answer.status, await answer.json()) == (422, {"errors": site.problems})


async def test_a_verb_is_not_done_by_get(admin: Client) -> None:
    assert (await admin.get("/-/reload")).status == 405


async def test_an_operator_resets_the_breakers_of_one_model(
    admin: TestClient[Any, Any], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(name, manager)] = site.gateway.models.managers.items()
    resets: list[str] = []
    monkeypatch.setattr(manager, "reset_breakers", lambda: resets.append(name))

    answer = await admin.post(f"/-/models/{name}/reset-breakers")
    assert (answer.status, await answer.json(), resets) == (200, {"model": name}, [name])
    unknown = await admin.post("/-/models/nobody/reset-breakers")
    assert (unknown.status, (await unknown.json())["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert (await admin.get(f"/-/models/{name}/reset-breakers")).status == 405
    assert resets == [name]


async def test_a_plan_is_made_of_a_configured_model_and_exact_percent(
    traffic: Client, admin: Client, site: Site
) -> None:
    site.gateway.plan = lambda model, percent: {"model": model, "percent": str(percent)}
    for listener in (traffic, admin):
        reported = await listener.get("/v1/plan?model=sentiment&share=0.125")
        assert await reported.json() == {"model": "sentiment", "percent": "0.125"}
    assert (await (await traffic.get("/v1/plan?share=100")).json())["model"] == "sentiment"


@pytest.mark.parametrize(
    ("query", "status", "problem"),
    [
        ("model=nobody&share=5", 404, "no such registered model here"),
        ("model=sentiment", 400, "say which share, in percent: /v1/plan?model=NAME&share=PERCENT"),
        ("share=", 400, "share must be a number of percent, such as 5 or 0.125"),
        ("share=five", 400, "share must be a number of percent, such as 5 or 0.125"),
        ("share=5%25", 400, "share must be a number of percent, such as 5 or 0.125"),
        ("share=-1", 400, "share must be between 0 and 100 percent, not -1"),
        ("share=100.001", 400, "share must be between 0 and 100 percent, not 100.001"),
        ("share=NaN", 400, "share must be between 0 and 100 percent, not NaN"),
        ("share=1e400", 400, "share must be between 0 and 100 percent, not 1E+400"),
        ("share=0.0005", 400, "share must be a multiple of 0.001 percent"),
        ("share=5&model=%00", 404, "no such registered model here"),
    ],
)
async def test_a_plan_of_what_can_not_be_is_refused_with_a_sentence(
    traffic: Client, query: str, status: int, problem: str
) -> None:
    answer = await traffic.get(f"/v1/plan?{query}")

    assert (answer.status, (await answer.json())["detail"]) == (status, problem)
