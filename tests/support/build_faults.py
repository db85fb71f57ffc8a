"""Makes the registry of the damage tests: `python build_faults.py DIRECTORY [SERVER]`.

It is a file in the directory, or what a server at that address has.

Registered model `sentiment`. Every version takes a column `text`:

- 1 answers 0.1, and sleeps first when the text is `sleep SECONDS`: production.
- 2 does to every request what its text says, and answers 0.2 to any other text: the canary.
- 3 takes 9 ms for every request, as a model that keeps its core busy.
- 4 is as 1, but takes 1.5 s to load.
- 5 keeps a MiB at each request; at the text `bloat MIB SECONDS` so many, and is busy for so long.
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


class Production(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, load_seconds: float = 0.0) -> None:
        self.load_seconds = load_seconds

    def load_context(self, context: object) -> None:
        import time

        time.sleep(self.load_seconds)

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        import time

        word, _, seconds = model_input["text"].iloc[0].partition(" ")
        if word == "sleep":
            time.sleep(float(seconds))
        return np.full(len(model_input), 0.1)


class Canary(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(  # noqa: C901 - one case per kind of damage
        self, context: object, model_input: pd.DataFrame, params: object = None
    ) -> object:
        import ctypes
        import os
        import signal
        import sys
        import time

        rows = len(model_input)
        match model_input["text"].iloc[0]:
            case "raise":
                raise ValueError("this canary is no good")
            case "sys.exit":
                sys.exit(3)
            case "os._exit":
                os._exit(3)
            case "segfault":
                ctypes.string_at(1)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                ctypes.PyDLL(None).sleep(1000)  # in C, with the GIL held
            case "stuck":
                time.sleep(1000)
            case "nan":
                return np.full(rows, np.nan)
            case "inf":
                return np.full(rows, np.inf)
            case "none":
                return [None] * rows
            case "strings":
                return ["good"] * rows
            case "short":
                return np.full(max(rows - 1, 0), 0.2)
            case "long":
                return np.full(rows + 1, 0.2)
        return np.full(rows, 0.2)


class Busy(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        import time

        ends_at = time.perf_counter() + 0.009
        while time.perf_counter() < ends_at:
            pass
        return np.full(len(model_input), 0.3)


class Leaky(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    kept: list[bytes] = []  # noqa: RUF012 - to be kept is the point

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        import time

        word, *numbers = model_input["text"].iloc[0].split()
        mib, seconds = map(int, numbers) if word == "bloat" else (1, 0)
        self.kept.append(b"x" * (mib << 20))  # written to, or it would take no memory
        time.sleep(seconds)
        return np.full(len(model_input), 0.5)


def main(directory: Path, server: str | None = None) -> None:
    models = (Production(), Canary(), Busy(), Production(load_seconds=1.5), Leaky())
    client = log_versions(directory, models, server)
    client.set_registered_model_alias("sentiment", "production", "1")
    client.set_registered_model_alias("sentiment", "canary", "2")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
