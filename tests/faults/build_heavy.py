"""Makes the registry of the tests of memory limits: `python build_heavy.py DIRECTORY`.

Registered model `sentiment`; no version's files show what it takes:

- 1 takes 2.5 s to load and holds 500 MiB.
- 2 holds 800 MiB.
- 3 holds 1000 MiB.
- 4 holds 300 MiB for the 3 s that it takes to load, and nothing afterwards. It is both versions of the
  registered models `model00` to `model11`, too.
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

MODELS = [f"model{number:02}" for number in range(12)]


class Heavy(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, mib: int, load_seconds: float = 0.0, *, keeps: bool = True) -> None:
        self.mib, self.load_seconds, self.keeps = mib, load_seconds, keeps

    def load_context(self, context: object) -> None:
        import time

        held = b"x" * (self.mib << 20)  # written to, or it would take no memory
        time.sleep(self.load_seconds)
        self.held = held if self.keeps else b""

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        return np.full(len(model_input), 0.1)


def main(directory: Path) -> None:
    heavy = (Heavy(500, 2.5), Heavy(800), Heavy(1000), Heavy(300, 3.0, keeps=False))
    client = log_versions(directory, heavy)
    last = client.get_model_version("sentiment", "4")
    for model in MODELS:
        client.create_registered_model(model)
        for alias in ("production", "canary"):
            version = client.create_model_version(model, last.source, last.run_id)
            client.set_registered_model_alias(model, alias, version.version)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
