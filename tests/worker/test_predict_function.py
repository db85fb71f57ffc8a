"""Predict as `PyFuncModel.predict` calls it, without asking each time how."""

import functools
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.context import Context, get_prediction_context, set_prediction_context
from mlflow.pyfunc.model import _PythonModelPyfuncWrapper
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from router.worker.scorer import predict_function

TABLE = pd.DataFrame({"text": ["a", "b"]})
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string", "text")]), params=ParamSchema([ParamSpec("n", DataType.long, 3)])
)


# Without hints on `predict`: MLflow would take them for a signature.
class WithContext(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [context, len(model_input), params]


class WithoutParams(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return [context, len(model_input)]


class WithoutContext(mlflow.pyfunc.PythonModel):
    def predict(self, model_input, params=None):
        return [len(model_input), params, get_prediction_context()]


class Short(mlflow.pyfunc.PythonModel):
    def predict(self, model_input):
        return [len(model_input)]


class Plain:
    def predict(self, data: Any) -> Any:
        return [len(data)]


class PlainWithParams:
    def predict(self, data: Any, params: Any = None) -> Any:
        return [len(data), params]


class PlainWithMore:
    def predict(self, data: Any, **params: Any) -> Any:
        return [len(data), params]


def loaded(version: Any) -> PyFuncModel:
    metadata = Model(signature=SIGNATURE)
    metadata.add_flavor("python_function", loader_module="tests")
    if isinstance(version, mlflow.pyfunc.PythonModel):
        version = _PythonModelPyfuncWrapper(version, "its context", SIGNATURE)
    return PyFuncModel(metadata, version, model_id="m-1")


@pytest.mark.parametrize(
    "version",
    [WithContext(), WithoutParams(), WithoutContext(), Short(), Plain(), PlainWithParams(), PlainWithMore()],
    ids=lambda version: type(version).__name__,
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_predictions_are_those_of_mlflow(version: Any, wrapped: bool) -> None:
    """Also when the seam is wrapped, as the scorer of MLflow's own path does."""
    model = loaded(version)
    if wrapped:
        inner = model._predict_fn
        model._predict_fn = functools.wraps(inner)(lambda *args, **kwargs: inner(*args, **kwargs))

    assert predict_function(model)(TABLE, {"n": 3}) == model.predict(TABLE)
    assert get_prediction_context() is None


def test_the_context_of_a_prediction_is_that_of_mlflow() -> None:
    """It names the logged model, for traces, within the context of whoever calls."""
    model = loaded(WithoutContext())
    predict = predict_function(model)

    with set_prediction_context(Context(request_id="r-1")):
        *_, context = predict(TABLE, {"n": 3})

    assert (context.request_id, context.model_id) == ("r-1", "m-1")
    assert (model.input_schema, model.params_schema) == (SIGNATURE.inputs, SIGNATURE.params)
