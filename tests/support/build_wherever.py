"""Makes a registry of versions that any engine serves: `python build_wherever.py DIRECTORY`.

All have a signature with inputs and outputs, which MLServer needs, and an input example. `sentiment` 2 and 5
answer a tenth of their number; 11 answers each text with its number before it, and raises on `poison`; 6
sleeps as many seconds as the text says. Other numbers are there to be passed over.
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
from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types import ColSpec, DataType, Schema  # noqa: E402


class Version(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, number: int) -> None:
        self.number = number

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        texts = model_input["text"].tolist()
        if self.number == 11:
            if "poison" in texts:
                raise ValueError("this text is poison")
            return [f"11 {text}" for text in texts]
        if self.number == 6:
            time.sleep(float(texts[0]))
        return np.full(len(texts), self.number / 10)


def main(directory: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    mlflow.create_experiment("wherever", artifact_location=str(directory / "artifacts"))
    mlflow.set_experiment("wherever")
    text = Schema([ColSpec(DataType.string, "text")])
    client = mlflow.MlflowClient()
    client.create_registered_model("sentiment")
    for number in range(1, 12):
        if number not in (2, 5, 6, 11):
            client.create_model_version("sentiment", str(directory / "nothing"))
            continue
        kind = DataType.string if number == 11 else DataType.double
        with mlflow.start_run():
            mlflow.pyfunc.log_model(
                name="model",
                python_model=Version(number),
                registered_model_name="sentiment",
                signature=ModelSignature(text, Schema([ColSpec(kind, "answer")])),
                input_example=pd.DataFrame({"text": ["0", "0"]}),
                pip_requirements=["mlflow"],
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
