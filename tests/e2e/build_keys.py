"""Makes the registry of the tests of variables: `python build_keys.py DIRECTORY`.

Registered model `sentiment`: 1 needs nothing; 2 reads GOOGLE_API_KEY when it is loaded, and answers how many
letters it has; 3 reads it when it predicts, and its MLmodel lists it; 4 as 3, and its MLmodel lists nothing.
"""

import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow  # noqa: E402 - the environment comes first
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402


class Plain(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        return np.full(len(model_input), 0.1)


class AtLoad(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def load_context(self, context: object) -> None:
        import os

        self.key = os.environ["GOOGLE_API_KEY"]

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        return np.full(len(model_input), float(len(self.key)))


class AtPredict(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        import os

        return np.full(len(model_input), float(len(os.environ["GOOGLE_API_KEY"])))


def main(directory: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    mlflow.create_experiment("keys", artifact_location=str(directory / "artifacts"))
    mlflow.set_experiment("keys")
    os.environ["GOOGLE_API_KEY"] = "of whoever logs it"
    for number, version in enumerate((Plain(), AtLoad(), AtPredict(), AtPredict()), 1):
        example = pd.DataFrame({"text": ["good"]}) if number == 3 else None
        with mlflow.start_run():
            mlflow.pyfunc.log_model(
                name="model",
                python_model=version,
                registered_model_name="sentiment",
                pip_requirements=["mlflow"],
                input_example=example,
            )
    mlflow.MlflowClient().set_registered_model_alias("sentiment", "production", "1")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
