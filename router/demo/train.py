"""Trains two versions of two models and registers them. A process of its own: `… DIRECTORY` or `… --at URI`.

MLflow's settings hold for a whole process and its libraries are heavy; the demo needs neither while it sends
traffic. With a directory the registry in it is made anew. With a URI the registry is somebody's: there a
registered model is the demo's only where it carries the demo's tag, and all others are left alone.
"""

import hashlib
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from router.demo.dataset import (
    BASIC,
    FULL,
    SENT,
    Dataset,
    TrainedVersion,
    churn_holdout,
    churn_rows,
    customers,
    sentences,
    sentiment_rows,
)
from router.demo.workspace import ALIASES, EXPERIMENT, Workspace
from router.errors import RouterError

SENTIMENT, CHURN = "sentiment", "churn_predictor"
MODULE = "sentiment_model"
"""Both versions ship a module of this name with other content: a process that holds both mixes them up."""
TAG = "canary-router-demo"
BEGUN, WHOLE = "begun", "whole"
FOREST = {"n_estimators": 200, "max_depth": 8, "min_samples_leaf": 10, "random_state": 7}
TRUSTED = ["sklearn.tree._tree.Tree"]
"""MLflow stores forests with skops, which loads only the types named here."""


SENTIMENT_RECIPES: Mapping[int, Mapping[str, Any]] = {
    1: {"training_sentences": 300, "epochs": 200, "penalty": 0.001},
    2: {"training_sentences": 434, "epochs": 600, "penalty": 0.001},
}
CHURN_RECIPES: Mapping[int, Mapping[str, Any]] = {
    1: {"customers": 700, "seed": 1, "columns": BASIC, "cutoff": "2026-06-30"},
    2: {"customers": 4000, "seed": 2, "columns": FULL, "cutoff": "2026-10-31"},
}
"""How each version is trained; `cutoff` is the last day the training table knows of."""
Say = Callable[[str], None]


class NotOurs(RouterError):
    """The registry has a registered model of that name which no demo made."""


def seed(place: Workspace, say: Say) -> None:
    """Train, log and register all versions, in a registry that replaces whatever `place` had."""
    shutil.rmtree(place.registry, ignore_errors=True)
    place.registry.mkdir()
    _use_registry(place.registry_uri)
    mlflow.create_experiment(EXPERIMENT, artifact_location=(place.registry / "artifacts").as_uri())
    place.note_seeded(register(place.registry_uri, say))


def register(uri: str, say: Say) -> Sequence[Dataset]:
    """Train, log and register what the registry at `uri` lacks, and point the aliases at it.

    Raises NotOurs before anything is changed. What an earlier call left unfinished is made anew; what it
    finished stays as it is, wherever its aliases are now. Returns what was trained now.
    """
    _use_registry(uri)
    client = mlflow.MlflowClient()
    found = {one.name: one.tags.get(TAG) for one in client.search_registered_models()}
    for name in TRAININGS:
        if name in found and found[name] is None:
            raise NotOurs(f"the registry has a registered model {name} that no demo made: it is left alone")
    datasets = []
    for name, train in TRAININGS.items():
        if found.get(name) == WHOLE:
            say(f"{name} is registered")
            continue
        began = time.monotonic()
        if name in found:
            client.delete_registered_model(name)
        client.create_registered_model(name, tags={TAG: BEGUN})
        mlflow.set_experiment(EXPERIMENT)
        dataset = train()
        for alias, number in ALIASES.items():
            client.set_registered_model_alias(name, alias, str(number))
        client.set_registered_model_tag(name, TAG, WHOLE)
        versions = ", ".join(f"v{number} {one.quality}" for number, one in dataset.versions.items())
        say(f"trained and registered {name}: {versions} ({time.monotonic() - began:.1f} s)")
        datasets.append(dataset)
    return datasets


def shipped_file(number: int) -> Path:
    """The module that version `number` of `sentiment` brings along."""
    return Path(__file__).parent / f"{SENTIMENT}_v{number}" / f"{MODULE}.py"


def _use_registry(uri: str) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def _sentiment() -> Dataset:
    """As a team would register it: a pyfunc, an artifact, its own code."""
    versions = {number: _sentiment_version(number, recipe) for number, recipe in SENTIMENT_RECIPES.items()}
    return Dataset(SENTIMENT, sentiment_rows(), versions)


def _sentiment_version(number: int, recipe: Mapping[str, Any]) -> TrainedVersion:
    training, holdout = sentences("train")[: recipe["training_sentences"]], sentences("holdout")
    with _shipped(number) as module, mlflow.start_run(run_name=f"{SENTIMENT} v{number}"):
        texts, labels = [one.text for one in training], [one.label for one in training]
        fitted = module.BagOfWords.fit(texts, labels, epochs=recipe["epochs"], penalty=recipe["penalty"])
        expected = fitted.predict_proba([one.text for one in holdout])
        truth = np.array([one.label for one in holdout])
        accuracy = float(np.mean((expected > 0.5) == truth))
        log_loss = float(-np.mean(np.log(np.where(truth == 1, expected, 1.0 - expected))))
        mlflow.log_params(dict(recipe))
        mlflow.log_metrics({"holdout_accuracy": accuracy, "holdout_log_loss": log_loss})
        with tempfile.TemporaryDirectory() as scratch:  # MLflow copies what lies in it
            weights = Path(scratch, "sentiment.json")
            fitted.save(weights)
            mlflow.pyfunc.log_model(
                name="model",
                python_model=module.Sentiment(),
                artifacts={"model_path": str(weights)},
                code_paths=[str(shipped_file(number))],
                pip_requirements=["mlflow", "numpy", "pandas"],  # named: finding them out takes seconds
                registered_model_name=SENTIMENT,
            )
    return TrainedVersion(number, f"holdout accuracy {accuracy:.2f}", expected.tolist())


@contextmanager
def _shipped(number: int) -> Iterator[ModuleType]:
    """That module, imported by the top-level name under which the version will find it where it is served."""
    spec = spec_from_file_location(MODULE, shipped_file(number))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[MODULE] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[MODULE]


def _churn() -> Dataset:
    """Forests that answer probabilities, registered from their runs."""
    versions = {number: _churn_version(number, recipe) for number, recipe in CHURN_RECIPES.items()}
    return Dataset(CHURN, churn_rows(), versions)


def _churn_version(number: int, recipe: Mapping[str, Any]) -> TrainedVersion:
    table, columns = customers(recipe["customers"], recipe["seed"]), list(recipe["columns"])
    holdout = churn_holdout()
    with mlflow.start_run(run_name=f"{CHURN} v{number}") as run:
        forest = RandomForestClassifier(**FOREST).fit(table[columns], table["churned"])
        expected = forest.predict_proba(holdout[columns])
        auc = float(roc_auc_score(holdout["churned"], expected[:, 1]))
        precision = float(average_precision_score(holdout["churned"], expected[:, 1]))
        mlflow.log_params({**FOREST, "customers": recipe["customers"], "columns": len(columns)})
        mlflow.log_param("training_data_hash", hashlib.sha256(table.to_csv(index=False).encode()).hexdigest())
        mlflow.log_param("training_cutoff", recipe["cutoff"])
        mlflow.log_metrics({"auc_roc": auc, "average_precision": precision})
        mlflow.sklearn.log_model(
            forest,
            name="model",
            pyfunc_predict_fn="predict_proba",
            signature=infer_signature(table[columns], expected),
            input_example=table[columns].head(2),
            skops_trusted_types=TRUSTED,
            pip_requirements=["scikit-learn", "skops"],  # named, because finding them out takes seconds
        )
    mlflow.register_model(f"runs:/{run.info.run_id}/model", CHURN)
    return TrainedVersion(number, f"holdout AUC {auc:.2f}", expected[:SENT].tolist())


TRAININGS: Mapping[str, Callable[[], Dataset]] = {SENTIMENT: _sentiment, CHURN: _churn}
"""By registered model, what trains, logs and registers all of its versions."""


def main(arguments: Sequence[str]) -> int:
    """Print what was registered; returns the exit code."""
    logging.basicConfig(level=logging.WARNING)
    try:
        if arguments[0] == "--at":
            register(arguments[1], lambda line: print(line, flush=True))
        else:
            seed(Workspace(Path(arguments[0])), lambda line: print(line, flush=True))
    except NotOurs as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
