"""A PostgreSQL server of a test's own, on a socket in a temporary directory."""

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

_ROOTS_STAND_IN = "nobody"
"""The server refuses to run as root."""


class Postgres:
    """A running server."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._psql = [str(programs / "psql"), "-h", str(directory), "-U", "reader", "-d", "postgres"]

    def run(self, sql: str) -> list[list[str]]:
        """Rows of every query in `sql`, as text."""
        done = subprocess.run(
            [*self._psql, "--no-psqlrc", "-qAtX", "-F", "\t", "-v", "ON_ERROR_STOP=1"],
            input=sql,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PGCLIENTENCODING": "UTF8"},
        )
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def answers(self) -> bool:
        return subprocess.run([*self._psql, "-c", ""], capture_output=True).returncode == 0


def programs_of_postgres() -> Path | None:
    """Where `initdb` and `postgres` are: Debian keeps them off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


@contextmanager
def running_postgres(programs: Path, slack: float) -> Iterator[Postgres]:
    """A new, empty cluster for as long as the block runs."""
    who: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        directory = Path(name)
        if os.geteuid() == 0:
            stand_in = pwd.getpwnam(_ROOTS_STAND_IN)
            os.chown(directory, stand_in.pw_uid, stand_in.pw_gid)
            who = {"user": stand_in.pw_uid, "group": stand_in.pw_gid, "extra_groups": []}
        data = str(directory / "data")
        made = [programs / "initdb", "-D", data, "-U", "reader", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*made, "--no-sync"], check=True, capture_output=True, cwd=directory, **who)
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", name, "-c", "listen_addresses="],
                stdout=log,
                stderr=log,
                cwd=directory,
                **who,
            )
        postgres = Postgres(programs, directory)
        try:
            give_up = time.monotonic() + 30 * slack
            while not postgres.answers():
                assert server.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < give_up, (directory / "log").read_text()
                time.sleep(0.05)
            yield postgres
        finally:
            server.terminate()
            server.wait(30)
