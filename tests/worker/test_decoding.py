"""The compiled decoder beside MLflow's own functions: the same data, or handed over to them."""

import json
import os
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from router.worker.decode.arrays import tensor_readers
from router.worker.decode.request_decoder import CompiledDecoder, compile_decoder
from router.worker.decode.table import BoundedCache, DecodedPart
from tests.conftest import Figure
from tests.worker.mlflow_itself import NOTHING, assert_same, version_with
from tests.worker.mlflow_itself import given as given_by_mlflow
from tests.worker.requests_to_decode import PARAMS, SCHEMAS, Generated, requests

DECODED = [name for name in SCHEMAS if name not in ("dated", "nameless")]
EXAMPLES = int(os.environ.get("EXAMPLES", "1600"))
LONG = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
QUICK = settings(LONG, max_examples=12)


def decoder_of(name: str, **more: Any) -> tuple[CompiledDecoder, Any]:
    model, version = version_with(SCHEMAS[name], **more)
    decoder, why = compile_decoder(model)
    assert decoder is not None, why
    return decoder, lambda body: given_by_mlflow(model, version, body)


def assert_decoded_as_by_mlflow(decoder: CompiledDecoder, by_mlflow: Any, body: bytes) -> bool:
    """Whether the request took the fast path; it may not where MLflow's data would be others."""
    part = decoder.part(body)
    if part is None:
        return False
    ours = decoder.table([part])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, on requests that overflow
        data, params = by_mlflow(body)
    assert data is not NOTHING, f"MLflow refuses {body!r}"
    assert_same(ours, data)
    assert repr(decoder.params) == repr(params)
    rows = len(next(iter(ours.values()))) if isinstance(ours, dict) else len(ours)
    assert part.rows == rows
    return True


@pytest.mark.parametrize("name", DECODED)
def test_a_decoded_request_is_the_one_of_mlflow(name: str) -> None:
    """Or it is handed over. Generated requests of every format, plain, at the edges, and broken."""
    decoder, by_mlflow = decoder_of(name)

    @QUICK
    @given(requests(name, plain=True) | requests(name, plain=False))
    def check(request: Generated) -> None:
        assert_decoded_as_by_mlflow(decoder, by_mlflow, request.body)

    check()


@pytest.mark.parametrize("beyond", [-(2**31) - 1, 2**31, 2**63])
def test_an_integer_that_a_tensor_can_not_hold_is_left_to_mlflow(beyond: int) -> None:
    """numpy before 2 would wrap it here."""
    schema = SCHEMAS["small"]
    assert schema is not None
    readers = tensor_readers(schema)
    assert not isinstance(readers, str)

    assert readers["inputs"]([-(2**31), 2**31 - 1]) is not None
    assert readers["inputs"]([0, beyond]) is None


@pytest.mark.parametrize("name", ["none", "text", "linear", "mixed", "tensor", "named"])
def test_requests_of_one_key_stand_in_one_table(name: str) -> None:
    """With the rows of one below those of the other, and nothing else than each would have had alone."""
    decoder, _ = decoder_of(name)

    @QUICK
    @given(st.lists(requests(name, plain=True) | requests(name, plain=False), min_size=2, max_size=6))
    def check(found: list[Generated]) -> None:
        groups: dict[Any, list[DecodedPart]] = {}
        for request in [*found, *found]:
            if (part := decoder.part(request.body)) is not None:
                groups.setdefault(part.key, []).append(part)
        for parts in groups.values():
            assert_same(decoder.table(parts), below_each_other([decoder.table([part]) for part in parts]))

    check()


def below_each_other(tables: list[Any]) -> Any:
    if isinstance(tables[0], dict):
        return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    if isinstance(tables[0], np.ndarray):
        return np.concatenate(tables)
    whole = pd.concat(tables, ignore_index=True)
    if len(tables) == 1:
        whole.index = tables[0].index
    elif not isinstance(tables[0].index, pd.RangeIndex):
        whole.index = pd.Index(np.arange(len(whole)))
    # The blocks of a concatenation lie as they come; those of a request as those of a mapping of columns.
    return pd.DataFrame({name: whole[name] for name in whole.columns})


def test_row_labels_of_its_own_keep_a_request_alone() -> None:
    """Labels of several requests in one table would collide."""
    decoder, _ = decoder_of("text")
    body = b'{"dataframe_split": {"columns": ["text"], "data": [["a"]], "index": [7]}}'
    one, other = decoder.part(body), decoder.part(body)

    assert one is not None
    assert other is not None
    assert one.key != other.key
    assert decoder.table([one]).index.tolist() == [7]


def test_what_a_version_does_to_its_table_does_not_reach_the_next() -> None:
    """Neither names of columns and rows, nor values."""
    decoder, _ = decoder_of("number")
    body = b'{"dataframe_records": [{"x": 1.5}]}'
    first = decoder.table([decoder.part(body)])
    first.columns.name, first.index.name = "columns", "rows"
    first.loc[0, "x"] = 7.0
    first["y"] = 1

    second = decoder.table([decoder.part(body)])

    assert (second.columns.name, second.index.name) == (None, None)
    assert second.to_dict("records") == [{"x": 1.5}]


def test_each_request_has_default_params_of_its_own() -> None:
    """A version that changes them changes its own."""
    decoder, _ = decoder_of("text", params=PARAMS)
    (params := decoder.params)["scale"] = 7.0

    assert params != decoder.params == {"scale": 1.0, "words": ["a", "b"]}


@pytest.mark.parametrize("name", ["dated", "nameless"])
def test_a_version_without_a_fast_path_says_why(name: str) -> None:
    """The reason ends a sentence for the operator."""
    decoder, why = compile_decoder(version_with(SCHEMAS[name])[0])

    assert decoder is None
    assert why.startswith("its signature has ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"\x00" * 10,
        b"[" * 100_000,
        b'{"dataframe_split":' * 5_000,
        b'{"inputs": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"inputs": ' + b"9" * 10_000 + b"}",
        b'{"inputs": "\\ud800"}',
        b'{"inputs": {"": {"": null}}}',
        b'\xef\xbb\xbf{"inputs": [1]}',
    ],
    ids=range(10),
)
@pytest.mark.parametrize("name", DECODED)
def test_no_bytes_make_a_decoder_raise(name: str, body: bytes) -> None:
    """It hands over what it does not know."""
    assert decoder_of(name)[0].part(body) is None


@pytest.mark.parametrize("name", ["none", "text"])
def test_column_names_that_callers_invent_do_not_pile_up(name: str) -> None:
    """Hundreds are remembered, and no long ones; requests beyond that are decoded all the same."""
    decoder, _ = decoder_of(name)
    tables = decoder._readers["dataframe_split"].__self__

    for i in range(2_000):
        body = {"dataframe_split": {"columns": ["text", f"c{i}"], "data": [["a", 1]]}}
        assert decoder.part(json.dumps(body).encode()) is not None
    body = {"dataframe_split": {"columns": ["text", "c" * 100_000], "data": [["a", 1]]}}
    assert decoder.part(json.dumps(body).encode()) is not None

    remembered = [key for value in vars(tables).values() if isinstance(value, BoundedCache) for key in value]
    assert 0 < len(remembered) < 1_000
    assert len(repr(remembered)) < 200_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_thousand_requests_are_decoded_as_by_mlflow(figure: Figure) -> None:
    """And nine of ten plain ones take the fast path, whatever the signature."""
    total: Counter[str] = Counter()
    for name in DECODED:
        plain, odd = fast_of(name, plain=True), fast_of(name, plain=False)
        assert plain[True] >= 0.9 * plain.total(), (name, plain)
        total += Counter(
            {"plain": plain.total(), "fast": plain[True], "odd": odd.total(), "odd and fast": odd[True]}
        )
    figure(f"0 differences in {total['plain'] + total['odd']} requests: {dict(total)}")
    assert total["plain"] + total["odd"] >= 32 * EXAMPLES


def fast_of(name: str, *, plain: bool) -> Counter[bool]:
    """How many generated requests took the fast path, and how many did not."""
    decoder, by_mlflow = decoder_of(name, params=PARAMS if name in ("text", "tensor") else None)
    took: Counter[bool] = Counter()

    @LONG
    @given(requests(name, plain=plain))
    def check(request: Generated) -> None:
        took[assert_decoded_as_by_mlflow(decoder, by_mlflow, request.body)] += 1

    check()
    return took
