"""MLflow's registry and tracking stores, opened for reading only. The one door to MLflow's clients.

A SQL store of MLflow creates and migrates tables when it opens a database that lacks any, makes parent
directories, and tries ten times to connect; a file store creates its folders. So everything is checked
before MLflow sees it: what is missing or out of date is refused, and SQLite is opened read-only besides.
"""

import os
from collections.abc import Sequence
from typing import Any

from mlflow.store.db import utils as mlflow_schema
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from mlflow.tracking._model_registry.client import ModelRegistryClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import get_uri_scheme
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from router.agent import schema, sqlite_file
from router.agent.errors import RegistryRefused, RegistryReplaced
from router.agent.requests import RequestLimits

_DATABRICKS = ("databricks", "databricks-uc", "uc")  # addresses without a scheme, as MLflow knows them


class Store:
    """One MLflow store by its URI: checked when it is opened and, where that is cheap, at each use."""

    def __init__(self, uri: str, tables: Sequence[str]) -> None:
        """`tables` are those that are read of it where it is a database."""
        self.newer: schema.NewerSchema | None = None
        """The schema of a database that a newer MLflow migrated and that is read all the same."""
        self._given = uri
        self._tables = tables
        self._identity: sqlite_file.Identity | None = None
        self._revisions: list[str] | None = None
        self._opened = False

    @property
    def uri(self) -> str:
        """What MLflow is given: the URI, or its read-only form."""
        return sqlite_file.read_only(self._given) if sqlite_file.is_sqlite(self._given) else self._given

    def check(self) -> None:
        """Raises RegistryRefused, RegistryBroken or RegistryReplaced; writes nothing in any case."""
        if sqlite_file.is_sqlite(self._given):
            identity, revisions = sqlite_file.inspect(sqlite_file.path_of(self._given))
            if self._identity not in (None, identity):
                raise RegistryReplaced("the registry's database file was replaced")
            if revisions != self._revisions:  # a migration may happen at any time
                self.newer = schema.judge(
                    revisions, create_engine(self.uri, poolclass=NullPool), self._tables
                )
            self._identity, self._revisions = identity, revisions
        elif not self._opened:
            self._check_once()
        self._opened = True

    def _check_once(self) -> None:
        scheme = get_uri_scheme(self._given)
        if scheme in DATABASE_ENGINES:
            self.newer = check_database(self._given, self._tables)
        elif scheme in ("", "file") and self._given not in _DATABRICKS:
            path = local_file_uri_to_path(self._given)
            if not os.path.isdir(os.path.join(path, "models")):
                raise RegistryRefused(f"{path} is not an MLflow file store, and none is created here")


class Registry:
    """The model registry, asked through MLflow's own client."""

    def __init__(self, registry_uri: str, tracking_uri: str, requests: RequestLimits | None = None) -> None:
        """`requests`: limits of HTTP requests that are shorter than MLflow's own."""
        self.given_uri = registry_uri
        """As the configuration names it, not as MLflow is given it."""
        self._store = Store(registry_uri, schema.REGISTRY_TABLES)
        self._tracking = Store(tracking_uri, schema.TRACKING_TABLES)
        self._client: Any = None
        self._requests = requests

    @property
    def newer_schema(self) -> schema.NewerSchema | None:
        """As of the last use; None where the registry is no database, or has this MLflow's own schema."""
        return self._store.newer

    @property
    def registry_uri(self) -> str:
        """As MLflow is given it."""
        return self._store.uri

    @property
    def tracking_uri(self) -> str:
        """As MLflow is given it."""
        return self._tracking.uri

    def client(self) -> Any:
        """MLflow's registry client, after a check.

        Not `MlflowClient`: that opens the tracking store at once, which polls do not need and which writes
        a default experiment into a database without one.
        """
        self._store.check()
        if self._client is None:
            # Wherever MLflow falls back to its own defaults, it must not open a database for writing.
            os.environ["MLFLOW_REGISTRY_URI"] = self.registry_uri
            os.environ["MLFLOW_TRACKING_URI"] = self.tracking_uri
            self._client = ModelRegistryClient(self.registry_uri, self.tracking_uri)
        return self._client if self._requests is None else self._requests.client(self._client)

    def tracking(self) -> Any:
        """MLflow's client of the tracking store, after a check; only LoggedModels and runs need it."""
        self._tracking.check()
        client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)
        return client if self._requests is None else self._requests.client(client)


def check_database(uri: str, tables: Sequence[str]) -> schema.NewerSchema | None:
    """As `schema.judge`, for the database at `uri`; raises RegistryRefused also where it lacks any table."""
    engine = create_engine(uri, poolclass=NullPool)
    stated = mlflow_schema._get_schema_version(engine)  # noqa: SLF001 # MLflow offers no public way to ask
    found = [str(stated)] if stated else []
    # The same question MLflow asks before it creates tables: when it is answered yes, it writes nothing.
    if not schema.is_newer(found) and not mlflow_schema._all_tables_exist(engine):  # noqa: SLF001 # as above
        raise RegistryRefused(
            "the database is not an MLflow registry of this MLflow's schema: tables are missing;"
            " run `mlflow db upgrade` on it; it is never created or migrated from here"
        )
    return schema.judge(found, engine, tables)
