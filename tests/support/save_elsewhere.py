"""Run by the Python of an environment, as its users log there: `save DIRECTORY`, or `predict DIRECTORY`.

The second prints what a process that does nothing else answers, as JSON.
"""

import json
import logging
import sys
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import mlflow  # noqa: E402 - after what it would warn of
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.ensemble import GradientBoostingClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder  # noqa: E402

LIBRARIES = ("numpy", "pandas", "scikit-learn", "mlflow")


def frame(rows: int) -> pd.DataFrame:
    """The same in every version of every library."""
    ages = [20.0 + 7 * row % 50 for row in range(rows)]
    plans = [["basic", "gold", "team"][row % 3] for row in range(rows)]
    return pd.DataFrame({"age": ages, "plan": plans})


def save(directory: str) -> None:
    """Save a pipeline that was pickled by these libraries, and that others do not load."""
    data = frame(60)
    encode = ColumnTransformer([("plan", OneHotEncoder(), ["plan"])], remainder="passthrough")
    model = make_pipeline(encode, GradientBoostingClassifier(n_estimators=20, random_state=1))
    model.fit(data, np.arange(60) % 7 > 2)
    mlflow.sklearn.save_model(
        model,
        directory,
        signature=infer_signature(data, model.predict_proba(data)),
        input_example=data.head(2),
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=[f"{name}=={version(name)}" for name in LIBRARIES],
    )


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(sys.argv[2])
    else:
        print(json.dumps(mlflow.pyfunc.load_model(sys.argv[2]).predict(frame(9)).tolist()))
