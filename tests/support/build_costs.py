"""Makes the registry of the tests of cost: `python build_costs.py DIRECTORY`.

Registered model `sentiment`. Every version computes for 1.5 ms, and for 0.1 ms a row, of its own processor
time: 1 for so long, which is production; 2 for twice as long, which is the canary; 3 for as long as 1.
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


class Computes(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, times: float) -> None:
        self.times = times

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        import time

        ends_at = time.thread_time() + self.times * (0.0015 + 0.0001 * len(model_input))
        while time.thread_time() < ends_at:
            pass
        return np.full(len(model_input), 0.1)


def main(directory: Path) -> None:
    client = log_versions(directory, (Computes(1.0), Computes(2.0), Computes(1.0)))
    client.set_registered_model_alias("sentiment", "production", "1")
    client.set_registered_model_alias("sentiment", "canary", "2")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
