"""The verbs that lower, and those that give back: what they take, what they answer, and who may use them."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from router.adapters.http.peers import decoded
from router.core.caps import Caps
from router.core.ids import CANARY, PRODUCTION
from router.core.lever_events import MoveExplained
from router.errors import ConfigRefused
from router.serving.models import ModelSet
from router.settings import ServerSettings
from router.web import levers
from router.web.admin import EXCHANGE, admin_token, lower_token
from router.web.apps import admin_app
from tests.serving.conftest import V1, V2, V3
from tests.support.fakes import Facts, FakeWorld
from tests.web.conftest import Site

Client = TestClient[Any, Any]
TOKEN, LOWER = "a-token-of-some-length", "a-token-that-only-lowers"
ABORT = {"model": "sentiment", "reason": "p95 is 2 s", "by": "ann"}
CANARY_KEY = "user-2"


async def post(client: Client, path: str, body: Any = None, token: str = "") -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = await client.post(f"/-/{path}", json=body or {}, headers=headers)
    return answer.status, await answer.json()


def share(site: Site) -> float:
    """Percent of the canary in force; it has 50."""
    return site.gateway.models.table.models["sentiment"].split_in_force.percentages()[CANARY]


async def test_an_abort_is_in_force_before_it_is_answered_and_a_resume_gives_the_same_back(
    admin: Client, traffic: Client, site: Site
) -> None:
    status, done = await post(admin, "abort", ABORT)
    cap = {
        "alias": "canary",
        "version": 2,
        "to_percent": 0.0,
        "by": "ann",
        "reason": "p95 is 2 s",
        "timestamp": 1e9,
    }
    assert (status, done["capped"], done["caps"]) == (200, [cap], [cap])
    assert (done["durable"], done["break_glass"], done["next_versions"]) == (False, None, [])
    assert "restart" in done["not_durable_because"]
    answer = await traffic.post("/invocations", json={}, headers={"X-Request-Key": CANARY_KEY})
    given = [answer.headers[name] for name in ("X-Route-Alias", "X-Model-Version", "X-Route-Reason")]
    assert (answer.status, given) == (200, ["production", "1", "capped"])
    routed = await (await traffic.get(f"/v1/route?model=sentiment&key={CANARY_KEY}")).json()
    assert (routed["alias"], routed["owner"], routed["reason"]) == ("production", "canary", "capped")

    status, done = await post(admin, "resume", {**ABORT, "reason": "mended"})
    assert (status, done["lifted"], done["caps"]) == (200, [{"alias": "canary", "version": 2}], [])
    answer = await traffic.post("/invocations", json={}, headers={"X-Request-Key": CANARY_KEY})
    assert (answer.headers["X-Model-Version"], answer.headers["X-Route-Reason"]) == ("2", "hash")


@pytest.mark.parametrize(
    ("body", "capped", "percent"),
    [
        ({"to": 0.001}, {"version": 2, "to_percent": 0.001}, 0.001),
        ({"to": 12}, {"version": 2, "to_percent": 12.0}, 12),
        ({"to": 100}, {"version": 2, "to_percent": 100.0}, 50),
        ({"all_versions": True}, {"version": None, "to_percent": 0.0}, 0),
        ({"alias": "canary", "version": 2}, {"version": 2, "to_percent": 0.0}, 0),
        ({"version": 1}, {"version": 1, "to_percent": 0.0}, 50),
    ],
    ids=str,
)
async def test_what_is_capped_and_how_far_is_as_asked(
    admin: Client, site: Site, body: dict[str, Any], capped: dict[str, Any], percent: float
) -> None:
    status, done = await post(admin, "abort", {**ABORT, **body})

    assert (status, [done["capped"][0] | capped]) == (200, done["capped"])
    assert share(site) == percent


async def test_a_cap_that_is_as_low_already_is_200_and_stays(admin: Client, site: Site) -> None:
    await post(admin, "abort", {**ABORT, "to": 1})
    status, done = await post(admin, "abort", {**ABORT, "to": 5, "by": "bob"})

    assert (status, done["capped"][0]["by"], done["capped"][0]["to_percent"]) == (200, "ann", 1.0)
    assert share(site) == 1


BAD = [
    ({"model": None}, 422, "model"),
    ({"model": 3}, 422, "model"),
    ({"model": "nobody"}, 404, "model"),
    ({"reason": None}, 422, "reason"),
    ({"reason": ""}, 422, "reason"),
    ({"reason": "  "}, 422, "reason"),
    ({"reason": "x" * 501}, 422, "reason"),
    ({"reason": "two\nlines"}, 422, "reason"),
    ({"reason": ["slow"]}, 422, "reason"),
    ({"by": None}, 422, "by"),
    ({"by": ""}, 422, "by"),
    ({"by": "\x1b[1m"}, 422, "by"),
    ({"alias": "production"}, 422, "alias"),
    ({"alias": "challenger"}, 404, "alias"),
    ({"alias": ""}, 404, "alias"),
    ({"alias": 1}, 422, "alias"),
    ({"version": 9}, 404, "version"),
    ({"version": -2}, 404, "version"),
    ({"version": "2"}, 422, "version"),
    ({"version": 2.0}, 422, "version"),
    ({"version": True}, 422, "version"),
    ({"because": "x"}, 422, "because"),
]
BAD_ABORT = [
    ({"to": -0.001}, 422, "to"),
    ({"to": 100.001}, 422, "to"),
    ({"to": 0.0005}, 422, "to"),
    ({"to": "5"}, 422, "to"),
    ({"to": None}, 422, "to"),
    ({"to": True}, 422, "to"),
    ({"to": 1e300}, 422, "to"),
    ({"all_versions": True, "version": 2}, 422, "version"),
    ({"all_versions": "yes"}, 422, "all_versions"),
    ({"all": True}, 422, "all"),
]
BAD_RESUME = [
    ({"to": 5}, 422, "to"),
    ({"all": True}, 422, "all"),
    ({"all": 1}, 422, "all"),
    ({"all_versions": True}, 422, "all_versions"),
]


@pytest.mark.parametrize(
    ("verb", "change", "status", "field"),
    [("abort", *bad) for bad in BAD + BAD_ABORT] + [("resume", *bad) for bad in BAD + BAD_RESUME],
    ids=lambda value: str(value)[:40],
)
async def test_what_can_not_be_done_is_refused_by_the_name_of_the_field_and_changes_nothing(
    admin: Client, site: Site, verb: str, change: dict[str, Any], status: int, field: str
) -> None:
    """`None` leaves out what must be there."""
    await post(admin, "abort", {**ABORT, "to": 10})
    before = site.caps.records()
    wanted = {**ABORT, **change}
    if change.get(field, "") is None and field != "to":
        del wanted[field]
    got, answer = await post(admin, verb, wanted)

    assert got == status, answer
    assert any(field in problem for problem in answer["errors"])
    assert site.caps.records() == before


@pytest.mark.parametrize("verb", ["abort", "resume", "poll", "alertmanager"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"nonsense", 422),
        (b"[]", 422),
        (b'"sentiment"', 422),
        (b"\xff\xfe", 422),
        (b'{"model": "\xff", "reason": "x", "by": "ann", "version": "\xff", "alerts": []}', 422),
        (b"[" * 100_000, 413),
        (b'{"model": "sentiment", "reason": "x", "by": "ann", "x": ' + b"[" * 9_000, 422),
        (b'{"' + b"x" * 9_000 + b'": 1}', 422),
        (b" " * 17_000, 413),
    ],
    ids=[
        "nonsense",
        "list",
        "text",
        "no UTF-8",
        "a text that is no UTF-8",
        "long and deep",
        "deep",
        "a long name",
        "long",
    ],
)
async def test_what_is_no_json_of_a_verb_is_refused_and_not_quoted_at_length(
    admin: Client, site: Site, verb: str, body: bytes, status: int
) -> None:
    answer = await admin.post(f"/-/{verb}", data=body)
    expected = 422 if verb == "alertmanager" else status  # whose bodies may be long

    assert answer.status == expected
    assert len(await answer.read()) < 1_000
    assert site.caps.records()["records"] == []
    assert site.looks == 0


async def test_a_body_that_is_sent_without_its_length_is_bounded_too(admin: Client) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 1_000

    assert (await admin.post("/-/abort", data=endless())).status == 413


async def test_a_canary_that_does_not_serve_can_be_capped_by_all_versions_only(
    admin: Client, site: Site, serving: ModelSet
) -> None:
    serving.managers["sentiment"].set_aspired({PRODUCTION: V1})
    status, answer = await post(admin, "abort", ABORT)
    assert (status, "all_versions" in answer["errors"][0]) == (409, True)
    assert (await post(admin, "abort", {**ABORT, "all_versions": True}))[0] == 200


async def test_a_version_that_is_still_to_come_is_named_for_it_starts_without_the_cap(
    admin: Client,
    site: Site,
    serving: ModelSet,
    world: FakeWorld,
) -> None:
    world.slow_loads = asyncio.Event()
    serving.managers["sentiment"].set_aspired({PRODUCTION: V1, CANARY: V3})
    _, done = await post(admin, "abort", ABORT)
    assert [cap["version"] for cap in done["capped"]] == [2]
    assert done["next_versions"] == [{"alias": "canary", "version": 3}]
    _, done = await post(admin, "abort", {**ABORT, "all_versions": True})
    assert done["next_versions"] == []
    world.slow_loads.set()


async def test_a_resume_where_nothing_is_capped_is_done(admin: Client) -> None:
    status, done = await post(admin, "resume", ABORT)
    assert (status, done["lifted"]) == (200, [])


async def test_break_glass_is_ended_by_all_and_lifts_no_cap(admin: Client, site: Site) -> None:
    await post(admin, "abort", {**ABORT, "to": 10})
    site.caps.break_glass(on=True, why="SIGUSR2 came")
    status, done = await post(admin, "resume", ABORT)
    assert (status, done["break_glass"]["why"], share(site)) == (200, "SIGUSR2 came", 0)
    await post(admin, "abort", {**ABORT, "to": 20})

    status, done = await post(admin, "resume", {"all": True, "reason": "over", "by": "ann"})
    assert (status, done["lifted"], done["break_glass"], share(site)) == (200, [], None, 20)


async def test_what_still_holds_break_glass_is_named(
    admin: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Held:
        async def resume(self, why: str) -> str:
            return "canary-off is still there"

    monkeypatch.setattr(site.gateway, "break_glass", Held())
    status, answer = await post(admin, "resume", {"all": True, "reason": "over", "by": "ann"})
    assert (status, answer["errors"]) == (409, ["all: canary-off is still there"])


# What others read


async def test_caps_are_shown_as_other_gateways_read_them(admin: Client, traffic: Client, site: Site) -> None:
    await post(admin, "abort", {**ABORT, "to": 10})
    for listener in (admin, traffic):
        answer = await listener.get("/v1/caps")
        known = decoded(await answer.read())
        assert known.gateway == site.gateway.identity.process
        assert Caps(known.records).share_of("sentiment", CANARY, V2.number) == 10_000
    await post(admin, "resume", ABORT)
    assert len((await (await admin.get("/v1/caps")).json())["records"]) == 1, (
        "others have to hear of the lift"
    )


async def test_clients_see_no_credentials_and_addresses_in_reasons(
    admin: Client, traffic: Client, site: Site
) -> None:
    reason = "see https://ann:hunter2@grafana.corp.example/d/1, token=abcdef"
    await post(admin, "abort", {**ABORT, "reason": reason})

    [shown] = (await (await traffic.get("/v1/caps")).json())["records"]
    assert not any(secret in shown["reason"] for secret in ("hunter2", "corp", "abcdef"))
    [exact] = (await (await admin.get("/v1/caps")).json())["records"]
    assert exact == {**shown, "reason": reason}, "gateways have to agree on what a record says"


# The registry


async def test_a_poll_looks_at_once_and_answers_when_the_look_is_over(
    admin: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    aliases = {"canary": {"aspired": 2, "bound": 2, "pending": False}}
    model = {"registry_error": "", "aliases": aliases, "workers": 1}
    monkeypatch.setattr(site.gateway, "state", lambda: {"models": {"sentiment": model}})
    for body in (b"", b"{}"):
        answer = await admin.post("/-/poll", data=body)
        assert (answer.status, await answer.json()) == (
            200,
            {"looked": True, "models": {"sentiment": {"registry_error": "", "aliases": aliases}}},
        )
    assert site.looks == 2


async def test_a_poll_may_say_who_moved_what_is_found_and_why(
    admin: Client, site: Site, facts: Facts
) -> None:
    said = {"model": "sentiment", "by": "ann", "reason": "it is as good"}
    assert (await post(admin, "poll", said))[0] == 200
    assert facts.of(MoveExplained) == [MoveExplained("sentiment", "ann", "it is as good")]

    for wrong, status in (
        ({"model": "sentiment"}, 422),
        ({**said, "reason": ""}, 422),
        ({**said, "by": "ann\n"}, 422),
        ({**said, "model": "nobody"}, 404),
        ({**said, "version": 2}, 422),
    ):
        assert (await post(admin, "poll", wrong))[0] == status, wrong
    assert len(facts.of(MoveExplained)) == 1


async def test_a_poll_of_a_silent_registry_is_answered_after_a_bounded_time(
    admin: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(site.gateway, "look_at_registry", silent)
    monkeypatch.setattr(levers, "LONGEST_LOOK_SECONDS", 0.02)
    status, done = await post(admin, "poll")
    assert (status, done["looked"]) == (200, False)


# Alerts


def webhook(**labels: str) -> dict[str, Any]:
    alert = {
        "status": "firing",
        "labels": {"alertname": "A", "canary_action": "abort", "model": "sentiment", **labels},
        "annotations": {},
        "startsAt": "2026-11-20T14:32:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": "c1a0",
    }
    return {"version": "4", "status": "firing", "receiver": "canary", "alerts": [alert]}


async def test_a_webhook_is_answered_200_with_what_was_done_also_when_that_is_nothing(
    admin: Client, site: Site
) -> None:
    status, done = await post(admin, "alertmanager", webhook(model="nobody"))
    assert (status, done["alerts"][0]["result"], share(site)) == (200, "ignored", 50)
    status, done = await post(admin, "alertmanager", webhook())
    assert (status, done["alerts"][0]["result"], share(site)) == (200, "capped", 0)
    status, done = await post(admin, "alertmanager", {**webhook(), "alerts": []})
    assert (status, done["alerts"]) == (200, [])


@pytest.mark.parametrize(
    "change",
    [
        {"version": "3"},
        {"version": 4},
        {"version": None},
        {"alerts": None},
        {"alerts": {}},
        {"alerts": [{"status": "firing"}]},
        {"alerts": [{**webhook()["alerts"][0], "labels": {"model": 3}}]},
    ],
    ids=str,
)
async def test_what_is_no_webhook_of_version_4_is_422(
    admin: Client, site: Site, change: dict[str, Any]
) -> None:
    status, answer = await post(admin, "alertmanager", {**webhook(), **change})
    assert (status, len(answer["errors"])) == (422, 1)
    assert share(site) == 50


async def test_a_webhook_of_many_alerts_is_taken(admin: Client, site: Site) -> None:
    alerts = [{**webhook()["alerts"][0], "fingerprint": f"f{n}"} for n in range(2_000)]
    status, done = await post(admin, "alertmanager", {**webhook(), "alerts": alerts})

    assert (status, len(done["alerts"]), share(site)) == (200, 2_000, 0)
    assert len(site.caps.records()["records"]) == 1


async def test_others_are_answered_while_a_webhook_of_many_alerts_is_taken(
    admin: Client, traffic: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    take, loop = site.gateway.alerts.take, asyncio.get_running_loop()

    def noted(alerts: Any) -> Any:
        turns.append(len(alerts))
        loop.call_soon(turns.append, 0)
        return take(alerts)

    monkeypatch.setattr(site.gateway.alerts, "take", noted)
    alerts = [{**webhook()["alerts"][0], "fingerprint": f"f{n}"} for n in range(25)]
    status, done = await post(admin, "alertmanager", {**webhook(), "alerts": alerts})

    assert (status, len(done["alerts"])) == (200, 25)
    assert turns == [10, 0, 10, 0, 5, 0]


# The token that may only lower


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, Path]:
    admin_file, lower_file = tmp_path / "admin", tmp_path / "lower"
    admin_file.write_text(TOKEN)
    lower_file.write_text(f"{LOWER}\n")
    return admin_file, lower_file


def server(admin_file: Path | None, lower_file: Path) -> ServerSettings:
    return ServerSettings(
        admin_token_file=str(admin_file) if admin_file else None, lower_token_file=str(lower_file)
    )


@pytest.fixture
async def guarded(site: Site, tokens: tuple[Path, Path], aiohttp_client: Callable[..., Any]) -> Client:
    settings = server(*tokens)
    admin = admin_token(settings, {})
    return await aiohttp_client(admin_app(site.gateway, admin, lower_token(settings, admin)))


async def test_the_token_that_may_only_lower_opens_the_verbs_that_lower_and_nothing_else(
    guarded: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.gateway, "reload", None)  # whoever got this far would be answered 500
    resource = [route.resource for route in guarded.server.app.router.routes() if route.method == "POST"]  # type: ignore[attr-defined]
    paths = {one.canonical for one in resource if one is not None}
    assert {"/-/abort", "/-/resume", "/-/poll", "/-/alertmanager", "/-/reload"} < paths
    for path in paths - {"/-/abort", "/-/alertmanager"}:
        url = path.replace("{name}", "sentiment")
        answer = await guarded.post(url, json=ABORT, headers={"Authorization": f"Bearer {LOWER}"})
        # What other gateways ask takes a signature, and no token at all.
        assert (url, answer.status) == (url, 403 if url == EXCHANGE else 401)
    assert site.looks == 0
    assert (await post(guarded, "abort", ABORT, LOWER))[0] == 200
    assert (await post(guarded, "alertmanager", webhook(), LOWER))[0] == 200
    assert (await post(guarded, "resume", ABORT, LOWER))[0] == 401
    assert share(site) == 0
    assert (await post(guarded, "resume", ABORT, TOKEN))[0] == 200


async def test_a_path_that_is_spelled_otherwise_does_not_open_more(guarded: Client, site: Site) -> None:
    for path in ("/-/abort/", "/-//abort", "/-/abort/../resume", "/-/%72esume", "/-/resume?/-/abort"):
        answer = await guarded.post(path, json=ABORT, headers={"Authorization": f"Bearer {LOWER}"})
        assert (path, answer.status) == (path, 401)


async def test_both_tokens_are_read_anew_at_each_use(guarded: Client, tokens: tuple[Path, Path]) -> None:
    admin_file, lower_file = tokens
    lower_file.write_text("the-next-one-that-only-lowers")
    assert (await post(guarded, "abort", ABORT, LOWER))[0] == 401
    assert (await post(guarded, "abort", ABORT, "the-next-one-that-only-lowers"))[0] == 200
    lower_file.unlink()
    assert (await post(guarded, "abort", ABORT, "the-next-one-that-only-lowers"))[0] == 401
    assert (await post(guarded, "abort", ABORT, TOKEN))[0] == 200
    lower_file.write_text(LOWER)
    admin_file.unlink()
    assert (await post(guarded, "abort", ABORT, TOKEN))[0] == 401
    assert (await post(guarded, "abort", ABORT, LOWER))[0] == 200, "an alert acts all the same"
    lower_file.unlink()
    assert (await post(guarded, "abort", ABORT, LOWER))[0] == 401


async def test_without_a_token_that_only_lowers_the_admin_token_is_asked_for(
    site: Site, tokens: tuple[Path, Path], aiohttp_client: Callable[..., Any]
) -> None:
    client = await aiohttp_client(admin_app(site.gateway, admin_token(server(*tokens), {})))
    assert (await post(client, "abort", ABORT))[0] == 401
    assert (await post(client, "abort", ABORT, LOWER))[0] == 401
    assert (await post(client, "abort", ABORT, TOKEN))[0] == 200


def test_a_token_that_only_lowers_goes_with_another_admin_token(tokens: tuple[Path, Path]) -> None:
    admin_file, lower_file = tokens
    with pytest.raises(ConfigRefused, match=r"^server\.lower_token_file: goes with an admin token"):
        lower_token(server(None, lower_file), None)
    lower_file.write_text(f" {TOKEN}\n")
    settings = server(admin_file, lower_file)
    with pytest.raises(ConfigRefused, match=r"^server\.lower_token_file: holds the admin token"):
        lower_token(settings, admin_token(settings, {}))
    lower_file.write_text("short")
    with pytest.raises(ConfigRefused, match=r"^server\.lower_token_file: must hold one token"):
        lower_token(settings, admin_token(settings, {}))
    lower_file.unlink()
    with pytest.raises(ConfigRefused, match=r"^server\.lower_token_file: can not be read"):
        lower_token(settings, admin_token(settings, {}))
    assert lower_token(ServerSettings(admin_token_file=str(admin_file)), None) is None


async def test_caps_set_by_several_at_once_are_the_lowest_of_them(admin: Client, site: Site) -> None:
    wanted = [3, 1, 7, 2]
    await asyncio.gather(*(post(admin, "abort", {**ABORT, "to": percent}) for percent in wanted))

    assert share(site) == 1
    assert json.dumps(site.caps.records(), allow_nan=False)
