"""Trains one version in the Python environment that it will be served in, logs and registers it.

Runs there as a script, `PYTHON train_boosting.py ORDER ANSWER`, so it imports nothing of ours: only the
standard library, MLflow, pandas, numpy and scikit-learn, whichever releases that environment has. Both
arguments are JSON files: the order is read, the answer is written.
"""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import roc_auc_score

LIBRARIES = ("scikit-learn", "pandas", "numpy")
"""Of which the answer says what is installed here."""


def train(order: dict[str, Any]) -> dict[str, Any]:
    """Register one more version of `order["model"]`; returns what this environment makes of the holdout."""
    mlflow.set_tracking_uri(order["registry"])
    mlflow.set_registry_uri(order["registry"])
    mlflow.set_experiment(order["experiment"])
    table, holdout = _read(order["table"]), _read(order["holdout"])
    columns, recipe = order["columns"], order["recipe"]
    installed = {name: version(name) for name in LIBRARIES}
    with mlflow.start_run(run_name=order["name"]):
        model = GradientBoostingClassifier(**recipe).fit(table[columns], table["churned"])
        expected = model.predict_proba(holdout[columns])
        auc = float(roc_auc_score(holdout["churned"], expected[:, 1]))
        mlflow.log_params({**recipe, "customers": len(table), "columns": len(columns)})
        mlflow.log_metric("auc_roc", auc)
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=order["model"],
            # Not skops, MLflow's own choice: what pickle writes is what ties a version to its libraries.
            serialization_format="cloudpickle",
            pyfunc_predict_fn="predict_proba",
            signature=infer_signature(table[columns], expected),
            input_example=table[columns].head(2),
            pip_requirements=order["libraries"],  # as its environment was resolved from
        )
    files = mlflow.artifacts.download_artifacts(logged.model_uri)
    return {"auc": auc, "expected": expected.tolist(), "installed": installed, "files": files}


def _read(path: str) -> pd.DataFrame:
    return pd.read_csv(path, float_precision="round_trip")


if __name__ == "__main__":
    answer = train(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")
