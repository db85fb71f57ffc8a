"""From a directory to a READY version: load, warm up with its own example, choose what to score."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time
from typing import Any

import mlflow.pyfunc
from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT as SERVING
from mlflow.models import Model
from mlflow.pyfunc import TASK, PyFuncModel

from router.errors import LoadFailed
from router.processes.child_logging import log_event
from router.protocol.messages import (
    Batching,
    LoadSpec,
    PredictStatus,
    Query,
    TensorInfo,
    VersionInfo,
    describable,
)
from router.worker import withheld_variables
from router.worker.answers import ErrorReporter
from router.worker.batching_trial import BatchingTrial, shown_by_example
from router.worker.decode.request_decoder import DecodedRequest, NotTaken
from router.worker.environment_check import mismatches
from router.worker.own_files import WRITES, FileStates, changed_since, file_states, was_refused
from router.worker.score_selection import choose_outputs, known_classes
from router.worker.scorer import Scorer
from router.worker.sharing_check import SharingCheck
from router.worker.tracking import NO_TRACKING, lacks_tracking
from router.worker.traits import TraitReader
from router.worker.v2.request import contract_of, warm_outputs, with_outputs

_ERROR_CHARACTERS = 500
_PYFUNC = mlflow.pyfunc.FLAVOR_NAME
_AGENTS = "agent/"
"""How the tasks of agents begin, in MLflow's metadata."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A READY version."""

    scorer: Scorer
    info: VersionInfo
    trial: BatchingTrial | None
    """What may yet find out whether requests may share predicts; None where that is decided."""
    check: SharingCheck | None
    """What repeats shared predicts now and then; None where no request may be predicted twice."""


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


def load_version(spec: LoadSpec, note: str = "", on_loaded: Callable[[], None] = lambda: None) -> Loaded:
    """Load and warm up one version in this process. Raises LoadFailed with one bounded line.

    `note` is for the operator, and is added to those of the version. `on_loaded` is called between the two.
    """
    os.environ[SERVING.name] = "true"
    phase_seconds: dict[str, float] = {}
    processor_seconds: dict[str, float] = {}
    before = {} if spec.writable else file_states(spec.directory)
    with _phase("load", spec, phase_seconds, processor_seconds):
        model = mlflow.pyfunc.load_model(spec.directory, model_config=_own(spec.model_config))
        scorer = Scorer(
            model,
            ErrorReporter(spec),
            contract_of(model.metadata, spec.version),
            nan_is_null=spec.nan_is_null,
        )
    on_loaded()
    with _phase("warmup", spec, phase_seconds, processor_seconds):
        warmed = _warm_up(scorer, model, spec)
        refused = not spec.writable and was_refused(warmed.failure, spec.directory)
        if (spec.warm_up_required or refused) and warmed.note:
            raise warmed.failure or ValueError(warmed.note)
    if warmed.failure is not None:
        log_event(f"{spec.version} serves without a warm-up: it failed on its example", error=warmed.failure)
    if not warmed.warm:
        del phase_seconds["warmup"]
    if warmed.warm:
        scorer.contract = with_outputs(scorer.contract, warm_outputs(warmed.predictions))
    answers = warmed.predictions if warmed.warm else None
    chosen = choose_outputs(spec, answers, partial(known_classes, model))
    scorer.scores = chosen.counted
    metadata = model.metadata
    batching = _batching(spec, scorer, warmed.request, twice=not metadata.env_vars)
    scorer.traits = traits = TraitReader.of(model, spec.directory)
    notes = (
        *(warmed.note, _withheld(spec, warmed, metadata.env_vars or ()), _wrote(spec, before)),
        *(chosen.note, scorer.decoder.note, note),
    )
    logged_python = metadata.flavors.get(_PYFUNC, {}).get("python_version")
    info = VersionInfo(
        run_id=metadata.run_id or "",
        flavor=next((name for name in metadata.flavors if name != _PYFUNC), _PYFUNC),
        has_signature=metadata.signature is not None,
        has_example=metadata.saved_input_example_info is not None,
        phase_seconds=phase_seconds,
        processor_seconds=processor_seconds,
        scores=scorer.scores,
        note=" ".join(filter(None, notes)),
        batching=batching
        or Batching(
            merges=False, why="not yet: its first requests show whether it answers each row by itself"
        ),
        mismatches=mismatches(spec.directory, logged_python, own=spec.own_environment),
        inputs=_describable(scorer.contract.inputs),
        outputs=_describable(scorer.contract.outputs),
        suggested_scores=chosen.suggested,
        trait_columns=traits.columns,
        columns_left_out=traits.left_out,
        effects=effects_of(metadata),
    )
    trial = None if batching else BatchingTrial(scorer.predictions, spec.rtol, scorer.decoder.table)
    return Loaded(scorer, info, trial, None if metadata.env_vars else SharingCheck(scorer, spec.rtol))


def effects_of(metadata: Model) -> str:
    """Why a request may act, or be billed, elsewhere; empty when nothing in the MLmodel says so."""
    if metadata.env_vars:
        names = ", ".join(map(str, metadata.env_vars))
        return f"it used variables of the environment when it was logged: {names[:200]}"
    task = metadata.metadata.get(TASK) if isinstance(metadata.metadata, dict) else None
    if isinstance(task, str) and task.startswith(_AGENTS):
        return f"it is an agent, by its task {task[:100]}"
    return "it names resources that it uses" if metadata.resources else ""


def _wrote(spec: LoadSpec, before: FileStates) -> str:
    changed = changed_since(spec.directory, before)
    if not changed:
        return ""
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return (
        f"its load changed {changed[0]}{more} in the copy that all workers load, and that is fetched anew at"
        f" the next start; {WRITES}."
    )


def _withheld(spec: LoadSpec, warmed: WarmUpResult, used_when_logged: Sequence[str]) -> str:
    asked = [*withheld_variables.named_by(warmed.failure), *used_when_logged]
    remedy = withheld_variables.remedy(asked, spec.environment_variables)
    return f"{remedy}." if remedy else ""


def _own(model_config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    # A version may change what it is given, and an empty one is not the same as none to every flavor.
    return deepcopy(dict(model_config)) if model_config else None


def _warm_up(scorer: Scorer, model: PyFuncModel, spec: LoadSpec) -> WarmUpResult:
    """Predict the version's own input example, before any caller's request.

    What the version raises on it is not a reason to refuse the version, which MLflow would serve, nor is an
    example that its own signature refuses: then it is READY without being warm, and `note` says why.
    """
    if spec.warm_up_seconds == 0.0:
        return WarmUpResult(
            warm=False, note="an earlier warm-up took too long or ended its worker: left out."
        )
    try:
        return _predict_example(scorer, model, spec.directory)
    except BaseException as error:  # noqa: BLE001 - a version's code runs where its example is read, too
        note = f"its input example could not be read ({type(error).__name__}), and it is not warm."
        return WarmUpResult(warm=False, note=note, failure=error)


def _predict_example(scorer: Scorer, model: PyFuncModel, directory: str) -> WarmUpResult:
    """Through the path of requests, where the example was logged for serving."""
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
    if failure is None and scorer.answer_to(request, predicted).predict_status is not PredictStatus.OK:
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


def _batching(
    spec: LoadSpec, scorer: Scorer, example: DecodedRequest | None, *, twice: bool
) -> Batching | None:
    """Whether requests share predicts, as far as is known without any; None: a trial has to show it.

    `twice`: whether a request may be predicted twice, as a trial does.
    """
    if not spec.batches:
        return Batching(merges=False, why="it is switched off")
    shown = None
    if example is not None and example.key is not None:
        table = scorer.decoder.table([example])
        shown = shown_by_example(table, lambda data: scorer.predict_data(data, example.params), spec.rtol)
    if shown is None and not twice:
        why = "its example does not show that they may, and with env_vars no request is predicted twice"
        return Batching(merges=False, why=why)
    return shown


def _describable(tensors: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    # A version with a larger signature still serves; its metadata is then that of one without a signature.
    return tuple(tensors) if describable(tensors) else ()


@contextmanager
def _phase(
    name: str, spec: LoadSpec, seconds: dict[str, float], processor_seconds: dict[str, float]
) -> Iterator[None]:
    started, worked = perf_counter(), process_time()
    try:
        yield
    except BaseException as error:
        # A version that calls sys.exit while it loads has failed to load; it does not end its worker.
        refused = not spec.writable and was_refused(error, spec.directory)
        raise LoadFailed(_one_line(error, spec), phase=name, write_refused=refused) from error
    finally:
        seconds[name] = perf_counter() - started
        processor_seconds[name] = process_time() - worked


def _one_line(error: BaseException, spec: LoadSpec) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    asked = [*withheld_variables.named_by(error), *withheld_variables.listed_in(spec.directory)]
    if remedy := withheld_variables.remedy(asked, spec.environment_variables):
        text = f"{remedy}; {text}"
    if lacks_tracking(error) and not text.endswith(NO_TRACKING):
        text = f"{NO_TRACKING}; {text}"  # before what may be long
    text = text.replace(spec.directory, "…")  # what is shown to operators names no place on this machine
    printable = "".join(
        character if character.isprintable() else " " for character in text[: 4 * _ERROR_CHARACTERS]
    )
    return " ".join(printable.split())[:_ERROR_CHARACTERS]
