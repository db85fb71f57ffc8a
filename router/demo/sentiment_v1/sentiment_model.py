"""Sentiment from single words: logistic regression on a bag of words, in numpy.

Shipped with the version as a top-level module, so it imports nothing of the package it lies in.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


def features_of(text: str) -> set[str]:
    """The words of `text`, in lower case; how often and in which order is not kept."""
    return set(re.findall(r"[a-z']+", text.lower()))


class BagOfWords:
    """Weights per word and a bias; a text's score is the probability that it is positive."""

    def __init__(self, weights: dict[str, float], bias: float) -> None:
        self._column = {word: index for index, word in enumerate(weights)}
        self._weights = np.array(list(weights.values()), dtype=np.float64)
        self._bias = bias

    @classmethod
    def fit(cls, texts: Sequence[str], labels: Sequence[int], *, epochs: int, penalty: float) -> "BagOfWords":
        """Gradient descent over the whole set, `epochs` times; `penalty` pulls weights towards zero."""
        model = cls(dict.fromkeys(sorted(set().union(*map(features_of, texts))), 0.0), 0.0)
        counts, wanted = model._table(texts), np.array(labels, dtype=np.float64)
        for _ in range(epochs):
            error = model._probabilities(counts) - wanted
            model._weights -= counts.T @ error / len(wanted) + penalty * model._weights
            model._bias -= float(error.mean())
        return model

    def predict_proba(self, texts: Sequence[str]) -> Matrix:
        """Probability in (0, 1) that each text is positive, shape (len(texts),)."""
        return self._probabilities(self._table(texts))

    def save(self, path: Path) -> None:
        """Write the weights as JSON; numbers keep every bit."""
        weights = dict(zip(self._column, self._weights.tolist(), strict=True))
        path.write_text(json.dumps({"bias": self._bias, "weights": weights}))

    @classmethod
    def load(cls, path: str | Path) -> "BagOfWords":
        """Read what `save` wrote."""
        return cls(**json.loads(Path(path).read_text()))

    def _table(self, texts: Sequence[str]) -> Matrix:
        table = np.zeros((len(texts), len(self._weights)))
        for row, text in enumerate(texts):
            known = (self._column[word] for word in features_of(text) if word in self._column)
            table[row, list(known)] = 1.0
        return table

    def _probabilities(self, table: Matrix) -> Matrix:
        return np.asarray(1.0 / (1.0 + np.exp(-(table @ self._weights + self._bias))))


class Sentiment(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow ships no types
    """The pyfunc: reads the weights from the artifact `model_path`, scores the column `text`."""

    # No type hints here: MLflow turns hints into a schema, and these versions go without one.
    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Called once by MLflow after it found the artifacts."""
        self.model = BagOfWords.load(context.artifacts["model_path"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """One probability per row of `model_input`."""
        return self.model.predict_proba(model_input["text"].tolist())
