"""Makes the registry of the pre-flight's tests: `python build_preflight.py DIRECTORY`.

Registered model `sentiment`. Every version takes columns `a` and `b`, numbers, and any other:

- 1 answers a score that is high where `a` is above `b`: production.
- 2 answers as 1 does.
- 3 has the two columns swapped.
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

from tests.support.log_versions import log_versions  # noqa: E402


class Above(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, one: str = "a", other: str = "b") -> None:
        self.one, self.other = one, other

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        return 1 / (1 + np.exp(model_input[self.other] - model_input[self.one]).to_numpy())


def main(directory: Path) -> None:
    client = log_versions(directory, (Above(), Above(), Above("b", "a")))
    client.set_registered_model_alias("sentiment", "production", "1")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
