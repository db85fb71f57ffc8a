"""Who may use the admin listener's verbs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from router.errors import ConfigRefused
from router.settings import ServerSettings
from router.web.admin import VARIABLE, admin_token
from router.web.apps import admin_app
from tests.web.conftest import Site

Client = TestClient[Any, Any]
TOKEN = "a-token-of-some-length"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
async def guarded(site: Site, token_file: Path, aiohttp_client: Callable[..., Any]) -> Client:
    """The admin listener with a token, whose file a test may change."""
    token = admin_token(ServerSettings(admin_token_file=str(token_file)), {})
    assert token is not None
    return await aiohttp_client(admin_app(site.gateway, token))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        bearer("wrong"),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer(TOKEN.upper()),
        {"Authorization": b"Bearer \xff\xfe".decode("utf-8", "surrogateescape")},
    ],
    ids=str,
)
async def test_a_verb_without_the_token_is_401_and_changes_nothing(
    guarded: Client, site: Site, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.gateway, "reload", None)  # whoever got this far would be answered 500
    answer = await guarded.post("/-/reload", headers=headers)

    assert (answer.status, answer.headers["WWW-Authenticate"][:6]) == (401, "Bearer")
    assert TOKEN not in await answer.text()


async def test_the_token_opens_the_verbs(guarded: Client) -> None:
    assert (await guarded.post("/-/reload", headers=bearer(TOKEN))).status == 200
    assert (await guarded.post("/-/reload", headers={"Authorization": f"bearer  {TOKEN} "})).status == 200


async def test_reading_takes_no_token_and_get_is_never_a_verb(guarded: Client) -> None:
    assert (await guarded.get("/v1/state")).status == 200
    answer = await guarded.get("/-/reload", headers=bearer(TOKEN))
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert (await guarded.request("HEAD", "/-/reload")).status == 405
    assert (await guarded.request("OPTIONS", "/-/reload")).status == 401, "no page hears that it may ask"


async def test_a_rotated_token_counts_at_once_and_a_lost_one_opens_nothing(
    guarded: Client, token_file: Path
) -> None:
    token_file.write_text("the-next-token-of-length")
    assert (await guarded.post("/-/reload", headers=bearer(TOKEN))).status == 401
    assert (await guarded.post("/-/reload", headers=bearer("the-next-token-of-length"))).status == 200
    for content in ("", "  \n"):
        token_file.write_text(content)
        assert (await guarded.post("/-/reload", headers=bearer("the-next-token-of-length"))).status == 401
        assert (await guarded.post("/-/reload", headers=bearer(""))).status == 401
    token_file.unlink()
    assert (await guarded.post("/-/reload", headers=bearer("the-next-token-of-length"))).status == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil@127.0.0.1",
        "10.0.0.1:8081",
        "[",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/-/reload"), ("GET", "/v1/state")])
async def test_without_a_token_only_local_names_are_answered(
    admin: Client, host: str, method: str, path: str
) -> None:
    """DNS rebinding: a page's own name may point here, and the browser then sends that name."""
    assert (await admin.request(method, path, headers={"Host": host})).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8081", "[::1]:8081", "127.9.9.9"])
async def test_without_a_token_local_programs_may_do_everything(admin: Client, host: str) -> None:
    assert (await admin.post("/-/reload", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "https://localhost:8081"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_without_a_token_a_page_of_another_origin_is_refused(
    admin: Client, headers: dict[str, str]
) -> None:
    host = {"Host": "localhost:8081"}
    assert (await admin.post("/-/reload", headers=host | headers)).status == 403
    own = {"Origin": "http://localhost:8081", "Sec-Fetch-Site": "same-origin"}
    assert (await admin.post("/-/reload", headers=host | own)).status == 200


def test_an_admin_address_that_others_reach_needs_a_token(token_file: Path) -> None:
    reachable = ServerSettings(admin="0.0.0.0:8081")
    with pytest.raises(
        ConfigRefused, match=r"server\.admin: .* verbs take a token.* server\.admin_token_file"
    ):
        admin_token(reachable, {})
    assert admin_token(ServerSettings(), {}) is None
    assert admin_token(reachable, {VARIABLE: TOKEN}) is not None
    file = ServerSettings(admin="0.0.0.0:8081", admin_token_file=str(token_file))
    over = admin_token(file, {VARIABLE: "over-the-file-it-is"})
    assert over is not None
    assert over.read() == b"over-the-file-it-is"


@pytest.mark.parametrize("content", [b"", b"short", b"two words of a token", b"x" * 5000], ids=len)
def test_a_token_that_can_not_be_one_is_refused_at_start_without_being_shown(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ConfigRefused) as refused:
        admin_token(ServerSettings(admin_token_file=str(path)), {})
    assert "server.admin_token_file" in str(refused.value)
    assert not content or content.decode() not in str(refused.value)
    with pytest.raises(ConfigRefused, match="No such file"):
        admin_token(ServerSettings(admin_token_file=str(tmp_path / "none")), {})


def test_a_pipe_in_place_of_the_token_is_refused_and_waited_for_by_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    with pytest.raises(ConfigRefused, match="must hold one token"):
        admin_token(ServerSettings(admin_token_file=str(tmp_path / "token")), {})
