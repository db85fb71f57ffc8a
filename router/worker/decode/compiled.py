"""A decoder compiled once per version, from its signature."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from mlflow.models.utils import _enforce_params_schema
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.model import _PythonModelPyfuncWrapper

from router.worker.decode.columns import column_readers
from router.worker.decode.envelope import opened, parser_is_known
from router.worker.decode.inferred import inferred_readers
from router.worker.decode.parts import Part, Reader
from router.worker.decode.table import tables_are_known
from router.worker.decode.tensors import tensor_readers

_OWN_FORMATS = ("mlflow.pyfunc.loaders.", "mlflow.pyspark", "mlflow.spark")
_FROM_CODE = "mlflow.pyfunc.loaders.code_model"
"""Loads whatever a script sets as the model: chats and agents, and plain versions as well."""


class CompiledDecoder:
    """Readers of the formats that one version takes."""

    def __init__(self, readers: dict[str, Reader], params: dict[str, Any] | None) -> None:
        self._readers = readers
        self._params = params

    @property
    def params(self) -> dict[str, Any] | None:
        """What MLflow passes as params for a request without any; new each time, lists in it too."""
        return deepcopy(self._params)

    def part(self, body: bytes) -> Part | None:
        """The decoded JSON body; None for the unusual and for what MLflow would refuse. Never raises."""
        try:
            if (found := opened(body)) is None or (reader := self._readers.get(found[0])) is None:
                return None
            return reader(found[1])
        except Exception:  # noqa: BLE001 - whatever it is, MLflow's own code says what is wrong with it
            return None

    def table(self, parts: Sequence[Part]) -> Any:
        """What MLflow would hand to predict for one part; for several of one key, the rows of all."""
        return parts[0].merged(parts)


def compile_decoder(model: PyFuncModel) -> tuple[CompiledDecoder | None, str]:
    """The decoder of a version, and if there is none why not, as the end of a sentence."""
    metadata = model.metadata
    if metadata._is_signature_from_type_hint() or metadata._is_type_hint_from_example():  # noqa: SLF001 - MLflow asks so itself
        return None, "its input is checked against type hints"
    if _has_own_format(model):
        return None, "its flavor has an input format of its own"
    if not parser_is_known() or not tables_are_known():
        return None, "pandas or orjson here do not build tables in the one way that is known"
    schema = metadata.get_input_schema()
    if schema is None:
        readers: dict[str, Reader] | str = inferred_readers()
    elif not schema.inputs:
        readers = "its signature has no inputs"
    elif schema.is_tensor_spec():
        readers = tensor_readers(schema)
    else:
        readers = column_readers(schema)
    if isinstance(readers, str):
        return None, readers
    return CompiledDecoder(readers, _enforce_params_schema(None, metadata.get_params_schema())), ""


def _has_own_format(model: PyFuncModel) -> bool:
    if model.loader_module == _FROM_CODE:
        return type(model._model_impl) is not _PythonModelPyfuncWrapper  # noqa: SLF001 - MLflow's stable developer API
    return (model.loader_module or "").startswith(_OWN_FORMATS)
