"""Makes the registry of the end-to-end tests: `python build_registry.py DIRECTORY`.

Runs in a process of its own, so that the tests' process stays free of MLflow's state. Registered models:

- `sentiment`: 1 and 2 answer their number; 3 raises in `load_context`; 4 has a corrupt file; 5 answers 5;
  6 sleeps as many seconds as the input says; 7 raises on the text `bad`, and requires a library
  that nobody has; 8 takes two seconds to load, or `TEST_LOAD_SECONDS`; 9 and 10 have a signature: the text
  is a string to 9, and bytes in base64 to 10; 11 and 12 answer each text with their number before it, and
  raise on the text `poison`: 11 has a signature and an example, which show that rows are independent, 12 has
  none; 13 answers NaN; 14 answers how long each text is beside the longest of its table, and has an example
  whose texts have one length.
- `shadowed`: 1 and 2 ship different code under one module name; 3 ships a module named `router`.
- `risk` and `mail`: 1 and 2 are classifiers with an example of one row: the one answers two probabilities,
  the other the label `ham` or `spam`.
"""

import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow  # noqa: E402 - the environment comes first
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types import ColSpec, DataType, Schema  # noqa: E402


class Constant(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, number: int, fault: str = "") -> None:
        self.number, self.fault = number, fault

    def load_context(self, context: object) -> None:
        if self.fault == "load":
            raise ValueError("the weights are for another architecture")
        if self.fault == "slow load":
            import time

            time.sleep(float(os.environ.get("TEST_LOAD_SECONDS", "2")))

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        if self.fault == "sleep":
            import threading

            # Not `time.sleep`, which fails under libfaketime when the clock jumps.
            threading.Event().wait(float(model_input["text"].iloc[0]))
        if self.fault == "bad text" and "bad" in model_input["text"].tolist():
            raise ValueError("this text is too bad")
        if self.fault in ("str", "bytes"):
            decoded = {type(text).__name__ for text in model_input["text"]}
            if decoded != {self.fault}:
                raise TypeError(f"this version's signature says {self.fault}, and it is given {decoded}")
        if self.fault == "longest":
            lengths = model_input["text"].str.len().to_numpy()
            return lengths / lengths.max()
        return np.full(len(model_input), np.nan if self.fault == "nan" else self.number / 10)


class Reporting(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, number: int) -> None:
        self.number = number

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        texts = model_input["text"].tolist()
        if "poison" in texts:
            raise ValueError("this text is poison")
        return [f"{self.number} {text}" for text in texts]


FROM_MODULE = """
import mlflow
import numpy as np
import {module}

class FromModule(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return np.full(len(model_input), {module}.NUMBER / 10)

mlflow.models.set_model(FromModule())
"""


def log(model: object, registered: str, **extra: object) -> None:
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="model",
            python_model=model,
            registered_model_name=registered,
            # Inferring them costs seconds, and nothing here needs it.
            **{"pip_requirements": ["mlflow"], **extra},
        )


def log_with_module(directory: Path, module: str, number: int) -> None:
    package = directory / "code" / str(number) / f"{module}.py"
    package.parent.mkdir(parents=True)
    package.write_text(f"NUMBER = {number}\n")
    script = package.parent / "model_script.py"
    script.write_text(FROM_MODULE.format(module=module))
    sys.path.insert(0, str(package.parent))
    sys.modules.pop(module, None)
    try:
        log(str(script), "shadowed", code_paths=[str(package)])
    finally:
        sys.path.remove(str(package.parent))
        sys.modules.pop(module, None)


def log_classifiers() -> None:
    from sklearn.linear_model import LogisticRegression

    table = pd.DataFrame({"links": [0.0, 1.0, 2.0, 3.0], "words": [9.0, 5.0, 4.0, 1.0]})
    for registered, answers in (("risk", "predict_proba"), ("mail", "predict")):
        for strength in (1.0, 0.1):
            labels = [0, 0, 1, 1] if registered == "risk" else ["ham", "ham", "spam", "spam"]
            model = LogisticRegression(C=strength).fit(table, labels)
            with mlflow.start_run():
                mlflow.sklearn.log_model(
                    model,
                    name="model",
                    registered_model_name=registered,
                    input_example=table.head(1),
                    pyfunc_predict_fn=answers,
                    pip_requirements=["mlflow", "scikit-learn"],
                    serialization_format="cloudpickle",
                )


def main(directory: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    mlflow.create_experiment("e2e", artifact_location=str(directory / "artifacts"))
    mlflow.set_experiment("e2e")
    faults = {3: "load", 6: "sleep", 7: "bad text", 8: "slow load"}
    for number in range(1, 9):
        required = ["mlflow", "no-such-library==1.0"] if number == 7 else ["mlflow"]
        log(Constant(number, faults.get(number, "")), "sentiment", pip_requirements=required)
    for number, fault, kind in ((9, "str", DataType.string), (10, "bytes", DataType.binary)):
        log(Constant(number, fault), "sentiment", signature=ModelSignature(Schema([ColSpec(kind, "text")])))
    text = Schema([ColSpec(DataType.string, "text")])
    example = pd.DataFrame({"text": ["one", "another"]})
    log(Reporting(11), "sentiment", signature=ModelSignature(text), input_example=example)
    log(Reporting(12), "sentiment")
    log(Constant(13, "nan"), "sentiment")
    alike = pd.DataFrame({"text": ["one", "two"]})
    log(Constant(14, "longest"), "sentiment", signature=ModelSignature(text), input_example=alike)
    client = mlflow.MlflowClient()
    source = client.get_model_version_download_uri("sentiment", "4")
    if source.startswith("models:/"):
        source = client.get_logged_model(source.removeprefix("models:/")).artifact_location
    (Path(source.removeprefix("file://")) / "python_model.pkl").write_bytes(b"\x80\x05 torn")
    log_with_module(directory, "feature_maker", 1)
    log_with_module(directory, "feature_maker", 2)
    log_with_module(directory, "router", 3)
    log_classifiers()
    for name in ("sentiment", "shadowed", "risk", "mail"):
        client.set_registered_model_alias(name, "production", "1")
        client.set_registered_model_alias(name, "canary", "2")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
