"""Whether this MLflow may read a database, by its schema: which side is newer, and what follows.

MLflow's own stores refuse every revision but their own, or migrate it. Here an older database is refused
with the remedy of that direction. A newer one is read as long as every table that is read has the columns
and the primary key that this MLflow knows: whatever changed lies elsewhere. A column more, or a key of other
columns, may change what a row means (MLflow's workspaces did), so then it is refused too, with the other
remedy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import mlflow
from mlflow.store.db import utils as mlflow_schema
from mlflow.store.db.base_sql_model import Base
from sqlalchemy import inspect

from router.agent.errors import RegistryRefused

REGISTRY_TABLES = (
    "registered_models",
    "registered_model_aliases",
    "registered_model_tags",
    "model_versions",
    "model_version_tags",
)
"""What a poll and the look for a version's source read in a registry."""
TRACKING_TABLES = (
    *("experiments", "runs", "tags", "params", "metrics", "latest_metrics"),
    *("inputs", "input_tags", "datasets"),
    *("logged_models", "logged_model_tags", "logged_model_params", "logged_model_metrics"),
)
"""What the look for a LoggedModel or a run reads in a tracking store."""
_NEVER = "it is never migrated from here"


@dataclass(frozen=True, slots=True)
class NewerSchema:
    """A database that a newer MLflow migrated, and that is read all the same."""

    found: str
    """Its revision."""
    known: str
    """The newest revision that this MLflow knows."""
    mlflow: str
    """This MLflow's version."""


def judge(found: Sequence[str], engine: Any, tables: Sequence[str]) -> NewerSchema | None:
    """None for this MLflow's own schema, else a newer one that can be read by this MLflow's mappings.

    `found` are the revisions that the database behind `engine` states, `tables` those that are read. Raises
    RegistryRefused with the remedy for every other schema; writes nothing.
    """
    expected = latest_revision()
    if list(found) == [expected]:
        return None
    stated = ", ".join(found) or "unknown"
    this = f"this MLflow, {mlflow.__version__},"
    if len(found) != 1:
        raise RegistryRefused(
            f"the registry's schema is {stated} and {this} needs {expected}: after a backup run"
            f" `mlflow db upgrade` on it, or install the MLflow that wrote it; {_NEVER}"
        )
    if not is_newer(found):
        raise RegistryRefused(
            f"the registry's schema {stated} is older than {this} needs ({expected}): after a backup run"
            f" `mlflow db upgrade` on it, after which older clients can not use it, or serve with the MLflow"
            f" that wrote it; {_NEVER}"
        )
    if difference := _difference(engine, tables):
        raise RegistryRefused(
            f"the registry's schema {stated} is newer than {this} knows ({expected}), and {difference}:"
            " install that newer MLflow where the gateway runs and start it again, or name an MLflow server"
            " in front of the database as registry.uri; an upgrade of the database can not help, and"
            f" {_NEVER}"
        )
    # MLflow's tracking store would refuse it for its number alone; what that stands for was looked at above.
    mlflow_schema._verify_schema = lambda _engine: None  # noqa: SLF001 # MLflow offers no public way to say so
    return NewerSchema(found[0], expected, mlflow.__version__)


def is_newer(found: Sequence[str]) -> bool:
    """Whether a database of the revisions `found` was written by an MLflow that is newer than this one."""
    return len(found) == 1 and found[0] not in _known_revisions()


@cache
def latest_revision() -> str:
    """The schema revision that this MLflow writes."""
    return str(mlflow_schema._get_latest_schema_revision())  # noqa: SLF001 # MLflow offers no public way to ask


@cache
def _known_revisions() -> frozenset[str]:
    """Every revision that this MLflow can migrate from, and its own."""
    config = mlflow_schema._get_alembic_config(db_url="")  # noqa: SLF001 # as above
    scripts = mlflow_schema.ScriptDirectory.from_config(config)
    return frozenset(script.revision for script in scripts.walk_revisions())


def _difference(engine: Any, tables: Sequence[str]) -> str:
    """What of `tables` is not as this MLflow's mappings know it; empty when nothing differs."""
    inspector = inspect(engine)
    mapped = Base.metadata.tables
    # Where one of its tables is missing, MLflow begins to create them all.
    if missing := sorted({*mapped, *tables} - set(inspector.get_table_names())):
        return f"it lacks the table {missing[0]}"
    for name in tables:
        if name not in mapped:
            return f"this MLflow does not know its table {name}"
        columns = {column["name"]: column["type"] for column in inspector.get_columns(name)}
        known = {column.name: column.type for column in mapped[name].columns}
        if changed := sorted(columns.keys() ^ known.keys()):
            return f"its table {name} differs in the column {changed[0]}"
        if changed := sorted(c for c in known if _kind(columns[c]) != _kind(known[c])):
            return f"its table {name} holds another type in the column {changed[0]}"
        keys = set(inspector.get_pk_constraint(name)["constrained_columns"])
        if keys != {column.name for column in mapped[name].primary_key}:
            return f"its table {name} has another primary key"
    return ""


def _kind(column_type: Any) -> type:
    """Number or text, which is what databases agree on: a boolean may be a number, and a length is free."""
    python_type: type = column_type.python_type
    return float if issubclass(python_type, int | float) else python_type
