"""What to count of a version's answers when the configuration leaves it open."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel

from router.core.scores import MOST_CLASSES, ClassSpec, OutputSpec, ScoreSpec, describe, label_text
from router.protocol.messages import LoadSpec
from router.worker.scores import column_of, columns_in, labels_of, numbers_of

_SUM_TOLERANCE = 1e-3  # probabilities in half precision, each rounded by itself
_ZERO_ONE = {0, 1}
_Suggestion = tuple[tuple[OutputSpec, ...], str]
"""What to count, and why nothing is."""


class ChosenOutputs(NamedTuple):
    """What is counted of a version's answers."""

    counted: tuple[OutputSpec, ...]
    note: str
    """A sentence for the operator, such as which key to set; empty when there is nothing to say."""
    suggested: tuple[OutputSpec, ...]
    """What the warm-up's answers suggest, whatever is counted."""


def choose_outputs(
    spec: LoadSpec, warm_up_predictions: Any, known: Callable[[], Sequence[Any]] = tuple
) -> ChosenOutputs:
    """What is counted of this version's answers.

    A configured choice stands. Else production's does, or the two could not be compared, unless the warm-up's
    answers lack what production counts. Else they decide; `warm_up_predictions` is None when there was no
    warm-up. `known` gives the labels that the version can answer by its own account; never raises.
    """
    key = f"`models.{spec.version.model}.scores`"
    suggested, note = _suggestion(warm_up_predictions, known, key)
    if spec.scores is not None:
        return ChosenOutputs(spec.scores, _missing(spec.scores, warm_up_predictions, key), suggested)
    of_production = spec.production_scores
    if of_production is None or of_production == suggested:
        return ChosenOutputs(suggested, note, suggested)
    if not of_production:
        note = f"No scores are counted, as none of production's are: {key} names those to count."
        return ChosenOutputs((), note, suggested)
    what = " and ".join(map(describe, of_production))
    if _lacking(of_production, warm_up_predictions):
        alone = f"Its scores are not compared with production's: its answers do not have {what}."
        return ChosenOutputs(suggested, f"{alone} {note}".rstrip(), suggested)
    note = f"It is counted as production is: {what}. {key} names something else for both."
    return ChosenOutputs(of_production, note, suggested)


def known_classes(model: PyFuncModel) -> Sequence[Any]:
    """The labels a classifier can answer by its own account, in its order; empty without one."""
    try:
        classes = model.get_raw_model().classes_
        labels: list[Any] = classes.tolist() if isinstance(classes, np.ndarray) else list(classes)
    except Exception:  # noqa: BLE001 - most flavors have no such model, most models no such attribute
        return ()
    return labels if all(label_text(label) is not None for label in labels) else ()


def _suggestion(answer: Any, known: Callable[[], Sequence[Any]], key: str) -> _Suggestion:
    if answer is None:
        return (ScoreSpec(),), ""
    try:
        outputs, note = _suggested(answer, known)
    except Exception:  # noqa: BLE001 - a version may answer anything at all
        outputs, note = (), "its answers have no columns; {key} can name an output that is a number"
    return outputs, note and f"No scores are counted: {note.format(key=key)}."


def _suggested(answer: Any, known: Callable[[], Sequence[Any]]) -> _Suggestion:
    columns = columns_in(answer)
    if columns == 2 and not isinstance(answer, (pd.DataFrame, Mapping)) and _are_probabilities(answer):
        return (ScoreSpec(1),), ""
    if columns != 1:
        return (), f"its answers have {columns or 'no'} columns; {{key}} names those that are scores"
    column = column_of(answer, 0)
    labels = labels_of(column)
    kinds = {
        bool if isinstance(label, (bool, np.bool_)) else str if isinstance(label, str) else None
        for label in labels
    }
    if kinds == {bool}:
        return (ClassSpec(0, ("false", "true")),), ""
    if str in kinds:
        return _classes(known(), labels)
    values, odd = numbers_of(column)
    if odd is not None and odd.all():
        return (), "its answers are no numbers; {key} can name an output that is"
    finite = values[np.isfinite(values)]
    if np.all(finite == np.floor(finite)) and (classes := known()) and not _ZERO_ONE.issuperset(classes):
        return _classes(classes, labels)
    if np.any((finite < 0) | (finite > 1)):
        return (), "its answers lie outside [0, 1]; {key} sets another range"
    return (ScoreSpec(),), ""


def _are_probabilities(answer: Any) -> bool:
    negative, positive = (numbers_of(column_of(answer, output)) for output in (0, 1))
    if negative[1] is not None or positive[1] is not None or not len(positive[0]):
        return False
    near_one = np.abs(negative[0] + positive[0] - 1) <= _SUM_TOLERANCE
    return bool(near_one.all() and (negative[0] >= 0).all() and (positive[0] >= 0).all())


def _classes(known: Sequence[Any], labels: Sequence[Any]) -> _Suggestion:
    if len(known) > MOST_CLASSES:
        most = f"`classes` names up to {MOST_CLASSES}"
        return (), f"its answers are labels of {len(known)} classes; {{key}} with {most}"
    found = {label for label in labels if label == label}
    with suppress(ValueError):  # labels that no metric can have, such as an empty one
        if set(known) >= found:
            return (ClassSpec(0, tuple(str(label_text(label)) for label in known)),), ""
    return (), "its answers are labels; {key} with `classes` lists those to count"


def _missing(scores: Sequence[OutputSpec], answer: Any, key: str) -> str:
    """A sentence when the warm-up's answers lack what is to be counted."""
    lacking = _lacking(scores, answer)
    return f"{key} counts {' and '.join(lacking)}, which its answers do not have." if lacking else ""


def _lacking(scores: Sequence[OutputSpec], answer: Any) -> list[str]:
    """Those that the warm-up's answers do not have; none where there was no warm-up."""
    return [] if answer is None else [describe(spec) for spec in scores if not _has(answer, spec)]


def _has(answer: Any, spec: OutputSpec) -> bool:
    try:
        column = column_of(answer, spec.output)
        if isinstance(spec, ClassSpec):
            return any(label_text(label) is not None for label in labels_of(column))
        values, odd = numbers_of(column)
    except Exception:  # noqa: BLE001 - no such column
        return False
    return odd is None or not odd.all() or not len(values)
