"""The first predictions of a version: its own input example, before any caller's request."""

from dataclasses import dataclass
from typing import Any

from mlflow.pyfunc import PyFuncModel

from router.core.work import Query, Verdict
from router.worker.scoring import Scorer


@dataclass(frozen=True, slots=True)
class Warmth:
    """How the warm-up went."""

    warm: bool
    """True when the version predicted its example."""
    predictions: Any = None
    note: str = ""


def warm_up(scorer: Scorer, model: PyFuncModel, directory: str) -> Warmth:
    """Predict the version's example, through the path of requests where the example was logged for serving.

    Raises what the version raises on it. An example that the version's own signature refuses is no reason to
    refuse the version, which MLflow would serve: then it is READY without being warm, and says so.
    """
    if model.metadata.saved_input_example_info is None:
        return Warmth(warm=False)
    if (body := _serving_input(model, directory)) is not None:
        answer = scorer.answer(Query(body, None))
        if answer.verdict is Verdict.OK:
            return Warmth(warm=True, predictions=scorer.trip.predictions)
        if answer.verdict is Verdict.MODEL_ERROR:
            raise scorer.trip.failure or ValueError(
                "the answer to its input example cannot be written as JSON"
            )
    if model.input_example is not None:
        trip = scorer.begin()
        try:
            return Warmth(warm=True, predictions=model.predict(model.input_example))
        except BaseException:
            if trip.reached:
                raise
    return Warmth(warm=False, note="its input example cannot be predicted, so it starts without a warm-up.")


def _serving_input(model: PyFuncModel, directory: str) -> bytes | None:
    try:
        text: str | None = model.metadata.get_serving_input(directory)
    except OSError:  # named in the metadata, absent among the files
        return None
    return None if text is None else text.encode()
