"""Sentiment from words, pairs of words and negations: logistic regression on a bag of them, in numpy.

Shipped with the version as a top-level module, so it imports nothing of the package it lies in.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

NEGATIONS = frozenset({"no", "not", "never", "nobody", "nothing", "without"})


def features_of(text: str) -> set[str]:
    """Words and pairs of neighbours; a word after a negation, up to the next comma or stop, is `not_word`.

    Only what follows the last "but" or "yet" counts: that is where people say what they mean.
    """
    verdict = re.split(r"\b(?:but|yet)\b", text.lower())[-1]
    return {feature for clause in re.split(r"[,.;:]", verdict) for feature in _clause_features(clause)}


def _clause_features(clause: str) -> Iterator[str]:
    prefix, previous = "", ""
    for word in re.findall(r"[a-z']+", clause):
        yield prefix + word
        if previous:
            yield f"{previous} {word}"
        previous = word
        if word in NEGATIONS or word.endswith("n't"):
            prefix = "not_"


class BagOfWords:
    """Weights per feature and a bias; a text's score is the probability that it is positive."""

    def __init__(self, weights: dict[str, float], bias: float) -> None:
        self._column = {feature: index for index, feature in enumerate(weights)}
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
            known = (self._column[feature] for feature in features_of(text) if feature in self._column)
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
