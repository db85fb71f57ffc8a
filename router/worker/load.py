"""From a directory to a READY version: load, warm up with its own example, choose what to score."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import mlflow.pyfunc
from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT as SERVING
from mlflow.pyfunc import PyFuncModel

from router.errors import LoadFailed
from router.processes.child_logging import say
from router.protocol.messages import Batching, LoadSpec, TensorInfo, VersionInfo, describable
from router.worker.choosing import choose_outputs, known_classes
from router.worker.complaints import Complaints
from router.worker.independence import Earning, shown_by_example
from router.worker.inference.contract import contract_of, with_outputs
from router.worker.inference.prepare import warm_outputs
from router.worker.mismatches import mismatches
from router.worker.preparing import Prepared
from router.worker.scoring import Scorer
from router.worker.tracking import NO_TRACKING, lacks_tracking
from router.worker.warm_up import Warmth, warm_up

_ERROR_CHARACTERS = 500
_PYFUNC = mlflow.pyfunc.FLAVOR_NAME


@dataclass(frozen=True, slots=True)
class Loaded:
    """A READY version."""

    scorer: Scorer
    info: VersionInfo
    earning: Earning | None
    """What may yet find out whether requests may share predicts; None where that is settled."""


def bring_up(spec: LoadSpec, note: str = "") -> Loaded:
    """Load and warm up one version in this process. Raises LoadFailed with one bounded line.

    `note` is for the operator, and is added to those of the version.
    """
    os.environ[SERVING.name] = "true"
    phase_seconds: dict[str, float] = {}
    with _phase("load", spec, phase_seconds):
        model = mlflow.pyfunc.load_model(spec.directory)
        scorer = Scorer(
            model,
            Complaints(spec.version),
            contract_of(model.metadata, spec.version),
            nan_is_null=spec.nan_is_null,
        )
    with _phase("warmup", spec, phase_seconds):
        warmth = _warm_up(scorer, model, spec)
        if spec.warm_up_required and warmth.note:
            raise warmth.failure or ValueError(warmth.note)
    if warmth.failure is not None:
        say(f"{spec.version} serves without a warm-up: it failed on its example", error=warmth.failure)
    if not warmth.warm:
        del phase_seconds["warmup"]
    if warmth.warm:
        scorer.contract = with_outputs(scorer.contract, warm_outputs(warmth.predictions))
    answers = warmth.predictions if warmth.warm else None
    scorer.scores, scores_note = choose_outputs(spec, answers, partial(known_classes, model))
    batching = _batching(spec, scorer, warmth.prepared)
    metadata = model.metadata
    logged_python = metadata.flavors.get(_PYFUNC, {}).get("python_version")
    info = VersionInfo(
        run_id=metadata.run_id or "",
        flavor=next((name for name in metadata.flavors if name != _PYFUNC), _PYFUNC),
        has_signature=metadata.signature is not None,
        has_example=metadata.saved_input_example_info is not None,
        phase_seconds=phase_seconds,
        scores=scorer.scores,
        note=" ".join(filter(None, (warmth.note, scores_note, note))),
        batching=batching or Batching(merges=False, why="its requests are yet to show that they may"),
        mismatches=mismatches(spec.directory, logged_python),
        inputs=_told(scorer.contract.inputs),
        outputs=_told(scorer.contract.outputs),
    )
    earning = None if batching else Earning(scorer.predictions, spec.rtol, scorer.preparer.table)
    return Loaded(scorer, info, earning)


def _warm_up(scorer: Scorer, model: PyFuncModel, spec: LoadSpec) -> Warmth:
    try:
        return warm_up(scorer, model, spec.directory)
    except BaseException as error:  # noqa: BLE001 - a version's code runs where its example is read, too
        note = f"its input example could not be read ({type(error).__name__}), and it is not warm."
        return Warmth(warm=False, note=note, failure=error)


def _batching(spec: LoadSpec, scorer: Scorer, example: Prepared | None) -> Batching | None:
    """Whether requests share predicts, as far as is known without any; None: it is to be earned."""
    if not spec.batches:
        return Batching(merges=False, why="it is switched off")
    if example is None or example.key is None:
        return None
    table = scorer.preparer.table([example])
    shown = shown_by_example(table, lambda data: scorer.bare(data, example.params), spec.rtol)
    if shown is None:
        return None
    if shown:
        return Batching(merges=True, why="its input example is predicted alike together and apart")
    return Batching(merges=False, why="its input example is predicted differently together and apart")


def _told(tensors: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    # A signature too large to be told still serves; its metadata then tells nothing, as without a signature.
    return tuple(tensors) if describable(tensors) else ()


@contextmanager
def _phase(name: str, spec: LoadSpec, seconds: dict[str, float]) -> Iterator[None]:
    started = perf_counter()
    try:
        yield
    except BaseException as error:
        # A version that calls sys.exit while it loads has failed to load; it does not end its worker.
        raise LoadFailed(_one_line(error, spec.directory), phase=name) from error
    finally:
        seconds[name] = perf_counter() - started


def _one_line(error: BaseException, directory: str) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if lacks_tracking(error) and not text.endswith(NO_TRACKING):
        text = f"{NO_TRACKING}; {text}"  # before what may be long
    text = text.replace(directory, "…")  # what is shown to operators names no place on this machine
    printable = "".join(
        character if character.isprintable() else " " for character in text[: 4 * _ERROR_CHARACTERS]
    )
    return " ".join(printable.split())[:_ERROR_CHARACTERS]
