"""Implements `Courier`: one notification as one POST, to a receiver of CloudEvents or to Slack.

A CloudEvent is signed as MLflow signs its webhooks (MLflow 3: `mlflow/webhooks/delivery.py`), so that whoever
checks those checks these: three headers, and an HMAC-SHA256 over `id.timestamp.body`.
"""

import asyncio
import base64
import hmac
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import orjson

from router.adapters.http.client import HttpAnswer, HttpClient, in_outbound_thread
from router.control.notifications import RETRY_SECONDS, Delivery
from router.core.notification import Notification
from router.core.outbound_events import NotificationResult
from router.core.redaction import redact_uri
from router.core.utc import utc
from router.errors import OutboundFailed
from router.processes.small_files import open_at_once
from router.settings import ReceiverSettings
from router.settings.outbound import web_address

TRY_SECONDS = 5.0
"""For one try, the reading of its files included."""
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TYPE = "canary_router."
"""What the type of each CloudEvent begins with; then comes the kind."""
LONGEST_SLACK_TEXT = 3_000
_LONGEST_FILE = 4_096
_TRY_AGAIN = (408, 429)
"""Of what begins with 4; all others say that the same request will never be taken."""
_SLACK_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends."""

    source: str
    """`source` of each CloudEvent: equal on all replicas that follow one registry."""
    gateway: str
    """This machine, for people."""

    @classmethod
    def of(cls, registry_uri: str, gateway: str) -> "Sender":
        """One that follows the registry at `registry_uri`, of which a digest without credentials is shown."""
        digest = sha256(redact_uri(registry_uri).encode()).hexdigest()[:16]
        return cls(f"/canary-router/{digest}", gateway)


class Webhook:
    """One receiver. Where address or secret is in a file, it is read at each try: it may be rotated."""

    def __init__(
        self,
        settings: ReceiverSettings,
        client: HttpClient,
        sender: Sender,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`wall` gives seconds since 1970."""
        self._settings = settings
        self._client = client
        self._sender = sender
        self._wall = wall

    async def deliver(self, notification: Notification) -> Delivery:
        """One try; a redirect is not followed, and rejected. Files that can not be used are tried again."""
        try:
            async with asyncio.timeout(TRY_SECONDS):
                url, secret = await self._address_and_secret()
                body = self._body(notification)
                answer = await self._client.ask(
                    "POST",
                    url,
                    seconds=TRY_SECONDS,
                    headers=self._headers(notification, body, secret),
                    body=body,
                )
        except TimeoutError:
            return Delivery(NotificationResult.RETRIED, f"no answer within {TRY_SECONDS:g} s")
        except OutboundFailed as failed:
            return Delivery(NotificationResult.RETRIED, str(failed))
        return _delivery(answer)

    async def _address_and_secret(self) -> tuple[str, bytes | None]:
        settings, secret = self._settings, None
        if settings.secret_file is not None:
            secret = await in_outbound_thread(_read, settings.secret_file, "secret_file")
        if settings.url is not None:
            return settings.url, secret
        assert settings.url_file is not None  # one of the two is there
        return _checked_address(await in_outbound_thread(_read, settings.url_file, "url_file")), secret

    def _body(self, notification: Notification) -> bytes:
        if self._settings.format == "slack":
            return orjson.dumps({"text": slack_text(notification, self._sender.gateway)})
        return orjson.dumps(cloud_event(notification, self._sender))

    def _headers(self, notification: Notification, body: bytes, secret: bytes | None) -> dict[str, str]:
        if self._settings.format == "slack":
            return {"Content-Type": "application/json"}
        headers = {"Content-Type": CONTENT_TYPE}
        if secret is not None:
            timestamp = str(int(self._wall()))
            headers |= {
                "X-MLflow-Delivery-Id": notification.id,
                "X-MLflow-Timestamp": timestamp,
                "X-MLflow-Signature": signature(secret, notification.id, timestamp, body),
            }
        return headers


def cloud_event(notification: Notification, sender: Sender) -> dict[str, Any]:
    """`notification` as CloudEvents 1.0 in structured JSON, JSON-ready."""
    return {
        "specversion": "1.0",
        "id": notification.id,
        "source": sender.source,
        "type": f"{TYPE}{notification.kind}",
        **({"subject": notification.model} if notification.model is not None else {}),
        "time": utc(notification.at),
        "datacontenttype": "application/json",
        "data": {**notification.data, "text": notification.text, "gateway": sender.gateway},
    }


def slack_text(notification: Notification, gateway: str) -> str:
    """`notification` as a message of Slack in which nothing is a link or a mention."""
    text = f"{notification.text} [{gateway}]"
    shown = text if len(text) <= LONGEST_SLACK_TEXT else text[: LONGEST_SLACK_TEXT - 1] + "…"
    return shown.translate(_SLACK_ESCAPES)


def signature(secret: bytes, delivery_id: str, timestamp: str, body: bytes) -> str:
    """As MLflow signs: `v1,` and the base64 of HMAC-SHA256 over id, timestamp and body, between dots."""
    signed = b".".join((delivery_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(secret, signed, sha256).digest()).decode()


def receiver_names(receivers: Sequence[ReceiverSettings]) -> list[str]:
    """A name of each that may be shown: its address without path and query, or its format where the address
    is in a file. Those that would be equal are numbered."""
    names: list[str] = []
    for receiver in receivers:
        name = receiver.format if receiver.url is None else _shown_address(receiver.url)
        before = sum(1 for other in names if other == name or other.startswith(f"{name} "))
        names.append(f"{name} {before + 1}" if before else name)
    return names


def _shown_address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _delivery(answer: HttpAnswer) -> Delivery:
    if 200 <= answer.status < 300:
        return Delivery(NotificationResult.DELIVERED)
    why = f"it answered {answer.phrase}"
    if 300 <= answer.status < 400:
        return Delivery(NotificationResult.REJECTED, f"{why}; redirects are not followed")
    if 400 <= answer.status < 500 and answer.status not in _TRY_AGAIN:
        return Delivery(NotificationResult.REJECTED, why)
    wanted = answer.headers.get("Retry-After", "")
    seconds = float(wanted) if wanted.isascii() and wanted.isdecimal() else 0.0
    return Delivery(NotificationResult.RETRIED, why, min(seconds, RETRY_SECONDS[-1]))


def _read(path: str, key: str) -> bytes:
    """What is in the file of a key of `notify`, without spaces around it; blocks.

    Raises OutboundFailed, with neither path nor content.
    """
    try:
        with open(os.path.expanduser(path), "rb", opener=open_at_once) as file:
            raw = file.read(_LONGEST_FILE + 1).strip()
    except OSError as error:
        raise OutboundFailed(f"{key} can not be read: {error.strerror}") from None
    if not raw or len(raw) > _LONGEST_FILE:
        raise OutboundFailed(f"{key} must hold 1 to {_LONGEST_FILE} bytes")
    return raw


def _checked_address(raw: bytes) -> str:
    try:
        url = raw.decode("ascii")
        web_address(url)
    except ValueError:
        raise OutboundFailed("url_file must hold one http or https address") from None
    return url
