"""Three linear layers of 2 048: a predict reads 50 MB of weights, whatever its rows. Logged by its path."""

import mlflow
import pandas as pd
import torch
from mlflow.pyfunc import PythonModel

COLUMNS, WIDTH, LAYERS = 20, 2048, 3


class Layers(PythonModel):  # type: ignore[misc] # mlflow ships without complete types
    """A score in [0, 1] of twenty numbers."""

    def load_context(self, context: object) -> None:
        """The weights, drawn alike in every process."""
        torch.manual_seed(7)
        inner = [part for _ in range(LAYERS) for part in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())]
        first, last = torch.nn.Linear(COLUMNS, WIDTH), torch.nn.Linear(WIDTH, 1)
        self.layers = torch.nn.Sequential(first, torch.nn.ReLU(), *inner, last, torch.nn.Sigmoid()).eval()

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        """One score per row."""
        with torch.inference_mode():
            return self.layers(torch.from_numpy(model_input.to_numpy(dtype="float32"))).numpy()[:, 0]


mlflow.models.set_model(Layers())
