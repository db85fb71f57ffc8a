"""A version's own predict as `PyFuncModel.predict` calls it; what can be decided once is decided once."""

import inspect
from collections.abc import Callable
from typing import Any

from mlflow.models.dependencies_schemas import _get_dependencies_schema_from_model
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.context import Context, get_prediction_context, set_prediction_context
from mlflow.pyfunc.model import _is_context_in_predict_function_signature, _PythonModelPyfuncWrapper

Predict = Callable[[Any, dict[str, Any] | None], Any]


def predict_function(model: PyFuncModel) -> Predict:
    """A function of data and params, both as the signature has them, that gives what `model.predict` gives.

    MLflow asks `inspect.signature` in every predict, twice for a PythonModel. Only for versions that have a
    decoder: type hints are checked elsewhere.
    """
    metadata = model.metadata
    # As attributes, because `predict` leaves them there for whoever looks.
    model.input_schema, model.params_schema = metadata.get_input_schema(), metadata.get_params_schema()
    known: dict[str, Any] = _get_dependencies_schema_from_model(metadata) or {}
    if model.model_id:
        known["model_id"] = model.model_id
    inner = _inner(model)

    def predict(data: Any, params: dict[str, Any] | None) -> Any:
        context = get_prediction_context() or Context()
        with set_prediction_context(context):
            context.update(**known)
            return inner(data, params)

    return predict


def _inner(model: PyFuncModel) -> Predict:
    wrapper = model._model_impl  # noqa: SLF001 - MLflow's stable developer API
    inner = model._predict_fn  # noqa: SLF001 - the seam between the signature and the version's own code
    if (
        type(wrapper) is _PythonModelPyfuncWrapper
        and inspect.unwrap(inner, stop=inspect.ismethod) == wrapper.predict
    ):
        return _python_model(wrapper)
    takes = inspect.signature(inner).parameters.get("params")
    if takes and takes.kind != inspect.Parameter.VAR_KEYWORD:
        return lambda data, params: inner(data, params=params)
    return lambda data, _: inner(data)


def _python_model(wrapper: Any) -> Predict:
    version, context, convert = wrapper.python_model, wrapper.context, wrapper._convert_input  # noqa: SLF001 - as its own predict
    parameters = inspect.signature(version.predict).parameters
    takes_context = _is_context_in_predict_function_signature(parameters=parameters)
    if "params" in parameters:
        if takes_context:
            return lambda data, params: version.predict(context, convert(data), params=params)
        return lambda data, params: version.predict(convert(data), params=params)
    if takes_context:
        return lambda data, _: version.predict(context, convert(data))
    return lambda data, _: version.predict(convert(data))
