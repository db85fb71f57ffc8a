"""Settings of one registered model: who gets which version, and how long things may take."""

import re
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from router.core.environment_variables import refusal
from router.core.ids import CANARY, LONGEST_MODEL_NAME, PREVIOUS, PRODUCTION, ROLLBACK, Alias, is_model_name
from router.core.keys import KeyKind, KeySource
from router.core.pins import PinLists
from router.core.split import Split
from router.core.version_address import WITHOUT_EFFECT
from router.protocol.messages import Tracking
from router.settings.checks import CheckSettings
from router.settings.fields import (
    COLD,
    HOT,
    REBUCKETING,
    SECTION,
    STRICT,
    Seconds,
    SecondsOrNone,
    Text,
    each_once,
)
from router.settings.gate import GateSettings
from router.settings.mappings import (
    AliasesField,
    AliasNames,
    KeyField,
    PinsField,
    SplitField,
    check_pinned_roles,
    complete_aliases,
)
from router.settings.preflight import PreflightSettings
from router.settings.scores import ScoreSettings, ScoresField
from router.settings.shadow import ShadowSettings, check_shadowed_roles
from router.settings.where import LOCAL, AddressSettings, WhereField

_DEEPEST = 20
"""Levels of lists and mappings in a model_config."""


def check_model_name(name: Any) -> str:
    """`name` when MLflow accepts it for a registered model; else ValueError."""
    if not isinstance(name, str):
        raise ValueError("must be the name of a registered model")
    if not is_model_name(name):
        raise ValueError(
            "must be the name of a registered model: no slash, colon or control character, and at most"
            f" {LONGEST_MODEL_NAME} characters"
        )
    return name


def _salt(text: str) -> str:
    if ":" in text:
        raise ValueError("must not hold a colon, which stands between salt and key when they are hashed")
    return text


def _fallback(value: Any) -> bool:
    if value not in ("production", "none"):
        raise ValueError("must be `production` or `none`")
    return bool(value == "production")


def _batching(value: Any) -> bool:
    if value not in ("auto", "off"):
        raise ValueError("must be `auto` or `off`")
    return bool(value == "auto")


def _why(value: Any) -> bool:
    if value not in ("on", "off"):
        raise ValueError("must be `on` or `off`")
    return bool(value == "on")


def _configuration(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError("must be a mapping, as load_model takes it")
    return None if value is None else _json(value)


def _json(value: Any, depth: int = 1) -> Any:
    """`value` as JSON has it; the file's exact decimals become floats."""
    if depth > _DEEPEST:
        raise ValueError(f"must not be nested deeper than {_DEEPEST} levels")
    if isinstance(value, dict):
        return {key: _json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item, depth + 1) for item in value]
    if isinstance(value, Decimal | float):
        value = float(value)
        if not isfinite(value):
            raise ValueError("must hold finite numbers only")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("must hold no whole number beyond 64 bits")
    return value


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("must be the name of an environment variable, without its value")
    if why := refusal(name):
        raise ValueError(f"{name} {why}")
    return name


def _answer_length(value: Any) -> bool:
    if value not in ("rows", "any"):
        raise ValueError("must be `rows` or `any`")
    return bool(value == "any")


def _warm_up(value: Any) -> bool:
    if value not in ("auto", "required"):
        raise ValueError("must be `auto` or `required`")
    return bool(value == "required")


def _nan(value: Any) -> bool:
    if value not in ("literal", "null"):
        raise ValueError('must be `literal` or `"null"`, in quotes')
    return bool(value == "null")


def _server(uri: str) -> str:
    address = urlsplit(uri)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError("must be the http or https address of a tracking server")
    if "@" in address.netloc:
        raise ValueError("must hold no credentials: they go to username and password_file, or to token_file")
    return uri


class TrackingSettings(BaseModel):
    """A tracking server that versions may trace and log to, and load other models from."""

    model_config = STRICT

    uri: Annotated[Text, AfterValidator(_server), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
    """Its http or https address, without credentials."""
    experiment: Text | None = None
    """Name of the experiment of traces and runs; unset: MLflow's default."""
    username: Text | None = None
    """For basic authentication, with password_file."""
    password_file: Text | None = None
    """File with the password, read by the workers at each use."""
    token_file: Text | None = None
    """File with a bearer token, read by the workers at each use."""

    def destination(self) -> Tracking:
        """These settings as a worker gets them; it stands elsewhere, so that paths are absolute."""
        token, password = (
            str(Path(file).expanduser().absolute()) if file else None
            for file in (self.token_file, self.password_file)
        )
        return Tracking(self.uri, self.experiment, self.username, password, token)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together")
        if self.username is not None and self.token_file is not None:
            raise ValueError("name either token_file, or username and password_file")
        return self


class ModelSettings(BaseModel):
    """One registered model. The first one in the file also answers at /invocations."""

    model_config = STRICT

    where: Annotated[WhereField, COLD] = Field(default=None, json_schema_extra={"default": LOCAL})
    """local (None here): versions run in child processes of the gateway. A mapping: each runs behind an
    address, where somebody else starts and ends it."""
    split: Annotated[SplitField, HOT] = Field(
        default=Split.from_percentages({PRODUCTION: 95, CANARY: 5}),
        json_schema_extra={"default": {"production": 95, "canary": 5}},
    )
    """Percent of the keys per role, in steps of 0.001, exactly 100 in all: production, canary and at most one
    further alias. Raising a share never takes a key back."""
    key: Annotated[KeyField, REBUCKETING] = Field(
        default=KeySource(KeyKind.HEADER, "X-Request-Key"),
        json_schema_extra={"default": {"header": "X-Request-Key", "missing": "body"}},
    )
    """Where a request's key is read, and what a request without one gets."""
    salt: Annotated[Text, AfterValidator(_salt), REBUCKETING] = ""
    """Text that is hashed before the key, without a colon; unless set, the model's name. Models that shall
    give the same keys to their canaries share one."""
    aliases: Annotated[AliasesField, COLD] = Field(default={}, validate_default=True)
    """What the registry calls each role: an alias, or stage: and the name of a stage. A role that is not
    listed has its own name there. previous: the alias that a rollback goes back to, which serves nothing."""
    pins: Annotated[PinsField, HOT] = Field(default_factory=PinLists, json_schema_extra={"default": {}})
    """Keys by the role that answers them, whatever the split says, 10 000 in all: testers always see the
    canary, a tenant never does. Instead of a key, sha256: and the hexadecimal SHA-256 of salt:key."""
    scores: Annotated[ScoresField, HOT] = Field(default=ScoreSettings(), json_schema_extra={"default": None})
    """Which outputs are counted, and how: one mapping, or a list of up to four. Unset: what the answer to the
    input example suggests; 20 bins on [0, 1] where there is none."""
    checks: Annotated[CheckSettings, SECTION, HOT] = Field(default_factory=CheckSettings)
    """By how much a canary has to be worse to FAIL, and how sure one must be. Other values are another
    comparison, which begins anew."""
    why: Annotated[bool, PlainValidator(_why), WithJsonSchema({"enum": ["on", "off"]}), HOT] = Field(
        default=False, json_schema_extra={"default": "off"}
    )
    """on: workers note what a canary's failed requests have in common against the schema, and a tenth of its
    other ones; never a value. off: nothing is looked at, and what was noted is forgotten."""
    gate: Annotated[GateSettings, SECTION, HOT] = Field(default_factory=GateSettings)
    """What a version has to pass before it gets traffic as a canary, and whether one that did not is reported
    as production. It never stands in the way of a start or of a rollback."""
    preflight: Annotated[PreflightSettings | None, HOT] = None
    """The last requests, kept in memory only, are passed over a version before it gets its first user as a
    canary; never over production. null: nothing is kept, and nothing passed over. {}: as the defaults say."""
    shadow: Annotated[ShadowSettings | None, HOT] = None
    """Percent of all keys by role, but production: their requests are copied to what serves there, while it
    and processors are idle, and nobody gets the answers. The top of production's keys; null: none."""
    fallback: Annotated[
        bool, PlainValidator(_fallback), WithJsonSchema({"enum": ["production", "none"]}), HOT
    ] = Field(default=True, json_schema_extra={"default": "production"})
    """Who answers when the canary fails: production, or none, and the caller gets the canary's failure."""
    timeout_seconds: Annotated[Seconds, HOT] = 60.0
    """From a request's arrival to its answer: what the caller sees."""
    canary_timeout_seconds: Annotated[
        Seconds | None,
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "exclusiveMinimum": 0}]}),
        HOT,
    ] = Field(default=None, json_schema_extra={"default": "auto"})
    """Queue and predict of a canary before production is asked. auto (None here): three times production's
    p99 and at least 1 s; half of timeout_seconds at most, and until 200 answers are known."""
    predict_timeout_seconds: Annotated[Seconds, HOT] = 60.0
    """One predict running; only this ends a worker."""
    workers: Annotated[int, Field(ge=1, le=64), HOT] = 1
    """Processes per version."""
    threads: Annotated[int | None, Field(ge=1, le=256), COLD] = None
    """Predicts side by side in a worker while its requests do not share them. Unset: processors + 4, 32 at
    most, as MLflow's server; processors are those that affinity and the CPU quota allow."""
    cpu_threads: Annotated[
        int | None,
        Field(ge=1, le=256),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 256}]}),
        HOT,
    ] = Field(default=None, json_schema_extra={"default": "auto"})
    """Threads for linear algebra of one predict; a change loads new workers. auto (None here): 1, or more
    where predicts take 5 ms of a processor and are clearly shorter so, as other versions leave processors."""
    batching: Annotated[bool, PlainValidator(_batching), WithJsonSchema({"enum": ["auto", "off"]}), HOT] = (
        Field(default=True, json_schema_extra={"default": "auto"})
    )
    """auto: requests that wait together share one predict, once a version is seen to treat each row by
    itself. off: every request has a predict of its own."""
    batching_rtol: Annotated[float, Field(ge=0, le=0.1), HOT] = 1e-9
    """How far a float of a shared predict may be, relatively, from that of a predict of its own: arithmetic
    in blocks rounds differently. A float32 may be 7.6e-6 from it at least. 0 demands the same bits of all."""
    max_batch_rows: Annotated[int, Field(ge=1, le=1_000_000), HOT] = 1024
    """Rows that may share one predict. A request that is larger has one of its own."""
    warm_up: Annotated[
        bool, PlainValidator(_warm_up), WithJsonSchema({"enum": ["auto", "required"]}), HOT
    ] = Field(default=False, json_schema_extra={"default": "auto"})
    """auto: a version that can not predict its input example serves without a warm-up, and its note says so.
    required: it does not serve, unless it has served before."""
    replace: Annotated[Literal["beside", "in_turn"], HOT] = "beside"
    """beside: a version, and every worker, is loaded beside the one that it replaces. in_turn: after that has
    ended, for versions that hold a port or a lock; meanwhile the alias has no version that answers."""
    keep_previous_seconds: Annotated[SecondsOrNone, HOT] = 0.0
    """How long the version that production last left stays loaded, for a rollback without a load. It is the
    first to go when memory is needed. 0: not at all; nor with replace: in_turn."""
    worker_memory_mib: Annotated[int | None, Field(ge=1, le=1 << 30), HOT] = None
    """MiB that a worker may grow after it was READY; then another takes its place first. null: no limit."""
    load_memory_mib: Annotated[int | None, Field(ge=1, le=1 << 30), HOT] = None
    """MiB that a worker is expected to take before one was loaded here, where its files say little of that.
    null: the size of its files and 32 MiB."""
    max_rows: Annotated[int, Field(ge=1, le=1_000_000_000), HOT] = 100_000
    """Rows of one request; above it 413."""
    queue_rows: Annotated[int, Field(ge=1, le=1_000_000_000), HOT] = 10_000
    """Rows that may wait for one version, estimated from the bytes of the requests; above it 503."""
    answer_length: Annotated[
        bool, PlainValidator(_answer_length), WithJsonSchema({"enum": ["rows", "any"]}), HOT
    ] = Field(default=False, json_schema_extra={"default": "rows"})
    """rows: a canary that answers another number of items than the request has rows is at fault, where
    production answers one per row. any: an answer may have any length, such as the hits of a search."""
    nan: Annotated[bool, PlainValidator(_nan), WithJsonSchema({"enum": ["literal", "null"]}), HOT] = Field(
        default=False, json_schema_extra={"default": "literal"}
    )
    """literal: answers of /invocations spell NaN and Infinity, as MLflow's server, which JSON does not have.
    "null", in quotes: they are null there. Answers of the Open Inference Protocol always say null."""
    model_error_status: Annotated[Literal[500, 400], HOT] = 500
    """HTTP status when a version raises: 500, or 400 as MLflow's server. An MlflowException has its own."""
    # Not `model_config`: every pydantic model has its own of that name.
    configuration: Annotated[
        dict[str, Any] | None,
        PlainValidator(_configuration),
        WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "null"}]}),
        HOT,
    ] = Field(default=None, alias="model_config")
    """Handed to every version when it is loaded, over the model_config it was logged with, key by key; a
    change loads new workers. Unset, for the first model: the variable SERVING_MODEL_CONFIG, as MLflow's."""
    environment: Annotated[Literal["shared", "own"], COLD] = "shared"
    """shared: versions run in the gateway's own Python environment. own: each in one that is built from the
    requirements it was logged with."""
    writable: Annotated[bool, HOT] = False
    """Whether each worker has a copy of the version's files for itself, which the version may write to, and
    which goes with the worker. A version that fails because it may not write gets one anyway."""
    environment_variables: Annotated[
        list[
            Annotated[
                Text,
                AfterValidator(_variable),
                WithJsonSchema({"type": "string", "pattern": f"^{_VARIABLE.pattern}$"}),
            ]
        ],
        Field(max_length=100),
        AfterValidator(each_once),
        COLD,
    ] = Field(default=[])
    """Names of variables of the gateway's environment that versions get although they are withheld, such as
    GOOGLE_API_KEY. Not those that open the registry, a tracking server, a package index or the gateway."""
    tracking: Annotated[TrackingSettings | None, HOT] = None
    """Tracking server that versions may use, with credentials of its own; unset: what they trace is dropped,
    and a version that logs, or loads another registered model, is refused."""
    direct_access: Annotated[bool, HOT] = False
    """Whether callers may ask for one alias or version by its own path."""

    @property
    def in_turn(self) -> bool:
        """Whether nothing is loaded beside what it replaces."""
        return self.replace == "in_turn" and self.where is None

    @property
    def elsewhere(self) -> bool:
        """Whether versions run behind addresses, where nothing is started from here."""
        return self.where is not None

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Keys that are written though they say nothing about a version that runs elsewhere."""
        if self.where is None:
            return ()
        written = {type(self).model_fields[name].alias or name for name in self.model_fields_set}
        return tuple(key for key in WITHOUT_EFFECT if key in written)

    @property
    def previous_name(self) -> str:
        """The registry's alias for the version that a rollback of production goes back to."""
        return self.aliases.previous

    @property
    def polled_aliases(self) -> dict[Alias, str]:
        """The registry's name of all that is read of this model: every role, and ROLLBACK."""
        return {**self.aliases, ROLLBACK: self.previous_name}

    @field_validator("environment")
    @classmethod
    def _runs_here(cls, environment: str, info: ValidationInfo) -> str:
        where: AddressSettings | None = info.data.get("where")
        if environment == "own" and where is not None:
            raise ValueError("must be shared where versions run elsewhere: no environment is built for them")
        return environment

    @field_validator("aliases")
    @classmethod
    def _complete(cls, written: dict[Alias, str], info: ValidationInfo) -> AliasNames:
        # Without a valid split that problem is reported: aliases judged by a default would add a wrong one.
        if "split" not in info.data:
            return AliasNames(written, PREVIOUS)
        return complete_aliases(written, info.data["split"])

    @field_validator("pins", mode="before")
    @classmethod
    def _roles(cls, written: Any, info: ValidationInfo) -> Any:
        # Without a valid split that problem is reported, and roles can not be judged.
        return check_pinned_roles(written, info.data["split"]) if "split" in info.data else {}

    @field_validator("shadow", mode="before")
    @classmethod
    def _shadowed_roles(cls, written: Any, info: ValidationInfo) -> Any:
        if written is not None and info.data.get("where") is not None:
            raise ValueError("must be left out where versions run elsewhere: answers are compared in workers")
        return check_shadowed_roles(written, info.data["split"]) if "split" in info.data else None

    @field_validator("canary_timeout_seconds", mode="before")
    @classmethod
    def _auto(cls, value: Any) -> Any:
        if value is None or (isinstance(value, str) and value != "auto"):
            raise ValueError("must be `auto` or a number of seconds")
        return None if value == "auto" else value

    @field_validator("cpu_threads", mode="before")
    @classmethod
    def _learned(cls, value: Any) -> Any:
        if value is None or (isinstance(value, str) and value != "auto"):
            raise ValueError("must be `auto` or a number of threads")
        return None if value == "auto" else value

    @field_validator("canary_timeout_seconds")
    @classmethod
    def _leave_time(cls, seconds: float | None, info: ValidationInfo) -> float | None:
        whole = info.data.get("timeout_seconds")
        if seconds is not None and whole is not None and seconds > whole:
            raise ValueError(f"must be at most timeout_seconds, {whole:g}, or production is never asked")
        return seconds
