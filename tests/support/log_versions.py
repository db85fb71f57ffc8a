"""Logs versions of `sentiment`, for the programs that build a registry."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlflow


def log_versions(
    directory: Path, models: Iterable[mlflow.pyfunc.PythonModel], server: str | None = None, **more: Any
) -> mlflow.MlflowClient:
    """`models` as versions 1, 2, … in a new SQLite registry in `directory`. No alias names any of them.

    `server`: the address of the server whose registry is used instead.
    `more`: arguments of MLflow's `log_model`, the same for all.
    """
    mlflow.set_tracking_uri(server or f"sqlite:///{directory / 'mlflow.db'}")
    mlflow.create_experiment("versions", artifact_location=None if server else str(directory / "artifacts"))
    mlflow.set_experiment("versions")
    for model in models:
        with mlflow.start_run():
            mlflow.pyfunc.log_model(
                name="model",
                python_model=model,
                registered_model_name="sentiment",
                pip_requirements=["mlflow"],  # inferring them costs seconds, and nothing here needs it
                **more,
            )
    return mlflow.MlflowClient()
