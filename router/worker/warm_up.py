"""The first predictions of a version: its own input example, before any caller's request."""

from dataclasses import dataclass
from typing import Any

from mlflow.pyfunc import PyFuncModel

from router.core.work import Query, Verdict
from router.worker.decode.request_decoder import DecodedRequest, NotTaken
from router.worker.scorer import Scorer


@dataclass(frozen=True, slots=True)
class WarmUpResult:
    """How the warm-up went."""

    warm: bool
    """True when the version predicted its example."""
    predictions: Any = None
    request: DecodedRequest | None = None
    """The example, decoded; None when there was no warm-up."""
    note: str = ""
    failure: BaseException | None = None
    """What the version raised on its example."""


def warm_up(scorer: Scorer, model: PyFuncModel, directory: str) -> WarmUpResult:
    """Predict the version's example, through the path of requests where the example was logged for serving.

    What the version raises on it is no reason to refuse the version, which MLflow would serve, nor is an
    example that its own signature refuses: then it is READY without being warm, and says so. Whoever
    requires the warm-up sees in `note` that it failed.
    """
    if model.metadata.saved_input_example_info is None:
        return WarmUpResult(warm=False)
    request = None
    if (body := _serving_input(model, directory)) is not None:
        request = scorer.decode(Query(body, None))
    try:
        if not isinstance(request, DecodedRequest):
            request = scorer.decoder.decode_example(model.input_example)
    except NotTaken:
        note = "its input example cannot be predicted, so it starts without a warm-up."
        return WarmUpResult(warm=False, note=note)
    predicted = scorer.predict([request])
    failure = predicted.failure
    if failure is None and scorer.answer_to(request, predicted).verdict is not Verdict.OK:
        failure = ValueError("the answer to its input example cannot be written as JSON")
    if failure is not None:
        note = f"it failed to predict its input example ({type(failure).__name__}), and is not warm."
        return WarmUpResult(warm=False, note=note, failure=failure)
    return WarmUpResult(warm=True, predictions=predicted.predictions, request=request)


def _serving_input(model: PyFuncModel, directory: str) -> bytes | None:
    try:
        text: str | None = model.metadata.get_serving_input(directory)
    except OSError:  # named in the metadata, absent among the files
        return None
    return None if text is None else text.encode()
