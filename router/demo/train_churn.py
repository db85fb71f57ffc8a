"""Trains `churn_predictor` v1 and v2: forests that answer probabilities, registered from their runs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from router.demo.customers import BASIC, FULL, customers
from router.demo.material import Material, TrainedVersion
from router.demo.rows import SENT, churn_holdout, churn_rows

MODEL = "churn_predictor"
FOREST = {"n_estimators": 200, "max_depth": 8, "min_samples_leaf": 10, "random_state": 7}
TRUSTED = ["sklearn.tree._tree.Tree"]
"""MLflow stores forests with skops, which loads only the types named here."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one version is trained."""

    customers: int
    seed: int
    columns: Sequence[str]
    cutoff: str
    """Last day the training table knows of."""


RECIPES = {
    1: Recipe(customers=700, seed=1, columns=BASIC, cutoff="2026-06-30"),
    2: Recipe(customers=4000, seed=2, columns=FULL, cutoff="2026-10-31"),
}


def seed_churn() -> Material:
    """Train, log and register every version. Needs a tracking URI."""
    holdout = churn_holdout()
    versions = {number: _train(number, recipe, holdout) for number, recipe in RECIPES.items()}
    return Material(MODEL, churn_rows(), versions)


def _train(number: int, recipe: Recipe, holdout: pd.DataFrame) -> TrainedVersion:
    table = customers(recipe.customers, recipe.seed)
    columns = list(recipe.columns)
    with mlflow.start_run(run_name=f"{MODEL} v{number}") as run:
        forest = RandomForestClassifier(**FOREST).fit(table[columns], table["churned"])
        expected = forest.predict_proba(holdout[columns])
        auc = float(roc_auc_score(holdout["churned"], expected[:, 1]))
        precision = float(average_precision_score(holdout["churned"], expected[:, 1]))
        mlflow.log_params({**FOREST, "customers": recipe.customers, "columns": len(columns)})
        mlflow.log_param("training_data_hash", hashlib.sha256(table.to_csv(index=False).encode()).hexdigest())
        mlflow.log_param("training_cutoff", recipe.cutoff)
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
    mlflow.register_model(f"runs:/{run.info.run_id}/model", MODEL)
    return TrainedVersion(number, f"holdout AUC {auc:.2f}", expected[:SENT].tolist())
