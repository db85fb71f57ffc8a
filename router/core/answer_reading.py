"""What an answer's bytes say of its type, its scores and its labels, by the version's own JSON. Pure.

Read where two versions' answers to the same request are compared. What is read is for comparing only: items
and names of an answer may come from a request, and are shown nowhere.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite, prod
from typing import Any, NamedTuple

import orjson

from router.core.scores import ClassSpec, OutputSpec

MOST_BYTES = 1 << 20
"""Of an answer that is read; of a longer one type, scores and labels are not looked at."""
_DATATYPE = re.compile(r"[A-Z]{2,5}[0-9]{0,2}")
_MOST_KINDS = 20
"""Of one answer; what else is in it is not looked at."""


class Kind(NamedTuple):
    """The type of an item of an answer."""

    name: str
    """number, text, truth, list or object; of the Open Inference Protocol, the datatype of a tensor."""
    width: int | None = None
    """Items of a list."""
    keys: bytes = b""
    """Digest of the names of an object's items, or of the name of a tensor: names may be as long as the
    answer, and kinds are kept beyond it."""


@dataclass(frozen=True, slots=True)
class AnswerReading:
    """One answer, as far as two of them are compared."""

    kinds: frozenset[Kind] = frozenset()
    """Of its items. What is null is of any type, and not among them."""
    scores: tuple[float | None, ...] = ()
    """One per row, where the counted output holds numbers; None for what is no finite number."""
    labels: tuple[str, ...] = ()
    """One per row, where it holds labels: JSON of each."""


NOTHING_READ = AnswerReading()


def parse_answer(body: bytes) -> Any:
    """The JSON of an answer, MLflow's literals for NaN and infinities included.

    Raises ValueError where it is none, and RecursionError where it is nested too deeply.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)


def read_answer(body: bytes, output: OutputSpec | None) -> AnswerReading:
    """What `body` says, of the output that is counted; None: of the first one.

    `NOTHING_READ` of what is too long, or is no JSON of an answer.
    """
    if len(body) > MOST_BYTES:
        return NOTHING_READ
    try:
        document = parse_answer(body)
    except (ValueError, RecursionError):
        return NOTHING_READ
    if not isinstance(document, dict):
        return AnswerReading(frozenset(_kinds_of([document])))
    if "predictions" in document and len(document) == 1:
        return _of_predictions(document["predictions"], output)
    if isinstance(tensors := document.get("outputs"), list) and all(map(_is_tensor, tensors)):
        return _of_tensors(tensors, output)
    return AnswerReading(frozenset(_kinds_of([document])))


def _of_predictions(predictions: Any, output: OutputSpec | None) -> AnswerReading:
    if isinstance(predictions, list):
        items = predictions
    elif isinstance(predictions, dict) and _are_columns(predictions):
        named = _named(list(predictions), 0 if output is None else output.output)
        column = predictions[named] if named is not None else []
        return _of_column(column, frozenset(_kinds_of([predictions])), output)
    else:
        items = [predictions]
    kinds = frozenset(_kinds_of(items))
    try:
        column = [_cell(item, 0 if output is None else output.output) for item in items]
    except LookupError:
        return AnswerReading(kinds)
    return _of_column(column, kinds, output)


def _of_tensors(tensors: Sequence[Mapping[str, Any]], output: OutputSpec | None) -> AnswerReading:
    kinds = frozenset(
        Kind(_datatype(tensor["datatype"]), prod(tensor["shape"][1:]), _digest([str(tensor["name"])]))
        for tensor in tensors[:_MOST_KINDS]
    )
    wanted = 0 if output is None else output.output
    for tensor in tensors:
        width = prod(tensor["shape"][1:])
        if isinstance(wanted, str):
            if tensor["name"] == wanted and width == 1:
                return _of_column(tensor["data"], kinds, output)
        elif wanted < width:
            return _of_column(tensor["data"][wanted::width], kinds, output)
        else:
            wanted -= width
    return AnswerReading(kinds)


def _of_column(column: Sequence[Any], kinds: frozenset[Kind], output: OutputSpec | None) -> AnswerReading:
    are_numbers = all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in _present(column)
    )
    if are_numbers and not isinstance(output, ClassSpec):
        return AnswerReading(kinds, scores=tuple(map(_score, column)))
    if all(isinstance(item, str | int | float) for item in _present(column)):
        return AnswerReading(kinds, labels=tuple(json.dumps(item) for item in column))
    return AnswerReading(kinds)


def _present(items: Iterable[Any]) -> Iterator[Any]:
    return (item for item in items if item is not None)


def _score(item: Any) -> float | None:
    try:
        return float(item) if item is not None and isfinite(item) else None
    except OverflowError:  # a whole number beyond any float
        return None


def _cell(item: Any, output: int | str) -> Any:
    """The counted output of one item. Raises LookupError where it has none."""
    if isinstance(item, dict):
        named = _named(list(item), output)
        if named is None:
            raise LookupError(output)
        return item[named]
    if isinstance(item, list):
        if isinstance(output, str):
            raise LookupError(output)
        return item[output]
    return item


def _named(names: Sequence[str], output: int | str) -> str | None:
    if isinstance(output, str):
        return output if output in names else None
    return names[output] if output < len(names) else None


def _are_columns(predictions: Mapping[str, Any]) -> bool:
    lengths = {len(one) if isinstance(one, list) else None for one in predictions.values()}
    return len(lengths) == 1 and None not in lengths


def _kinds_of(items: Iterable[Any]) -> set[Kind]:
    kinds: set[Kind] = set()
    for item in items:
        if item is not None:
            kinds.add(_kind(item))
        if len(kinds) == _MOST_KINDS:
            break
    return kinds


def _kind(item: Any) -> Kind:
    if isinstance(item, bool):
        return Kind("truth")
    if isinstance(item, int | float):
        return Kind("number")
    if isinstance(item, str):
        return Kind("text")
    if isinstance(item, list):
        return Kind("list", len(item))
    return Kind("object", None, _digest(item))


def _digest(names: Iterable[str]) -> bytes:
    """Of a set of names: 16 bytes that no other set has, whatever their order."""
    # JSON tells where one name ends, and writes those that are no UTF-8.
    return blake2b(json.dumps(sorted(names)).encode(), digest_size=16).digest()


def _datatype(name: Any) -> str:
    return name if isinstance(name, str) and _DATATYPE.fullmatch(name) else "tensor"


def _is_tensor(tensor: Any) -> bool:
    if not isinstance(tensor, dict) or not {"name", "datatype", "shape", "data"} <= tensor.keys():
        return False
    shape, data = tensor["shape"], tensor["data"]
    sound = isinstance(shape, list) and shape and all(isinstance(one, int) and one >= 0 for one in shape)
    return bool(sound and isinstance(data, list) and len(data) == prod(shape))
