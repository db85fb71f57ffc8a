"""`python -m benchmarks.decoding`: the compiled decoder and the encoder beside MLflow's own code, in µs."""

import json
from collections.abc import Callable
from functools import partial
from io import StringIO
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import _parse_json_data, parse_csv_input, predictions_to_json
from mlflow.types import ColSpec, Schema

from router.protocol.messages import Query
from router.worker.decode.csv import CsvBatchDecoder
from router.worker.decode.request_decoder import CompiledDecoder, RequestDecoder, compile_decoder
from router.worker.encoder import encode

TEXT = Schema([ColSpec("string", "text")])
LINEAR = Schema([ColSpec("double", f"feature_{i}") for i in range(20)])
PARTS = 64
FRAME = 16
_SECONDS = 0.5
"""Spent on each figure."""
_SAMPLE_SECONDS = 0.0005
_SAMPLES = 5


class _Version:
    def predict(self, data: Any) -> Any:
        return data


def main() -> None:
    """Print one line per case."""
    print(f"{'':34}{'ours':>9}{'MLflow':>10}{'ratio':>8}   µs of processor time, medians")
    for name, schema, counts in (
        ("text", TEXT, (1, 32, 1000)),
        ("linear", LINEAR, (1, 32)),
        ("none", None, (1,)),
    ):
        decoder, model = _compiled(schema)
        for rows in counts:
            body = _body(schema or TEXT, rows)
            _line(
                f"decode {name}, {rows} rows",
                partial(_ours, decoder, body),
                partial(_theirs, model, body),
            )
        parts = [decoder.part(_body(schema or TEXT, 1)) for _ in range(PARTS)]
        _line(f"one table of {PARTS} parts, {name}", partial(decoder.table, parts), None)
        if schema is not None:
            csv = [_csv(schema, number) for number in range(FRAME)]
            _line(f"{FRAME} CSV requests, {name}", _at_once(model, csv), partial(_each, schema, csv))
    for name, answer in (
        ("1 float", np.random.rand(1)),
        ("32 floats", np.random.rand(32)),
        ("1000 floats", np.random.rand(1000)),
        ("32 x 3 floats", np.random.rand(32, 3)),
        ("a list of 32 texts", ["negative"] * 32),
    ):
        _line(f"encode {name}", partial(encode, answer), partial(predictions_to_json, answer, StringIO()))


def _compiled(schema: Schema | None) -> tuple[CompiledDecoder, PyFuncModel]:
    metadata = Model(signature=None if schema is None else ModelSignature(inputs=schema))
    metadata.add_flavor("python_function", loader_module="benchmarks.decoding")
    model = PyFuncModel(metadata, _Version())
    decoder, why = compile_decoder(model)
    if decoder is None:
        raise SystemExit(f"no decoder: {why}")
    return decoder, model


def _ours(decoder: CompiledDecoder, body: bytes) -> Any:
    part = decoder.part(body)
    if part is None:
        raise SystemExit("a plain request was handed over to MLflow")
    return decoder.table([part])


def _theirs(model: PyFuncModel, body: bytes) -> Any:
    schema = model.metadata.get_input_schema()
    data = _parse_json_data(body, model.metadata, schema).data
    return data if schema is None else _enforce_schema(data, schema)


def _at_once(model: PyFuncModel, bodies: list[bytes]) -> Callable[[], Any]:
    stacking = CsvBatchDecoder(RequestDecoder(model))
    queries = [Query(body, "text/csv") for body in bodies]
    if len(stacking.decode(queries)) != len(queries):
        raise SystemExit("plain CSV requests were read one by one")
    return partial(stacking.decode, queries)


def _each(schema: Schema, bodies: list[bytes]) -> list[Any]:
    return [_enforce_schema(parse_csv_input(StringIO(body.decode()), schema), schema) for body in bodies]


def _csv(schema: Schema, number: int) -> bytes:
    cells = [f"the parcel came on day {number}"] if schema is TEXT else map(str, np.random.rand(20))
    return f"{','.join(schema.input_names())}\n{','.join(cells)}\n".encode()


def _body(schema: Schema, rows: int) -> bytes:
    names = schema.input_names()
    cells: list[list[Any]] = np.random.rand(rows, len(names)).tolist()
    if schema is TEXT:
        cells = [[f"the parcel came on day {i}, and the box was open"] for i in range(rows)]
    return json.dumps({"dataframe_split": {"columns": names, "data": cells}}).encode()


def _line(what: str, ours: Callable[[], Any], theirs: Callable[[], Any] | None) -> None:
    mine = _microseconds(ours)
    its = None if theirs is None else _microseconds(theirs)
    print(f"{what:34}{mine:9.1f}" + ("" if its is None else f"{its:10.1f}{its / mine:7.0f}x"))


def _microseconds(call: Callable[[], Any]) -> float:
    """Median processor time of a call: what else the machine does is not counted."""
    call()
    calls = max(1, round(_SAMPLE_SECONDS / max(_seconds(call, 5), 1e-7)))
    samples: list[float] = []
    end = perf_counter() + _SECONDS
    while perf_counter() < end or len(samples) < _SAMPLES:
        samples.append(_seconds(call, calls))
    return median(samples) * 1e6


def _seconds(call: Callable[[], Any], calls: int) -> float:
    start = thread_time()
    for _ in range(calls):
        call()
    return (thread_time() - start) / calls


if __name__ == "__main__":
    main()
