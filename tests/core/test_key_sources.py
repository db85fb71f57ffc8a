"""Where a key is read, and keys carried outside of the body."""

import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.keys import KeyKind, KeySource, cookie_key, parse_json_path, text_key
from router.core.routing import MissingKey
from router.core.split import bucket_of


@given(st.lists(st.text() | st.binary(), max_size=3))
def test_every_header_value_can_be_hashed_or_is_missing(values: list[bytes | str]) -> None:
    key = text_key(values)

    assert key != ""
    if key is not None:
        bucket_of("sentiment", key)


@given(st.binary(min_size=1))
def test_header_bytes_hash_as_they_came(raw: bytes) -> None:
    key = text_key([raw])

    assert key is not None
    assert bucket_of("sentiment", key) == bucket_of("sentiment", raw)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], None),
        ([b""], None),
        ([""], None),
        ([b"user-1", b"user-2"], "user-1"),
        (["user-1", "user-2"], "user-1"),
        ([b"", b"user-2"], None),
        (["Ünïcödé".encode()], "Ünïcödé"),
        ([b"caf\xe9"], "caf\udce9"),
        (["caf\udce9"], "caf\udce9"),
        (["\ud800"], None),
    ],
)
def test_the_first_of_repeated_values_is_the_key_and_an_empty_one_is_missing(
    values: list[bytes | str], key: str | None
) -> None:
    assert text_key(values) == key


@pytest.mark.parametrize(
    ("lines", "key", "bucket"),
    [
        ([], None, None),
        (["a=1"], None, None),
        (["uid=user-2"], "user-2", 418),
        (["a=1", "uid=user-2"], "user-2", 418),
        (["uid=user-2", "a=1"], "user-2", 418),
        (["uid=user-2; uid=user-1"], "user-2", 418),
        (["uid=user-2", "uid=user-1"], "user-2", 418),
        (["a=uid=user-1;uid=user-2;b"], "user-2", 418),
        (["  a=1 ;\t uid = user-2 \t; b=2"], "user-2", 418),
        (["UID=user-1; xuid=user-1; uid2=user-1; uid=user-2"], "user-2", 418),
        (["uid=; uid=user-2"], None, None),
        (["uid; uid=user-2"], "user-2", 418),
        (['uid="user-2"'], '"user-2"', 94827),
        (['uid="a\\054b"'], '"a\\054b"', 21177),
        (["uid=a b"], "a b", 57875),
        (["uid=a=b=="], "a=b==", 34317),
        (["uid=a%20b"], "a%20b", 94004),
        (['uid="a;b"'], '"a', 73353),
        (["uid=caf\udce9"], "caf\udce9", 80771),
    ],
)
def test_a_cookies_value_is_what_stands_between_its_equals_sign_and_the_semicolon(
    lines: list[str], key: str | None, bucket: int | None
) -> None:
    """Lines joined, the first pair of that name, blanks around it dropped, and nothing else: as SQL would."""
    found = cookie_key(lines, "uid")

    assert found == key
    assert (bucket_of("sentiment", found) if found is not None else None) == bucket


SQL_PATTERN = "(?:^|;)[ \t]*uid[ \t]*=([^;]*)"
"""As docs/migrating.md has it, for a database that knows the header."""


@given(st.lists(st.text(alphabet='uid=; \t"\\x', max_size=30), max_size=3))
def test_one_pattern_over_the_joined_lines_finds_the_same_cookie(lines: list[str]) -> None:
    found = re.search(SQL_PATTERN, "; ".join(lines))

    assert cookie_key(lines, "uid") == ((found[1].strip(" \t") or None) if found else None)


@pytest.mark.parametrize(
    ("dotted", "path"),
    [
        ("id", ("id",)),
        ("user.id", ("user", "id")),
        ("0.id", (0, "id")),
        ("dataframe_split.data.0.3", ("dataframe_split", "data", 0, 3)),
        ("rows.007", ("rows", "007")),
        ("rows.-1", ("rows", "-1")),
        ("rows.٣", ("rows", "٣")),
        ("user id.e-mail", ("user id", "e-mail")),
    ],
)
def test_a_path_is_names_and_decimal_indexes_between_dots(dotted: str, path: tuple[str | int, ...]) -> None:
    assert parse_json_path(dotted) == path


@pytest.mark.parametrize("dotted", ["", ".", "user.", ".id", "user..id", "rows[0]", "rows[0].id"])
def test_a_path_that_no_body_could_have_is_refused(dotted: str) -> None:
    with pytest.raises(ValueError, match="as in"):
        parse_json_path(dotted)


def test_a_source_knows_its_path_once() -> None:
    source = KeySource(KeyKind.JSON, "user.id")

    assert source.path == ("user", "id")
    assert source.missing is MissingKey.BODY
    assert KeySource(KeyKind.HEADER, "user.id").path == ()
    assert source == KeySource(KeyKind.JSON, "user.id")
    assert source != KeySource(KeyKind.JSON, "user.name")
    assert source != KeySource(KeyKind.QUERY, "user.id")
    with pytest.raises(FrozenInstanceError):
        source.name = "other"  # type: ignore[misc] # frozen is what is tested


@pytest.mark.parametrize(
    "build",
    [
        lambda: KeySource(KeyKind.HEADER, ""),
        lambda: KeySource(KeyKind.JSON, ""),
        lambda: KeySource(KeyKind.JSON, "rows[0]"),
    ],
)
def test_a_source_without_a_usable_name_is_refused(build: Callable[[], KeySource]) -> None:
    with pytest.raises(ValueError, match=r"must be named|as in"):
        build()
