"""Trains `sentiment` v1 and v2 and registers them as a team would: a pyfunc, an artifact, its own code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import mlflow
import numpy as np

from router.demo.dataset import sentences
from router.demo.material import Material, TrainedVersion
from router.demo.rows import sentiment_rows

MODEL = "sentiment"
MODULE = "sentiment_model"
"""Both versions ship a module of this name with other content: a process that holds both mixes them up."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one version is trained."""

    training_sentences: int
    epochs: int
    penalty: float = 0.001


RECIPES = {1: Recipe(training_sentences=300, epochs=200), 2: Recipe(training_sentences=434, epochs=600)}


def seed_sentiment(scratch: Path) -> Material:
    """Train, log and register every version; MLflow copies what lies in `scratch`. Needs a tracking URI."""
    versions = {number: _train(number, recipe, scratch) for number, recipe in RECIPES.items()}
    return Material(MODEL, sentiment_rows(), versions)


def _train(number: int, recipe: Recipe, scratch: Path) -> TrainedVersion:
    training, holdout = sentences("train")[: recipe.training_sentences], sentences("holdout")
    with _shipped(number) as module, mlflow.start_run(run_name=f"{MODEL} v{number}"):
        fitted = module.BagOfWords.fit(
            [one.text for one in training],
            [one.label for one in training],
            epochs=recipe.epochs,
            penalty=recipe.penalty,
        )
        expected = fitted.predict_proba([one.text for one in holdout])
        labels = np.array([one.label for one in holdout])
        accuracy = float(np.mean((expected > 0.5) == labels))
        log_loss = float(-np.mean(np.log(np.where(labels == 1, expected, 1.0 - expected))))
        mlflow.log_params(asdict(recipe))
        mlflow.log_metrics({"holdout_accuracy": accuracy, "holdout_log_loss": log_loss})
        weights = scratch / "sentiment.json"
        fitted.save(weights)
        mlflow.pyfunc.log_model(
            name="model",
            python_model=module.Sentiment(),
            artifacts={"model_path": str(weights)},
            code_paths=[str(shipped_file(number))],
            pip_requirements=["mlflow", "numpy", "pandas"],  # named, because finding them out takes seconds
            registered_model_name=MODEL,
        )
    return TrainedVersion(number, f"holdout accuracy {accuracy:.2f}", expected.tolist())


def shipped_file(number: int) -> Path:
    """The module that version `number` brings along."""
    return Path(__file__).parent / f"{MODEL}_v{number}" / f"{MODULE}.py"


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
