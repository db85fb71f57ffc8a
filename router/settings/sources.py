"""Where versions may come from, as an operator writes it: schemes and roots."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from router.settings.fields import Text

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_ROOT = re.compile(r"/.*|[a-z][a-z0-9+.-]*:/.*")


def is_local_registry(uri: str) -> bool:
    """Whether the registry at `uri` is a file or a folder of this machine."""
    scheme, colon, _ = uri.partition(":")
    return scheme.partition("+")[0].lower() in ("sqlite", "file") or (
        not colon and uri not in ("databricks", "databricks-uc", "uc")
    )


def _listed(value: Any) -> Any:
    # A variable of the environment is text: its commas make the list.
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _scheme(name: str) -> str:
    if not _SCHEME.fullmatch(name) or name in ("file", "models", "runs"):
        raise ValueError(
            "must be a scheme of artifact stores, such as s3 or https; local files go under `artifact_roots`"
        )
    return name


def _root(root: str) -> str:
    if not _ROOT.fullmatch(root) or ".." in root.split("/"):
        raise ValueError(
            "must be an absolute directory or an address such as s3://bucket/models, without `..`"
        )
    return root


Schemes = Annotated[list[Annotated[Text, AfterValidator(_scheme)]], BeforeValidator(_listed)]
"""Lower-case, without the colon; a list, or a text with commas."""
Roots = Annotated[list[Annotated[Text, AfterValidator(_root)]], BeforeValidator(_listed)]
"""Absolute; a list, or a text with commas."""
