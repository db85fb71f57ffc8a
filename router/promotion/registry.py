"""The MLflow registry of a promotion: read and written through MLflow's own client.

The only place that writes a registry. It is checked before MLflow sees it, because MLflow migrates a database
of an older schema when it opens it, under the gateway that reads it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlflow
from mlflow.tracking._model_registry.client import ModelRegistryClient

from router.agent import schema, sqlite_file
from router.agent.errors import RegistryRefused as Unusable
from router.agent.errors import kind_of
from router.agent.poll import Poll
from router.agent.requests import LOOKUP_LIMITS
from router.agent.store import Store
from router.core.ids import STAGE
from router.core.redaction import redact_line, redact_uri
from router.errors import ModelUnknown, RegistryError, RegistryRefused, RegistryUnavailable, VersionUnknown
from router.promotion.ports import is_stage

_NO_STAGE = "None"
_LONGEST_ERROR = 800


class MlflowRegistry:
    """Implements `ports.Registry`. Requests carry the credentials that MLflow finds in the environment."""

    def __init__(self, uri: str, tracking_uri: str) -> None:
        """Opens the registry at `uri`. Raises RegistryRefused, RegistryUnavailable."""
        self._shown = redact_uri(uri)
        self._poll = Poll()
        for name, value in LOOKUP_LIMITS.items():
            os.environ.setdefault(name, value)  # MLflow's own would wait four minutes for who is away
        with self._translated():
            check_schema(uri)
            # Wherever MLflow falls back to its own defaults, it must not open, or make, another store.
            os.environ["MLFLOW_REGISTRY_URI"], os.environ["MLFLOW_TRACKING_URI"] = uri, tracking_uri
            # Not `MlflowClient`: that opens the tracking store, too, and writes into a new one.
            self._client: Any = ModelRegistryClient(uri, tracking_uri)

    def read(self, model: str, *names: str) -> Mapping[str, int]:
        """Versions by those of `names` that name one, as of one instant."""
        with self._translated():
            named = self._poll.read(self._client, model, names)
        stages = {name: named["stages"].get(name.removeprefix(STAGE).lower()) for name in names}
        found = {name: stages[name] if is_stage(name) else named["aliases"].get(name) for name in names}
        return {name: version for name, version in found.items() if version is not None}

    def tags(self, model: str, version: int) -> Mapping[str, str]:
        """Tags of one version. Raises VersionUnknown."""
        with self._translated(model, version):
            found = self._client.get_model_version(model, str(version))
            if int(found.version) != version:
                raise ConnectionError("the registry's answer does not name the version")
            return dict(found.tags)

    def point(self, model: str, name: str, version: int) -> None:
        """Have an alias name `version`; or transition it, with its stage's others archived."""
        with self._translated(model, version):
            if not is_stage(name):
                self._client.set_registered_model_alias(model, name, str(version))
                return
            self._client.transition_model_version_stage(
                model, str(version), name.removeprefix(STAGE), archive_existing_versions=True
            )

    def withdraw(self, model: str, name: str, version: int) -> None:
        """Remove an alias, also one that is not there; or transition `version` into no stage."""
        with self._translated(model, version):
            if is_stage(name):
                self._client.transition_model_version_stage(model, str(version), _NO_STAGE)
            else:
                self._client.delete_registered_model_alias(model, name)

    def tag(self, model: str, version: int, key: str, value: str) -> None:
        """Set one tag of a version. Raises VersionUnknown."""
        with self._translated(model, version):
            self._client.set_model_version_tag(model, str(version), key, value)

    @contextmanager
    def _translated(self, model: str = "", version: int | None = None) -> Iterator[None]:
        """Errors of MLflow, and of whatever lies under it, become those of this package."""
        try:
            yield
        except RegistryError:
            raise
        except Exception as error:  # MLflow lets errors of its drivers and of `requests` through
            raise self._error(error, model, version) from error

    def _error(self, error: Exception, model: str, version: int | None) -> RegistryError:
        message = redact_line(str(error) or repr(error), _LONGEST_ERROR)
        kind = kind_of(error)
        if kind == "unknown_model":
            if version is None:
                return ModelUnknown(f"the registry {self._shown} has no such registered model: {message}")
            return VersionUnknown(f"the registry {self._shown} has no version {version} of {model}")
        if kind == "unavailable":
            return RegistryUnavailable(f"the registry {self._shown} can not be used now: {message}")
        return RegistryRefused(f"the registry {self._shown} refuses: {message}")


def check_schema(uri: str) -> None:
    """Raise the agent's RegistryRefused or RegistryBroken unless a registry is at `uri` that MLflow, as it is
    installed here, opens without changing it. Nothing is written."""
    expected = schema.latest_revision()
    if sqlite_file.is_sqlite(uri):
        _, found = sqlite_file.inspect(sqlite_file.path_of(uri))
        if found != [expected]:
            raise Unusable(_other_schema(found, expected))
        return
    store = Store(uri, schema.REGISTRY_TABLES)
    store.check()
    if store.newer is not None:
        raise Unusable(_other_schema([store.newer.found], expected))


def _other_schema(found: list[str], expected: str) -> str:
    side = "a newer" if schema.is_newer(found) else "an older"
    return (
        f"its schema {', '.join(found) or 'unknown'} is that of {side} MLflow; {mlflow.__version__}, which"
        f" is installed here, has {expected} and would migrate it under the gateway that reads it: run this"
        " command with the MLflow that wrote it, or name an MLflow server in front of it with --registry"
    )
