"""Whom a gateway asks or informs by itself: other gateways of its fleet, and receivers of notifications."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema, field_validator, model_validator

from router.core.notification import KINDS, NotificationKind
from router.settings.fields import (
    COLD,
    HOST_AND_PORT,
    HOT,
    STRICT,
    SecondsOfExchange,
    Text,
    each_once,
    is_loopback,
)

DNS = "dns:"
MOST_RECEIVERS = 20
_MOST_PEERS = 100


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where the admin listeners of other gateways are."""

    host: str
    """A name or an address; IPv6 without brackets."""
    port: int
    looked_up: bool = False
    """Whether `host` is a name of which each address is a gateway."""
    encrypted: bool | None = None
    """Whether they speak TLS; None: as this gateway's own admin listener does."""


def web_address(text: str) -> SplitResult:
    """`text` taken apart. Raises ValueError, without quoting it, unless it is an http or https address."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets without an address in them, or a port that is no number
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ValueError("must be an http or https address")
    return parts


def peer_address(text: str) -> PeerAddress:
    """What an entry of `fleet.peers` means. Raises ValueError with a sentence."""
    if "://" in text:
        parts = web_address(text)
        if "@" in parts.netloc:
            raise ValueError("must hold no credentials: peers are asked without any")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("must be the address of an admin listener, without a path")
        encrypted = parts.scheme == "https"
        assert parts.hostname is not None  # or it were no address
        return PeerAddress(parts.hostname, parts.port or (443 if encrypted else 80), encrypted=encrypted)
    match = HOST_AND_PORT.fullmatch(text.removeprefix(DNS))
    if match is None or not 0 < int(match["port"]) < 65_536:
        raise ValueError("must be host:port, an http or https address, or dns:NAME:PORT")
    looked_up = text.startswith(DNS)
    if looked_up and match["v6"]:
        raise ValueError("must name a host after dns:, of which each address is a gateway")
    return PeerAddress(match["v6"] or match["name"], int(match["port"]), looked_up)


def _peer(text: str) -> str:
    peer_address(text)
    return text


_PEER = WithJsonSchema(
    {"type": "string", "pattern": r"^(https?://[^@/?#]+/?|(dns:)?(\[[^\]]+\]|[0-9A-Za-z._-]+):[0-9]{1,5})$"}
)


class FleetSettings(BaseModel):
    """The other gateways that serve the same models, with which caps and evidence are exchanged."""

    model_config = STRICT

    peers: Annotated[
        list[Annotated[Text, AfterValidator(_peer), _PEER]], Field(max_length=_MOST_PEERS), COLD
    ] = Field(default=[])
    """Admin addresses of the other gateways, host:port or http(s)://host:port; or one dns:NAME:PORT, such as
    a headless Service, of which each address is one. This gateway may be among them. Without a scheme they
    speak TLS where server.admin_tls is set. All need the same admin token, by which they sign."""
    exchange_seconds: Annotated[SecondsOfExchange, HOT] = 2.0
    """Between two exchanges of caps and evidence; each asks four peers at most, drawn at random."""

    @property
    def addresses(self) -> list[PeerAddress]:
        """Those of `peers`."""
        return [peer_address(text) for text in self.peers]

    @property
    def are_local(self) -> bool:
        """Whether every peer is on this machine."""
        return all(is_loopback(address.host) for address in self.addresses)

    @field_validator("peers")
    @classmethod
    def _one_name_or_a_list(cls, peers: list[str]) -> list[str]:
        if len(peers) > 1 and any(text.startswith(DNS) for text in peers):
            raise ValueError("must be a list of addresses, or one dns:NAME:PORT alone")
        return peers


def _address(text: str) -> str:
    if "@" in web_address(text).netloc:
        raise ValueError("must hold no credentials: write the whole address into a file, for url_file")
    return text


class ReceiverSettings(BaseModel):
    """Who gets notifications, and of what."""

    model_config = STRICT

    url: (
        Annotated[Text, AfterValidator(_address), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
        | None
    ) = None
    """Its http or https address, without credentials."""
    url_file: Text | None = None
    """File with its address, read at each try: for an address that is a secret, such as Slack's."""
    format: Literal["cloudevents", "slack"] = "cloudevents"
    """cloudevents: CloudEvents 1.0 as structured JSON. slack: a text, as Slack's webhooks take it."""
    events: Annotated[list[NotificationKind], Field(min_length=1), AfterValidator(each_once)] = Field(
        default=list(KINDS)
    )
    """What it is informed of; unset: all."""
    secret_file: Text | None = None
    """File with the secret that signs each CloudEvent as MLflow signs its webhooks, read at each try."""

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("name either url or url_file")
        if self.format == "slack":
            if self.url is not None:
                raise ValueError("of Slack the address is the secret: write it into a file, for url_file")
            if self.secret_file is not None:
                raise ValueError("Slack checks no signature: secret_file goes with cloudevents")
        return self
