"""The page as HTTP sends it: one document, allowed nothing but itself."""

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from router.web.apps import admin_app, traffic_app
from router.web.page import SOURCES, live_page
from tests.serving.conftest import facts, in_force, models, serving, world  # noqa: F401 - fixtures, by name
from tests.web.conftest import OurListener, Site, site  # noqa: F401 - fixtures, found by name

Client = TestClient[Any, Any]


@pytest.fixture(params=["traffic", "admin"])
async def client(
    request: pytest.FixtureRequest,
    site: Site,  # noqa: F811 - the fixture, by its name
    aiohttp_client: Callable[..., Any],
) -> Client:
    traffic = request.param == "traffic"
    app = traffic_app(site.gateway, observable=True) if traffic else admin_app(site.gateway)
    found: Client = await aiohttp_client(OurListener(app))
    return found


async def test_both_listeners_show_the_page_with_a_policy_of_its_own_digests(client: Client) -> None:
    answer = await client.get("/")
    text = await answer.text()

    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    [style], [script] = (re.findall(rf"(?s)<{tag}>(.*?)</{tag}>", text) for tag in ("style", "script"))
    assert policy == {
        "default-src": "'none'",
        "style-src": digest(style),
        "script-src": digest(script),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"


def digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


async def test_only_the_admin_listener_has_levers(client: Client) -> None:
    has_verbs = (await client.post("/-/abort", json={})).status == 422

    assert ("<body data-levers>" in await (await client.get("/")).text()) == has_verbs


async def test_who_has_the_page_is_sent_nothing_again(client: Client) -> None:
    tag = (await client.get("/")).headers["ETag"]

    again = await client.get("/", headers={"If-None-Match": f'"other", {tag}'})
    other = await client.get("/", headers={"If-None-Match": '"other"'})

    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    assert "Content-Security-Policy" in again.headers
    assert (other.status, await other.read()) == (200, await (await client.get("/")).read())


async def test_a_traffic_listener_that_shows_nothing_has_no_page(
    site: Site,  # noqa: F811 - the fixture, by its name
    aiohttp_client: Any,
) -> None:
    client = await aiohttp_client(traffic_app(site.gateway, observable=False))

    assert (await client.get("/")).status == 404


def test_every_file_of_the_page_is_in_it_and_nothing_comes_from_elsewhere() -> None:
    text = live_page().body.decode()

    for file in SOURCES.iterdir():
        if file.suffix != ".html":
            assert file.read_text(encoding="utf-8") in text, f"{file.name} is not named in index.html"
    assert "/* here:" not in text
    assert set(re.findall(r"https?://[^\s'\"]+", text)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not a place
    assert not re.findall(r"(?:src|href|action)=\"(?!#|data:|v1/|metrics)", text)


@pytest.mark.parametrize(
    "way", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="]
)
def test_no_text_is_read_as_markup_or_code(way: str) -> None:
    """What the policy would refuse is not there in the first place."""
    assert way not in live_page().body.decode()


def test_every_file_of_the_page_can_be_read_at_once() -> None:
    for file in SOURCES.iterdir():
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 250
