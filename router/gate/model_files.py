"""What a version's own files say of it: its signature, and the input example as a caller would send it.

They are read without MLflow, and bounded: whoever logged the version wrote them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

MODEL_FILE = "MLmodel"
EXAMPLE_FILE = "serving_input_example.json"
"""Under this name MLflow writes a request's body."""
_MOST_MODEL_BYTES = 16 << 20
_MOST_EXAMPLE_BYTES = 64 << 20

Fields = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs, outputs and parameters of a version, as its MLmodel lists them; each has a `type`."""

    inputs: Fields
    outputs: Fields
    params: Fields


def signature_in(directory: Path) -> Signature | None:
    """None for a version without one, or whose MLmodel can not be read: MLflow can not load that either."""
    try:
        document = yaml.load(_content(directory / MODEL_FILE, _MOST_MODEL_BYTES), yaml.CSafeLoader)
        written = document["signature"]
        parts = [_fields(written.get(part)) for part in ("inputs", "outputs", "params")]
    except (OSError, yaml.YAMLError, orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return None
    return Signature(*parts)


def example_in(directory: Path) -> bytes | None:
    """The body of a request with the version's input example; None where it was not logged for serving."""
    try:
        return _content(directory / EXAMPLE_FILE, _MOST_EXAMPLE_BYTES)
    except OSError:
        return None


def _content(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"{path.name} has more than {most} bytes")
    return content


def _fields(text: str | None) -> Fields:
    found: Sequence[Any] = orjson.loads(text) if text else ()
    return tuple(field for field in found if isinstance(field, dict))
