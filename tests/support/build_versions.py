"""Run by itself, as users log: saves the versions that the tests load, below the directory given."""

import ctypes
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

# MLflow advises on how to log; these versions are logged as they are on purpose.
warnings.simplefilter("ignore")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

logging.disable(logging.WARNING)

import mlflow  # noqa: E402 - after the environment it reads
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import Model, ModelSignature, infer_signature  # noqa: E402
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST  # noqa: E402
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec  # noqa: E402
from mlflow.types.schema import Array, Object, Property  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

ROOT = Path(sys.argv[1])
NO_SECRETS = (
    "AWS_CA_BUNDLE",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_USE_FIPS_ENDPOINT",
)
"""Variables that a machine may set for everybody: where certificates lie, the region and the like."""
PythonModel = mlflow.pyfunc.PythonModel
texts = pd.DataFrame({"text": ["good", "not so good"]})


class Lengths(PythonModel):
    """A score per text: its length times a factor from an artifact."""

    def load_context(self, context: Any) -> None:
        self.factor = float(Path(context.artifacts["factor"]).read_text())

    def predict(self, context, model_input, params=None):
        return np.array([self.factor * len(text) for text in model_input["text"]])


class Commands(PythonModel):
    """Does what its one column says; whatever it does not know, it answers."""

    def predict(self, context, model_input, params=None):
        return [self.run_command(command) for command in model_input["command"]]

    def run_command(self, command: str) -> Any:
        name, _, argument = command.partition(":")
        return getattr(self, name, lambda argument: command)(argument)

    def fail(self, argument: str) -> Any:
        raise ValueError(argument)

    def exit(self, argument: str) -> Any:
        sys.exit(3)

    def interrupt(self, argument: str) -> Any:
        raise KeyboardInterrupt

    def missing(self, argument: str) -> Any:
        raise MlflowException(argument, RESOURCE_DOES_NOT_EXIST)

    def internal(self, argument: str) -> Any:
        raise MlflowException(argument)

    def die(self, argument: str) -> Any:
        os._exit(int(argument))

    def segfault(self, argument: str) -> Any:
        return ctypes.string_at(1)

    def unwritable(self, argument: str) -> Any:
        return object()

    def nan(self, argument: str) -> Any:
        return float("nan")

    def pid(self, argument: str) -> Any:
        return os.getpid()

    def sleep(self, argument: str) -> Any:
        time.sleep(float(argument))
        return "slept"

    def hang(self, argument: str) -> Any:
        """Holds the GIL in C, as a library that never comes back."""
        Path(argument).touch()
        return ctypes.PyDLL(None).sleep(1000)

    def fork(self, argument: str) -> Any:
        if (pid := os.fork()) == 0:
            time.sleep(float(argument))
            os._exit(0)
        return pid

    def fork_away(self, argument: str) -> Any:
        if (pid := os.fork()) == 0:
            os.setsid()
            time.sleep(float(argument))
            os._exit(0)
        return pid

    def write(self, argument: str) -> Any:
        sys.stdout.write("noise\n" * 1000)
        os.write(1, b"raw noise\n" * 1000)
        os.write(2, b"raw noise\n")
        return "wrote"

    def run(self, argument: str) -> Any:
        """Runs lines of Python, and answers what they call `answer`."""
        names: dict[str, Any] = {}
        exec(argument, names)
        return names["answer"]

    def draw(self, argument: str) -> Any:
        return float(np.random.random())

    def threads(self, argument: str) -> Any:
        import threadpoolctl

        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

    def secrets(self, argument: str) -> Any:
        return sorted(
            name
            for name, value in os.environ.items()
            if name.startswith(("AWS_", "MLFLOW_TRACKING", "CANARY_ROUTER_"))
            and name not in NO_SECRETS
            and (name, value) != ("MLFLOW_TRACKING_URI", "no-tracking:")  # says that there is none
        )


class Configured(PythonModel):
    """Answers its model_config, and spoils it."""

    def predict(self, context, model_input, params=None):
        shown = str(sorted(context.model_config.items()))
        context.model_config.get("deep", {}).clear()
        return [shown] * len(model_input)


class Scripted(PythonModel):
    """Runs one line when it is loaded and answers what another one says."""

    def __init__(self, load: str = "None", answer: str = "[0.5] * len(data)") -> None:
        self.load, self.answer = load, answer

    def load_context(self, context: Any) -> None:
        exec(self.load)

    def predict(self, context, model_input, params=None):
        return eval(self.answer, {"data": model_input, "params": params, "np": np, "pd": pd})


class Writing(PythonModel):
    """Writes to a file of its own: when it is loaded, when it predicts, or by another one in its place."""

    def __init__(self, when: str) -> None:
        self.when = when

    def load_context(self, context: Any) -> None:
        self.path = context.artifacts["index"]
        if self.when == "load":
            self.write()
        elif self.when == "replace":
            with open(f"{self.path}.new", "w") as file:
                file.write("another")
            os.replace(f"{self.path}.new", self.path)

    def write(self) -> None:
        if not os.stat(self.path).st_mode & 0o200:  # as the system refuses it to all but root
            raise PermissionError(13, "Permission denied", self.path)
        with open(self.path, "a") as file:
            file.write("# written")

    def predict(self, context, model_input, params=None):
        if self.when == "predict":
            self.write()
        return [0.5] * len(model_input)


SHARING = {
    "counts_rows": "[float(len(data))] * len(data)",
    "centres": "[float(len(t)) - data['text'].str.len().mean() for t in data['text']]",
    "answers_once": "[float(data['text'].str.len().sum())]",
    "refuses_many": "[0.5] if len(data) == 1 else [][0]",
    "mutates": "data.pop('text').str.len().astype(float).tolist()",
    "waits_once": "__import__('time').sleep(0.02) or [float(len(t)) for t in data['text']]",
    "waits_per_row": "[__import__('time').sleep(0.02) or float(len(t)) for t in data['text']]",
    "waits_in_service": "[__import__('time').sleep(0.02 if t[0] == 'x' else 0) or float(len(t)) "
    "for t in data['text']]",
    "not_a_number": "[float('nan') if 'nan' in t else 0.5 for t in data['text']]",
    "pops_cells": "[cell.pop('x') + 1 for cell in data['cell']]",
    "breaks_answering": "[setattr(f.f_locals['self'], '_send', None) for f in [s.frame for s in "
    "__import__('inspect').stack()] if f.f_code.co_name == '_answer'] and [0.5]",
    "tells_nan": "[{'nan': np.nan, 'inf': np.inf, 'ninf': -np.inf}.get(t, 0.5) for t in "
    "(data['text'] if 'text' in data else ['nan'])]",
    "tells_tables": "[repr((data.to_dict('split'), [repr(d) for d in data.dtypes], data.index))] * len(data)",
    "poisoned": "[1 / (0 if 'poison' in t else len(t)) for t in data['text']]",
}
"""Versions without signature and example that treat rows in one way each."""


FEW_THREADS = """
import threading

def limited(thread, start=threading.Thread.start, left=[{number}]):
    if not left[0]:
        raise RuntimeError("can't start new thread")
    left[0] -= 1
    start(thread)

threading.Thread.start = limited
"""
"""From its load on, its process can start so many threads."""


FROM_CODE = """
import mlflow

class Lengths(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [0.01 * len(text) for text in model_input["text"]]

mlflow.models.set_model(Lengths())
"""


AGENT = """
import mlflow
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentResponse


class Greeter(ResponsesAgent):
    def predict(self, request):
        return ResponsesAgentResponse(output=[self.create_text_output_item("hi", "1")])


mlflow.models.set_model(Greeter())
"""


POOLED = """
import multiprocessing

def lengths(data):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(len, data["text"])
"""


class Padded(PythonModel):
    """Pads texts to the longest, as networks do, and takes the mean of a float32 per letter."""

    def __init__(self, *, masked: bool) -> None:
        """Without a mask the padding counts, so that a score depends on the longest of the other texts."""
        self.masked = masked

    def predict(self, context, model_input, params=None):
        scores = np.random.default_rng(7).random(128, np.float32)
        width = max(map(len, model_input["text"]))
        letters = np.array(
            [[ord(one) % 128 for one in text.ljust(width, "\0")] for text in model_input["text"]]
        )
        counted = letters > 0 if self.masked else np.ones(letters.shape, bool)
        return (scores[letters] * counted).sum(axis=1) / counted.sum(axis=1, dtype=np.float32)


class FromCode(PythonModel):
    """Answers with what a module that the version ships says."""

    def __init__(self, module: str) -> None:
        self.module = module

    def load_context(self, context: Any) -> None:
        import importlib

        self.value = importlib.import_module(self.module).VALUE

    def predict(self, context, model_input, params=None):
        return [self.value] * len(model_input)


class Hinted(PythonModel):
    """A version whose signature comes from its type hints."""

    def predict(self, model_input: list[str], params: Any = None) -> list[str]:
        return [text.upper() for text in model_input]


class Traces(PythonModel):
    """Traces each predict, as MLflow's documentation shows it."""

    @mlflow.trace
    def predict(self, context, model_input, params=None):
        return [0.5] * len(model_input)


def save(name: str, model: PythonModel, **more: Any) -> None:
    mlflow.pyfunc.save_model(ROOT / name, python_model=model, pip_requirements=["mlflow"], **more)


def code(name: str, files: dict[str, str]) -> list[str]:
    """`code_paths` with these modules."""
    for path, text in files.items():
        file = ROOT / "code" / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return [str(ROOT / "code" / name / next(iter(files)).partition("/")[0])]


def save_for_inference() -> None:
    """Versions for the Open Inference Protocol: what they are given, they answer."""
    save("echo", Scripted(answer="data"))
    number, text = np.dtype("float32"), np.dtype("str")
    named = Schema(
        [
            TensorSpec(number, (-1, 2), "n"),
            TensorSpec(text, (-1,), "s"),
            TensorSpec(np.dtype("datetime64[ns]"), (-1,), "t"),
        ]
    )
    save("echo_tensors", Scripted(answer="data"), signature=ModelSignature(inputs=named, outputs=named))
    moments = Schema([TensorSpec(np.dtype(f"datetime64[{unit}]"), (-1,), unit) for unit in ("D", "ps")])
    save("echo_moments", Scripted(answer="data"), signature=ModelSignature(inputs=moments))
    rows = Schema(
        [
            ColSpec(Array(DataType.double), "vector"),
            ColSpec(Object([Property("id", DataType.long)]), "who"),
            ColSpec(DataType.integer, "i", required=False),
            ColSpec(DataType.float, "f", required=False),
        ]
    )
    save("echo_nested", Scripted(answer="data"), signature=ModelSignature(inputs=rows))
    unnamed = Schema([ColSpec(DataType.double), ColSpec(DataType.string)])
    save("echo_unnamed", Scripted(answer="data"), signature=ModelSignature(inputs=unnamed))
    columns = [ColSpec(DataType.double, name) for name in ("low", "high")]
    save(
        "two_outputs",
        Scripted(answer="np.column_stack([data['x'], data['x'] + 1])"),
        signature=ModelSignature(inputs=Schema([ColSpec(DataType.double, "x")]), outputs=Schema(columns)),
    )


def main() -> None:
    factor = ROOT / "factor.txt"
    factor.write_text("0.01")
    artifacts = {"factor": str(factor)}
    save("plain", Lengths(), artifacts=artifacts)
    save(
        "signed",
        Lengths(),
        artifacts=artifacts,
        signature=infer_signature(texts, np.array([0.1])),
        input_example=texts,
    )
    save("commands", Commands())
    written_to = ROOT / "index.txt"
    written_to.write_text("0\n")
    index = {"index": str(written_to)}
    save("writes_on_load", Writing("load"), artifacts=index)
    save("writes_on_example", Writing("predict"), artifacts=index, input_example=texts)
    save("writes_on_request", Writing("predict"), artifacts=index)
    save("replaces_on_load", Writing("replace"), artifacts=index)
    save("raises_on_load", Scripted(load="raise RuntimeError('no such\\nlexicon \\x1b[31m' + 'x' * 2000)"))
    save("exits_on_load", Scripted(load="raise SystemExit(4)"))
    save("dies_on_load", Scripted(load="__import__('os')._exit(7)"))
    save("dies_of_memory_on_load", Scripted(load="__import__('os').kill(__import__('os').getpid(), 9)"))
    for number in (0, 2):
        save(
            f"starts_{number}_threads",
            Scripted(
                load=FEW_THREADS.format(number=number),
                answer="[(__import__('time').sleep(0.2), __import__('threading').current_thread().name)[1]]",
            ),
        )
    save("slow_to_load", Scripted(load="__import__('time').sleep(1000)"))
    save("raises_on_example", Scripted(answer="data['nowhere']"), input_example=texts)
    save("raises_often", Scripted(answer="data['nowhere']"))
    in_service = "__import__('os').environ.get('_MLFLOW_IS_IN_SERVING_ENVIRONMENT')"
    for name, line in (("dies_on_example", "os')._exit(9)"), ("hangs_on_example", "time').sleep(1000)")):
        save(
            name,
            Scripted(
                answer=f"({in_service} and data['text'].iloc[0] == 'good' and __import__('{line})"
                " or [0.5] * len(data)"
            ),
            signature=infer_signature(texts, np.array([0.1])),
            input_example=texts,
        )
    save("far", Scripted(answer="np.full(len(data), 250.0)"), input_example=texts)
    save("labels", Scripted(answer="['spam'] * len(data)"), input_example=texts)
    save("tables", Scripted(answer="pd.DataFrame({'label': ['a', 'b'], 'score': [0.25, float('nan')]})"))
    signature = infer_signature(texts, [0.5])
    save("refuses_example", Scripted(), signature=signature, input_example=texts)
    for file in (ROOT / "refuses_example").glob("*input_example.json"):
        file.write_text(file.read_text().replace('"text"', '"other"'))
    for name, module, files in (
        ("helper_a", "helper", {"helper.py": "VALUE = 'a'\n"}),
        ("helper_b", "helper", {"helper.py": "VALUE = 'b'\n"}),
        ("ships_router", "router.core", {"router/__init__.py": "", "router/core.py": "VALUE = 'theirs'\n"}),
    ):
        save(name, FromCode(module), code_paths=code(name, files))
    files = {"router/__init__.py": "", "router/pooled.py": POOLED}
    paths = code("spawns", files)
    save("spawns", Scripted(answer="__import__('router.pooled').pooled.lengths(data)"), code_paths=paths)
    save("hinted", Hinted())
    save("traces", Traces())
    save("logs", Scripted(answer="__import__('mlflow').log_metric('rows', 1.0) or [0.5]"))
    save("switches_tracing_on", Scripted(load="__import__('mlflow').tracing.enable()"))
    save("loads_another", Scripted(load="__import__('mlflow').pyfunc.load_model('models:/other/1')"))
    save(
        "wraps_loading_another",
        Scripted(
            load="try:\n __import__('mlflow').pyfunc.load_model('models:/other/1')\n"
            "except Exception as error: raise RuntimeError('no base model') from error"
        ),
    )
    inner = f"__import__('mlflow').pyfunc.load_model({str(ROOT / 'plain')!r})"
    save("loads_plain", Scripted(load=inner, answer=f"{inner}.predict(data)"))
    agent = ROOT / "code" / "agent.py"
    agent.write_text(AGENT)
    mlflow.pyfunc.save_model(ROOT / "agent", python_model=str(agent), pip_requirements=["mlflow"])
    for name, answer in SHARING.items():
        save(name, Scripted(answer=answer))
    script = ROOT / "code" / "from_code.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(FROM_CODE)
    mlflow.pyfunc.save_model(
        ROOT / "from_code", python_model=str(script), pip_requirements=["mlflow"], input_example=texts
    )
    save("configured", Configured(), model_config={"k": 1, "kept": [0.5], "deep": {}})
    save("answers_a_mapping", Scripted(answer="{'text': 'hi'}"))
    save("answers_a_list_of_one", Scripted(answer="[{'text': 'hi'}]"))
    save("answers_five", Scripted(answer="['hi'] * 5"))
    words = pd.DataFrame({"text": ["good", "evil"]})
    for name, masked in (("padded", True), ("padded_without_a_mask", False)):
        signature = infer_signature(words, np.float32([0.1]))
        save(name, Padded(masked=masked), signature=signature, input_example=words)
    save("has_env_vars", Lengths(), artifacts=artifacts)
    metadata = Model.load(ROOT / "has_env_vars")
    metadata.env_vars = ["SOME_API_KEY"]
    metadata.save(ROOT / "has_env_vars" / "MLmodel")
    for name in ("counts_rows", "centres", "waits_once", "waits_in_service"):
        save(
            f"{name}_with_example",
            Scripted(answer=SHARING[name]),
            signature=infer_signature(texts, np.array([0.1])),
            input_example=texts,
        )
    save(
        "signed_poisoned",
        Scripted(answer=SHARING["poisoned"].replace("data['text']", "data.pop('text')")),
        signature=infer_signature(texts, np.array([0.1])),
        input_example=texts,
    )
    columns = Schema(
        [
            ColSpec(DataType.double, "d"),
            ColSpec(DataType.long, "l"),
            ColSpec(DataType.string, "s"),
            ColSpec(DataType.boolean, "b", required=False),
            ColSpec(DataType.datetime, "t", required=False),
            ColSpec(DataType.binary, "x", required=False),
        ]
    )
    params = ParamSchema([ParamSpec("scale", DataType.double, 1.0), ParamSpec("n", DataType.long, 3)])
    echo = "[repr((data.dtypes.astype(str).to_dict(), data.to_dict('list'), params))]"
    save("columns", Scripted(answer=echo), signature=ModelSignature(inputs=columns, params=params))
    tensor = Schema([TensorSpec(np.dtype("float32"), (-1, 2))])
    save("tensor", Scripted(answer="data.sum(axis=1)"), signature=ModelSignature(inputs=tensor))
    in_place = "np.subtract(data, data.mean(axis=0), out=data)[:, 0].copy()"
    save("centres_in_place", Scripted(answer=in_place), signature=ModelSignature(inputs=tensor))
    words = ParamSchema([ParamSpec("words", DataType.string, ["a", "b"], (-1,))])
    save(
        "adds_to_params",
        Scripted(answer="params['words'].append('c') or [len(params['words'])]"),
        signature=ModelSignature(inputs=infer_signature(texts).inputs, params=words),
    )
    save_for_inference()
    frame = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "usage": [1.0, 5.0, 2.0, 8.0]})
    model = LogisticRegression().fit(frame, [0, 0, 1, 1])
    mlflow.sklearn.save_model(
        model,
        ROOT / "churn",
        signature=infer_signature(frame, model.predict_proba(frame)),
        input_example=frame.head(2),
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=["mlflow", "scikit-learn"],
    )


main()
