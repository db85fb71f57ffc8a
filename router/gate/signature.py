"""Whether callers of production can call the candidate, by the signatures that both were logged with. Pure.

A request that production takes must be one that the candidate takes, and an answer must have what callers
read of production's. Everything that was logged otherwise is named, column by column.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from router.gate.findings import Finding, judged, not_checked
from router.gate.model_files import Fields, Signature

CHECK = "signature"
_WIDER: Mapping[str, Collection[str]] = {
    "integer": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
}
"""By a column's type, those that take every request that it takes. MLflow converts each of these."""
_MOST_SHOWN = 8


def compare_signatures(
    production: Signature | None, candidate: Signature | None, sent: Collection[str] = ()
) -> Finding:
    """`sent`: columns that every caller sends already, though production does not need them."""
    if production is None or candidate is None:
        whose = "production's version" if production is None else "the candidate"
        return not_checked(CHECK, f"{whose} was logged without a signature")
    faults: list[str] = []
    notes: list[str] = []
    for finding, is_fault in _inputs(production.inputs, candidate.inputs, sent):
        (faults if is_fault else notes).append(finding)
    for finding, is_fault in _outputs(production.outputs, candidate.outputs):
        (faults if is_fault else notes).append(finding)
    for finding, is_fault in _params(production.params, candidate.params):
        (faults if is_fault else notes).append(finding)
    return judged(CHECK, faults, "every request that production takes is one that the candidate takes", notes)


_Difference = tuple[str, bool]
"""A sentence, and whether it fails the candidate."""


def _inputs(production: Fields, candidate: Fields, sent: Collection[str]) -> Iterator[_Difference]:
    old, new = _by_name(production, "input"), _by_name(candidate, "input")
    added = [name for name in new if name not in old]
    needed = [name for name in added if _required(new[name]) and name not in sent]
    if needed:
        hint = "callers that do not send it get an error, and --sends says that all of them do"
        yield f"it requires {_names(needed)}, which production does not need: {hint}", True
    if declared := [name for name in added if name in sent]:
        yield f"it requires {_names(declared)}, which callers are said to send already", False
    if optional := [name for name in added if not _required(new[name])]:
        yield f"it also takes {_names(optional)}", False
    if dropped := [name for name in old if name not in new]:
        yield f"it takes no {_names(dropped)}: what callers send there is not looked at any more", False
    for name in old:
        if name in new:
            yield from _input(name, old[name], new[name])


def _input(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[_Difference]:
    was, now = _type(old), _type(new)
    if was != now:
        wider = now in _WIDER.get(was, ()) or _takes_shape(old, new)
        yield f"{name} is {now} to it and {was} to production", not wider
    if _required(new) and not _required(old):
        yield f"it requires {name}, which callers of production may leave out", True


def _outputs(production: Fields, candidate: Fields) -> Iterator[_Difference]:
    # One without outputs says nothing of its answers: the example shows what they are.
    if not production or not candidate:
        return
    old, new = _by_name(production, "output"), _by_name(candidate, "output")
    if missing := [name for name in old if name not in new]:
        yield f"it does not answer {_names(missing)}, which production answers", True
    if added := [name for name in new if name not in old]:
        yield f"it also answers {_names(added)}", False
    for name in old:
        if name in new and (was := _type(old[name])) != (now := _type(new[name])):
            yield f"its answer {name} is {now}, and production's is {was}", True


def _params(production: Fields, candidate: Fields) -> Iterator[_Difference]:
    old, new = _by_name(production, "parameter"), _by_name(candidate, "parameter")
    if missing := [name for name in old if name not in new]:
        yield f"it ignores the parameter {_names(missing)}, which production follows", False
    for name in old:
        if name in new and (was := _type(old[name])) != (now := _type(new[name])):
            yield f"the parameter {name} is {now} to it and {was} to production", True


def _by_name(fields: Fields, what: str) -> dict[str, Mapping[str, Any]]:
    return {str(field.get("name", f"{what} {number}")): field for number, field in enumerate(fields)}


def _required(field: Mapping[str, Any]) -> bool:
    return bool(field.get("required", True))


def _type(field: Mapping[str, Any]) -> str:
    """As people write it, with what it is made of; equal for equal types only."""
    kind = str(field.get("type"))
    if isinstance(spec := field.get("tensor-spec"), Mapping):
        return f"tensor of {spec.get('dtype')}, shape {tuple(spec.get('shape') or ())}"
    if kind == "array":
        return f"array of {_type(_mapping(field.get('items')))}"
    if kind == "map":
        return f"map of {_type(_mapping(field.get('values')))}"
    if kind == "object":
        properties = _mapping(field.get("properties"))
        inner = (
            f"{name}{'' if _required(_mapping(one)) else '?'}: {_type(_mapping(one))}"
            for name, one in sorted(properties.items())
        )
        return f"object of {', '.join(inner)}"
    return kind


def _takes_shape(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a tensor of any size stands where production's has a fixed one."""
    was, now = _mapping(old.get("tensor-spec")), _mapping(new.get("tensor-spec"))
    old_shape, new_shape = was.get("shape") or (), now.get("shape") or ()
    if not was or was.get("dtype") != now.get("dtype") or len(old_shape) != len(new_shape):
        return False
    return all(b in (-1, a) for a, b in zip(old_shape, new_shape, strict=True))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
