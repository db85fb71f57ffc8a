"""The first predictions of a version: its own input example, before any caller's request."""

from dataclasses import dataclass
from typing import Any

from mlflow.pyfunc import PyFuncModel

from router.protocol.messages import PredictStatus, Query
from router.worker.preparing import NotTaken, Prepared
from router.worker.scoring import Scorer


@dataclass(frozen=True, slots=True)
class Warmth:
    """How the warm-up went."""

    warm: bool
    """True when the version predicted its example."""
    predictions: Any = None
    prepared: Prepared | None = None
    """The example, decoded; None when there was no warm-up."""
    note: str = ""
    failure: BaseException | None = None
    """What the version raised on its example."""


def warm_up(scorer: Scorer, model: PyFuncModel, directory: str) -> Warmth:
    """Predict the version's example, through the path of requests where the example was logged for serving.

    What the version raises on it is no reason to refuse the version, which MLflow would serve, nor is an
    example that its own signature refuses: then it is READY without being warm, and says so. Whoever
    requires the warm-up sees in `note` that it failed.
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
    failure = predicted.failure
    if failure is None and scorer.told(prepared, predicted).verdict is not PredictStatus.OK:
        failure = ValueError("the answer to its input example cannot be written as JSON")
    if failure is not None:
        note = f"it failed to predict its input example ({type(failure).__name__}), and is not warm."
        return Warmth(warm=False, note=note, failure=failure)
    return Warmth(warm=True, predictions=predicted.predictions, prepared=prepared)


def _serving_input(model: PyFuncModel, directory: str) -> bytes | None:
    try:
        text: str | None = model.metadata.get_serving_input(directory)
    except OSError:  # named in the metadata, absent among the files
        return None
    return None if text is None else text.encode()
