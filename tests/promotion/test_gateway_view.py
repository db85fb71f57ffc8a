"""What is read of a gateway's documents, also where an older gateway, or something else, wrote them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.promotion.gateway_view import evidence_of, missing_evidence, view_of
from tests.promotion.fakes import GATEWAY, MODEL, FakeGateways, FakeRegistry

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
KEYS = ("aliases", "versions", "split", "split_configured", "verdicts", "caps", "rollback")


def documents() -> tuple[dict[str, Any], dict[str, Any]]:
    gateways = FakeGateways(FakeRegistry(production=1, canary=2))
    return gateways.state(), gateways.compared()


@pytest.mark.parametrize("key", KEYS)
@given(value=anything, checks=anything)
def test_a_part_that_is_not_as_it_should_be_is_as_if_it_were_not_there(
    key: str, value: Any, checks: Any
) -> None:
    """A rollback must not end with a traceback because of what something else answers."""
    state, compared = documents()
    state["models"][MODEL][key] = value
    compared["models"][MODEL]["canary"]["checks"] = checks

    view = view_of(GATEWAY, MODEL, state)

    if view is not None:
        view.obstacles(2)
        view.trouble_of(2)
        assert view.verdict[0] in ("pass", "fail", "not_enough_data")
        assert view.rollback_version is None or isinstance(view.rollback_version, int)
        evidence_of(view, compared)
        missing_evidence(view, compared)


@given(value=anything)
def test_a_document_of_something_else_serves_no_model(value: Any) -> None:
    assert view_of(GATEWAY, MODEL, {"models": value}) is None


@pytest.mark.parametrize("role", ["production", "canary"])
def test_figures_about_other_versions_are_no_evidence(role: str) -> None:
    """Between two requests an alias may move."""
    state, compared = documents()
    state["models"][MODEL]["aliases"][role]["bound"] = 3
    view = view_of(GATEWAY, MODEL, state)

    assert view is not None
    assert evidence_of(view, compared)["checks"] == {}
