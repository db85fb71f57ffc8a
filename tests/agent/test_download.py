"""What may be taken from an artifact store, and what came of it."""

import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from router.agent import download as downloading
from router.agent.download import list_version
from router.agent.errors import DownloadRefused


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A version in a local artifact store."""
    directory = tmp_path / "stored"
    (directory / "code" / "deep").mkdir(parents=True)
    (directory / "MLmodel").write_text("flavors: {}")
    (directory / "code" / "deep" / "module.py").write_text("x = 1")
    (directory / "empty").touch()
    return directory


@pytest.fixture
def target(tmp_path: Path) -> Path:
    directory = tmp_path / "target"
    directory.mkdir()
    return directory


def take(stored: Path, target: Path) -> None:
    list_version(str(stored), "", "").copy_to(target)


def test_all_files_of_all_folders_come(stored: Path, target: Path) -> None:
    take(stored, target)

    came = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert came == {"MLmodel": "flavors: {}", "code/deep/module.py": "x = 1", "empty": ""}


def _no_model(stored: Path) -> None:
    (stored / "MLmodel").unlink()


def _file_link_out(stored: Path) -> None:
    (stored / "shadow").symlink_to("/etc/passwd")


def _folder_link_out(stored: Path) -> None:
    (stored / "etc").symlink_to("/etc")


def _pipe(stored: Path) -> None:
    os.mkfifo(stored / "pipe")


@pytest.mark.parametrize("spoil", [_no_model, _file_link_out, _folder_link_out, _pipe])
def test_what_is_no_plain_tree_with_an_mlmodel_is_refused(
    stored: Path, target: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(stored)

    with pytest.raises(Exception):  # noqa: B017, PT011 # MLflow's own guards come first, each with its own error
        take(stored, target)

    assert not (target / "shadow").exists()
    assert not (target / "etc").exists()


def test_a_missing_source_is_refused(tmp_path: Path, target: Path) -> None:
    with pytest.raises(DownloadRefused, match="no MLmodel"):
        take(tmp_path / "nowhere", target)

    assert not (tmp_path / "nowhere").exists()


def test_a_version_that_does_not_fit_the_disk_is_refused_before_it_is_copied(
    stored: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda _: SimpleNamespace(free=65 << 20))
    (stored / "weights").write_bytes(bytes(2 << 20))

    with pytest.raises(DownloadRefused, match="needs 2 MiB and 1 MiB are free"):
        take(stored, target)

    assert list(target.iterdir()) == []


def test_more_files_than_a_version_may_have_are_refused(
    stored: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "_MOST_FILES", 3)

    with pytest.raises(DownloadRefused, match="over 3 files"):
        take(stored, target)


@pytest.mark.parametrize(
    ("uri", "library", "extra"),
    [
        ("s3://bucket/models/7", "botocore", "s3"),
        ("r2://bucket/models/7", "boto3", "s3"),
        ("b2://bucket@s3.us-west-004.backblazeb2.com/models/7", "boto3", "s3"),
        ("gs://bucket/models/7", "google.cloud", "gcs"),
        ("wasbs://box@account.blob.core.windows.net/7", "azure", "azure"),
        ("abfss://box@account.dfs.core.windows.net/7", "azure", "azure"),
    ],
)
def test_a_source_whose_library_is_missing_names_the_extra_that_installs_it(
    uri: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed, where it is
    with pytest.raises(DownloadRefused) as refused:
        list_version(uri, "http://mlflow:5000", "http://mlflow:5000")

    assert f"pip install 'mlflow-canary-router[{extra}]'" in str(refused.value)
    assert library in str(refused.value)
    root = Path(__file__).parents[2]
    assert extra in tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"[{extra}]" in (root / "README.md").read_text()


def test_another_missing_library_is_its_own_error(
    stored: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'pyarrow'")

    monkeypatch.setattr(downloading, "get_artifact_repository", broken)
    with pytest.raises(ModuleNotFoundError, match="pyarrow"):
        take(stored, target)


def test_a_listing_is_the_same_until_a_file_changes(stored: Path) -> None:
    """Also one that keeps its size: it may be torn, and put right later."""
    first = list_version(str(stored), "", "").digest
    assert first == list_version(f"file://{stored}", "", "").digest
    module = stored / "code" / "deep" / "module.py"
    size = module.stat().st_size
    module.write_text("x = 2")
    second = list_version(str(stored), "", "").digest

    assert module.stat().st_size == size
    assert second != first
    (stored / "empty").write_text("more")
    assert list_version(str(stored), "", "").digest not in (first, second)


def test_a_file_that_was_replaced_with_its_size_and_its_time_kept_changes_the_listing(
    stored: Path, tmp_path: Path
) -> None:
    """As `rsync -t` and `cp -p` do."""
    first = list_version(str(stored), "", "").digest
    module, other = stored / "code" / "deep" / "module.py", tmp_path / "other"
    other.write_text("x = 2")
    os.utime(other, ns=(module.stat().st_atime_ns, module.stat().st_mtime_ns))
    other.replace(module)

    assert list_version(str(stored), "", "").digest != first
