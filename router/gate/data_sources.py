"""Where a hold-out lies: on this disk, in an artifact store, or as a dataset that a run logged."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from router.core.artifact_source import local_path as path_on_this_disk
from router.core.redaction import redact_line, redact_uri
from router.gate.errors import DataRefused

DATASET = "dataset:/"
"""Before RUN_ID/NAME: the dataset of that name that the run logged with `mlflow.log_input`."""


@contextmanager
def local_path(source: str) -> Iterator[Path]:
    """The path of the data that `source` names, which is a file or a directory on this disk.

    `source`: a path, `runs:/RUN_ID/artifact`, `dataset:/RUN_ID/NAME`, or an address that MLflow downloads
    artifacts from. What is downloaded is removed at the end. Raises DataRefused; MLflow finds servers and
    credentials in the environment.
    """
    here = path_on_this_disk(source)
    if here is not None:
        yield Path(here)
        return
    try:
        room = tempfile.TemporaryDirectory(prefix="canary-router-gate-")
    except OSError as error:
        raise DataRefused(
            f"{redact_uri(source)} can not be brought here: {error.strerror or error}"
        ) from error
    with room as directory:
        try:
            found = _downloaded(source, directory)
        except DataRefused:
            raise
        except ImportError as error:
            from router.agent.download import not_installed  # which imports MLflow, that is here by now

            why = not_installed(source, error) or f"can not be had: {error}"
            raise DataRefused(f"{redact_uri(source)} {why}") from error
        except Exception as error:  # of MLflow, or of what an artifact store's library raises
            raise DataRefused(
                f"{redact_uri(source)} can not be had: {redact_line(str(error) or repr(error))}"
            ) from error
        yield found


def _downloaded(source: str, directory: str) -> Path:
    # Here, not above: it imports MLflow, which takes seconds.
    from mlflow.artifacts import download_artifacts

    if not source.startswith(DATASET):
        return Path(download_artifacts(artifact_uri=source, dst_path=directory))
    run_id, _, name = source.removeprefix(DATASET).partition("/")
    if not run_id or not name:
        raise DataRefused(f"{source} is to be {DATASET}RUN_ID/NAME")
    dataset = _logged(run_id, name)
    from mlflow.data import get_source
    from mlflow.data.filesystem_dataset_source import FileSystemDatasetSource
    from mlflow.data.http_dataset_source import HTTPDatasetSource

    lies_in = get_source(dataset)
    if not isinstance(lies_in, FileSystemDatasetSource | HTTPDatasetSource):
        raise DataRefused(f"the dataset {name} of run {run_id} lies in no file, but in {dataset.source_type}")
    return Path(lies_in.load(directory))


def _logged(run_id: str, name: str) -> Any:
    """The entity of one dataset of a run."""
    from mlflow import MlflowClient

    logged = [each.dataset for each in MlflowClient().get_run(run_id).inputs.dataset_inputs]
    found = [each for each in logged if each.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataRefused(f"the run {run_id} logged {len(found)} datasets of the name {name}")
    names = ", ".join(sorted(each.name for each in logged)[:5]) or "none"
    raise DataRefused(f"the run {run_id} logged no dataset {name}: there are {names}")
