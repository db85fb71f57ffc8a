"""Files of a version that no gateway fetches: once for all processes of a machine, and whole."""

import shutil
import tempfile
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from router.worker.version_download import download_version
from tests.support.empty_database import empty_database


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

    first = download_version(source.as_uri())
    shutil.rmtree(source)

    assert download_version(source.as_uri()) == first
    assert (first / "MLmodel").read_text() == "seven"
    assert [one.name for one in first.parent.iterdir()] == [first.name]


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nowhere"):
        download_version((tmp_path / "nowhere").as_uri())

    assert list(Path(tempfile.gettempdir()).glob("*/*")) == []


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
            assert (download_version("models:/fraud/1") / "MLmodel").read_text() == text
            client.delete_registered_model("fraud")
    finally:
        mlflow.set_tracking_uri(before)


def test_a_place_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    place = made(tmp_path / "elsewhere", "theirs")
    first = download_version(made(tmp_path / "7", "seven").as_uri())
    shutil.rmtree(first.parent)
    first.parent.symlink_to(place)

    with pytest.raises(RuntimeError, match="somebody else's"):
        download_version((tmp_path / "7").as_uri())
