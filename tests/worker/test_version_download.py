"""Files of a version that no gateway fetches: once for all processes of a machine, and whole."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository

from router.agent.cache import PART
from router.core.ids import VersionId
from router.worker import version_download
from router.worker.version_download import download_version
from tests.support.empty_database import empty_database
from tests.support.ports import free_port

FRAUD_7 = VersionId("fraud", 7)


@pytest.fixture(autouse=True)
def _temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))


def made(directory: Path, text: str) -> Path:
    directory.mkdir()
    (directory / "MLmodel").write_text(text)
    return directory


def test_files_are_fetched_once(tmp_path: Path) -> None:
    """A replica that starts later has them, also where their store is away."""
    source = made(tmp_path / "7", "seven")

    first = download_version(FRAUD_7, source.as_uri())
    shutil.rmtree(source)

    assert download_version(FRAUD_7, source.as_uri()) == first
    assert (first / "MLmodel").read_text() == "seven"
    assert parts() == []


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nowhere"):
        download_version(FRAUD_7, (tmp_path / "nowhere").as_uri())

    assert parts() == []


def test_a_number_that_was_registered_anew_has_its_own_files(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    uri = f"sqlite:///{shutil.copy(empty_database(tmp_path_factory), tmp_path)}"
    client, before = MlflowClient(uri, uri), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        for text in ("first", "second"):
            client.create_registered_model("fraud")
            client.create_model_version("fraud", made(tmp_path / text, text).as_uri())
            assert (
                download_version(VersionId("fraud", 1), "models:/fraud/1") / "MLmodel"
            ).read_text() == text
            client.delete_registered_model("fraud")
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture
def registry_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | MlflowException | None], None]]:
    """Sets what a registry says of every `models:/`; None: its address is asked, where nobody listens."""
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    asked = ModelsArtifactRepository.get_underlying_uri

    def says(answer: str | MlflowException | None) -> None:
        def get_underlying_uri(uri: str) -> str:
            if isinstance(answer, MlflowException):
                raise answer
            return str(asked(uri)) if answer is None else answer

        monkeypatch.setattr(ModelsArtifactRepository, "get_underlying_uri", staticmethod(get_underlying_uri))

    yield says
    mlflow.set_tracking_uri(before)


def test_a_registry_that_is_away_keeps_no_replica_from_starting_where_the_files_are(
    tmp_path: Path, registry_at: Callable[[str | MlflowException | None], None]
) -> None:
    registry_at(made(tmp_path / "7", "seven").as_uri())
    first = download_version(FRAUD_7, "models:/fraud/7")
    shutil.rmtree(tmp_path / "7")
    registry_at(None)

    assert download_version(FRAUD_7, "models:/fraud/7") == first
    with pytest.raises(MlflowException, match="failed with exception"):
        download_version(VersionId("fraud", 8), "models:/fraud/8")


def test_a_registry_that_answers_is_believed(
    tmp_path: Path, registry_at: Callable[[str | MlflowException | None], None]
) -> None:
    """A version that was deleted does not start again, nor one that is no business of this user any more."""
    registry_at(made(tmp_path / "7", "seven").as_uri())
    download_version(FRAUD_7, "models:/fraud/7")

    for code in ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "INTERNAL_ERROR"):
        registry_at(RestException({"error_code": code, "message": "no"}))
        with pytest.raises(RestException):
            download_version(FRAUD_7, "models:/fraud/7")


def parts() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"*/*/{PART}*"))


def count_downloads(monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0.0) -> list[str]:
    """Sources that were downloaded, each in `seconds` at least."""
    begun: list[str] = []
    download = mlflow.artifacts.download_artifacts

    def counted(source: str, dst_path: str) -> str:
        begun.append(source)
        time.sleep(seconds)
        return str(download(source, dst_path=dst_path))

    monkeypatch.setattr(version_download.mlflow.artifacts, "download_artifacts", counted)
    return begun


@pytest.mark.parametrize("damage", ["removed", "shorter", "written to"])
def test_a_copy_that_is_not_whole_any_more_is_fetched_again(tmp_path: Path, damage: str) -> None:
    """systemd-tmpfiles removes old files of /tmp, and leaves their directories."""
    source = made(tmp_path / "7", "seven")
    (source / "model.pkl").write_text("weights")
    file = download_version(FRAUD_7, source.as_uri()) / "model.pkl"
    if damage == "removed":
        file.unlink()
    else:
        file.chmod(0o600)
        file.write_text("weight" if damage == "shorter" else "WEIGHTS")
        later = time.time_ns() + 10**9
        os.utime(file, ns=(later, later))

    found = download_version(FRAUD_7, source.as_uri())

    assert (found / "model.pkl").read_text() == "weights"
    assert [one.name for one in found.parent.parent.iterdir() if one.name.startswith(".old")] == []


def test_no_version_writes_to_what_other_processes_load(tmp_path: Path) -> None:
    found = download_version(FRAUD_7, made(tmp_path / "7", "seven").as_uri())

    assert (found / "MLmodel").stat().st_mode & 0o777 == 0o400


def test_processes_that_start_together_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path / "7", "seven").as_uri()
    begun = count_downloads(monkeypatch, seconds=0.05)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(download_version, [FRAUD_7] * 4, [source] * 4))

    assert len(set(found)) == len(begun) == 1


def test_what_a_killed_download_left_is_removed_by_the_next(tmp_path: Path) -> None:
    first = download_version(FRAUD_7, made(tmp_path / "7", "seven").as_uri())
    left = first.parent.parent / f"{PART}elsewhere-1-x"
    (left / "download").mkdir(parents=True)
    yesterday = time.time() - 25 * 3600
    os.utime(left, (yesterday, yesterday))

    download_version(VersionId("fraud", 8), made(tmp_path / "8", "eight").as_uri())

    assert parts() == []


def test_a_store_that_has_its_files_deeper_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's stores put them into the given directory or below it."""
    made(tmp_path / "7", "seven")

    def download(_: str, dst_path: str) -> str:
        return str(shutil.copytree(tmp_path / "7", Path(dst_path, "a", "7")))

    monkeypatch.setattr(version_download.mlflow.artifacts, "download_artifacts", download)

    assert (download_version(FRAUD_7, "s3://a/7") / "MLmodel").read_text() == "seven"
    assert parts() == []


def test_a_place_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    place = made(tmp_path / "elsewhere", "theirs")
    first = download_version(FRAUD_7, made(tmp_path / "7", "seven").as_uri())
    cache = first.parents[2]
    shutil.rmtree(cache)
    cache.symlink_to(place)

    with pytest.raises(RuntimeError, match="symbolic link"):
        download_version(FRAUD_7, (tmp_path / "7").as_uri())


def test_a_place_that_others_may_write_to_is_not_believed(tmp_path: Path) -> None:
    source = made(tmp_path / "7", "seven").as_uri()
    download_version(FRAUD_7, source).parents[2].chmod(0o777)

    with pytest.raises(RuntimeError, match="others can write to it"):
        download_version(FRAUD_7, source)
