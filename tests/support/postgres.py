"""A PostgreSQL server of a test's own, on a socket in a temporary directory and, if wanted, on a port."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import slowness

_ROOTS_STAND_IN = "nobody"
"""The server refuses to run as root."""
_PORT = 5432
"""It names the socket, also where nobody listens on it."""


class Postgres:
    """A running server."""

    def __init__(self, programs: Path, directory: Path, port: int, user: str, password: str) -> None:
        self._psql = [
            str(programs / "psql"),
            "-h",
            str(directory),
            "-p",
            str(port),
            "-U",
            user,
            "-d",
            "postgres",
        ]
        self._environment = {**os.environ, "PGCLIENTENCODING": "UTF8", "PGPASSWORD": password}

    def run(self, sql: str) -> list[list[str]]:
        """Rows of every query in `sql`, as text."""
        done = subprocess.run(
            [*self._psql, "--no-psqlrc", "-qAtX", "-F", "\t", "-v", "ON_ERROR_STOP=1"],
            input=sql,
            capture_output=True,
            text=True,
            timeout=60 * slowness.slack(),
            env=self._environment,
        )
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def answers(self) -> bool:
        asked = subprocess.run([*self._psql, "-c", ""], capture_output=True, env=self._environment)
        return asked.returncode == 0


def programs_of_postgres() -> Path | None:
    """Where `initdb` and `postgres` are: Debian keeps them off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


def _listening(port: int | None) -> list[str]:
    return ["-h", ""] if port is None else ["-h", "127.0.0.1", "-p", str(port)]


@contextmanager
def running_postgres(
    programs: Path, slack: float, *, user: str = "reader", password: str = "", port: int | None = None
) -> Iterator[Postgres]:
    """A new, empty cluster for as long as the block runs; with a `password`, it is asked for."""
    who: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        directory = Path(name)
        if os.geteuid() == 0:
            stand_in = pwd.getpwnam(_ROOTS_STAND_IN)
            os.chown(directory, stand_in.pw_uid, stand_in.pw_gid)
            who = {"user": stand_in.pw_uid, "group": stand_in.pw_gid, "extra_groups": []}
        data = str(directory / "data")
        (directory / "password").write_text(password)
        how = ["-A", "scram-sha-256", f"--pwfile={directory / 'password'}"] if password else ["-A", "trust"]
        made = [programs / "initdb", "-D", data, "-U", user, *how, "-E", "UTF8", "--locale=C"]
        subprocess.run([*made, "--no-sync"], check=True, capture_output=True, cwd=directory, **who)
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", name, *_listening(port)],
                stdout=log,
                stderr=log,
                cwd=directory,
                **who,
            )
        postgres = Postgres(programs, directory, port or _PORT, user, password)
        try:
            give_up = time.monotonic() + 30 * slack
            while not postgres.answers():
                assert server.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < give_up, (directory / "log").read_text()
                time.sleep(0.05)
            yield postgres
        finally:
            server.terminate()
            server.wait(30 * slack)
