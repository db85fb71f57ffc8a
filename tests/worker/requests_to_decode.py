"""Signatures, and generated requests to them: plain ones, edges, and broken ones."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

SCHEMAS: dict[str, Schema | None] = {
    "none": None,
    "text": Schema([ColSpec("string", "text")]),
    "number": Schema([ColSpec("double", "x")]),
    "linear": Schema([ColSpec("double", f"c{i}") for i in range(20)]),
    "mixed": Schema(
        [
            ColSpec("double", "d"),
            ColSpec("long", "l"),
            ColSpec("string", "s"),
            ColSpec("boolean", "b"),
            ColSpec("integer", "i"),
            ColSpec("float", "f"),
            ColSpec("double", "e", required=False),
            ColSpec("string", "t", required=False),
            ColSpec("long", "m", required=False),
            ColSpec("datetime", "w", required=False),
        ]
    ),
    "long": Schema([ColSpec("long", "l"), ColSpec("long", "k", required=False)]),
    "narrow": Schema([ColSpec("float", "f"), ColSpec("integer", "i")]),
    "unnamed": Schema([ColSpec("string")]),
    "unnamed_number": Schema([ColSpec("double")]),
    "nameless": Schema([ColSpec("string"), ColSpec("long")]),
    "dated": Schema([ColSpec("datetime", "t"), ColSpec("string", "s")]),
    "tensor": Schema([TensorSpec(np.dtype("float64"), (-1, 3))]),
    "tensor32": Schema([TensorSpec(np.dtype("float32"), (-1, -1))]),
    "image": Schema([TensorSpec(np.dtype("float32"), (-1, 2, 2, 1))]),
    "integers": Schema([TensorSpec(np.dtype("int64"), (-1, 2))]),
    "small": Schema([TensorSpec(np.dtype("int32"), (-1,))]),
    "flags": Schema([TensorSpec(np.dtype("bool"), (-1,))]),
    "named": Schema(
        [TensorSpec(np.dtype("float32"), (-1, 2), "a"), TensorSpec(np.dtype("int64"), (-1,), "b")]
    ),
    "one_named": Schema([TensorSpec(np.dtype("float64"), (-1, 2), "a")]),
}
PARAMS = ParamSchema(
    [ParamSpec("scale", DataType.double, 1.0), ParamSpec("words", DataType.string, ["a", "b"], (-1,))]
)


@dataclass(frozen=True)
class Generated:
    """A request, and whether it is as a careful client writes it."""

    body: bytes
    plain: bool


PLAIN: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.string: st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12),
    DataType.boolean: st.booleans(),
    DataType.integer: st.integers(-(2**31), 2**31 - 1),
    DataType.long: st.integers(-(2**63), 2**63 - 1),
    DataType.float: st.floats(-1e9, 1e9),
    DataType.double: st.floats(-1e18, 1e18) | st.integers(-(2**53), 2**53),
    DataType.datetime: st.just("2026-01-02"),
}
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from(
        [2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**63 - 1, 2**64 - 1, 2**64, -(2**63) - 1, 2**80, 10**309]
    ),
    st.sampled_from([0.5, -0.0, 1.0, 3.5, 1e300, 5e-324, 3.4028236e38, 16777217.0, 1e19, -1e19]),
    st.sampled_from(["", "a", "12", "1.5", "nan", "NaN", "a\0", "\0", "\ud800", "é\U0001f600", "2026-01-02"]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.just(float("nan")),
    st.just(float("inf")),
    st.sampled_from([[], {}, [1], [[1.5]], {"a": 1}, [None], ["x"]]),
)
EDGES: dict[type, st.SearchStrategy[Any]] = {
    str: st.sampled_from(["", "a\0", "\0a", "12", "null", "\u2028", "x" * 300, None]),
    bool: st.sampled_from([None, 0, 1, True]),
    int: st.sampled_from([2**31 - 1, 2**31, -(2**63), 2**63 - 1, 2**63, 2**64 - 1, 2**53 + 1, 1.0, None]),
    float: st.sampled_from([0, -0.0, 1e300, 2.0**63, 1e22, 5e-324, 2**53 + 1, 2**63, 2**64, True, None]),
}
"""Values that a column of such values may hold, or nearly."""
NAMES = st.sampled_from(["a", "b", "0", "", "index", "columns", "d", "text", "é", "a\0"])


@st.composite
def tables(draw: Any, schema: Schema | None, *, plain: bool) -> tuple[list[str], list[list[Any]]]:
    """Names and rows of a table for a version."""
    if schema is not None and schema.is_tensor_spec():
        names = list(schema.input_names()) if schema.has_input_names() else ["a", "b", "c"]
        kinds = [DataType.double] * len(names)
    elif schema is None or not schema.has_input_names():
        names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
        kinds = [draw(st.sampled_from(list(PLAIN))) for _ in names]
    else:
        dated = not plain and draw(st.integers(0, 5)) == 0
        optional = [spec for spec in schema.inputs if not spec.required and (dated or spec.name != "w")]
        specs = [
            spec for spec in schema.inputs if spec.required or (spec in optional and draw(st.booleans()))
        ]
        specs = draw(st.permutations(specs)) if draw(st.booleans()) else specs
        names, kinds = [spec.name for spec in specs], [spec.type for spec in specs]
    rows = draw(st.integers(1, 4))
    columns = [draw(st.lists(PLAIN[kind], min_size=rows, max_size=rows)) for kind in kinds]
    if not plain:
        _spoil(draw, names, columns, rows)
    return names, [list(row) for row in zip(*columns, strict=True)]


def _spoil(draw: Any, names: list[str], columns: list[list[Any]], rows: int) -> None:
    for _ in range(draw(st.integers(0, 2))):
        column, row = columns[draw(st.integers(0, len(columns) - 1))], draw(st.integers(0, rows - 1))
        column[row] = draw(EDGES.get(type(column[row]), ODD) if draw(st.integers(0, 3)) else ODD)
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(columns) - 1))
        columns[place] = draw(st.lists(ODD, min_size=rows, max_size=rows))
    if draw(st.integers(0, 3)) == 0:
        names.append(draw(NAMES))
        columns.append(draw(st.lists(ODD, min_size=rows, max_size=rows)))
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(names) - 1))
        del names[place], columns[place]
        if not names:
            names.append("z")
            columns.append([1] * rows)


def tensor(draw: Any, spec: TensorSpec, rows: int, *, plain: bool) -> Any:
    """Nested lists for one tensor."""
    cell = {"f": st.floats(-1e6, 1e6) | st.integers(-9, 9), "i": st.integers(-(2**31), 2**31 - 1)}.get(
        spec.type.kind, st.booleans()
    )
    if not plain:
        cell = st.one_of(cell, cell, cell, ODD)
    value: st.SearchStrategy[Any] = cell
    for size in reversed(spec.shape[1:]):
        size = 2 if size == -1 else size
        least = size if plain or draw(st.integers(0, 5)) else size - 1
        value = st.lists(value, min_size=least, max_size=size)
    return draw(st.lists(value, min_size=rows, max_size=rows))


@st.composite
def formats(draw: Any, name: str, *, plain: bool) -> dict[str, Any]:
    """The outermost object of a request, with one format."""
    schema = SCHEMAS[name]
    if schema is not None and schema.is_tensor_spec() and (plain or draw(st.integers(0, 7))):
        return _tensors(draw, schema, plain=plain)
    if name.startswith("unnamed") and (plain or draw(st.booleans())):
        cells = st.lists(
            PLAIN[DataType.string if name == "unnamed" else DataType.double], min_size=1, max_size=4
        )
        return {draw(st.sampled_from(["inputs", "instances"])): draw(cells if plain else st.lists(ODD))}
    names, rows = draw(tables(schema, plain=plain))
    kind = draw(st.sampled_from(["split", "split", "records", "records", "columns", "list", "items"]))
    if kind == "split":
        return _split(draw, names, rows, plain=plain)
    if kind == "records":
        found = [dict(zip(names, row, strict=True)) for row in rows]
        if not plain and draw(st.integers(0, 3)) == 0:
            odd = draw(st.sampled_from(found))
            if draw(st.booleans()) and odd:
                odd.pop(next(iter(odd)))
            else:
                odd[draw(NAMES)] = draw(ODD)
        return {"dataframe_records": found}
    key = draw(st.sampled_from(["inputs", "instances"]))
    if kind == "list" and (len(names) == 1 or schema is None):
        return {key: [row[0] for row in rows] if plain or draw(st.booleans()) else rows}
    if kind != "items":
        columns: dict[str, Any] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
        if not plain and draw(st.integers(0, 5)) == 0:
            columns[names[0]] = draw(ODD)
        return {key: columns}
    if schema is None and plain:
        key = "instances"  # `inputs` would be a list of mappings to the version, which is not plain
    return {key: [dict(zip(names, row, strict=True)) for row in rows]}


def _tensors(draw: Any, schema: Schema, *, plain: bool) -> dict[str, Any]:
    rows, key = draw(st.integers(1, 3)), draw(st.sampled_from(["inputs", "instances"]))
    if not schema.has_input_names() or (len(schema.inputs) == 1 and draw(st.booleans())):
        return {key: tensor(draw, schema.inputs[0], rows, plain=plain)}
    by_name = {spec.name: tensor(draw, spec, rows, plain=plain) for spec in schema.inputs}
    if key == "instances" and draw(st.booleans()):
        return {key: [dict(zip(by_name, row, strict=True)) for row in zip(*by_name.values(), strict=True)]}
    return {key: by_name}


def _split(draw: Any, names: list[str], rows: list[list[Any]], *, plain: bool) -> dict[str, Any]:
    split: dict[str, Any] = {"columns": names, "data": rows}
    if draw(st.integers(0, 2)) == 0:
        labels = st.just(list(range(len(rows)))) | st.lists(
            st.integers(-9, 9), min_size=len(rows), max_size=len(rows)
        )
        split["index"] = draw(labels if plain else labels | st.lists(ODD, max_size=4) | ODD)
    if plain or draw(st.integers(0, 3)):
        return {"dataframe_split": split}
    wrong = draw(st.sampled_from(["absent", "names", "row"]))
    if wrong == "absent":
        split.pop(draw(st.sampled_from(sorted(split))))
    elif wrong == "names":
        split["columns"] = draw(st.lists(ODD | NAMES, min_size=len(names), max_size=len(names)))
    else:
        split["data"] = [*rows, draw(st.lists(ODD, max_size=4))]
    return {"dataframe_split": split}


@st.composite
def requests(draw: Any, name: str, *, plain: bool) -> Generated:
    """A request to a version with the signature called `name`."""
    body = draw(formats(name, plain=plain))
    if draw(st.integers(0, 5)) == 0:
        body = {**body, "key": "user-1"}
    if not plain and draw(st.integers(0, 7)) == 0:
        more = st.sampled_from(["params", "inputs", "messages", "prompt", "dataframe_split", "x", "input"])
        body[draw(more)] = draw(ODD | st.sampled_from([{"scale": 2}, {"scale": "x"}, {"words": ["c"]}]))
    ascii_ = draw(st.booleans())
    text = json.dumps(body, ensure_ascii=ascii_, indent=draw(st.sampled_from([None, None, 1])))
    raw = text.encode("utf-8", "surrogatepass")
    if not plain and draw(st.integers(0, 9)) == 0:
        raw = _broken(draw, raw)
    return Generated(raw, plain)


def _broken(draw: Any, raw: bytes) -> bytes:
    ways = {
        "cut": lambda: raw[: draw(st.integers(0, len(raw)))],
        "bom": lambda: b"\xef\xbb\xbf" + raw,
        "utf-16": lambda: raw.decode("utf-8", "replace").encode("utf-16"),
        "twice": lambda: raw[:-1] + b", " + raw[1:],
        "twice otherwise": lambda: raw[:-1] + b', "inputs": [1]}',
        "byte": lambda: raw.replace(b"1", bytes([draw(st.integers(0, 255))]), 1),
        "float": lambda: raw.replace(b"1", b"1e999", 1),
        "minus": lambda: raw.replace(b"1", b"-0", 1),
        "exponent": lambda: raw.replace(b"1", b"1E1", 1),
        "long": lambda: raw.replace(b"1", b"1" * draw(st.sampled_from([18, 19, 20, 21, 400, 5000])), 1),
        "deep": lambda: raw.replace(b"1", b"[" * 900 + b"]" * 900, 1),
        "list": lambda: b"[" + raw + b"]",
        "trailing": lambda: raw + b" \n\x00"[: draw(st.integers(0, 3))],
    }
    return ways[draw(st.sampled_from(sorted(ways)))]()
