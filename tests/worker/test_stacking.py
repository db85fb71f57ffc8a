"""CSV requests are read at once only where each is read as it would be alone."""

import os
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest
from mlflow.types import ColSpec, DataType, Schema

from router.protocol.messages import Query
from router.worker.decode.csv import LARGEST_BODY, MOST_BYTES, CsvBatchDecoder, PlainCsv, concatenated
from router.worker.decode.request_decoder import DecodedRequest, RequestDecoder
from router.worker.load import Loaded
from tests.conftest import Figure
from tests.support.saved_versions import inference_query, predictions, tensor, text_query
from tests.worker.csv_to_read import CSV, CSV_SCHEMAS, HOSTILE, PLAIN, frame
from tests.worker.mlflow_itself import NOTHING, assert_same_rows, version_with
from tests.worker.mlflow_itself import given as given_by_mlflow
from tests.worker.requests_to_decode import PARAMS, SCHEMAS
from tests.worker.test_sharing import parquet, together

Get = Callable[[str], Loaded]
EXAMPLES = int(os.environ.get("EXAMPLES", "1500"))
TYPES = sorted(PLAIN, key=str)


class Reader:
    """Reads CSV for a version of this signature: at once, and as MLflow does."""

    def __init__(self, schema: Schema | None, **more: Any) -> None:
        ours, _ = version_with(schema, **more)
        self.decoder = RequestDecoder(ours)
        self.stacking = CsvBatchDecoder(self.decoder)
        self._theirs = version_with(schema, **more)

    def at_once(self, bodies: Sequence[bytes], content_type: str = CSV) -> dict[int, DecodedRequest]:
        return self.stacking.decode([Query(body, content_type) for body in bodies])

    def by_mlflow(self, body: bytes) -> tuple[Any, Any]:
        return given_by_mlflow(*self._theirs, body, CSV)

    def assert_read_as_alone(self, bodies: Sequence[bytes]) -> int:
        """How many of the bodies were read at once; each as MLflow reads it alone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what overflows
            read = self.at_once(bodies)
            starts: dict[int, int] = {}
            for place, prepared in read.items():
                data, params = self.by_mlflow(bodies[place])
                assert data is not NOTHING, f"MLflow refuses {bodies[place]!r}"
                start = starts.get(id(prepared.data), 0)
                starts[id(prepared.data)] = start + prepared.rows
                assert prepared.rows == len(data)
                assert repr(prepared.params) == repr(params)
                assert_same_rows(prepared.data, start, data)
            for prepared in read.values():
                assert starts[id(prepared.data)] == len(prepared.data)
        return len(read)


def compared(name: str, frames: int) -> Counter[str]:
    """Frames of generated bodies, read at once and alone."""
    seen: Counter[str] = Counter()
    reader, dice = Reader(CSV_SCHEMAS[name]), random.Random(name)
    for _ in range(frames):
        bodies = frame(dice, CSV_SCHEMAS[name])
        seen["at once"] += reader.assert_read_as_alone(bodies)
        seen["bodies"] += len(bodies)
    return seen


@pytest.mark.parametrize("name", CSV_SCHEMAS)
def test_whatever_is_read_at_once_is_read_as_by_mlflow_alone(name: str) -> None:
    """To the dtype, the missing cell and every bit."""
    seen = compared(name, 30)
    assert seen["at once"] >= seen["bodies"] / 8


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_thousand_csv_bodies_are_read_as_by_mlflow_alone(figure: Figure) -> None:
    """Of every signature: quotes, line ends, missing and overflowing cells, headers nearly alike."""
    total: Counter[str] = Counter()
    for name in CSV_SCHEMAS:
        total += compared(name, EXAMPLES)
    figure(f"0 differences in {total['at once']} bodies that were read at once, of {total['bodies']}")
    assert total["at once"] >= total["bodies"] / 4


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("header", ["x", "x,id", ",x"])
def test_every_cell_that_counts_as_plain_is_read_alike_below_all_others(kind: DataType, header: str) -> None:
    """One of another form would have pandas convert the column anew, and all its cells with it."""
    reader = Reader(Schema([ColSpec(kind, "x")]))
    lines = {"x": "{}", "x,id": "{},7", ",x": "0,{}"}[header]
    bodies = [
        f"{header}\n{lines.format(cell)}\n".encode() for cell in dict.fromkeys([*PLAIN[kind], *HOSTILE])
    ]
    read = reader.assert_read_as_alone(bodies)
    assert len(PLAIN[kind]) <= read < len(bodies)


TOGETHER_OTHERWISE: dict[str, tuple[DataType, str, str]] = {
    "an integer written as a float": (DataType.long, "1.0", "9007199254740993"),
    "a boolean written as a number": (DataType.boolean, "0", "False"),
    "a number written as a boolean": (DataType.double, "True", "0.5"),
    "a quote that is left open": (DataType.string, '"a', '"b'),
}


@pytest.mark.parametrize("case", TOGETHER_OTHERWISE)
def test_what_would_be_read_otherwise_below_others_is_read_alone(case: str) -> None:
    """That reading them at once succeeds would not be enough: the integer would be another one."""
    kind, one, other = TOGETHER_OTHERWISE[case]
    reader = Reader(Schema([ColSpec(kind, "x")]))
    bodies = [f"x\n{cell}\n".encode() for cell in (one, other)]
    assert not reader.at_once(bodies)

    alone = [reader.by_mlflow(body)[0] for body in bodies]
    below = reader.by_mlflow(f"x\n{one}\n{other}\n".encode())[0]
    reported = [None if table is NOTHING else table["x"].tolist() for table in (*alone, below)]
    assert reported[2] != (reported[0] or []) + (reported[1] or [])


UNSIGNED = {
    "no signature": None,
    "no names": Schema([ColSpec("string")]),
    "a tensor": SCHEMAS["one_named"],
    "a name twice": Schema([ColSpec("long", "x"), ColSpec("double", "x")]),
    "a date": Schema([ColSpec("datetime", "x")]),
}


@pytest.mark.parametrize("name", UNSIGNED)
def test_where_the_signature_leaves_types_to_the_cells_each_is_read_alone(name: str) -> None:
    """Below `1.5`, `1` would be a float."""
    assert not Reader(UNSIGNED[name]).at_once([b"x\n1\n", b"x\n2\n"])


def test_where_hints_say_what_a_version_takes_each_is_read_alone() -> None:
    """MLflow then hands over what pandas made of the cells."""
    model, _ = version_with(SCHEMAS["text"])
    model.metadata.signature._is_signature_from_type_hint = True
    assert not CsvBatchDecoder(RequestDecoder(model)).decode(
        [Query(b"text\na\n", CSV), Query(b"text\nb\n", CSV)]
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"text\na\n", b"text,id\nb,1\n"),
        (b"text\na\n", b"text\r\nb\r\n"),
        (b"text\na\n", b'"text"\nb\n'),
        (b"id\n1\n", b"id\n2\n"),
        (b"text,text\na,b\n", b"text,text\na,b\n"),
        (b"text\n", b"text\n"),
        (b"text\na\n\n", b"text\nb\n\n"),
        (b"", b""),
    ],
)
def test_other_headers_and_empty_tables_are_read_alone(one: bytes, other: bytes) -> None:
    assert not Reader(SCHEMAS["text"]).at_once([one, other])


def test_other_media_types_are_not_read_at_once() -> None:
    reader, bodies = Reader(SCHEMAS["text"]), [b"text\na\n", b"text\nb\n"]
    assert len(reader.at_once(bodies, "text/csv; charset=UTF-8")) == 2
    assert not reader.at_once(bodies, "text/csv; charset=latin-1")
    assert not reader.at_once(bodies, "application/json")
    mixed = [Query(bodies[0], CSV), Query(bodies[1], "text/csv; charset=utf-8"), Query(bodies[1], None)]
    assert not reader.stacking.decode(mixed)


def test_a_broken_body_is_read_alone_and_the_others_at_once() -> None:
    bodies = [b"text\n%d\n" % i for i in range(16)]
    for place, broken in ((3, b'text\n"open\n'), (7, b"text\n\xff\n"), (9, b"text\na,b\n"), (12, b"text\n")):
        bodies[place] = broken
    assert [*Reader(SCHEMAS["text"]).at_once(bodies)] == [i for i in range(16) if i not in (3, 7, 9, 12)]


def test_who_asks_for_more_rows_than_allowed_is_read_alone() -> None:
    reader = Reader(SCHEMAS["text"])
    queries = [Query(b"text\n" + b"a\n" * rows, CSV, max_rows=3) for rows in (1, 3, 4)]
    assert [*reader.stacking.decode(queries)] == [0, 1]


def test_large_bodies_are_read_alone_and_many_in_several_turns() -> None:
    reader = Reader(SCHEMAS["text"])
    large = b"text\n" + b"x" * (LARGEST_BODY - 6) + b"\n"
    read = reader.at_once([large, b"text\na\n", large + b"x", large])
    assert [*read] == [0, 1, 3]
    turns = {id(one.data): len(one.data) for one in reader.at_once([large] * 64).values()}
    assert [*turns.values()] == [MOST_BYTES // LARGEST_BODY, 64 - MOST_BYTES // LARGEST_BODY]


def test_the_most_cells_that_are_read_at_once_are_read_in_one_piece() -> None:
    """Of pieces, pandas infers types one by one: columns of other names may then warn of mixed types."""
    header = b"x" + b",y%d" * 500 % tuple(range(500)) + b"\n"
    line = b"1" + b"," * 500 + b"\n"
    rows = (LARGEST_BODY - len(header)) // len(line)
    count = MOST_BYTES // (len(header) + rows * len(line))
    reader = Reader(Schema([ColSpec("long", "x")]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = reader.at_once([header + line * rows] * count)
    assert len(read) == count
    assert len(read[0].data) == rows * count


@pytest.mark.parametrize(
    "spoiled",
    [b'"' * LARGEST_BODY, b"x" * LARGEST_BODY + b'"', b'""' * LARGEST_BODY, b"a\n" * LARGEST_BODY + b"\0"],
)
def test_a_body_made_to_be_looked_at_for_long_is_not(spoiled: bytes, slack: float) -> None:
    """The time grows with its length, not with the square of it."""
    plain = PlainCsv.of(SCHEMAS["text"])
    assert plain is not None
    body = (b"text\n" + spoiled)[: LARGEST_BODY - 1] + spoiled[-1:]
    plain.parse(b"text\na\n")
    started = time.thread_time()
    plain.parse(body)
    assert time.thread_time() - started < 0.05 * slack


def test_headers_that_callers_invent_are_not_all_kept() -> None:
    reader = Reader(SCHEMAS["text"])
    for number in range(300):
        assert len(reader.at_once([b"text,c%d\na,1\n" % number] * 2)) == 2
    plain = reader.stacking._plain
    assert plain is not None
    assert plain._forms.cache_info().currsize == 256


def test_params_are_those_of_a_request_without_any() -> None:
    reader = Reader(SCHEMAS["text"], params=PARAMS)
    assert reader.assert_read_as_alone([b"text\na\n", b"text\nb\nc"]) == 2


def test_lines_are_put_below_each_other_whether_the_last_one_ends_or_not() -> None:
    plain = PlainCsv.of(SCHEMAS["text"])
    assert plain is not None
    found = [plain.parse(body) for body in (b"text\r\na\r\nb", b"text\r\nc\r\n", b"text\r\nd")]
    lines = [one for one in found if one is not None]
    assert [one.rows for one in lines] == [2, 1, 1]
    assert concatenated(lines) == b"text\r\na\r\nb\nc\r\nd\n"


def test_what_was_read_at_once_stands_in_one_table_with_what_was_read_alone(loaded: Get) -> None:
    """And each caller has the answers to its own rows."""
    queries = [
        Query(b"text\nx\n", CSV),
        Query(b'text\n"xx\nx"\n', CSV),
        parquet(pd.DataFrame({"text": pd.Series(["x" * 5, "x" * 6], dtype=object)})),
        Query(b"text\nxxx\nxx\n", CSV),
        Query(b"text,id\nxxxxxxxx,1\n", CSV),
        Query(b"text,id\nxxxxxxxxx,one\n", CSV),
        text_query("xxxxxxx"),
        inference_query(tensor("BYTES", [1], ["xxxxxx"], "text")),
    ]
    version = loaded("signed")
    answers, predicts = together(version, *queries)

    # Before pandas 3 texts are objects, also in tables that say so.
    assert predicts == (3 if pd.Series(["x"]).dtype != object else 2)
    assert [predictions(answer.body) for answer in answers[:7]] == [
        pytest.approx(reported)
        for reported in ([0.01], [0.04], [0.05, 0.06], [0.03, 0.02], [0.08], [0.09], [0.07])
    ]
    assert answers[7].body == version.scorer.answer(queries[7]).body
    assert [answer.rows for answer in answers] == [1, 1, 2, 2, 1, 1, 1, 1]


def test_a_poisoned_csv_request_among_16_fails_alone(loaded: Get) -> None:
    version = loaded("signed_poisoned")
    bodies = [b"text\ngood\n"] * 16
    bodies[5], bodies[11] = b"text\npoison\n", b'text\n"good\n'
    answers, _ = together(version, *[Query(body, CSV) for body in bodies])

    assert {i: answer.status for i, answer in enumerate(answers) if answer.status != 200} == {5: 500, 11: 400}
    assert [answer.body for answer in answers] == [
        version.scorer.answer(Query(body, CSV)).body for body in bodies
    ]
