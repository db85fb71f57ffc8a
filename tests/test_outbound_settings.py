"""What an operator may say of peers and of receivers of notifications."""

import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from router.adapters.config.file import sentences
from router.core.notification import KINDS
from router.settings import PeerAddress, Reload, Settings, changes, schema_json
from router.settings.outbound import MOST_RECEIVERS, peer_address

ELSEWHERE = {"admin": "0.0.0.0:8081"}
URL = "https://ops.example.com/hook"


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"server": ELSEWHERE, "models": {"sentiment": None}, **sections})


def problem(**sections: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as refused:
        settings(**sections)
    ((path, sentence),) = sentences(refused.value)
    return ".".join(map(str, path)), sentence


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("gw-1:8081", PeerAddress("gw-1", 8081)),
        ("[fd00::1]:8081", PeerAddress("fd00::1", 8081)),
        ("http://gw-1:8081", PeerAddress("gw-1", 8081, encrypted=False)),
        ("https://gw-1.example.com/", PeerAddress("gw-1.example.com", 443, encrypted=True)),
        ("http://[fd00::1]:81", PeerAddress("fd00::1", 81, encrypted=False)),
        (
            "dns:canary-router.default.svc:8081",
            PeerAddress("canary-router.default.svc", 8081, looked_up=True),
        ),
    ],
)
def test_a_peer_is_an_address_or_a_name_that_is_looked_up(written: str, meant: PeerAddress) -> None:
    assert settings(fleet={"peers": [written]}).fleet.addresses == [meant]
    jsonschema.validate({"fleet": {"peers": [written]}, "models": {"m": {}}}, json.loads(schema_json()))


@pytest.mark.parametrize(
    "wrong",
    [
        "gw-1",
        "gw-1:0",
        "gw-1:99999",
        ":8081",
        "gw 1:81",
        "dns:gw-1",
        "dns:[fd00::1]:81",
        "dns:https://gw:1",
        "https://user:pass@gw-1:81",
        "https://gw-1:81/path",
        "https://gw-1?a=b",
        "ftp://gw-1:81",
        "https://",
        "https://gw-1:port",
        "http://[fd00::1:81",
        "http://gw-1:0",
        "http://gw-1\n:81",
    ],
)
def test_what_is_no_peer_is_refused_without_quoting_a_password(wrong: str) -> None:
    path, sentence = problem(fleet={"peers": [wrong]})

    assert path == "fleet.peers.0"
    assert sentence.startswith("must ")
    assert "pass" not in sentence
    with pytest.raises(ValueError, match="must "):
        peer_address(wrong)


def test_a_name_that_is_looked_up_stands_alone() -> None:
    assert problem(fleet={"peers": ["dns:gateways:81", "gw-1:81"]}) == (
        "fleet.peers",
        "must be a list of addresses, or one dns:NAME:PORT alone",
    )


def test_peers_elsewhere_need_an_admin_address_that_they_reach() -> None:
    """Or this gateway would hear of others, and they never of it."""
    path, sentence = problem(fleet={"peers": ["gw-1:81"]}, server={"admin": "127.0.0.1:8081"})

    assert path == "fleet"
    assert "they can not reach 127.0.0.1" in sentence
    assert settings(fleet={"peers": ["127.0.0.1:82", "localhost:83"]}, server={}).fleet.are_local
    assert settings(fleet={}, server={}).fleet.are_local


@pytest.mark.parametrize("wrong", [0, 0.09, 61, "2", float("nan")])
def test_the_exchange_has_bounds(wrong: Any) -> None:
    assert problem(fleet={"exchange_seconds": wrong})[0] == "fleet.exchange_seconds"


def test_a_receiver_gets_everything_unless_it_says_what_it_wants() -> None:
    one, other = settings(
        notify=[{"url": URL}, {"url_file": "slack", "format": "slack", "events": ["cap_set"]}]
    ).notify

    assert (one.format, one.events, one.secret_file) == ("cloudevents", [*KINDS], None)
    assert (other.url, other.url_file, other.events) == (None, "slack", ["cap_set"])
    assert settings().notify == settings(notify=None).notify == []


@pytest.mark.parametrize(
    ("receiver", "path", "sentence"),
    [
        ({}, "notify.0", "name either url or url_file"),
        ({"url": URL, "url_file": "f"}, "notify.0", "name either url or url_file"),
        ({"url": "ops.example.com/hook"}, "notify.0.url", "must be an http or https address"),
        ({"url": "ftp://ops.example.com"}, "notify.0.url", "must be an http or https address"),
        (
            {"url": "https://user:hunter2@ops.example.com"},
            "notify.0.url",
            "must hold no credentials: write the whole address into a file, for url_file",
        ),
        (
            {"url": "https://hooks.slack.com/services/T/B/hunter2", "format": "slack"},
            "notify.0",
            "of Slack the address is the secret: write it into a file, for url_file",
        ),
        (
            {"url_file": "f", "format": "slack", "secret_file": "s"},
            "notify.0",
            "Slack checks no signature: secret_file goes with cloudevents",
        ),
        ({"url": URL, "events": []}, "notify.0.events", "must have 1 items, not 0"),
        ({"url": URL, "events": ["cap_set", "cap_set"]}, "notify.0.events", "must name cap_set once"),
        (
            {"url": URL, "events": ["capset"]},
            "notify.0.events.0",
            f'must be one of {", ".join(KINDS)}, not the text "capset", did you mean `cap_set`?',
        ),
        ({"url": URL, "secret": "s"}, "notify.0.secret", "unknown key, did you mean `secret_file`?"),
        (
            {"url": URL, "format": "slak"},
            "notify.0.format",
            'must be one of cloudevents, slack, not the text "slak", did you mean `slack`?',
        ),
    ],
)
def test_a_receiver_that_is_none_is_refused_by_what_is_wrong(
    receiver: dict[str, Any], path: str, sentence: str
) -> None:
    found = problem(notify=[receiver])

    assert found == (path, sentence)
    assert "hunter2" not in sentence


def test_receivers_are_bounded() -> None:
    assert problem(notify=[{"url": URL}] * (MOST_RECEIVERS + 1))[0] == "notify"


def test_peers_and_receivers_take_a_restart_and_the_period_does_not() -> None:
    before = settings()
    with_peers = settings(fleet={"peers": ["gw-1:81"]})
    with_receiver = settings(notify=[{"url": URL}])
    quicker = settings(fleet={"exchange_seconds": 1})

    assert [(c.path, c.reload) for c in changes(before, with_peers)] == [("fleet.peers", Reload.COLD)]
    assert [(c.path, c.reload) for c in changes(before, with_receiver)] == [("notify", Reload.COLD)]
    assert [(c.path, c.reload) for c in changes(before, quicker)] == [("fleet.exchange_seconds", Reload.HOT)]
