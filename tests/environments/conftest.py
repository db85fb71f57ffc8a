"""What tests of environments share: versions' files, an index of their own, and uv asking it."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router.environments.interpreters import Interpreter, own_interpreter
from router.environments.uv import Uv
from tests.support.package_index import PackageIndex, package_index
from tests.support.real_index import real_index as real_index  # a fixture

CREATED = datetime(2025, 6, 1, 12, tzinfo=UTC)
"""When the versions of these tests were logged."""
BEFORE, AFTER = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)
IMPATIENT = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "2"}
"""Variables with which uv gives an index up soon."""

WriteVersion = Callable[..., Path]


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    """Says when files were uploaded."""
    with package_index(upload_times=True) as running:
        yield running


@pytest.fixture
def uv(tmp_path: Path, index: PackageIndex) -> Uv:
    """Asks `index`, from directories of this test."""
    return Uv(tmp_path / "uv", {"UV_DEFAULT_INDEX": index.uri, **IMPATIENT})


@pytest.fixture
def python() -> Interpreter:
    """The one that runs these tests."""
    return own_interpreter()


@pytest.fixture
def write_version(tmp_path: Path) -> WriteVersion:
    """Writes the files of a version into a cache; returns its place, whose `files` they are."""

    def write(
        requirements: str | bytes | None = "",
        *,
        cache: str = "cache",
        created: datetime | None = CREATED,
        others: Mapping[str, str] | None = None,
    ) -> Path:
        files = tmp_path / cache / "fraud" / "3-0123456789ab" / "files"
        files.mkdir(parents=True, mode=0o700, exist_ok=True)
        said = "" if created is None else f"utc_time_created: '{created:%Y-%m-%d %H:%M:%S.%f}'\n"
        (files / "MLmodel").write_text(f"flavors: {{}}\n{said}")
        for name, text in (others or {}).items():
            (files / name).write_text(text)
        if requirements is not None:
            written = requirements.encode() if isinstance(requirements, str) else requirements
            (files / "requirements.txt").write_bytes(written)
        return files.parent

    return write


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """2 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(directory)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of one's own takes root, and the right to mount")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
