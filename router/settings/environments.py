"""Settings of the Python environments that are built for versions."""

from pathlib import PurePath
from typing import Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from router.settings.fields import COLD, STRICT, Gibibytes, Seconds, Text
from router.settings.outbound import web_address


def _absolute(path: str) -> str:
    if not PurePath(path).is_absolute():
        raise ValueError("must be the absolute path of an interpreter, such as /opt/python3.13/bin/python")
    return path


def _index(address: str) -> str:
    if "@" in web_address(address).netloc:
        raise ValueError(
            "must hold no credentials: set UV_DEFAULT_INDEX or PIP_INDEX_URL for the gateway instead"
        )
    return address


def _plain(line: str) -> str:
    try:
        wanted = Requirement(line)
    except InvalidRequirement as error:
        raise ValueError("must be a requirement, such as internal-plugin>=2") from error
    if wanted.url is not None:
        raise ValueError("must name a package of the index, not an address")
    return line


class EnvironmentsSettings(BaseModel):
    """The Python environments of versions whose model says `environment: own`."""

    model_config = STRICT

    python: Annotated[list[Annotated[Text, AfterValidator(_absolute)]], Field(max_length=50), COLD] = Field(
        default=[]
    )
    """Absolute paths of further interpreters that may be used, beside the gateway's and python3.X on PATH."""
    python_mismatch: Annotated[Literal["refuse", "nearest"], COLD] = "refuse"
    """Of a version that was logged under a minor version of Python that is not here: refuse it, or use the
    nearest one that is."""
    max_gib: Annotated[Gibibytes, COLD] = 20.0
    """Above it, environments that nothing uses are removed, the one used longest ago first."""
    build_timeout_seconds: Annotated[Seconds, COLD] = 900.0
    """To resolve and build one environment."""
    only_binary: Annotated[bool, COLD] = True
    """Whether wheels alone are installed, so that no code of a package runs while an environment is built."""
    index: Annotated[
        Text | None,
        AfterValidator(lambda address: None if address is None else _index(address)),
        WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^https?://"}, {"type": "null"}]}),
        COLD,
    ] = None
    """The package index; unset: UV_DEFAULT_INDEX and UV_INDEX, then pip's PIP_INDEX_URL, PIP_EXTRA_INDEX_URL
    and PIP_FIND_LINKS, then PyPI."""
    exclude_newer: Annotated[Literal["auto", "off"], COLD] = "auto"
    """auto: no release that was uploaded after the version was created, where the index says when. off: the
    newest that fits."""
    extra: Annotated[list[Annotated[Text, AfterValidator(_plain)]], Field(max_length=100), COLD] = Field(
        default=[]
    )
    """Requirements that every environment gets besides those of its version, such as an internal plug-in."""
