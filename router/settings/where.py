"""The key `where` of a registered model: whether its versions run here, or each behind an address."""

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    GetPydanticSchema,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from router.core.version_address import PLACEHOLDER, Engine, VersionAddress, address_of, is_path
from router.settings.fields import STRICT, Seconds, Text
from router.settings.outbound import web_address

LOCAL = "local"


def _base(text: str) -> str:
    parts = web_address(text.replace(PLACEHOLDER, "1"))
    if "@" in parts.netloc:
        raise ValueError("must hold no credentials: they go into a file, for headers_file")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be an address without a path, which goes to `path`")
    if "{" in text.replace(PLACEHOLDER, ""):
        raise ValueError("can hold {version} and nothing else in braces")
    return text


def _path(text: str) -> str:
    bare = text.replace(PLACEHOLDER, "1")
    if not bare.startswith("/") or not bare.isprintable() or any(one in bare for one in " ?#{}\\"):
        raise ValueError("must be a path that begins with a slash, and can hold {version}")
    if ".." in bare.split("/"):
        raise ValueError("must be a path without `..`")
    return text


class AddressSettings(BaseModel):
    """Versions run elsewhere, each at an address of its own: a Deployment, KServe, Triton, MLServer."""

    model_config = STRICT

    http: Annotated[
        Text, AfterValidator(_base), WithJsonSchema({"type": "string", "pattern": "^https?://[^@/?#]+/?$"})
    ]
    """Scheme, host and port; {version} stands for the version's number."""
    protocol: Engine = "v2"
    """v2: the Open Inference Protocol over REST. mlflow: /invocations. Requests are passed as they are, so
    the model is asked in this one, and answers 415 in the other."""
    path: (
        Annotated[Text, AfterValidator(_path), WithJsonSchema({"type": "string", "pattern": "^/"})] | None
    ) = None
    """Where requests are sent to; it can hold {version}. null: /v2/models/NAME/infer, or /invocations."""
    ready_seconds: Seconds = 600.0
    """How long a version may take until it is ready; then that is a load that failed, and is tried again."""
    connections: Annotated[int, Field(ge=1, le=1024)] = 64
    """Requests under way at one version at most; above that they wait in the version's queue."""
    connection_seconds: Seconds = 60.0
    """How long a connection is used for new requests, so that a Service's new pods are found."""
    headers_file: Text | None = None
    """File with a line `Name: value` for each header that is sent along, such as Authorization; read at each
    use."""
    proxy: bool = False
    """Whether the proxies of the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) are used."""

    def address(self, model: str, number: int) -> VersionAddress:
        """Where version `number` of the registered `model` answers."""
        return address_of(self.http, self.protocol, self.path, model, number)

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if PLACEHOLDER not in self.http + (self.path or ""):
            raise ValueError("http or path must hold {version}: each version has an address of its own")
        if self.path is not None and not is_path(self.protocol, self.path):
            raise ValueError("path must end with /v2/models/NAME/infer, or with /versions/… before /infer")
        return self


def _where(value: Any) -> Any:
    if value == LOCAL:
        return None
    if not isinstance(value, dict):
        raise ValueError("must be `local`, or a mapping with `http`")
    return value


def _field(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    return core_schema.no_info_before_validator_function(_where, handler(source))


def _json(core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    schema = handler(core)
    mappings = [one for one in schema.pop("anyOf") if one != {"type": "null"}]
    return {**schema, "anyOf": [*mappings, {"const": LOCAL}]}


WhereField = Annotated[AddressSettings | None, GetPydanticSchema(_field, _json)]
"""Written `local`, which is None here, or as a mapping."""
