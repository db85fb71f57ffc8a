"""Notifications on their way to a real receiver."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from router.adapters.http import webhooks as module
from router.adapters.http.client import HttpClient
from router.adapters.http.webhooks import Sender, Webhook, receiver_names
from router.control.notifications import Delivery
from router.core.ids import CANARY, VersionId
from router.core.lever_events import CapSet
from router.core.notification import Notification, NotificationBuilder
from router.core.outbound_events import NotificationResult
from router.settings import ReceiverSettings
from tests.support.ports import free_port
from tests.support.receiver import Received, Receiver, receiving

AT = 1_764_340_000.25
REGISTRY = "postgresql://mlflow:hunter2@db.internal/mlflow"
SENDER = Sender.of(REGISTRY, "gw-1")
WHY = "it answers <!channel> & nonsense"

# What the specification of CloudEvents 1.0 asks of each, and gives types to.
CLOUD_EVENT = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object"},
    },
    "propertyNames": {"pattern": "^[a-z0-9]+$"},
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def capped() -> Notification:
    event = CapSet("sentiment", CANARY, VersionId("sentiment", 8), 0.0, "alice", WHY, AT)
    (one,) = NotificationBuilder().notifications(event, AT + 2)
    return one


def webhook(client: HttpClient, **keys: Any) -> Webhook:
    return Webhook(ReceiverSettings.model_validate(keys), client, SENDER, wall=lambda: AT + 5)


async def test_a_notification_is_a_cloud_event(client: HttpClient, receiver: Receiver) -> None:
    notification = capped()

    delivery = await webhook(client, url=f"{receiver.url}/events?to=us").deliver(notification)

    assert delivery == Delivery(NotificationResult.DELIVERED)
    (request,) = receiver.requests
    assert request.path == "/events?to=us"
    assert request.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    jsonschema.validate(request.json, CLOUD_EVENT)
    assert request.json == {
        "specversion": "1.0",
        "id": notification.id,
        "source": SENDER.source,
        "type": "canary_router.cap_set",
        "subject": "sentiment",
        "time": "2025-11-28T14:26:40.250Z",
        "datacontenttype": "application/json",
        "data": {
            "model": "sentiment",
            "alias": "canary",
            "version": 8,
            "to_percent": 0.0,
            "by": "alice",
            "reason": WHY,
            "text": f"sentiment canary v8: capped at 0 % by alice: {WHY}",
            "gateway": "gw-1",
        },
    }


def test_replicas_of_one_registry_are_one_source_and_its_password_is_in_none() -> None:
    """Not even as a digest that could be guessed at."""
    rotated = Sender.of(REGISTRY.replace("hunter2", "hunter3"), "gw-2")

    assert rotated.source == SENDER.source
    assert Sender.of("sqlite:///other.db", "gw-1").source != SENDER.source


def is_signed(request: Received, secret: str) -> bool:
    """As the receiver of one of MLflow's webhooks checks it, by MLflow's own function."""
    from mlflow.webhooks.constants import (
        WEBHOOK_DELIVERY_ID_HEADER,
        WEBHOOK_SIGNATURE_HEADER,
        WEBHOOK_TIMESTAMP_HEADER,
    )
    from mlflow.webhooks.delivery import _generate_hmac_signature

    headers = {name.lower(): value for name, value in request.headers.items()}
    delivery_id = headers[WEBHOOK_DELIVERY_ID_HEADER.lower()]
    timestamp = headers[WEBHOOK_TIMESTAMP_HEADER.lower()]
    expected = _generate_hmac_signature(secret, delivery_id, timestamp, request.body.decode())
    return headers[WEBHOOK_SIGNATURE_HEADER.lower()] == expected


async def test_a_receiver_of_mlflows_webhooks_can_check_it_and_a_rotated_secret_counts_at_once(
    client: HttpClient, receiver: Receiver, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("first secret\n")
    one = webhook(client, url=receiver.url, secret_file=str(secret))
    await one.deliver(capped())
    secret.write_text("the second one")
    await one.deliver(capped())

    first, second = receiver.requests
    assert is_signed(first, "first secret")
    assert not is_signed(first, "the second one")
    assert is_signed(second, "the second one")
    assert first.headers["X-MLflow-Delivery-Id"] == first.json["id"]
    assert first.headers["X-MLflow-Timestamp"] == str(int(AT + 5)), "when it was sent, not when it happened"


async def test_nothing_is_sent_unsigned_while_the_secret_is_lost(
    client: HttpClient, receiver: Receiver, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    one = webhook(client, url=receiver.url, secret_file=str(secret))
    lost = await one.deliver(capped())
    secret.write_text(" \n")
    empty = await one.deliver(capped())
    secret.unlink()
    os.mkfifo(secret)
    of_a_pipe = await one.deliver(capped())
    secret.unlink()
    secret.write_text("here again")
    found = await one.deliver(capped())

    retried, delivered = NotificationResult.RETRIED, NotificationResult.DELIVERED
    assert lost == Delivery(retried, "secret_file can not be read: No such file or directory")
    assert empty == of_a_pipe == Delivery(retried, "secret_file must hold 1 to 4096 bytes")
    assert found.result is delivered
    assert len(receiver.requests) == 1


async def test_slack_gets_a_text_in_which_nothing_is_a_mention(
    client: HttpClient, receiver: Receiver, tmp_path: Path
) -> None:
    address = tmp_path / "slack"
    address.write_text(f"{receiver.url}/services/T024/B077/secret\n")
    one = webhook(client, url_file=str(address), format="slack")

    assert (await one.deliver(capped())).result is NotificationResult.DELIVERED
    (request,) = receiver.requests
    assert request.path == "/services/T024/B077/secret"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == {
        "text": "sentiment canary v8: capped at 0 % by alice:"
        " it answers &lt;!channel&gt; &amp; nonsense [gw-1]"
    }
    assert not any(name.startswith("X-MLflow") for name in request.headers)


async def test_an_address_with_credentials_may_stand_in_a_file(
    client: HttpClient, receiver: Receiver, tmp_path: Path
) -> None:
    address = tmp_path / "address"
    address.write_text(receiver.url.replace("http://", "http://user:pass@"))

    await webhook(client, url_file=str(address)).deliver(capped())

    assert receiver.requests[0].headers["Authorization"] == "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize(
    ("status", "result", "why"),
    [
        (200, "delivered", ""),
        (204, "delivered", ""),
        (302, "rejected", "it answered 302 Found; redirects are not followed"),
        (400, "rejected", "it answered 400 Bad Request"),
        (404, "rejected", "it answered 404 Not Found"),
        (408, "retried", "it answered 408 Request Timeout"),
        (410, "rejected", "it answered 410 Gone"),
        (429, "retried", "it answered 429 Too Many Requests"),
        (500, "retried", "it answered 500 Internal Server Error"),
        (503, "retried", "it answered 503 Service Unavailable"),
        (599, "retried", "it answered 599"),
    ],
)
async def test_the_status_says_whether_it_is_tried_again(
    client: HttpClient, receiver: Receiver, status: int, result: str, why: str
) -> None:
    receiver.status = status
    receiver.headers = {"Location": f"{receiver.url}/elsewhere"}

    delivery = await webhook(client, url=receiver.url).deliver(capped())

    assert (str(delivery.result), delivery.why) == (result, why)
    assert [request.path for request in receiver.requests] == ["/"], "no redirect is followed"


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7.0), ("86400", 300.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("-5", 0.0)]
)
async def test_a_receiver_may_say_when_it_wants_to_be_asked_again(
    client: HttpClient, receiver: Receiver, said: str, seconds: float
) -> None:
    """Up to the longest wait that there is."""
    receiver.status, receiver.headers = 429, {"Retry-After": said}

    assert (await webhook(client, url=receiver.url).deliver(capped())).retry_seconds == seconds


async def test_a_receiver_that_is_silent_or_dead_ends_a_try_in_its_time(
    client: HttpClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRY_SECONDS", 0.1)
    receiver.silent.set()
    silent = await webhook(client, url=receiver.url).deliver(capped())
    dead = await webhook(client, url=f"http://127.0.0.1:{free_port()}/").deliver(capped())

    assert silent == Delivery(NotificationResult.RETRIED, "no answer within 0.1 s")
    assert dead == Delivery(NotificationResult.RETRIED, "it can not be reached: Connection refused")


async def test_a_file_on_a_disk_that_hangs_ends_a_try_in_its_time(
    client: HttpClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "TRY_SECONDS", 0.05)
    monkeypatch.setattr(module, "in_outbound_thread", hangs)

    delivery = await webhook(client, url=receiver.url, secret_file="secret").deliver(capped())

    assert delivery == Delivery(NotificationResult.RETRIED, "no answer within 0.05 s")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "hooks.example.com/T024",
        "ftp://example.com/T024",
        "http://",
        "https://a b/T024",
        "ütf",
        "x" * 5000,
    ],
)
async def test_a_file_without_an_address_is_named_by_its_key_and_never_quoted(
    client: HttpClient, tmp_path: Path, content: str
) -> None:
    address = tmp_path / "slack"
    address.write_text(content)

    delivery = await webhook(client, url_file=str(address), format="slack").deliver(capped())

    assert delivery.result is NotificationResult.RETRIED
    assert delivery.why in (
        "url_file must hold one http or https address",
        "url_file must hold 1 to 4096 bytes",
    )


def test_receivers_are_named_without_path_query_or_what_is_in_files() -> None:
    receivers = [
        {"url": "https://ops.example.com:8443/hooks/T024?token=secret"},
        {"url": "https://ops.example.com:8443/others"},
        {"url_file": "/run/secrets/slack", "format": "slack"},
        {"url_file": "/run/secrets/other", "format": "slack"},
        {"url_file": "/run/secrets/events"},
    ]

    names = receiver_names([ReceiverSettings.model_validate(one) for one in receivers])

    assert names == [
        "https://ops.example.com:8443",
        "https://ops.example.com:8443 2",
        "slack",
        "slack 2",
        "cloudevents",
    ]
