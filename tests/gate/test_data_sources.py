"""Where a hold-out may lie: a path, an artifact of a run, a dataset that a run logged."""

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from router.gate.data_sources import local_path
from router.gate.errors import DataRefused
from tests.support.empty_database import beside_empty_database

TABLE = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})


@pytest.fixture(scope="module")
def run_id(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A run with an artifact, and with datasets: of a file, of code, and two of one name."""
    directory = beside_empty_database("sources", tmp_path_factory)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    TABLE.to_csv(directory / "rows.csv", index=False)
    experiment = mlflow.create_experiment("gate", artifact_location=(directory / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_artifact(str(directory / "rows.csv"), "holdout")
        source = str(directory / "rows.csv")
        for name, table, at in (
            ("holdout", TABLE, source),
            ("in-code", TABLE, None),
            ("twice", TABLE, source),
            ("twice", TABLE.head(1), source),
        ):
            mlflow.log_input(mlflow.data.from_pandas(table, source=at, name=name))  # type: ignore[attr-defined]
    yield run.info.run_id
    mlflow.set_tracking_uri(before)


def test_a_path_is_what_it_is(tmp_path: Path) -> None:
    for source in (str(tmp_path / "rows.csv"), (tmp_path / "rows.csv").as_uri()):
        with local_path(source) as found:
            assert found == tmp_path / "rows.csv"


@pytest.mark.parametrize("source", ["runs:/{run_id}/holdout/rows.csv", "dataset:/{run_id}/holdout"])
def test_what_a_run_has_is_brought_here_and_removed_again(source: str, run_id: str) -> None:
    with local_path(source.format(run_id=run_id)) as found:
        pd.testing.assert_frame_equal(pd.read_csv(found), TABLE)

    assert found.suffix == ".csv"
    assert "holdout" not in found.parts or not found.exists()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("runs:/{run_id}/nowhere.csv", "nowhere.csv can not be had"),
        ("runs:/0123456789abcdef0123456789abcdef/rows.csv", "can not be had"),
        ("dataset:/{run_id}", "is to be dataset:/RUN_ID/NAME"),
        ("dataset:/{run_id}/other", "logged no dataset other: there are holdout, in-code, twice"),
        ("dataset:/{run_id}/twice", "logged 2 datasets of the name twice"),
        ("dataset:/{run_id}/in-code", "the dataset in-code of run .* lies in no file, but in code"),
        ("gopher://host/rows.csv", "gopher://host/rows.csv can not be had"),
        ("s3://key:secret@bucket/rows.csv", r"s3://\*\*\*@bucket/rows.csv (lies at|can not be had)"),
    ],
)
def test_what_can_not_be_had_is_named(source: str, sentence: str, run_id: str) -> None:
    with pytest.raises(DataRefused, match=sentence), local_path(source.format(run_id=run_id)):
        pass


def test_a_disk_without_room_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    sentence = "runs:/r/rows.csv can not be brought here: No space left on device"
    with pytest.raises(DataRefused, match=sentence), local_path("runs:/r/rows.csv"):
        pass


def test_what_the_caller_raises_stays_what_it_is(run_id: str) -> None:
    with pytest.raises(ZeroDivisionError), local_path(f"runs:/{run_id}/holdout/rows.csv"):
        raise ZeroDivisionError
