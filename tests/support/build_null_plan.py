"""Makes a registry with a canary that can not take a null: `python build_null_plan.py DIRECTORY`.

Registered model `sentiment`, with a signature and an input example of two rows. Version 1, production,
answers 0.1 to everything; version 2, the canary, 0.2, and raises where the column `plan` is null.
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
from mlflow.models import infer_signature  # noqa: E402

from tests.support.log_versions import log_versions  # noqa: E402

EXAMPLE = pd.DataFrame({"plan": ["basic", "gold"], "age": [20.0, 60.0]})


class Production(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        return np.full(len(model_input), 0.1)


class Canary(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        if model_input["plan"].isna().any():
            raise ValueError("a plan is needed")
        return np.full(len(model_input), 0.2)


def main(directory: Path) -> None:
    client = log_versions(
        directory,
        (Production(), Canary()),
        signature=infer_signature(EXAMPLE, np.array([0.1])),
        input_example=EXAMPLE,
    )
    client.set_registered_model_alias("sentiment", "production", "1")
    client.set_registered_model_alias("sentiment", "canary", "2")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
