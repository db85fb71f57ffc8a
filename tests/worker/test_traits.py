"""Which traits requests have, in every format, and how long the worst bodies take."""

import csv
import io
import json
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from msgspec.structs import replace

from router.analysis.criteria import Criteria
from router.core.traits import (
    COLUMN_CHARACTERS,
    COLUMN_KINDS,
    MOST_COLUMNS,
    MOST_TRAITS,
    SIZE_PARTS,
    TraitKind,
    TraitsWanted,
    trait_table,
)
from router.protocol.channel import Channel
from router.protocol.messages import (
    Answer,
    Batching,
    PredictStatus,
    Query,
    ScoringProtocol,
    batch_of,
    predict_frame,
)
from router.worker.load import Loaded
from router.worker.request_loop import RequestLoop
from router.worker.traits import MOST_BYTES, MOST_CELLS, Allowance, TraitReader, csv_rows
from tests.support.saved_versions import inference_query, json_query, tensor, text_query
from tests.support.slowness import reference_seconds

SCHEMA = Schema(
    [
        ColSpec(DataType.string, "plan"),
        ColSpec(DataType.long, "age"),
        ColSpec(DataType.double, "income", required=False),
        ColSpec(DataType.boolean, "member"),
    ]
)
EXAMPLE = {
    "dataframe_split": {
        "columns": ["plan", "age", "income", "member"],
        "data": [["basic", 20, 1.5, True], ["gold", 60, 9.5, False]],
    }
}
READER = TraitReader(SCHEMA, json.dumps(EXAMPLE).encode())
GOOD = {"plan": "gold", "age": 33, "income": 2.0, "member": True}


def traits(query: Query, reader: TraitReader = READER) -> list[str]:
    """Phrases of the traits of its columns."""
    table = trait_table(reader.columns)
    return [table[number].phrase() for number in reader.read(query) if table[number].kind in COLUMN_KINDS]


def body_traits(query: Query, reader: TraitReader = READER) -> list[str]:
    table = trait_table(reader.columns)
    return [table[number].what for number in reader.read(query) if table[number].kind not in COLUMN_KINDS]


def split_of(*rows: dict[str, Any]) -> Query:
    names = list(rows[0])
    data = [[row[name] for name in names] for row in rows]
    return json_query({"dataframe_split": {"columns": names, "data": data}})


def csv_of(*rows: dict[str, Any]) -> Query:
    lines = [",".join(rows[0])]
    lines += [",".join("" if cell is None else str(cell) for cell in row.values()) for row in rows]
    return Query("\n".join(lines).encode() + b"\n", "text/csv; charset=utf-8")


def columns_of(*rows: dict[str, Any]) -> Query:
    return json_query({"inputs": {name: [row[name] for row in rows] for name in rows[0]}})


def tensors_of(*rows: dict[str, Any]) -> Query:
    return inference_query(
        *(tensor("FP64", [len(rows), 1], [[row[name]] for row in rows], name) for name in rows[0])
    )


FORMATS: dict[str, Callable[..., Query]] = {
    "split": split_of,
    "records": lambda *rows: json_query({"dataframe_records": rows}),
    "inputs, columns": columns_of,
    "instances, records": lambda *rows: json_query({"instances": rows}),
    "csv": csv_of,
    "inference": tensors_of,
}
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "good": ({}, []),
    "null": ({"plan": None}, ["column plan null"]),
    "another type": ({"age": "old"}, ["column age of another type"]),
    "above the range": ({"age": 99}, ["column age outside the input example's range"]),
    "below the range": ({"income": -1.0}, ["column income outside the input example's range"]),
    "another category": ({"plan": "silver"}, ["column plan with a category that the input example lacks"]),
    "an integer for a float": ({"income": 3}, []),
    "a fraction for an integer": ({"age": 33.5}, ["column age of another type"]),
    "two at once": ({"plan": None, "member": "yes"}, ["column plan null", "column member of another type"]),
}


@pytest.mark.parametrize("asked", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(("changed", "expected"), CASES.values(), ids=CASES)
def test_a_trait_is_seen_in_every_format_and_in_any_row(
    asked: Callable[..., Query], changed: dict[str, Any], expected: list[str]
) -> None:
    assert traits(asked(GOOD, {**GOOD, **changed})) == expected


@pytest.mark.parametrize("asked", FORMATS.values(), ids=FORMATS)
def test_a_column_that_no_row_has_is_missing_and_one_that_the_signature_lacks_is_nothing(
    asked: Callable[..., Query],
) -> None:
    row = {name: cell for name, cell in GOOD.items() if name != "age"} | {"more": 1}
    assert traits(asked(row)) == ["column age missing"]


def test_a_record_that_lacks_a_column_is_enough() -> None:
    lacks = {name: cell for name, cell in GOOD.items() if name != "member"}
    assert traits(json_query({"dataframe_records": [GOOD, lacks]})) == ["column member missing"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (split_of(GOOD), ["1 row", "absent"]),
        (replace(split_of(GOOD), content_type="application/json; charset=utf-8"), ["1 row", "JSON"]),
        (split_of(*[GOOD] * 11), ["11 to 100 rows", "absent"]),
        (csv_of(*[GOOD] * 3), ["2 to 10 rows", "CSV"]),
        (tensors_of(*[GOOD] * 1100), ["over 1000 rows", "Open Inference Protocol"]),
        (Query(b"PAR1", "application/vnd.apache.parquet"), ["rows not counted", "Parquet"]),
        (Query(b"{}", "x-secret/marker"), ["rows not counted", "other"]),
        (json_query({"dataframe_records": []}), ["no row", "absent"]),
        (json_query({"messages": [{"role": "user"}]}), ["rows not counted", "absent"]),
        (Query(b"[" * 100_000, None), ["rows not counted", "absent"]),
        (Query(b"\xff\xfe", None), ["rows not counted", "absent"]),
        (Query(b" " * (MOST_BYTES + 1), None), ["rows not counted", "absent"]),
    ],
)
def test_rows_and_content_type_are_of_a_few_kinds(query: Query, expected: list[str]) -> None:
    assert body_traits(query) == expected
    assert traits(query) == []


def test_of_columns_of_one_name_the_first_is_looked_at() -> None:
    assert traits(Query(b"plan,age,income,member,age\ngold,33,2.0,true,old\n", "text/csv")) == []
    split = {"columns": ["plan", "age", "income", "member", "age"], "data": [["gold", 33, 2.0, True, "old"]]}
    assert traits(json_query({"dataframe_split": split})) == []


def test_nan_is_null_and_infinity_is_out_of_range() -> None:
    row = json.dumps({**GOOD, "income": float("nan"), "age": 33})
    assert traits(Query(f'{{"dataframe_records": [{row}]}}'.encode(), None)) == ["column income null"]
    row = row.replace("NaN", "-Infinity")
    assert traits(Query(f'{{"dataframe_records": [{row}]}}'.encode(), None)) == [
        "column income outside the input example's range"
    ]


def test_a_version_of_one_column_takes_its_cells_alone() -> None:
    reader = TraitReader(Schema([ColSpec(DataType.string, "text")]))
    assert traits(json_query({"inputs": ["a", None]}), reader) == ["column text null"]


@pytest.mark.parametrize(
    "schema", [None, Schema([TensorSpec(np.dtype("float64"), (-1, 2))]), Schema([ColSpec(DataType.double)])]
)
def test_without_names_of_columns_there_are_traits_of_the_body_alone(schema: Schema | None) -> None:
    reader = TraitReader(schema)
    assert reader.columns == ()
    assert body_traits(json_query({"inputs": [[1, 2], [3, 4]]}), reader)[1] == "absent"
    assert traits(json_query({"inputs": [[1, None]]}), reader) == []


def test_columns_and_traits_are_bounded_and_what_is_left_out_is_counted() -> None:
    plain = TraitReader(Schema([ColSpec(DataType.double, f"c{n}") for n in range(10_000)]))
    assert (len(plain.columns), plain.left_out) == (MOST_COLUMNS, 10_000 - MOST_COLUMNS)
    names = [f"c{n}" for n in range(70)]
    example = json.dumps({"dataframe_split": {"columns": names, "data": [[1.0] * 70]}}).encode()
    shown = TraitReader(Schema([ColSpec(DataType.double, name) for name in names]), example)
    assert len(shown.columns) + shown.left_out == 70
    assert MOST_TRAITS - 4 < len(trait_table(shown.columns)) + SIZE_PARTS <= MOST_TRAITS


def test_a_long_name_is_cut_and_its_column_still_found() -> None:
    name = "n" * 5000
    reader = TraitReader(Schema([ColSpec(DataType.string, name), ColSpec(DataType.string, "b")]))
    assert len(reader.columns[0].name) == COLUMN_CHARACTERS
    [seen] = traits(json_query({"dataframe_records": [{name: None, "b": ""}]}), reader)
    assert seen.endswith("n… null")


HOSTILE: dict[str, Query] = {
    "5 000 columns": json_query(
        {"dataframe_split": {"columns": [f"x{n}" for n in range(5000)], "data": [[1] * 1000] * 3}}
    ),
    "4 000 columns in records": json_query({"dataframe_records": [{f"x{n}": n for n in range(4000)}]}),
    "many rows": json_query({"dataframe_records": [GOOD] * 950}),
    "many empty rows": json_query({"dataframe_records": [{}] * 15_000}),
    "deep": json_query({"dataframe_records": [{"plan": json.loads("[" * 500 + "]" * 500)}]}),
    "deeper than any parser": Query(b'{"dataframe_records": ' + b"[" * 65_000, None),
    "NaN, which takes the slow parser": Query(
        b'{"dataframe_records": [' + b",".join([b'{"age": NaN, "income": 1e400}'] * 2100) + b"]}", None
    ),
    "NaN in many short rows": Query(
        b'{"dataframe_split": {"columns": ["age"], "data": [' + b",".join([b"[NaN]"] * 10_000) + b"]}}", None
    ),
    "a name that is no text": json_query(
        {"dataframe_split": {"columns": [["plan"], {}, 7], "data": [[1, 2, 3]]}}
    ),
    "short rows": json_query(
        {"dataframe_split": {"columns": ["age", "plan"], "data": [[1], [], [1, "gold"]]}}
    ),
    "a giant number": Query(b'{"dataframe_records": [{"age": ' + b"9" * 65_000 + b"}]}", None),
    "one csv cell": Query(b'plan,age\n"' + b"x" * 65_000, "text/csv"),
    "csv of commas": Query(b"plan,age\n" + b"," * 65_000, "text/csv"),
    "csv of short lines": Query(b"income\n" + b"x\n" * 32_000, "text/csv"),
    "csv with a column named 15 000 times": Query(
        b"age," * 15_000 + b"\n" + b"1\n" * 1000, "text/csv; charset=latin-1"
    ),
    "csv with a column named 300 000 times": Query(
        b"age," * 300_000 + b"\n" + b"1\n" * 1000, "text/csv; charset=latin-1"
    ),
    "giant": Query(b"{" * 64_000_000, None),
    "tensors without shape": inference_query({"name": "age"}),
    "tensors of a false shape": inference_query(tensor("INT64", [10**30], [1], "age")),
}


WIDER = 1.5
"""Beside what they compute, machines differ in how fast they parse and take memory."""


@given(st.text('x,"\n\r \x0b\x85', max_size=30))
def test_rows_of_csv_are_counted_as_a_reader_counts_them(text: str) -> None:
    assert csv_rows(text) == sum(map(bool, csv.reader(io.StringIO(text, newline=""))))


@pytest.mark.parametrize("query", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_read_in_less_time_than_makes_an_answer_slow(query: Query) -> None:
    """Its answer waits for it, and so might those of others that came in the same frame."""
    assert len(query.body) <= MOST_BYTES or len(query.body) > 1_000_000
    assert reference_seconds(lambda: READER.read(query)) < WIDER * Criteria().min_seconds


@pytest.mark.parametrize("columns", [1, 5, 20, 64])
@pytest.mark.parametrize("rows", [100, 1000])
def test_a_large_table_is_read_in_less_time_than_makes_an_answer_slow(columns: int, rows: int) -> None:
    """Else a canary that is its production would be found slower for being looked at."""
    names = [f"feature_{n}" for n in range(columns)]
    lines = [{name: 0.125 * n + row for n, name in enumerate(names)} for row in range(rows)]
    reader = TraitReader(Schema([ColSpec(DataType.double, name) for name in names]), split_of(lines[0]).body)
    for asked in FORMATS.values():
        query = asked(*lines)
        taken = reference_seconds(partial(reader.read, query))
        assert taken < WIDER * Criteria().min_seconds, query.body[:40]


@pytest.mark.parametrize("asked", FORMATS.values(), ids=FORMATS)
def test_of_a_body_so_many_rows_are_looked_at_that_they_have_2_000_cells(asked: Callable[..., Query]) -> None:
    rows = MOST_CELLS // len(GOOD)
    assert traits(asked(*[GOOD] * (rows - 1), {**GOOD, "plan": None})) == ["column plan null"]
    assert traits(asked(*[GOOD] * rows, {**GOOD, "plan": None})) == []


def test_a_large_input_example_is_read_whole() -> None:
    row = {**GOOD, "note": "x" * 100}
    example = split_of(*[row] * 999, {**row, "age": 90}).body
    assert len(example) > MOST_BYTES
    reader = TraitReader(SCHEMA, example)
    assert traits(split_of({**GOOD, "age": 89}), reader) == []
    assert traits(split_of({**GOOD, "age": 91}), reader) == ["column age outside the input example's range"]


def test_of_a_frame_eight_requests_are_read_and_no_more_once_they_had_64_kib() -> None:
    """Whichever come first, whatever their own size."""

    def read_of(bodies: Sequence[int]) -> list[bool]:
        queries = [Query(b" " * size, None, traits=TraitsWanted.ALWAYS) for size in bodies]
        allowance, found = Allowance(), []
        for place in range(len(queries)):
            found += READER.complete(queries, (place,), (answer(PredictStatus.OK),), allowance)
        return [one.traits is not None for one in found]

    assert read_of([10] * 10) == [True] * 8 + [False] * 2
    assert read_of([MOST_BYTES - 1, MOST_BYTES, 10]) == [True, True, False]
    assert read_of([MOST_BYTES + 1] * 2 + [10]) == [True] * 3, "of these only the size is looked at"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["plan", "age", "columns", "data", "shape", "name", "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["dataframe_split", "dataframe_records", "inputs", "instances"]),
        JSON_VALUES,
        min_size=1,
        max_size=2,
    ),
    st.sampled_from([None, "application/json", "text/csv", "x/y"]),
    st.sampled_from(ScoringProtocol),
)
def test_whatever_is_sent_has_traits_of_the_table_in_ascending_order(
    document: Any, content_type: str | None, protocol: ScoringProtocol
) -> None:
    found = READER.read(Query(json.dumps(document).encode(), content_type, protocol=protocol))
    assert list(found) == sorted(set(found))
    assert set(found) <= set(range(len(trait_table(READER.columns))))


def answer(status: PredictStatus, answer_rows: int | None = 1) -> Answer:
    return Answer(status, 200, b"", "application/json", 1, 0.0, answer_rows=answer_rows)


@pytest.mark.parametrize(
    ("wanted", "given", "read"),
    [
        (TraitsWanted.NEVER, answer(PredictStatus.MODEL_ERROR), False),
        (TraitsWanted.OF_FAULTS, answer(PredictStatus.OK), False),
        (TraitsWanted.OF_FAULTS, answer(PredictStatus.MODEL_ERROR), True),
        (TraitsWanted.OF_FAULTS, answer(PredictStatus.CLIENT_ERROR), True),
        (TraitsWanted.OF_FAULTS, answer(PredictStatus.OK, answer_rows=2), True),
        (TraitsWanted.ALWAYS, answer(PredictStatus.OK), True),
    ],
)
def test_traits_are_read_of_what_was_drawn_and_of_what_may_be_a_fault(
    wanted: TraitsWanted, given: Answer, read: bool
) -> None:
    queries: Sequence[Query] = [split_of(GOOD), replace(split_of(GOOD), traits=wanted)]
    [completed] = READER.complete(queries, (1,), (given,), Allowance())
    assert (completed.traits is not None) is read


def test_a_loaded_version_describes_its_columns_and_reads_them(loaded: Callable[[str], Loaded]) -> None:
    version = loaded("signed")
    assert [column.name for column in version.info.trait_columns] == ["text"]
    seen = traits(
        replace(text_query("a"), body=text_query("a").body.replace(b'"a"', b"null")), version.scorer.traits
    )
    assert seen == ["column text null"]


@pytest.mark.parametrize(("merges", "threads"), [(True, 1), (False, 1), (False, 4)])
def test_each_answer_of_a_frame_has_the_traits_of_its_own_request(
    loaded: Callable[[str], Loaded], merges: bool, threads: int
) -> None:
    """However requests are predicted: sharing predicts, compared with a lone one, in turn or side by side."""
    version = loaded("signed")
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = Channel(ours)
    loop = RequestLoop(Channel(its), version.scorer, Batching(merges, "a test"), None, threads)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    null = Query(text_query("abcd").body.replace(b'"abcd"', b"null  "), None)
    asked = [
        (replace(text_query("good"), traits=TraitsWanted.ALWAYS), []),
        (text_query("fine"), None),
        (replace(text_query("well"), traits=TraitsWanted.OF_FAULTS), None),
        (replace(null, traits=TraitsWanted.OF_FAULTS), ["column text null"]),
        (null, None),
    ]
    table = trait_table(version.info.trait_columns)
    for number in range(5):
        # Every fourth frame that can show it is one in which shared predicts are compared with a lone one.
        frame = asked[:3] if number < 4 else asked
        channel.send(*predict_frame(number, [query for query, _ in frame]))
        answers: dict[int, Answer] = {}
        while len(answers) < len(frame):
            received = channel.receive()
            assert received is not None
            batch = batch_of(received, version.scorer.scores)
            answers.update(zip(batch.places, batch.answers, strict=True))
        for place, (_, expected) in enumerate(frame):
            found = answers[place].traits
            shown = (
                None
                if found is None
                else [table[one].phrase() for one in found if table[one].kind is TraitKind.NULL]
            )
            assert shown == expected, (number, place)
    ours.close()
    thread.join()
    its.close()
