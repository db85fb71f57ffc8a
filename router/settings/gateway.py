"""Settings of the whole gateway: its listeners, its registry, its log, and every registered model."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from router.core.artifact_source import STORES
from router.core.pins import PinnedTwice, PinPlace
from router.core.redaction import redact_uri
from router.errors import ConfigRefused
from router.settings.environments import EnvironmentsSettings
from router.settings.fields import (
    COLD,
    HOT,
    SECTION,
    STRICT,
    Address,
    Gibibytes,
    Roots,
    Schemes,
    Seconds,
    SecondsOrNone,
    Share,
    Text,
    is_local_registry,
    is_loopback,
)
from router.settings.model import ModelSettings, check_model_name
from router.settings.outbound import MOST_RECEIVERS, FleetSettings, ReceiverSettings


class TlsSettings(BaseModel):
    """A certificate and its key."""

    model_config = STRICT

    certificate_file: Text
    """PEM file with the certificate, then those that signed it; read again at SIGHUP and POST /-/reload."""
    key_file: Text
    """PEM file with the certificate's key, without a passphrase; read again together with it."""


class ServerSettings(BaseModel):
    """The two listeners and the limits of one request."""

    model_config = STRICT

    listen: Annotated[Address, COLD] = Field(
        default=("0.0.0.0", 8080), json_schema_extra={"default": "0.0.0.0:8080"}
    )
    """host:port for traffic and health; port 0 lets the system choose."""
    admin: Annotated[Address, COLD] = Field(
        default=("127.0.0.1", 8081), json_schema_extra={"default": "127.0.0.1:8081"}
    )
    """host:port for the verbs that change things; without a token a loopback address."""
    admin_token_file: Annotated[Text | None, COLD] = None
    """File with the verbs' bearer token, read at each use; CANARY_ROUTER_SERVER__ADMIN_TOKEN is over it."""
    lower_token_file: Annotated[Text | None, COLD] = None
    """File with a second bearer token, read at each use, which may only lower the shares of canaries: for
    POST /-/abort and /-/alertmanager. Not the admin token, without which there is none."""
    state_dir: Annotated[Text | None, COLD] = None
    """Directory for what outlives the gateway, its caps and its journal; unset: STATE_DIRECTORY, then
    $XDG_STATE_HOME/canary-router/ and a digest of registry and admin address."""
    tls: Annotated[TlsSettings | None, COLD] = None
    """Certificate of the traffic listener; unset: plain HTTP."""
    admin_tls: Annotated[TlsSettings | None, COLD] = None
    """Certificate of the admin listener; unset: plain HTTP."""
    observe: Annotated[Literal["traffic", "admin"], COLD] = "traffic"
    """The listener where /metrics and /v1/* are; admin always has them."""
    body_limit_mib: Annotated[int, Field(ge=1, le=4096), HOT] = 64
    """Largest request body, in MiB; above it 413."""
    body_timeout_seconds: Annotated[Seconds, HOT] = 30.0
    """To read one request."""
    header_limit_kib: Annotated[int, Field(ge=8, le=1024), HOT] = 64
    """Largest request line and headers of a request in all, in KiB, of connections opened from then on; above
    it 431."""
    idle_seconds: Annotated[Seconds, HOT] = 75.0
    """A connection without a new request is closed so long after its last answer. To be above the idle
    timeout of the load balancer in front, or that sends into connections that close. Of an answer that is not
    taken as a whole, a client has to take 64 KiB in each such period, or it is cut off."""
    unsent_answers_mib: Annotated[int, Field(ge=1, le=1_048_576), HOT] = 512
    """Answers above 64 KiB that wait for their clients, in MiB in all; beyond it the slowest are cut off."""
    core_dumps: Annotated[bool, COLD] = False
    """Whether the system may write the memory of a gateway, or of a version, to disk when that crashes:
    requests and credentials are in it."""
    drain_seconds: Annotated[Seconds, HOT] = 15.0
    """From SIGTERM to the exit; what still runs shortly before its end is answered 503."""
    min_drain_seconds: Annotated[SecondsOrNone, HOT] = 8.0
    """After SIGTERM connections are accepted and answered at least so long, within drain_seconds: longer than
    the load balancer in front takes to notice that /readyz is 503, however seldom it sends. SIGINT and a
    second signal do not wait for it."""

    @property
    def body_limit_bytes(self) -> int:
        """`body_limit_mib` in bytes."""
        return self.body_limit_mib << 20

    @property
    def admin_is_local(self) -> bool:
        """True when only this machine reaches the admin listener."""
        return is_loopback(self.admin[0])


@dataclass(frozen=True, slots=True)
class RegistryPlaces:
    """Where the registry, its artifacts and our copies of them are, with every default filled in."""

    uri: str
    tracking_uri: str
    cache_dir: Path
    working_directories: Path
    """Above those of the workers: the cache, or what holds the caches of this user, whose path is shorter."""
    are_local: bool
    """True where registry and tracking are both files of this machine."""
    schemes: tuple[str, ...]
    """Those that a version's source may have."""


class RegistrySettings(BaseModel):
    """The MLflow registry that says which versions are served."""

    model_config = STRICT

    uri: Annotated[Text | None, COLD] = None
    """Registry; unset: MLFLOW_REGISTRY_URI, then MLFLOW_TRACKING_URI, then sqlite:///mlflow.db."""
    tracking_uri: Annotated[Text | None, COLD] = None
    """Tracking server, through which MLflow 3 finds artifacts; unset: MLFLOW_TRACKING_URI, then uri."""
    token_file: Annotated[Text | None, COLD] = None
    """File with a bearer token, read at each request to the registry and the tracking server."""
    username_file: Annotated[Text | None, COLD] = None
    """File with the user of basic authentication, with password_file, as token_file."""
    password_file: Annotated[Text | None, COLD] = None
    """File with the password, read at each request."""
    poll_seconds: Annotated[Seconds, HOT] = 5.0
    """Between two reads of the aliases of one registered model; each time up to 20 % less or more."""
    download_timeout_seconds: Annotated[Seconds, HOT] = 600.0
    """To bring one version's files into the cache, and as long again to load it."""
    parallel_loads: Annotated[
        int | None,
        Field(ge=1, le=1024),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 1024}]}),
        HOT,
    ] = Field(default=None, json_schema_extra={"default": "auto"})
    """Versions that are loaded side by side, as far as memory allows: productions first, then canaries, then
    further workers and spares. auto (None here): as many as affinity and CPU quota allow processors."""
    cache_dir: Annotated[Text | None, COLD] = None
    """Directory for copies of versions; unset: $XDG_CACHE_HOME/canary-router/ and a digest of uri."""
    cache_max_gib: Annotated[Gibibytes, COLD] = 20.0
    """Above it, copies in the cache that no gateway uses are removed, the one used longest ago first."""
    artifact_schemes: Annotated[Schemes | None, COLD] = None
    """Schemes a version's source may have; unset: the stores of MLflow that name no host of their own."""
    artifact_roots: Annotated[Roots, COLD] = Field(default=[])
    """Directories and addresses below which a source may lie; empty: local files of a local registry only."""

    @field_validator("parallel_loads", mode="before")
    @classmethod
    def _auto(cls, value: Any) -> Any:
        if value is None or (isinstance(value, str) and value != "auto"):
            raise ValueError("must be `auto` or a number of loads")
        return None if value == "auto" else value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.username_file is None) != (self.password_file is None):
            raise ValueError("username_file and password_file go together")
        if self.username_file is not None and self.token_file is not None:
            raise ValueError("name either token_file, or username_file and password_file")
        return self

    def credentials(self) -> dict[str, str]:
        """The files of credentials that are named, by key; absolute, because they are read elsewhere."""
        named = {key: getattr(self, key) for key in ("token_file", "username_file", "password_file")}
        return {key: str(Path(file).expanduser().absolute()) for key, file in named.items() if file}

    def addresses(self, environ: Mapping[str, str]) -> tuple[str, str]:
        """Of the registry and of its tracking server, with MLflow's variables and defaults filled in."""
        tracking = environ.get("MLFLOW_TRACKING_URI")
        uri = self.uri or environ.get("MLFLOW_REGISTRY_URI") or tracking or "sqlite:///mlflow.db"
        return uri, self.tracking_uri or tracking or uri

    def places(self, environ: Mapping[str, str]) -> RegistryPlaces:
        """These settings with MLflow's own environment variables and the defaults filled in.

        Raises ConfigRefused where the cache would lie in a home directory, and there is none.
        """
        uri, tracking_uri = self.addresses(environ)
        try:
            if self.cache_dir:
                cache = caches = Path(self.cache_dir).expanduser()
            else:
                caches = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "canary-router"
                cache = caches / sha256(uri.encode()).hexdigest()[:16]
        except RuntimeError as error:  # a user id without an entry in /etc/passwd
            problem = (
                "this user has no home directory, where copies of versions are kept by default:"
                " name a directory as registry.cache_dir, or set HOME"
            )
            raise ConfigRefused([problem]) from error
        local = is_local_registry(uri) and is_local_registry(tracking_uri)
        schemes = STORES if self.artifact_schemes is None else tuple(self.artifact_schemes)
        return RegistryPlaces(uri, tracking_uri, cache.absolute(), caches.absolute(), local, schemes)


ModelOutput = Literal["until_ready", "always", "never"]


class LogSettings(BaseModel):
    """What is written to standard error."""

    model_config = STRICT

    level: Annotated[Literal["debug", "info", "warning", "error"], HOT] = "info"
    """Least severe line that is written."""
    format: Annotated[Literal["auto", "console", "json"], HOT] = "auto"
    """console for people, json for collectors; auto: console on a terminal, else json."""
    model_output: Annotated[ModelOutput, HOT] = "until_ready"
    """What is written of what versions print; once one is READY, that may hold what callers sent."""
    sample_requests: Annotated[Share, HOT] = 0.0
    """Share of the prediction requests that get a line each, from 0 to 1: never with key or payload."""


PINNED_TWICE = "pinned_twice"
"""Type of the error whose context has `conflicts`: a list of `PinConflict`."""


class PinConflict(NamedTuple):
    """One key of `model` is pinned at both places."""

    model: str
    first: PinPlace
    again: PinPlace


_ModelName = Annotated[str, PlainValidator(check_model_name), WithJsonSchema({"type": "string"})]


class Settings(BaseModel):
    """All an operator may say. In models, the first one also answers at /invocations."""

    model_config = STRICT

    server: Annotated[ServerSettings, SECTION] = Field(default_factory=ServerSettings)
    """The two listeners and the limits of one request."""
    registry: Annotated[RegistrySettings, SECTION] = Field(default_factory=RegistrySettings)
    """The MLflow registry that says which versions are served."""
    log: Annotated[LogSettings, SECTION] = Field(default_factory=LogSettings)
    """What is written to standard error."""
    fleet: Annotated[FleetSettings, SECTION] = Field(default_factory=FleetSettings)
    """The other gateways that serve the same models, with which caps and evidence are exchanged."""
    environments: Annotated[EnvironmentsSettings, SECTION] = Field(default_factory=EnvironmentsSettings)
    """The Python environments that are built for versions of models with `environment: own`."""
    notify: Annotated[list[ReceiverSettings], Field(max_length=MOST_RECEIVERS), SECTION, COLD] = Field(
        default=[]
    )
    """Who gets notifications, and of what."""
    models: Annotated[
        dict[_ModelName, Annotated[ModelSettings, SECTION]],
        Field(min_length=1, json_schema_extra={"propertyNames": {"pattern": "^[^/:]+$"}}),
    ]
    """Registered models by name; the first one also answers at /invocations."""

    def state_directory(self, environ: Mapping[str, str]) -> Path | None:
        """Where the state is kept; None where that is below a home directory, and there is none."""
        return state_directory(self.server, self.registry, environ)

    @field_validator("models")
    @classmethod
    def _salts(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        # A model does not know its own name, which is its salt unless another one is written.
        return {
            name: model if model.salt else model.model_copy(update={"salt": name})
            for name, model in models.items()
        }

    @field_validator("models")
    @classmethod
    def _pins(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        # After the salts: a key and its digest are known to be one only with the salt. It is remembered from
        # here on, so that whoever puts these settings in force hashes nothing.
        conflicts = []
        for name, model in models.items():
            try:
                model.pins.compiled(model.salt)
            except PinnedTwice as twice:
                conflicts += [PinConflict(name, *places) for places in twice.places]
        if conflicts:
            raise PydanticCustomError(PINNED_TWICE, "a key is pinned to two roles", {"conflicts": conflicts})
        return models

    @field_validator("server")
    @classmethod
    def _two_ports(cls, server: ServerSettings) -> ServerSettings:
        (host, port), (admin_host, admin_port) = server.listen, server.admin
        if port == admin_port != 0 and host in (admin_host, "0.0.0.0", "::"):
            raise ValueError("listen and admin must not share a port")
        return server

    @field_validator("fleet")
    @classmethod
    def _heard_by_peers(cls, fleet: FleetSettings, info: ValidationInfo) -> FleetSettings:
        server: ServerSettings | None = info.data.get("server")  # missing where it is not valid itself
        if server is not None and server.admin_is_local and not fleet.are_local:
            raise ValueError(
                f"peers on other machines ask this gateway, too, and they can not reach {server.admin[0]}:"
                " let server.admin be an address that they reach"
            )
        return fleet


def state_directory(
    server: ServerSettings, registry: RegistrySettings, environ: Mapping[str, str]
) -> Path | None:
    """As `Settings.state_directory`, by the two sections that decide it."""
    try:
        if server.state_dir:
            return Path(server.state_dir).expanduser().absolute()
        # systemd lists several with colons.
        if given := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
            return Path(given).absolute()
        above = state_directories(environ)
    except RuntimeError:  # a user id without an entry in /etc/passwd
        return None
    host, port = server.admin
    named = f"{redact_uri(registry.addresses(environ)[0])} {host}:{port}"
    return above / sha256(named.encode()).hexdigest()[:16]


def state_directories(environ: Mapping[str, str]) -> Path:
    """Above those that no configuration names. Raises RuntimeError without a home directory."""
    home = environ.get("XDG_STATE_HOME", "")
    return Path(home if os.path.isabs(home) else Path.home() / ".local" / "state", "canary-router")


class SettingsInForce:
    """The settings that hold now. A reload replaces `current` whole; readers take it anew at each use."""

    def __init__(self, current: Settings) -> None:
        self.current = current


def schema_json() -> str:
    """Text of `config/router.schema.json`: JSON Schema, draft 2020-12.

    It knows keys, types, ranges and meanings. What needs arithmetic or another key — a split of 100 in all,
    roles, loopback — only the gateway judges.
    """
    schema = _tidy(Settings.model_json_schema())
    del schema["$defs"]["ModelSettings"]["properties"]["salt"]["default"]  # it is the model's name
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mlflow-canary-router"}
    return json.dumps({**head, **schema}, indent=2, ensure_ascii=False) + "\n"


def _tidy(node: Any, *, named: bool = False) -> Any:
    """Without pydantic's titles, which repeat the keys, and with each description on one line.

    `named` says that the keys of `node` are names of ours, where a `title` would be a real key.
    """
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: " ".join(value.split())
        if key == "description" and not named
        else _tidy(value, named=key in ("properties", "$defs"))
        for key, value in node.items()
        if named or key != "title"
    }
