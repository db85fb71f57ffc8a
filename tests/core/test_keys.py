"""Request keys: what counts as one, and what counts as missing."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.core.keys import (
    MAX_JSON_BYTES,
    json_key,
    key_text,
    parse_json_path,
    text_key,
)
from router.core.split import bucket_of

ID = ("user", "id")

any_text = st.text()  # with lone surrogates, which JSON can spell and UTF-8 can not
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
steps = st.lists(st.integers(0, 5) | any_text, max_size=4)


def body_with(value: str) -> bytes:
    """A body in which JSON text `value` stands where the key is read."""
    return b'{"inputs": [[1.5]], "user": {"id": %s}}' % value.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ('"user-1"', "user-1"),
        ('" "', " "),
        ('" user-1 "', " user-1 "),
        ('"\\u00dcn\\u00efc\\u00f6d\\u00e9"', "Ünïcödé"),
        ('"\\ud83d\\ude00"', "😀"),
        ('"a\\u0000b"', "a\0b"),
        ("42", "42"),
        ("0", "0"),
        ("-0", "0"),
        ("-7", "-7"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1" + "0" * 400, "1" + "0" * 400),
    ],
)
def test_a_string_is_the_key_as_it_is_and_an_integer_in_decimal(value: str, key: str) -> None:
    assert json_key(body_with(value), ID) == key


@pytest.mark.parametrize(
    "value",
    [
        '""',
        "null",
        "true",
        "false",
        "1.0",
        "1.5",
        "1e3",
        "1e30",
        "-1e30",
        "18446744073709551616.0",
        "1e400",
        "NaN",
        "Infinity",
        "-Infinity",
        "[]",
        '["user-1"]',
        "{}",
        '{"id": "user-1"}',
        "9" * 5_000,
        "user-1",
        "",
        '"unterminated',
    ],
)
def test_anything_else_in_json_counts_as_missing(value: str) -> None:
    """A float above all: 1.0 and 1 are one number to some clients and two keys to a hash."""
    assert json_key(body_with(value), ID) is None


@pytest.mark.parametrize("value", ['"\\ud800"', '"\\udfff"', '"\\udc80"', '"a\\ud83d"', '"\ud800"'])
def test_a_string_with_a_lone_surrogate_counts_as_missing(value: str) -> None:
    """It has no UTF-8, so nobody else could recompute its bucket, and hashing it would raise."""
    assert json_key(body_with(value), ID) is None


@pytest.mark.parametrize(
    "dialect",
    [
        b'{"user": {"id": "user-1"}, "x": NaN}',
        b'{"user": {"id": "user-1"}, "x": [Infinity, -Infinity, 1e400]}',
        b'{"user": {"id": "user-1"}, "x": "\\ud800"}',
        b'{"user": {"id": "former"}, "user": {"id": "user-1"}}',
        b'{"user": {"id": "former", "id": "user-1"}, "x": NaN}',
        b'\xef\xbb\xbf{"user": {"id": "user-1"}}',
        '{"user": {"id": "user-1"}}'.encode("utf-16"),
        '{"user": {"id": "user-1"}}'.encode("utf-16-be"),
        '{"user": {"id": "user-1"}}'.encode("utf-32"),
        b' \r\n\t{"user": {"id": "user-1"}}\n',
    ],
)
def test_a_key_is_found_in_whatever_mlflow_would_read(dialect: bytes) -> None:
    """A NaN among the features must not move the user to another alias."""
    assert json_key(dialect, ID) == "user-1"


@pytest.mark.parametrize("depth", [1, 100, 900, 1_000, 1_100, 5_000, MAX_JSON_BYTES // 2 - 50])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_never_raises(depth: int, opening: bytes, closing: bytes) -> None:
    """Up to 1 MiB of brackets, whole and cut off; the version answers such a request, not the router."""
    depth = min(depth, (MAX_JSON_BYTES - 50) // len(opening + closing))
    nested = opening * depth + b"1" + closing * depth

    assert json_key(b'{"user": {"id": "user-1"}, "x": ' + nested + b"}", ID) in ("user-1", None)
    assert json_key(nested, ID) is None
    assert json_key(opening * depth, ("a",)) is None


def test_a_body_of_one_mebibyte_is_read_and_a_longer_one_is_not() -> None:
    body = body_with('"user-1"').ljust(MAX_JSON_BYTES)

    assert json_key(body, ID) == "user-1"
    assert json_key(body + b" ", ID) is None


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"PAR1", b"a,b\n1,2\n", b"\xff\xfe", b"\x80", b"[1,]", b"{'user': 1}"]
)
def test_a_body_that_is_not_json_has_no_key(body: bytes) -> None:
    assert json_key(body, ID) is None


def test_an_index_counts_from_the_start_only() -> None:
    assert json_key(b'["first", "last"]', [-1]) is None
    assert json_key(b'["first"]', [-5]) is None


@given(st.binary(max_size=200), steps)
def test_no_body_makes_reading_a_key_raise(body: bytes, path: list[str | int]) -> None:
    json_key(body, path)


@given(documents, steps)
@example({"0": "name"}, [0])
@example(["index"], [0])
@example(["index"], ["0"])
@example([], [0])
@example("whole body", [])
def test_a_path_walks_names_and_indexes(document: object, path: list[str | int]) -> None:
    """The same answer as following the path by hand in what Python's json reads."""
    body = json.dumps(document).encode()
    found: object = json.loads(body)
    try:
        for step in path:
            # A wrong step raises here, which is the point.
            found = found[step if isinstance(found, list) else str(step)]  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        found = None

    assert json_key(body, path) == key_text(found)


@given(documents)
def test_every_key_can_be_hashed(value: object) -> None:
    key = key_text(value)

    assert key != ""
    if key is not None:
        bucket_of("sentiment", key)


def test_42_is_one_key_wherever_it_is_carried() -> None:
    """A client may move its key from a header to the body without moving its users."""
    assert text_key([b"42"]) == text_key(["42"]) == json_key(b'{"id": 42}', ("id",)) == "42"
    assert json_key(b'{"id": "42"}', ("id",)) == "42"


@given(documents, st.sampled_from(["a.0", "0", "a.b", "00.1"]))
def test_a_number_in_a_path_finds_a_name_in_an_object(value: object, dotted: str) -> None:
    wrapped: object = value
    for step in reversed(dotted.split(".")):
        wrapped = {step: wrapped}

    assert json_key(json.dumps(wrapped).encode(), parse_json_path(dotted)) == key_text(
        json.loads(json.dumps(value))
    )
