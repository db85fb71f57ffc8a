"""The first predictions of a version: its own input example, before any caller's request."""

from dataclasses import dataclass
from typing import Any

from mlflow.pyfunc import PyFuncModel

from router.core.work import Query, Verdict
from router.worker.request_decoder import NotTaken, Prepared
from router.worker.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Warmth:
    """How the warm-up went."""

    warm: bool
    """True when the version predicted its example."""
    predictions: Any = None
    prepared: Prepared | None = None
    """The example, decoded; None when there was no warm-up."""
    note: str = ""


def warm_up(scorer: Scorer, model: PyFuncModel, directory: str) -> Warmth:
    """Predict the version's example, through the path of requests where the example was logged for serving.

    Raises what the version raises on it. An example that the version's own signature refuses is no reason to
    refuse the version, which MLflow would serve: then it is READY without being warm, and says so.
    """
    if model.metadata.saved_input_example_info is None:
        return Warmth(warm=False)
    prepared = None
    if (body := _serving_input(model, directory)) is not None:
        prepared = scorer.prepare(Query(body, None))
    try:
        if not isinstance(prepared, Prepared):
            prepared = scorer.preparer.example(model.input_example)
    except NotTaken:
        note = "its input example cannot be predicted, so it starts without a warm-up."
        return Warmth(warm=False, note=note)
    predicted = scorer.predict([prepared])
    if predicted.failure is not None:
        raise predicted.failure
    if scorer.told(prepared, predicted).verdict is not Verdict.OK:
        raise ValueError("the answer to its input example cannot be written as JSON")
    return Warmth(warm=True, predictions=predicted.predictions, prepared=prepared)


def _serving_input(model: PyFuncModel, directory: str) -> bytes | None:
    try:
        text: str | None = model.metadata.get_serving_input(directory)
    except OSError:  # named in the metadata, absent among the files
        return None
    return None if text is None else text.encode()
