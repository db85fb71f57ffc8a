"""SQLite registries: found, checked and opened without ever creating or changing a file."""

import os
import sqlite3
import stat
from contextlib import closing
from urllib.parse import quote, unquote

from sqlalchemy.engine import URL, make_url

from router.agent.errors import RegistryBroken, RegistryRefused

LOCK_SECONDS = 4.0
"""How long a look at a locked database waits; MLflow itself would wait 20 s."""
SCHEME = "sqlite"

Identity = tuple[int, int]
"""Device and inode of a file: a replaced database has another."""


def is_sqlite(uri: str) -> bool:
    """Whether `uri` names a SQLite database, with or without a driver."""
    return uri.partition(":")[0].partition("+")[0].lower() == SCHEME


def path_of(uri: str) -> str:
    """Absolute path of the file that SQLAlchemy would open for `uri`. Raises RegistryRefused for none."""
    url = make_url(uri)
    database = url.database or ""
    if database.startswith("file:"):
        database = unquote(database.removeprefix("file:").partition("?")[0])
    if database in ("", ":memory:") or url.query.get("mode") == "memory":
        raise RegistryRefused("a SQLite registry in memory cannot be shared; name a file")
    return os.path.abspath(database)


def read_only(uri: str) -> str:
    """The same database as a URI that SQLite itself refuses to write through, or to create a file for.

    The driver is spelled out because MLflow makes parent directories for anything that starts `sqlite:///`.
    """
    query = {key: value for key, value in make_url(uri).query.items() if key not in ("mode", "uri")}
    query = {**query, "mode": "ro", "uri": "true"}
    # Built by SQLAlchemy as well: 2.1 decodes the database's name in a URI, 2.0 takes it as it is.
    url = URL.create(f"{SCHEME}+pysqlite", database=f"file:{quote(path_of(uri))}", query=query)
    return url.render_as_string(hide_password=False)


def inspect(path: str) -> tuple[Identity, list[str]]:
    """Check that `path` is an MLflow registry; which file it is, and the schema revisions that it states.

    Costs well under a millisecond. Raises RegistryRefused when it is none, RegistryBroken when it cannot be
    read just now.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise RegistryRefused(f"there is no file {path}, and a registry is never created here") from None
    except OSError as error:
        raise RegistryBroken(f"{path} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise RegistryRefused(f"{path} is not a file")
    try:
        found = _revisions(path)
    except sqlite3.OperationalError as error:
        raise RegistryBroken(f"{path} cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise RegistryRefused(f"{path} is not a SQLite database: {error}") from error
    if found is None:
        raise RegistryRefused(f"{path} is not an MLflow registry: it has no table registered_models")
    return (status.st_dev, status.st_ino), found


def _revisions(path: str) -> list[str] | None:
    """Schema revisions the database states; None when it holds no registry."""
    address = f"file:{quote(path)}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if "registered_models" not in tables:
            return None
        if "alembic_version" not in tables:
            return []
        return [number for (number,) in connection.execute("SELECT version_num FROM alembic_version")]
