"""Which file a SQLite URI means, and a form of it that cannot write."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from router.agent.errors import RegistryBroken, RegistryRefused
from router.agent.sqlite_file import inspect, is_sqlite, path_of, read_only

HEAD = "dc11669786a5"
NAMES = ["mlflow.db", "with space.db", "per%cent.db", "num#ber.db", "ünï.db", "plus+and&.db"]


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///mlflow.db", "{cwd}/mlflow.db"),
        ("sqlite:///deep/down/mlflow.db", "{cwd}/deep/down/mlflow.db"),
        ("sqlite:////var/lib/mlflow.db", "/var/lib/mlflow.db"),
        ("sqlite+pysqlite:////var/lib/mlflow.db", "/var/lib/mlflow.db"),
        ("sqlite:////var/lib/mlflow.db?timeout=30", "/var/lib/mlflow.db"),
        ("sqlite:///file:/var/lib/ml%20flow.db?mode=rw&uri=true", "/var/lib/ml flow.db"),
        ("sqlite:///../mlflow.db", "{parent}/mlflow.db"),
    ],
)
def test_a_uri_means_the_file_that_sqlalchemy_would_open(uri: str, path: str) -> None:
    cwd = os.getcwd()

    assert path_of(uri) == path.format(cwd=cwd, parent=os.path.dirname(cwd))


@pytest.mark.parametrize(
    "uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///", "sqlite:///file::memory:?uri=true"]
)
def test_a_database_in_memory_is_no_registry(uri: str) -> None:
    with pytest.raises(RegistryRefused, match="memory"):
        path_of(uri)


def test_only_sqlite_is_sqlite() -> None:
    assert [is_sqlite(uri) for uri in ("sqlite:///a", "SQLite+pysqlite:///a")] == [True, True]
    assert not any(
        is_sqlite(uri) for uri in ("http://sqlite", "postgresql://sqlite/sqlite", "sqlite.db", "./a")
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_read_only_form_reads_the_same_file_and_writes_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE thing (name TEXT)")
        connection.execute("INSERT INTO thing VALUES ('mine')")
    given = URL.create("sqlite", database=str(path)).render_as_string()
    engine = create_engine(read_only(given), poolclass=NullPool)

    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM thing")).scalar() == "mine"
        with pytest.raises(OperationalError, match="readonly"):
            connection.execute(text("INSERT INTO thing VALUES ('other')"))


def test_the_read_only_form_creates_no_file_and_no_folder(tmp_path: Path) -> None:
    engine = create_engine(read_only(f"sqlite:///{tmp_path}/typo/mlflow.db"), poolclass=NullPool)

    with pytest.raises(OperationalError), engine.connect():
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_read_only_form_keeps_other_options() -> None:
    assert "timeout=30" in read_only("sqlite:////var/mlflow.db?timeout=30&mode=rwc")
    assert "rwc" not in read_only("sqlite:////var/mlflow.db?timeout=30&mode=rwc")


def registry_at(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE registered_models (name TEXT)")
        for statement in statements:
            connection.execute(statement)
    return path


def test_a_registry_of_the_right_schema_is_identified_by_its_inode(tmp_path: Path) -> None:
    versions = (
        "CREATE TABLE alembic_version (version_num TEXT)",
        f"INSERT INTO alembic_version VALUES ('{HEAD}')",
    )
    path, other = (registry_at(tmp_path / name, *versions) for name in ("a.db", "b.db"))
    identity = inspect(str(path))

    assert inspect(str(path)) == identity
    other.replace(path)
    assert inspect(str(path)) != identity


@pytest.mark.parametrize(
    ("statements", "revisions"),
    [
        ((), []),
        (("CREATE TABLE alembic_version (version_num TEXT)",), []),
        (
            (
                "CREATE TABLE alembic_version (version_num TEXT)",
                "INSERT INTO alembic_version VALUES ('1234')",
            ),
            ["1234"],
        ),
    ],
    ids=["no table", "no row", "another"],
)
def test_a_registry_states_its_schema(
    tmp_path: Path, statements: tuple[str, ...], revisions: list[str]
) -> None:
    assert inspect(str(registry_at(tmp_path / "mlflow.db", *statements)))[1] == revisions


def test_a_directory_is_no_registry(tmp_path: Path) -> None:
    with pytest.raises(RegistryRefused, match="is not a file"):
        inspect(str(tmp_path))


def test_a_path_through_a_file_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(RegistryBroken, match="Not a directory"):
        inspect(str(tmp_path / "file" / "mlflow.db"))
