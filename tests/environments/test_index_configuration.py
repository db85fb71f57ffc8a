"""Indexes reach uv as it would read them from its variables, passwords and all."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.environments.index_configuration import index_configuration

PYPI = {"url": "https://pypi.org/simple", "default": True}
ONE, TWO = "https://ada:hunter2@one.example/simple", "https://two.example/simple?key=a=b"


def indexes(variables: dict[str, str]) -> list[dict[str, Any]]:
    """Those of the configuration, in its order, without what each of them has."""
    text, _ = index_configuration(variables)
    tables: list[dict[str, Any]] = tomllib.loads(text)["index"]
    for table in tables:
        assert table.pop("cache-control") == {
            "api": "no-cache",
            "files": "max-age=365000000, immutable",
        }
    return tables


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [PYPI]),
        ({"UV_DEFAULT_INDEX": ONE}, [{"url": ONE, "default": True}]),
        ({"UV_INDEX_URL": ONE}, [{"url": ONE, "default": True}]),
        ({"UV_INDEX_URL": ONE, "UV_DEFAULT_INDEX": TWO}, [{"url": TWO, "default": True}]),
        ({"UV_DEFAULT_INDEX": f"corp={ONE}"}, [{"name": "corp", "url": ONE, "default": True}]),
        (
            {"UV_EXTRA_INDEX_URL": ONE, "UV_INDEX": f"corp={TWO}  /srv/a=b"},
            [{"name": "corp", "url": TWO}, {"url": "/srv/a=b"}, {"url": ONE}, PYPI],
        ),
        ({"UV_INDEX": TWO}, [{"url": TWO}, PYPI]),
    ],
)  # fmt: skip
def test_each_index_is_there_in_the_order_in_which_it_is_asked(
    variables: dict[str, str], expected: list[dict[str, Any]]
) -> None:
    assert indexes(variables) == expected


def test_what_else_uv_gets_stays_a_variable() -> None:
    others = {"UV_FIND_LINKS": "/wheels", "UV_INDEX_STRATEGY": "first-index", "UV_INDEX_CORP_PASSWORD": "p"}

    _, left = index_configuration({**others, "UV_INDEX": f"corp={ONE}", "UV_DEFAULT_INDEX": TWO})

    assert left == others


characters = st.characters(blacklist_categories=["Cs"]).filter(lambda one: not one.isspace() and one != "=")


@given(st.text(characters, min_size=1))
def test_whatever_an_address_holds_it_stays_one_address(address: str) -> None:
    assert indexes({"UV_DEFAULT_INDEX": address}) == [{"url": address, "default": True}]
