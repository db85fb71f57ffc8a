"""Rows of a hold-out as callers send them, read back by what a gateway decodes them with."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.gate.errors import DataRefused
from router.gate.requests import bodies_of


def sent(table: pd.DataFrame, rows_each: int = 1) -> list[Any]:
    return [orjson.loads(body)["dataframe_split"] for body in bodies_of(table, rows_each)]


@given(st.integers(0, 20), st.integers(1, 7))
def test_every_row_is_sent_once_in_its_order(rows: int, rows_each: int) -> None:
    requests = sent(pd.DataFrame({"a": range(rows), "b": ["x"] * rows}), rows_each)

    assert [row for request in requests for row in request["data"]] == [[n, "x"] for n in range(rows)]
    assert all(request["columns"] == ["a", "b"] for request in requests)
    assert [len(request["data"]) for request in requests[:-1]] == [rows_each] * (len(requests) - 1)


def test_each_type_is_sent_as_mlflow_reads_it() -> None:
    table = pd.DataFrame(
        {
            "whole": [1, 2],
            "number": [0.1, float("nan")],
            "truth": [True, False],
            "text": ["ü", None],
            "time": pd.to_datetime(["2026-11-20T14:32:00", None]),
            "bytes": [b"\x00\xff", None],
            "list": [np.array([1.5, 2.5]), ["a"]],
            "decimal": [Decimal("1.50"), None],
            "nullable": pd.array([7, None], dtype="Int64"),
            "aware": [datetime(2026, 11, 20, tzinfo=UTC), pd.NaT],
        }
    )

    [first, second] = sent(table)

    assert first["data"] == [
        [1, 0.1, True, "ü", "2026-11-20T14:32:00", "AP8=", [1.5, 2.5], 1.5, 7, "2026-11-20T00:00:00+00:00"]
    ]
    assert second["data"] == [[2, None, False, None, None, None, ["a"], None, None, None]]


def test_what_json_has_no_form_of_is_refused_with_its_row() -> None:
    with pytest.raises(DataRefused, match=r"row 2 of the data can not be sent as JSON: .* complex"):
        sent(pd.DataFrame({"a": np.asarray([1.0, complex(1, 1)], dtype=object)}))
