"""A database of another MLflow's schema: which side is newer, and whether it is read all the same."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.db import utils as mlflow_schema
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from router.agent.errors import RegistryRefused
from router.agent.schema import REGISTRY_TABLES, TRACKING_TABLES, NewerSchema, judge, latest_revision
from router.agent.store import Registry, Store, check_database
from tests.support.empty_database import empty_database

# MLflow's own mappers use what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

ANOTHER_KEY = """CREATE TABLE other AS SELECT * FROM registered_model_aliases;
DROP TABLE registered_model_aliases;
ALTER TABLE other RENAME TO registered_model_aliases"""
OLDER, NEWER = "451aebb31d03", "ffffffffffff"


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """As MLflow makes it."""
    return Path(shutil.copy(empty_database(tmp_path_factory), tmp_path))


@pytest.fixture(autouse=True)
def _mlflows_own_check() -> Iterator[None]:
    """A schema that passed switches MLflow's own check off, in a process that ends after its registry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_schema, "_verify_schema", mlflow_schema._verify_schema)
        yield


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def judged(database: Path, *found: str, tables: tuple[str, ...] = REGISTRY_TABLES) -> NewerSchema | None:
    return judge(found, create_engine(f"sqlite:///{database}", poolclass=NullPool), tables)


def test_this_mlflows_own_schema_needs_no_look(tmp_path: Path) -> None:
    assert judged(tmp_path / "absent.db", latest_revision()) is None


@pytest.mark.parametrize("tables", [REGISTRY_TABLES, TRACKING_TABLES], ids=["registry", "tracking"])
def test_a_newer_schema_whose_tables_are_as_known_is_read(database: Path, tables: tuple[str, ...]) -> None:
    """Also where it has further tables, and tables that are not read have changed."""
    change(
        database,
        "CREATE TABLE made_by_a_newer_mlflow (name TEXT)",
        "ALTER TABLE webhooks ADD COLUMN retries INTEGER",
    )

    newer = judged(database, NEWER, tables=tables)

    assert newer is not None
    assert (newer.found, newer.known) == (NEWER, latest_revision())


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE registered_model_aliases ADD COLUMN region TEXT", "registered_model_aliases.*region"),
        ("ALTER TABLE model_versions RENAME COLUMN source TO origin", "model_versions.*origin"),
        ("DROP TABLE registered_model_tags", "lacks the table registered_model_tags"),
        ("DROP TABLE webhooks", "lacks the table webhooks"),
        (ANOTHER_KEY, "registered_model_aliases has another primary key"),
    ],
    ids=["column", "renamed", "table", "another table", "key"],
)
def test_a_newer_schema_that_may_mean_something_else_is_refused_with_its_remedy(
    database: Path, statement: str, said: str
) -> None:
    """`mlflow db upgrade` leads away from what this MLflow reads, and must not be proposed."""
    change(database, *statement.split(";"))

    with pytest.raises(
        RegistryRefused, match=f"is newer than this MLflow.*{said}.*install that newer"
    ) as caught:
        judged(database, NEWER)

    assert "db upgrade" not in str(caught.value)


def test_a_column_that_holds_another_type_may_mean_something_else(database: Path) -> None:
    columns = "workspace VARCHAR(63), name VARCHAR(256), alias VARCHAR(256), version VARCHAR(64)"
    change(
        database,
        f"CREATE TABLE other ({columns}, PRIMARY KEY (workspace, name, alias))",
        *ANOTHER_KEY.split(";")[1:],
    )

    with pytest.raises(RegistryRefused, match="another type in the column version"):
        judged(database, NEWER)


def test_an_older_schema_is_refused_with_the_other_remedy(database: Path) -> None:
    with pytest.raises(RegistryRefused, match=r"is older than this MLflow.*mlflow db upgrade") as caught:
        judged(database, OLDER)

    assert "newer" not in str(caught.value)


@pytest.mark.parametrize("found", [(), (OLDER, NEWER)], ids=["none", "two"])
def test_a_schema_without_one_revision_is_refused(database: Path, found: tuple[str, ...]) -> None:
    with pytest.raises(RegistryRefused, match="mlflow db upgrade"):
        judged(database, *found)


def test_a_newer_database_other_than_sqlite_passes_the_same_look(database: Path) -> None:
    change(database, f"UPDATE alembic_version SET version_num = '{NEWER}'")
    assert check_database(f"sqlite:///{database}", REGISTRY_TABLES) is not None
    change(database, "DROP TABLE webhooks")

    with pytest.raises(RegistryRefused, match="is newer than this MLflow"):
        check_database(f"sqlite:///{database}", REGISTRY_TABLES)


def test_a_migration_is_noticed_at_the_next_use_and_its_end_too(database: Path) -> None:
    store = Store(f"sqlite:///{database}", REGISTRY_TABLES)
    store.check()
    assert store.newer is None

    change(database, f"UPDATE alembic_version SET version_num = '{NEWER}'")
    store.check()
    assert store.newer is not None
    change(database, f"UPDATE alembic_version SET version_num = '{latest_revision()}'")
    store.check()

    assert store.newer is None


def test_a_newer_tracking_store_is_read_too(database: Path) -> None:
    """MLflow's own store refuses the number of any other schema."""
    uri = f"sqlite:///{database}"
    MlflowClient(uri).search_experiments()  # which makes the first one
    change(database, f"UPDATE alembic_version SET version_num = '{NEWER}'")

    assert [found.name for found in Registry(uri, uri).tracking().search_experiments()] == ["Default"]
