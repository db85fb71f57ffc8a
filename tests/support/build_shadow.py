"""Makes the registry of the shadows' tests: `python build_shadow.py DIRECTORY`.

Registered model `sentiment`. Every version takes columns `a` and `b`, numbers, and any other:

- 1 answers a score that is high where `a` is above `b`: production.
- 2 answers as 1 does, and raises where `b` is above 1.
- 3 answers as 1 does, after half a second.
"""

import os
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow  # noqa: E402 - the environment comes first
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from tests.support.log_versions import log_versions  # noqa: E402


class Above(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, raises_above: float = 1e9, seconds: float = 0.0) -> None:
        self.raises_above, self.seconds = raises_above, seconds

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        time.sleep(self.seconds)
        if (model_input["b"] > self.raises_above).any():
            raise ValueError(str(model_input.to_dict()))
        return 1 / (1 + np.exp(model_input["b"] - model_input["a"]).to_numpy())


def main(directory: Path) -> None:
    client = log_versions(directory, (Above(), Above(raises_above=1.0), Above(seconds=0.5)))
    client.set_registered_model_alias("sentiment", "production", "1")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
