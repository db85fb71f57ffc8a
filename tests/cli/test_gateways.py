"""Asking several gateways at once: whose replies are whose, and where the admin token goes."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from router.cli.client import Refused, Unreachable, request
from router.cli.gateways import Answer, NoAnswer, Refusal, find_gateways
from router.errors import ConfigRefused
from tests.cli.conftest import TOKEN, VARIABLE, Serve


def test_each_gateway_has_a_reply_of_its_own_in_the_order_in_which_they_were_named(
    serve: Serve, config: Path, nobody: str
) -> None:
    good, busy = serve({"models": {}, "n": 1}), serve({"detail": "no such registered model here"}, 404)
    page = serve(b"<html>")

    replies = find_gateways(config, [good.url, nobody, busy.url, page.url]).get("/v1/state", "models")

    assert replies[0] == Answer(good.url, {"models": {}, "n": 1})
    assert isinstance(replies[1], NoAnswer)
    assert replies[1].why.startswith(f"no gateway answers at {nobody}: ")
    assert replies[2] == Refusal(busy.url, 404, "no such registered model here")
    assert isinstance(replies[3], NoAnswer)
    assert good.seen == [("GET", "/v1/state", None, b"")], "reading needs no token, so none is sent"


def test_an_address_that_is_named_twice_is_asked_once(serve: Serve, config: Path) -> None:
    gateway = serve({})
    gateways = find_gateways(config, [gateway.url, f"{gateway.url}/"])

    assert gateways.addresses == (gateway.url,)
    assert len(gateways.post("/-/poll", {})) == len(gateway.seen) == 1


def test_without_an_address_the_one_of_the_configuration_is_asked_by_loopback(config: Path) -> None:
    assert find_gateways(config, []).addresses == ("http://127.0.0.1:18081",)


def test_with_peers_all_gateways_of_the_configuration_are_asked_and_this_one_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One configuration names them all, as addresses or by a name."""
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 8081)) for address in ("127.0.0.1", "10.9.8.7")
    ]

    def found(host: str, port: int, **_: object) -> list[Any]:
        if host == "gateways":
            return both
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", found)

    def addresses(*peers: str) -> tuple[str, ...]:
        config = tmp_path / "fleet.yaml"
        config.write_text(
            "server: {admin: 0.0.0.0:8081, admin_token_file: token}\n"
            f"fleet: {{peers: {json.dumps(peers)}}}\nmodels: {{m: {{}}}}\n"
        )
        return find_gateways(config, ()).addresses

    own = "http://127.0.0.1:8081"
    assert addresses("dns:gateways:8081") == (own, "http://10.9.8.7:8081")
    listed = ("127.0.0.1:8081", "127.0.0.1:8082", "https://gw-2", "[fd00::7]:8081")
    assert addresses(*listed) == (
        *(own, "http://127.0.0.1:8082", "https://gw-2:443", "http://[fd00::7]:8081"),
    )
    assert addresses("dns:nowhere:8081") == (own, "http://nowhere:8081"), "it does not answer, others may"


def test_a_configuration_that_is_needed_and_not_valid_is_named_and_the_way_without_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigRefused, match=r"absent\.yaml.*with --url http://HOST:PORT none is needed"):
        find_gateways(tmp_path / "absent.yaml", [])


def test_a_verb_carries_the_token_of_the_file_and_its_body(serve: Serve, config: Path) -> None:
    gateway = serve({"durable": True})

    replies = find_gateways(config, [gateway.url]).post("/-/abort", {"model": "sentiment"})

    assert replies == [Answer(gateway.url, {"durable": True})]
    assert gateway.seen == [("POST", "/-/abort", f"Bearer {TOKEN}", b'{"model":"sentiment"}')]


def test_the_token_of_the_environment_stands_over_the_file_and_needs_no_configuration(
    serve: Serve, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "another-token-0123456789")
    gateway = serve({})

    for path in (config, tmp_path / "absent.yaml"):
        find_gateways(path, [gateway.url]).post("/-/poll", {})

    assert [authorization for _, _, authorization, _ in gateway.seen] == [
        "Bearer another-token-0123456789"
    ] * 2


def test_a_token_that_can_not_be_used_is_an_error_of_the_configuration_and_nothing_is_sent(
    serve: Serve, config: Path
) -> None:
    (config.parent / "token").write_text("short")
    gateway = serve({})

    with pytest.raises(ConfigRefused, match=r"server\.admin_token_file: must hold one token"):
        find_gateways(config, [gateway.url]).post("/-/poll", {})

    assert gateway.seen == []


def test_who_has_no_token_and_needs_one_is_shown_where_it_is_looked_for(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    gateway = serve({"detail": "this takes the admin token"}, 401)

    (reply,) = find_gateways(tmp_path / "absent.yaml", [gateway.url]).post("/-/poll", {})

    assert isinstance(reply, Refusal)
    assert reply.status == 401
    assert reply.why == (
        f"this takes the admin token; {VARIABLE}, or server.admin_token_file of the configuration, holds it"
    )
    assert gateway.seen[0][2] is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_with_the_token(serve: Serve, config: Path, status: int) -> None:
    elsewhere = serve({})
    gateway = serve(b"", status, Location=f"{elsewhere.url}/-/abort")

    (reply,) = find_gateways(config, [gateway.url]).post("/-/abort", {"model": "sentiment"})

    assert isinstance(reply, Refusal)
    assert (reply.status, elsewhere.seen) == (status, [])
    assert "name the gateway itself with --url" in reply.why


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"detail": "a page of another origin\nmay not do this"}, "a page of another origin may not do this"),
        ({"errors": ["first", "second"]}, "first; second"),
        ({"error_code": "BAD", "message": "no such model"}, "no such model"),
        ({"error": "x" * 5000}, "x" * 399 + "…"),
    ],
    ids=["detail", "errors", "message", "long"],
)
def test_a_refusal_is_one_line_however_it_was_said(serve: Serve, document: Any, said: str) -> None:
    with pytest.raises(Refused) as refused:
        request(serve(document, 422).url, "/-/reload", body={})
    assert (str(refused.value), refused.value.status) == (said, 422)


@pytest.mark.parametrize("body", [b"<html>Bad Gateway", b"[]", b"{}", b'{"detail": 5}', b"\xff"])
def test_an_error_that_is_no_gateways_is_no_refusal_of_one(serve: Serve, body: bytes) -> None:
    with pytest.raises(Unreachable, match=r"no gateway answers at .* with /-/reload: HTTP Error 502"):
        request(serve(body, 502).url, "/-/reload", body={})


def test_what_speaks_no_http_is_no_gateway(config: Path) -> None:
    """Such as a database's port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")
                connection.recv(65_536)

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        (reply,) = find_gateways(config, [url]).get("/v1/state")
        thread.join()

    assert isinstance(reply, NoAnswer)
    assert url in reply.why
