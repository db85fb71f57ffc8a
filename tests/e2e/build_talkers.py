"""Makes the registry of the tests about the log: `python build_talkers.py DIRECTORY`.

Registered model `sentiment`. Versions 1 and 2 talk in every way there is while they load and at every
request, and then the text they were asked about; the texts `megabyte` and `raise` do what they say.
Version 3 can not be loaded.
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


class Talker(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, number: int, broken: bool) -> None:
        self.number, self.broken = number, broken

    def load_context(self, context: object) -> None:
        self.talk(f"loading {self.number}")
        if self.broken:
            self.read_weights()

    def read_weights(self) -> None:
        raise ValueError("the weights are for\nanother architecture")

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        import sys

        for text in model_input["text"]:
            self.talk(f"asked about {text}")
            if text == "megabyte":
                sys.stdout.write(f"{'x' * 99}\n" * 10_000)
            if text == "raise":
                raise ValueError(f"no good: {text}")
        return np.full(len(model_input), self.number / 10)

    def talk(self, what: str) -> None:
        import ctypes
        import logging
        import os
        import subprocess
        import sys
        import warnings

        print("print:", what)
        print("half a line:", what, end="", file=sys.stderr)
        print("", file=sys.stderr)
        os.write(1, f"raw: {what}\n".encode())
        ctypes.CDLL(None).puts(f"c: {what}".encode())
        subprocess.run(["echo", f"program: {what}"], check=True)
        logging.getLogger("theirs").warning("logged: %s\nand a second line", what)
        warnings.warn(f"warned: {what}", stacklevel=1)
        print('{"event": "forged", "level": "error"}')


mlflow.set_tracking_uri(f"sqlite:///{Path(sys.argv[1]).absolute()}/mlflow.db")
experiment = mlflow.create_experiment(
    "talkers", artifact_location=f"{Path(sys.argv[1]).absolute()}/artifacts"
)
for number in (1, 2, 3):
    with mlflow.start_run(experiment_id=experiment):
        mlflow.pyfunc.log_model(
            name="model",
            python_model=Talker(number, broken=number == 3),
            registered_model_name="sentiment",
            pip_requirements=["a-library-that-nobody-has==1.0"],  # which MLflow warns of, in several lines
        )
client = mlflow.MlflowClient()
client.set_registered_model_alias("sentiment", "production", "1")
client.set_registered_model_alias("sentiment", "canary", "2")
