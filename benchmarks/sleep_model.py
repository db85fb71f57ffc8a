"""Waits 50 ms per predict, as a version does that asks another service. Logged by its path."""

import time

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

SECONDS = 0.05


class Sleep(PythonModel):  # type: ignore[misc] # mlflow ships without complete types
    """The length of each text, after a while."""

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        """One whole number per row."""
        time.sleep(SECONDS)
        return model_input["text"].str.len().to_numpy()


mlflow.models.set_model(Sleep())
