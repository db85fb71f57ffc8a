"""Run by the Python of another environment, which has nothing of ours: `… DIRECTORY`.

Trains a model, saves it with that environment's own libraries, and writes what a process of its own answers.
The model holds an object of scikit-learn that other releases do not load, and answers with what pandas and
numpy are like where it runs, so that an answer shows which libraries gave it.
"""

import json
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow  # noqa: E402 - after the environment that it reads
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402
from sklearn.ensemble import GradientBoostingClassifier  # noqa: E402

LIBRARIES = ("scikit-learn", "scipy", "numpy", "pandas", "cloudpickle")


class Boosting(mlflow.pyfunc.PythonModel):
    """Holds objects of all three libraries; defined here, so that it is pickled whole."""

    def __init__(self, model: Any, table: Any, *, writes: bool = False) -> None:
        self.model, self.mean, self.writes = model, table.mean(), writes

    def load_context(self, context):
        import os
        import pathlib

        import sklearn

        if self.writes:
            place = pathlib.Path(sklearn.__file__)
            os.chmod(place, 0o600)
            place.write_text(place.read_text() + "\n__version__ = 'whatever somebody wrote'\n")

    def predict(self, context, model_input, params=None):
        import numpy
        import pandas
        import sklearn

        scores = self.model.predict_proba(model_input - self.mean)[:, 1]
        # `object` and `str`; `1.5` and `np.float64(1.5)`: these changed with pandas 3 and numpy 2.
        return pandas.DataFrame(
            {
                "score": scores,
                "texts": str(pandas.Series(["a"]).dtype),
                "number": repr(numpy.float64(1.5)),
                "library": sklearn.__version__,
            }
        )


def main(directory: Path) -> None:
    draw = np.random.default_rng(5)
    table = pd.DataFrame(draw.normal(size=(400, 3)), columns=["amount", "age", "visits"])
    labels = (table["amount"] + table["age"] ** 2 > 1).astype(int)
    fitted = GradientBoostingClassifier(n_estimators=30, random_state=5).fit(table - table.mean(), labels)
    asked = table.head(20)
    model = Boosting(fitted, table)
    mlflow.pyfunc.save_model(
        str(directory / "model"),
        python_model=model,
        signature=infer_signature(asked, model.predict(None, asked)),
        input_example=asked.head(2),
        pip_requirements=[f"{name}=={version(name)}" for name in LIBRARIES],
    )
    mlflow.pyfunc.save_model(
        str(directory / "writer"),
        python_model=Boosting(fitted, table, writes=True),
        pip_requirements=str(directory / "model" / "requirements.txt"),
    )
    answers = mlflow.pyfunc.load_model(str(directory / "model")).predict(asked)
    document = {"asked": asked.to_dict(orient="split"), "answers": answers.to_dict(orient="records")}
    (directory / "offline.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
