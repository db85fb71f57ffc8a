"""Databases other than SQLite files, and folders, are checked before MLflow opens them.

The check asks through SQLAlchemy, which is the same for every database; a SQLite file stands in here.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from router.agent.errors import RegistryRefused
from router.agent.schema import REGISTRY_TABLES
from router.agent.store import Store, check_database
from tests.support.empty_database import empty_database

# MLflow's own mappers use what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """As MLflow makes it."""
    return Path(shutil.copy(empty_database(tmp_path_factory), tmp_path))


def change(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)


def test_a_database_of_this_mlflows_schema_passes(database: Path) -> None:
    check_database(f"sqlite:///{database}", REGISTRY_TABLES)


@pytest.mark.parametrize(
    "statement", ["DROP TABLE webhooks", "UPDATE alembic_version SET version_num = '451aebb31d03'"]
)
def test_a_database_that_mlflow_would_migrate_is_refused_and_left_alone(
    database: Path, statement: str
) -> None:
    change(database, statement)
    before = database.read_bytes()

    with pytest.raises(RegistryRefused, match="mlflow db upgrade"):
        check_database(f"sqlite:///{database}", REGISTRY_TABLES)

    assert database.read_bytes() == before


def test_an_empty_database_is_refused_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(RegistryRefused, match="tables are missing"):
        check_database(f"sqlite:///{tmp_path / 'empty.db'}", REGISTRY_TABLES)

    assert (tmp_path / "empty.db").read_bytes() == b""


def test_a_folder_is_a_registry_when_it_has_models(tmp_path: Path) -> None:
    with pytest.raises(RegistryRefused, match="none is created here"):
        Store(str(tmp_path), ()).check()
    (tmp_path / "models").mkdir()

    Store(tmp_path.as_uri(), ()).check()


def test_what_is_no_database_and_no_folder_passes_as_it_is() -> None:
    for uri in ("http://127.0.0.1:1", "databricks", "databricks-uc"):
        store = Store(uri, ())

        store.check()

        assert store.uri == uri
